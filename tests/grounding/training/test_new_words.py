"""Words that the base was never taught: found by its embeddings, learned beside LoRA, and of the adapter alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from grounding import engine
from grounding.adapters.merge import _merged
from grounding.demo.sprites import known_nouns, unknown_nouns
from grounding.models import LoadedModel, load_model
from grounding.predict import Predictor
from grounding.records import Sample
from grounding.snapshots import Snapshot
from grounding.training.attach import attach_lora
from grounding.training.batches import BranchBuilder, PackedBatch, pack, packed_logits
from grounding.training.events import NoteEvent, TrainEvent
from grounding.training.history import read_rows
from grounding.training.lean import LeanPass
from grounding.training.new_words import in_words, new_token_ids, phrases_of
from grounding.training.optimisers import make_optimiser, set_rate
from grounding.training.run import TrainPlan, train
from grounding.training.settings import TrainSettings

SETTINGS = TrainSettings(
    steps=8,
    images_per_step=2,
    phrases_per_image=2,
    score_samples=4,
    score_every_steps=4,
    augment=False,
    learning_rate=5e-3,
    strength=0.7,
    keep_best=False,
)


@pytest.fixture
def fresh(one_thread: None) -> LoadedModel:
    """A model of the test's own, to change."""
    return load_model("demo")


@pytest.fixture
def samples(demo_samples: dict[str, list[Sample]]) -> list[Sample]:
    """Phrases with words that the embedded model was never taught."""
    new = set(unknown_nouns())
    train = [sample for sample in demo_samples["train"] if sample.category in new and sample.boxes_xyxy_px][:6]
    return [*train, *(replace(sample, id=f"val-{sample.id}", split="val") for sample in train[:4])]


def test_in_the_embedded_model_they_are_the_nouns_held_out(fresh: LoadedModel) -> None:
    nouns = [*unknown_nouns(), *known_nouns()]
    phrases = [f"the {size} {noun} at the top left" for noun in nouns for size in ("big", "smallest")]
    found = new_token_ids(fresh, phrases)
    decoded = fresh.processor.tokenizer.batch_decode([[token] for token in found])
    assert sorted(text.strip() for text in decoded) == sorted(unknown_nouns())
    assert list(found) == sorted(found)
    assert new_token_ids(fresh, [f"the {noun}" for noun in known_nouns()]) == ()
    assert new_token_ids(fresh, []) == ()


def test_random_embeddings_are_no_crowd(fresh: LoadedModel) -> None:
    weight = fresh.model.get_input_embeddings().weight
    weight.data.normal_()
    assert new_token_ids(fresh, [f"the {noun}" for noun in unknown_nouns()]) == ()


def test_what_is_said_of_them(fresh: LoadedModel) -> None:
    phrases = [f"the {noun}" for noun in (*unknown_nouns(), "dog")]
    one = new_token_ids(fresh, ["the octopus"])
    said = "1 word in the phrases means nothing to the base yet and is learned beside LoRA: octopus."
    assert in_words(fresh, one, phrases) == said
    many = new_token_ids(fresh, phrases)
    assert in_words(fresh, many, phrases).startswith("20 words in the phrases mean nothing to the base yet")
    assert in_words(fresh, many, phrases).endswith("and 12 more.")
    pieces = new_token_ids(fresh, ["a zebra"])
    assert pieces and "zebra" in in_words(fresh, pieces, ["a zebra", "the dog"]), "a word of pieces is named whole"


def test_phrases_are_those_of_the_train_split_with_their_alternatives(samples: list[Sample], tmp_path: Path) -> None:
    some = [
        replace(samples[0], phrase="a", alternatives=("b", "a"), split="train"),
        replace(samples[1], phrase="c", split="val"),
    ]
    assert phrases_of(Snapshot("s", tmp_path, "0" * 64, tuple(some))) == ("a", "b")


def test_they_learn_at_their_own_rate_and_only_where_asked_for(fresh: LoadedModel) -> None:
    settings = replace(SETTINGS, weight_decay=0.1, new_words_rate=7.0)
    attached = attach_lora(fresh, settings, ["the octopus", "the dog"])
    names = [name for name in attached.weights if "trainable_tokens_delta" in name]
    assert len(names) == 1 and len(attached.new_token_ids) == 1
    assert attached.weights[names[0]].shape == (1, 256)
    optimiser, _ = make_optimiser(attached.weights, settings, "cpu")
    set_rate(optimiser, 4, settings)
    (words,) = (g for g in optimiser.param_groups if any(p is attached.weights[names[0]] for p in g["params"]))
    (lora,) = (g for g in optimiser.param_groups if g is not words)
    assert words["lr"] == pytest.approx(7 * lora["lr"])
    assert (words["weight_decay"], lora["weight_decay"]) == (0.0, 0.1)


