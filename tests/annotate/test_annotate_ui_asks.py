"""What a browser may send to the Annotate tab, and what it may not."""

from __future__ import annotations

from typing import Any

import pytest

from annotate.ui.asks import Ask
from grounding.errors import StoreError


def test_everything_has_a_default_but_nothing_is_guessed() -> None:
    ask = Ask.from_page({"do": "open"})
    assert (ask.do, ask.queue, ask.split, ask.sample_id, ask.place) == ("open", "placeholders", None, "", None)


def test_all_fields_come_through() -> None:
    sent = {"do": "save", "queue": "all", "split": "val", "id": "a", "revision": 3, "place": [0, 7], "text": "left mug"}
    ask = Ask.from_page(sent | {"then": "b", "batch": "x", "who": "ana"})
    assert (ask.queue, ask.split, ask.revision, ask.place, ask.text) == ("all", "val", 3, (0, 7), "left mug")
    assert (ask.then_id, ask.batch, ask.who) == ("b", "x", "ana")


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(None, id="nothing"),
        pytest.param(["save"], id="a list"),
        pytest.param({"do": 3}, id="action is a number"),
        pytest.param({"queue": "everything"}, id="unknown queue"),
        pytest.param({"queue": ["all"]}, id="queue is a list"),
        pytest.param({"split": "dev"}, id="unknown split"),
        pytest.param({"id": {"$ne": ""}}, id="id is an object"),
        pytest.param({"revision": "1"}, id="revision is a text"),
        pytest.param({"revision": True}, id="revision is a truth value"),
        pytest.param({"revision": 2**70}, id="revision larger than the database holds"),
        pytest.param({"place": [1]}, id="place of one number"),
        pytest.param({"place": [1, "2"]}, id="place with a text"),
        pytest.param({"place": [0, -5]}, id="place below the first"),
        pytest.param({"text": "x" * 20_001}, id="text of 20,001 characters"),
        pytest.param({"who": None}, id="no name but null"),
        pytest.param({"seconds": 10**400}, id="seconds larger than a float holds"),
        pytest.param({"seconds": float("nan")}, id="seconds that are no number"),
    ],
)
def test_what_the_page_would_not_send_is_refused(sent: Any) -> None:
    with pytest.raises(StoreError, match=r"The page sent|There is no (queue|split)"):
        Ask.from_page(sent)
