"""What the page asks beside its edits, without a browser."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from annotate.listening import Ask
from annotate.store import Store
from annotate.ui.asides import AsideParts, Asides
from annotate_samples import MakeSample
from grounding.boxes import Box
from grounding.records import Prediction, Status

LEFT, RIGHT = Box(1, 2, 10, 12.5), Box(20, 3, 30, 12)
Question = Callable[..., dict[str, Any]]


class TwoModels:
    """The base points at the right box, adapters at the left one."""

    adapters: tuple[str | None, ...] = (None,)
    model = "demo"

    def asked(self) -> tuple[str | None, ...]:
        return self.adapters

    def __call__(self, image: Path, phrase: str) -> tuple[Prediction, ...]:
        return self.many([(image, phrase)])[0]

    def many(self, asks: Sequence[Ask]) -> list[tuple[Prediction, ...]]:
        answers = [
            Prediction((LEFT if name else RIGHT,), Status.OK, "", 0.5, 0.1, adapter=name) for name in self.adapters
        ]
        return [tuple(answers) for _ in asks]


@pytest.fixture
def models() -> TwoModels:
    return TwoModels()


@pytest.fixture
def mugs(store: Store, make_sample: MakeSample) -> Store:
    """On one picture: left at LEFT, right at RIGHT."""
    samples = [
        make_sample("left", boxes_xyxy_px=(LEFT,), phrase="left mug", category="mug"),
        make_sample("right", boxes_xyxy_px=(RIGHT,), phrase="right mug", category="mug"),
    ]
    assert store.import_samples(samples, source="s", who="w").errors == ()
    return store


@pytest.fixture
def question(mugs: Store, models: TwoModels) -> Question:
    asides = Asides(AsideParts(mugs, lambda sha256: f"pictures/{sha256}", models))

    def put(do: str, sample_id: str, **sent: object) -> dict[str, Any]:
        return asides.answer({"do": do, "id": sample_id, **sent}, None, "ann")

    return put


def rows_of(html: str) -> list[str]:
    return unescape(html).split("<li")[1:]


def test_the_model_is_shown_with_the_box_that_it_takes_for_the_target(question: Question) -> None:
    (base,) = rows_of(question("listen", "left", text="left mug")["heard_html"])
    assert 'data-rival="[[20.0, 3.0, 30.0, 12.0]]"' in base and "right mug" in base
    (typed,) = rows_of(question("listen", "right", text="some mug")["heard_html"])
    assert 'data-rival="[]"' in typed


def test_a_new_adapter_is_heard_on_a_phrase_that_the_base_heard_before(
    question: Question, models: TwoModels, mugs: Store
) -> None:
    question("listen", "left", text="left mug")
    models.adapters = (None, "new")
    base, adapter = rows_of(question("listen", "left", text="left mug")["heard_html"])
    assert "Base" in base and "IoU 0.00" in base
    assert "Adapter new" in adapter and "IoU 1.00" in adapter
    assert (mugs.get("left").listener_iou, mugs.get("left").listener_gap) == (0.0, 1.0)


def test_a_suggestion_says_only_that_the_model_finds_it(question: Question) -> None:
    found = question("suggest", "right")["suggested_html"]
    assert "✓ found" in found
    missed = question("suggest", "left")["suggested_html"]
    assert "an-chip" in missed and "found" not in missed and "IoU" not in missed


def test_words_of_a_rejected_sample_or_of_the_same_box_are_free(question: Question, mugs: Store) -> None:
    def codes(text: str) -> str:
        return str(question("check", "left", text=text)["findings_html"])

    assert "duplicate" in codes("the right mug")
    mugs.reject("right", "blurred", who="ann", expected_revision=1)
    assert "duplicate" not in codes("the right mug")
    mugs.reopen("right", who="ann", expected_revision=2)
    mugs.save("right", "right mug", who="ann", expected_revision=3, boxes_xyxy_px=[LEFT])
    assert "duplicate" not in codes("the right mug")


def test_the_same_words_are_found_among_more_siblings_than_are_shown(
    store: Store, make_sample: MakeSample, mugs: Store, question: Question
) -> None:
    crowd = [make_sample(f"s{n}", boxes_xyxy_px=(RIGHT,), phrase=f"mug number {n}") for n in range(300)]
    store.import_samples(crowd, source="s", who="w")
    assert "duplicate" in question("check", "left", text="Mug number 299!")["findings_html"]