def test_off_or_with_nothing_new_it_is_plain_lora(fresh: LoadedModel) -> None:
    attached = attach_lora(fresh, replace(SETTINGS, learn_new_words=False), ["the octopus"])
    assert attached.new_token_ids == () and all("lora_" in name for name in attached.weights)


def batch_of(loaded: LoadedModel, samples: Sequence[Sample]) -> tuple[PackedBatch, list[Any]]:
    from PIL import Image

    pictures = [Image.open(sample.image).convert("RGB") for sample in samples]
    features = engine.encode_images(loaded, pictures)
    builder = BranchBuilder(loaded)
    branches = [
        [builder.branch(sample.phrase, sample.boxes_xyxy_px, feature.frame)]
        for sample, feature in zip(samples, features, strict=True)
    ]
    return pack(loaded, builder, features, branches), features


def test_the_lean_pass_has_the_stock_logits_and_gradients(fresh: LoadedModel, samples: list[Sample]) -> None:
    """With the new rows in the output layer too, whose weights are those of the embeddings."""
    batch, features = batch_of(fresh, samples[:3])
    attached = attach_lora(fresh, SETTINGS, [sample.phrase for sample in samples])
    torch.manual_seed(0)
    with torch.no_grad():
        for weight in attached.weights.values():
            weight.add_(torch.randn_like(weight) * 0.05)
    family = engine.text_family(fresh)
    parts = family.text_parts(fresh)
    assert parts is not None
    found = []
    for logits in (packed_logits(fresh, batch, features), LeanPass(*parts).logits(batch, features)):
        chosen = logits.float().log_softmax(-1)[:, ::7].square().mean()
        found.append((logits, torch.autograd.grad(chosen, list(attached.weights.values()), allow_unused=True)))
    (stock, theirs), (lean, ours) = found
    torch.testing.assert_close(lean, stock, rtol=2e-3, atol=2e-3)
    for name, one, other in zip(attached.weights, theirs, ours, strict=True):
        assert one is not None and other is not None, name
        assert float((one - other).norm() / one.norm().clamp_min(1e-9)) < 1e-2, name


@pytest.mark.slow
def test_a_run_learns_them_and_what_it_saves_answers_as_it_was_scored(
    samples: list[Sample], tmp_path: Path, one_thread: None
) -> None:
    snapshot = Snapshot("new", tmp_path, "0" * 64, tuple(samples))
    plan = TrainPlan(
        "new", snapshot, "demo", "none", SETTINGS, tmp_path / "adapters" / "new", "run-1", tmp_path / "run"
    )
    events: list[TrainEvent] = []
    train(plan, events.append, lambda: False)
    assert any("nothing to the base yet" in event.text for event in events if isinstance(event, NoteEvent))
    weights = load_file(plan.adapter_folder / "adapter_model.safetensors")
    (rows,) = (rows for name, rows in weights.items() if "trainable_tokens_delta" in name)
    base = load_model("demo")
    ids = list(new_token_ids(base, phrases_of(snapshot)))
    moved = (rows - base.model.get_input_embeddings().weight[ids].float()).norm(dim=-1)
    assert bool((moved > 0.05).all()), "every word has moved"
    scored = read_rows(plan.adapter_folder, 8)
    predictor = Predictor(base, plan.adapter_folder.parent)
    asked: list[tuple[Any, str]] = [(Path(row.image), row.phrase) for row in scored]
    answers = predictor.predict_many(asked, "new")
    for row, answer in zip(scored, answers, strict=True):
        assert row.status == answer.status.value
        assert [x for box in row.boxes for x in box] == pytest.approx([x for box in answer.boxes for x in box], abs=0.3)
    info = predictor.registry.find("new")
    merged = _merged(info, load_model("demo"))
    alone = Predictor(replace(load_model("demo"), model=merged.eval()), tmp_path / "none")
    assert [a.boxes for a in alone.predict_many(asked)] == [a.boxes for a in answers]
