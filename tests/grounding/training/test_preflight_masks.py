"""A masking error planted in the collator: pre-flight names it, before a step is taken."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from grounding.engine import chat_text
from grounding.records import Sample
from grounding.training import batches
from grounding.training.batches import Branch, BranchBuilder, PackedBatch
from grounding.training.preflight import sight
from grounding.training.preflight.sight import look
from grounding.training.settings import TrainSettings

SETTINGS = TrainSettings(images_per_step=2, phrases_per_image=3)
Plant = Callable[[pytest.MonkeyPatch], None]


def in_branch(change: Callable[[BranchBuilder, Branch, str], Branch]) -> Plant:
    """A fault in the collator's part that makes a phrase's tokens."""

    def plant(monkeypatch: pytest.MonkeyPatch) -> None:
        right = BranchBuilder.branch

        def wrong(self: BranchBuilder, phrase: str, boxes: Any, frame: Any) -> Branch:
            return change(self, right(self, phrase, boxes, frame), phrase)

        monkeypatch.setattr(BranchBuilder, "branch", wrong)

    return plant


def in_batch(change: Callable[[PackedBatch], PackedBatch]) -> Plant:
    """A fault in the part that packs."""

    def plant(monkeypatch: pytest.MonkeyPatch) -> None:
        right = batches.pack
        monkeypatch.setattr(batches, "pack", lambda *given: change(right(*given)))

    return plant


def of_length(branch: Branch, supervised: int) -> Branch:
    return replace(branch, supervised=supervised, weights=(1.0,) * supervised)


def from_text_only(builder: BranchBuilder, branch: Branch, phrase: str) -> Branch:
    """The label mask's length taken from the prompt without its image tokens: the bug behind 95% to 15%."""
    text = chat_text(builder.loaded, phrase, 1)
    image_token = builder.tokenizer.convert_ids_to_tokens(builder.image_token_id)
    prompt_without_picture = len(builder._ids(text.replace(image_token, "")))
    whole = len(builder.prefix_ids(1)) + len(branch.token_ids)
    return of_length(branch, min(whole - prompt_without_picture, len(branch.token_ids)))


def seen_by_others(batch: PackedBatch) -> PackedBatch:
    """Every branch looks at the ones before it: phrases give away each other's boxes."""
    length = batch.input_ids.shape[1]
    changed = replace(batch)
    # Where a cached property keeps its value.
    changed.__dict__["attention_mask"] = (
        torch.ones(length, length, dtype=torch.bool).tril().expand_as(batch.attention_mask)
    )
    return changed


FAULTS = {
    "text-only prompt": in_branch(from_text_only),
    "prompt included": in_branch(lambda _, branch, __: of_length(branch, len(branch.token_ids))),
    "one token of the prompt": in_branch(lambda _, branch, __: of_length(branch, branch.supervised + 1)),
    "first token left out": in_branch(lambda _, branch, __: of_length(branch, branch.supervised - 1)),
    "end token missing": in_branch(
        lambda _, branch, __: replace(of_length(branch, branch.supervised - 1), token_ids=branch.token_ids[:-1])
    ),
    "off by one": in_batch(lambda batch: replace(batch, predicting=batch.predicting + 1)),
    "off by one back": in_batch(lambda batch: replace(batch, predicting=batch.predicting - 1)),
    "targets off by one": in_batch(lambda batch: replace(batch, target_ids=batch.target_ids.roll(1))),
    "a phrase left out": in_batch(
        lambda batch: replace(
            batch,
            predicting=batch.predicting[-20:],
            target_ids=batch.target_ids[-20:],
            token_weights=batch.token_weights[-20:],
        )
    ),
    "branches see each other": in_batch(seen_by_others),
    "positions run on": in_batch(
        lambda batch: replace(batch, position_ids=torch.arange(batch.input_ids.shape[1]).expand_as(batch.position_ids))
    ),
    "pictures moved": in_batch(lambda batch: replace(batch, visual_mask=batch.visual_mask.roll(1, dims=1))),
    "nothing weighs": in_batch(lambda batch: replace(batch, token_weights=batch.token_weights * 0)),
}


def test_a_sound_collator_passes(loaded: Any, demo_samples: dict[str, list[Sample]]) -> None:
    seen, found = look(loaded, demo_samples["train"], SETTINGS)
    assert len(seen) >= 4
    assert found == []


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_blocks(
    loaded: Any, demo_samples: dict[str, list[Sample]], monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    FAULTS[fault](monkeypatch)
    _, found = look(loaded, demo_samples["train"], SETTINGS)
    assert [(finding.kind, finding.blocking) for finding in found][:1] == [("masking", True)], fault
    assert "don't teach the answers alone" in found[0].sentence


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("end token missing", "never learn to stop"),
        ("one token of the prompt", "a part of the prompt is supervised"),
        ("off by one", "not the tokens that follow"),
        ("branches see each other", "not its picture, its prompt and itself"),
        ("positions run on", "positions"),
    ],
)
def test_the_sentence_says_which(
    loaded: Any, demo_samples: dict[str, list[Sample]], monkeypatch: pytest.MonkeyPatch, fault: str, words: str
) -> None:
    FAULTS[fault](monkeypatch)
    _, found = look(loaded, demo_samples["train"], SETTINGS)
    assert words in found[0].sentence


def test_the_trainers_own_pack_is_what_is_read(loaded: Any, demo_samples: dict[str, list[Sample]]) -> None:
    assert sight.batches is batches
