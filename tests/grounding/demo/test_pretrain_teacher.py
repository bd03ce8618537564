"""A model that begins as another: its words are taken over, its sight is learned, nothing else changes meanwhile."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from grounding.demo.pretrain import loop
from grounding.demo.pretrain.__main__ import run
from grounding.demo.pretrain.answers import Writer
from grounding.demo.pretrain.export import export
from grounding.demo.pretrain.loop import Pretraining, dense_weight, learning_rate
from grounding.demo.pretrain.passes import Tower, patches_of
from grounding.demo.pretrain.settings import SHAPES, PretrainSettings, Shape
from grounding.demo.pretrain.shape import build_model, build_processor
from grounding.demo.pretrain.teacher import Teacher
from grounding.errors import JobError, ModelError, SettingsError
from grounding.training.lanes import Lanes

DEEP = Shape(vision_width=32, vision_depth=4, vision_heads=2, deepstack_after=(1,), text_width=64, text_heads=2)
FLAT = replace(DEEP, vision_depth=2, deepstack_after=(0,))
COARSE = replace(FLAT, patch_px=32, merge=1)
SETTINGS = PretrainSettings(
    steps=6, teacher_steps=4, pictures_per_step=4, questions_per_picture=2, warmup_steps=1, score_every_steps=0
)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("taught") / "teacher"
    export(build_model(DEEP, 5), build_processor(DEEP, seed=1), folder)
    return folder


def weights_of(training: Pretraining) -> dict[str, torch.Tensor]:
    return {name: weight.detach().clone() for name, weight in training._weights().items()}


def test_a_flatter_tower_begins_with_layers_spread_evenly(teacher: Path, tmp_path: Path) -> None:
    training = Pretraining(SETTINGS, FLAT, tmp_path, "cpu", teacher)
    taught, own = Teacher(teacher, "cpu").model.state_dict(), training.model.state_dict()
    for name, weight in own.items():
        assert torch.equal(weight, taught[name.replace("blocks.1.", "blocks.2.")]), name
    assert training.processor.tokenizer.get_vocab() == Teacher(teacher, "cpu").tokenizer.get_vocab()
    assert training.processor.tokenizer.get_vocab() != build_processor(FLAT).tokenizer.get_vocab()


def test_what_has_another_size_begins_anew(teacher: Path, tmp_path: Path) -> None:
    own = Pretraining(SETTINGS, COARSE, tmp_path, "cpu", teacher).model.state_dict()
    fresh, taught = build_model(COARSE, SETTINGS.seed).state_dict(), Teacher(teacher, "cpu").model.state_dict()
    anew = {name for name, weight in own.items() if torch.equal(weight, fresh[name]) and weight.std() > 0}
    assert {name.split(".visual.")[1].split(".")[0] for name in anew} == {
        *("patch_embed", "pos_embed", "merger", "deepstack_merger_list")
    }
    assert torch.equal(own["model.visual.blocks.1.attn.qkv.weight"], taught["model.visual.blocks.2.attn.qkv.weight"])


def test_apart_is_the_share_of_the_teachers_variance(teacher: Path) -> None:
    one = Teacher(teacher, "cpu")
    processor = build_processor(DEEP, tokenizer=one.tokenizer)
    batch = Writer(processor, SETTINGS.digit_weights).batch(SETTINGS, 0)
    pixels = torch.from_numpy(batch.pixels)
    seen = Tower(one.model.model.visual).see(patches_of(pixels, 16, 2), batch.grid)
    assert float(one.apart(seen, pixels, batch.grid, 4)) == pytest.approx(0, abs=1e-9)
    means = [level.mean((1, 2), keepdim=True).expand_as(level) for level in (seen.pooled, *seen.deepstack)]
    blind = replace(seen, pooled=means[0], deepstack=tuple(means[1:]))
    assert float(one.apart(blind, pixels, batch.grid, 4)) == pytest.approx(2, abs=1e-4), "all of it, at two outputs"
    assert float(one.apart(blind, pixels, batch.grid, 8)) == pytest.approx(1, abs=1e-4), "half of a step's pictures"


def test_a_step_with_a_teacher_in_parts_is_a_whole_one(
    teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for name, pictures_in_lane, lanes in (("whole", 100, 1), ("parts", 1, 2)):
        monkeypatch.setattr(loop, "_PICTURES_IN_LANE", pictures_in_lane)
        training = Pretraining(SETTINGS, FLAT, tmp_path / name, "cpu", teacher)
        training.lanes, training.dtype = Lanes(lanes), None
        losses = training._backward(Writer(training.processor, SETTINGS.digit_weights).batch(SETTINGS, 0))
        found.append((losses, [weight.grad for weight in training._learning()]))
    (whole, gradients), (in_parts, others) = found
    without_head = Pretraining(replace(SETTINGS, dense_weight=(0.0, 0.0)), FLAT, tmp_path / "x", "cpu", teacher)
    without_head.dtype = None
    without_head._backward(Writer(without_head.processor, SETTINGS.digit_weights).batch(SETTINGS, 0))
    for gradient, weight in zip(gradients, without_head.model.model.visual.parameters(), strict=False):
        assert gradient is not None and weight.grad is not None
        assert torch.allclose(gradient, weight.grad, atol=1e-5), "the head is no teacher"
    assert torch.allclose(in_parts, whole, rtol=1e-4) and float(whole[0]) > 0
    assert len(gradients) > 10
    for gradient, other in zip(gradients, others, strict=True):
        assert gradient is not None and other is not None and torch.allclose(gradient, other, atol=1e-5)


@pytest.mark.slow
def test_the_tower_comes_nearer_and_the_words_stay(teacher: Path, tmp_path: Path) -> None:
    settings = replace(SETTINGS, checkpoint_every_steps=3, learning_rate=3e-3)
    training = Pretraining(settings, COARSE, tmp_path / "whole", "cpu", teacher)
    before, events, after = weights_of(training), [], {}
    for event in training.steps():
        events.append(event)
        if event.step == settings.teacher_steps:
            after = weights_of(training)
    changed = {name for name, weight in after.items() if not torch.equal(weight, before[name])}
    assert changed == {name for name in before if ".visual." in name or name.startswith("dense.")}
    assert all(not torch.equal(weight, after[name]) for name, weight in weights_of(training).items()), "then all learn"
    assert [event.apart is None for event in events] == [False] * 4 + [True] * 2
    assert [event.answer is None for event in events] == [True] * 4 + [False] * 2
    assert (events[3].apart or 9) < (events[0].apart or 0)

    stopped = Pretraining(settings, COARSE, tmp_path / "stopped", "cpu", teacher)
    for event in stopped.steps():
        if event.step == 3:
            break
    resumed = Pretraining(settings, COARSE, tmp_path / "stopped", "cpu", teacher)
    assert [(e.step, e.apart, e.answer) for e in resumed.steps()] == [(e.step, e.apart, e.answer) for e in events[3:]]
    other = tmp_path / "other"
    export(build_model(DEEP, 6), build_processor(DEEP, seed=1), other)
    with pytest.raises(JobError, match="can't be gone on with"):
        Pretraining(settings, COARSE, tmp_path / "stopped", "cpu", other)


@pytest.mark.slow
def test_the_card_says_what_it_began_as(teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SHAPES, "flat", FLAT)  # type: ignore[arg-type]
    settings = replace(SETTINGS, steps=2, teacher_steps=1, score_pictures=2)
    model = run(settings, "flat", tmp_path, device="cpu", teacher=teacher)
    assert model is not None
    card = (model / "README.md").read_text(encoding="utf-8")
    assert f"begun with the weights of the model of SHA-256 `{Teacher(teacher, 'cpu').sha256[:16]}`" in card
    assert "the first 1 of them learning its sight" in card and "from nothing" not in card
    history = [json.loads(line) for line in (tmp_path / "history.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [line["answer"] is None for line in history] == [True, False]


def test_the_rate_rises_and_falls_twice() -> None:
    settings = replace(SETTINGS, steps=60, teacher_steps=20, warmup_steps=5, learning_rate=1e-2)
    rates = [learning_rate(settings, step) for step in range(60)]
    assert rates[5] == rates[25] == pytest.approx(1e-2) and rates[19] < 2e-4 and rates[20] == pytest.approx(2e-3)
    assert rates[59] < 1e-4 and dense_weight(settings, 59) == pytest.approx(0.3)


@pytest.mark.parametrize(
    ("shape", "folder", "error", "said"),
    [
        (FLAT, None, SettingsError, r"teacher_steps is 4: expected 0, or a teacher"),
        (FLAT, "nothing", ModelError, "is no model to learn from"),
        (replace(FLAT, deepstack_after=(0, 1)), "teacher", ModelError, "hands on 2 layers .* expected 1"),
        (replace(FLAT, text_width=32, text_heads=1), "teacher", ModelError, "can't begin as .* other sizes"),
    ],
)
def test_a_teacher_that_will_not_do_is_refused(
    shape: Shape, folder: str | None, error: type[Exception], said: str, teacher: Path, tmp_path: Path
) -> None:
    given: Any = folder and (teacher if folder == "teacher" else tmp_path / folder)
    with pytest.raises(error, match=said):
        Pretraining(SETTINGS, shape, tmp_path / "out", "cpu", given)


def test_more_steps_with_a_teacher_than_steps_are_refused() -> None:
    with pytest.raises(SettingsError, match="teacher_steps is 9: expected 0 to 6"):
        replace(SETTINGS, teacher_steps=9)
