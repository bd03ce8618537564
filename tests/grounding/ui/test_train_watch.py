"""The small question that the Train tab asks: it tells what would look different, and nothing else."""

from __future__ import annotations

import re
from typing import Any

import pytest

from grounding.ui.theme import ASSETS
from grounding.ui.train_watch import Live, Look, changes_of


@pytest.fixture
def asked() -> list[tuple[str, str]]:
    return []


@pytest.fixture
def changes(asked: list[tuple[str, str]]) -> Any:
    def live(run_id: str, known: str) -> Live:
        asked.append((run_id, known))
        return Live("k2", None if known == "k2" else "<section>7 of 8</section>")

    names = ("run", "queue", "sweeps", "check")
    looks = {name: Look(lambda run, name=name: f"{name} of {run}", lambda: None, None, []) for name in names}  # type: ignore[misc]
    return changes_of(looks, live)


def test_each_panel_has_its_mark_for_the_run_on_the_page(changes: Any) -> None:
    told = changes({"run": "r1", "live": "k1"})
    assert told["marks"] == {name: f"{name} of r1" for name in ("run", "queue", "sweeps", "check")}
    assert (told["live"], told["html"]) == ("k2", "<section>7 of 8</section>")


def test_what_the_page_has_already_is_not_sent_again(changes: Any) -> None:
    assert changes({"run": "r1", "live": "k2"})["html"] is None


@pytest.mark.parametrize("sent", [None, 7, [], {}, {"run": None, "live": None}, {"run": ["r1"] * 100}])
def test_whatever_a_client_sends_is_taken_as_a_short_text(
    changes: Any, asked: list[tuple[str, str]], sent: Any
) -> None:
    assert changes(sent)["live"] == "k2"
    assert all(isinstance(text, str) and len(text) <= 200 for text in asked[0])


def test_the_script_knows_every_panel() -> None:
    script = (ASSETS / "watch.js").read_text(encoding="utf-8")
    named = re.search(r"const NAMES = \[(.*)\]", script)
    assert named is not None
    assert re.findall(r"'(\w+)'", named[1]) == ["run", "queue", "sweeps", "check"]
