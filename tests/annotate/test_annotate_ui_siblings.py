"""A picture with more samples than the page draws: what is said about a phrase holds for all of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from annotate.reads import MOST_SIBLINGS
from annotate.store import Store
from annotate.suggest import candidates
from annotate.ui.asides import AsideParts, Asides
from annotate.ui.workbench import Workbench
from annotate_samples import MakeSample
from grounding.boxes import Box
from grounding.records import Prediction, Status

FAR = Box(25, 20, 39, 29)


class PointsFarAway:
    """A listener for which every phrase means the box of the last sample."""

    model = "demo"

    def asked(self) -> tuple[str | None, ...]:
        return (None,)

    def __call__(self, image: Path, phrase: str) -> tuple[Prediction, ...]:
        return (Prediction((FAR,), Status.OK, "", 0.5, 0.1),)

    def many(self, asks: Any) -> list[tuple[Prediction, ...]]:
        return [self(*ask) for ask in asks]


@pytest.fixture
def crowd(store: Store, make_sample: MakeSample) -> Store:
    """250 samples on one picture, mugs between two jugs, the first and the last; and one alone on another."""
    boxes = [Box(1 + n % 20, 2, 10 + n % 20, 12 + n % 7) for n in range(249)]
    samples = [
        make_sample(f"s{n}", phrase=f"mug {n}", boxes_xyxy_px=(box,), category="mug" if n else "jug")
        for n, box in enumerate(boxes)
    ]
    last = make_sample("last", phrase="the dented mug", boxes_xyxy_px=(FAR,), category="jug")
    alone = make_sample("alone", picture=1, category="mug")
    store.import_samples([*samples, last, alone], source="s", who="w")
    return store


def ask(store: Store, do: str, **sent: Any) -> dict[str, Any]:
    return Asides(AsideParts(store, str, PointsFarAway())).answer({"do": do, "id": "s0", **sent}, None, "ana")


def test_the_same_words_on_a_box_that_is_not_drawn_are_found(crowd: Store) -> None:
    assert "last" not in [item.id for item in crowd.siblings("s0")]
    assert 'data-code="duplicate"' in ask(crowd, "check", text="Dented mug!")["findings_html"]
    assert "duplicate" not in ask(crowd, "check", text="the mug with a spoon")["findings_html"]
    crowd.reject("last", "", who="ana", expected_revision=1)
    assert "duplicate" not in ask(crowd, "check", text="Dented mug!")["findings_html"]


def test_a_rival_that_is_not_drawn_is_named(crowd: Store) -> None:
    assert "the dented mug</q>" in ask(crowd, "listen", text="mug 0")["heard_html"]
    assert "the dented mug</q>" in ask(crowd, "listen", text="a mug somewhere")["heard_html"]


def test_nothing_is_suggested_as_the_only_one_where_not_all_were_looked_at(crowd: Store) -> None:
    assert candidates(crowd.get("s0"), crowd.siblings("s0"))[0].text == "jug", "going by those near it"
    assert ask(crowd, "suggest")["suggested_html"] == ""
    assert ask(crowd, "suggest", id="alone")["suggested_html"] != ""


def test_the_page_says_how_many_it_leaves_out(crowd: Store) -> None:
    bench = Workbench(crowd, str, str)
    html = bench.answer({"do": "show", "id": "s0"}, None, "ana")["screen"]["siblings_html"]
    assert html.count("an-sibling") == MOST_SIBLINGS
    assert f"{MOST_SIBLINGS} of 249 shown" in html
    assert "shown" not in bench.answer({"do": "show", "id": "alone"}, None, "ana")["screen"]["siblings_html"]
    assert (crowd.sibling_count("s0"), crowd.sibling_count("alone")) == (249, 0)
