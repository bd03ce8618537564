"""The length of every row in tokens, counted without a look at its picture, and what is said of those too long."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from grounding import engine
from grounding.boxes import Box
from grounding.pictures import open_picture
from grounding.records import Sample
from grounding.training.batches import BranchBuilder
from grounding.training.preflight.headers import read_headers
from grounding.training.preflight.lengths import RowLength, row_lengths, too_long
from grounding.training.preflight.sight import pack_questions
from grounding.training.settings import TrainSettings

SETTINGS = TrainSettings()
OWN_PHRASES = TrainSettings(use_alternatives=False)


def lengths(loaded: Any, samples: list[Sample], settings: TrainSettings = SETTINGS) -> list[RowLength]:
    return list(row_lengths(loaded, samples, read_headers(s.image for s in samples), settings))


def test_counted_is_what_the_collator_packs(loaded: Any, demo_samples: dict[str, list[Sample]]) -> None:
    samples = demo_samples["train"]
    several = replace(samples[0], id="several", boxes_xyxy_px=(Box(1, 1, 90, 90), Box(100, 100, 190, 190)))
    samples = [*samples, several, replace(samples[1], id="none", boxes_xyxy_px=(), phrase="ein Krug, 犬 🐕")]
    builder = BranchBuilder(loaded)
    for sample, counted in zip(samples, lengths(loaded, samples, OWN_PHRASES), strict=True):
        features = engine.encode_images(loaded, [open_picture(sample.image)])
        packed = pack_questions(loaded, builder, features, [[(sample.phrase, sample.boxes_xyxy_px)]])
        assert counted == RowLength(
            sample.id,
            packed.batch.input_ids.shape[1],
            int(packed.batch.position_ids.max()),
            packed.branches[0][0].supervised,
        )


@pytest.fixture
def small_window(loaded: Any) -> Iterator[int]:
    """The embedded model as if it had been made for fewer positions; put back afterwards."""
    text = loaded.model.config.text_config
    before, text.max_position_embeddings = text.max_position_embeddings, 130
    yield 130
    text.max_position_embeddings = before


def test_every_row_is_looked_at_not_only_those_shown(
    loaded: Any, demo_samples: dict[str, list[Sample]], small_window: int
) -> None:
    first = replace(demo_samples["train"][0], alternatives=())
    samples = [replace(first, id=f"s{n}", phrase="the mug") for n in range(300)]
    samples[117] = replace(samples[117], phrase="the mug " * 100)
    samples[203] = replace(samples[203], phrase="the mug " * 200)
    samples[204] = replace(samples[204], split="val", phrase="the mug " * 200)
    samples[205] = replace(samples[205], alternatives=("the mug " * 50,))
    headers = read_headers(s.image for s in samples)
    (found,) = too_long(loaded, samples, headers, SETTINGS)
    assert (found.kind, found.blocking, found.samples) == ("long_row", False, ("s203", "s117", "s205"))
    longest = max(row.tokens for row in lengths(loaded, samples))
    assert found.sentence.startswith(f"3 train samples reach beyond the {small_window} tokens")
    assert f"the longest has {longest:,} with its picture" in found.sentence
    (found,) = too_long(loaded, samples, headers, OWN_PHRASES)
    assert found.samples == ("s203", "s117")


def test_an_answer_longer_than_the_model_may_write_is_listed(
    loaded: Any, demo_samples: dict[str, list[Sample]]
) -> None:
    boxes = tuple(Box(n, n, n + 40, n + 50) for n in range(0, 120, 10))
    samples = [*demo_samples["train"], replace(demo_samples["train"][0], id="many", boxes_xyxy_px=boxes)]
    (found,) = too_long(loaded, samples, read_headers(s.image for s in samples), SETTINGS)
    assert (found.kind, found.blocking, found.samples) == ("long_answer", False, ("many",))


def test_unreadable_pictures_are_left_out(loaded: Any, demo_samples: dict[str, list[Sample]]) -> None:
    gone = [replace(sample, image=sample.image.with_name("gone.png")) for sample in demo_samples["train"]]
    assert lengths(loaded, gone) == []


def test_ten_thousand_rows_take_seconds(loaded: Any, demo_samples: dict[str, list[Sample]]) -> None:
    first = replace(demo_samples["train"][0], alternatives=())
    samples = [replace(first, id=str(n), phrase=f"the mug left of the plate number {n}") for n in range(10_000)]
    headers = read_headers([first.image])
    start = time.process_time()
    assert too_long(loaded, samples, headers, SETTINGS) == []
    assert time.process_time() - start < 10  # about 2 on one quiet core
