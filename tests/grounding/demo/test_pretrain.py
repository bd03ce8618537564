"""An embedded model trained from nothing, in small: the pass is the stock one, losses fall, a stop costs nothing."""

from __future__ import annotations

import json
import random
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from grounding.boxes import Box
from grounding.demo.pretrain import loop
from grounding.demo.pretrain.__main__ import main, run
from grounding.demo.pretrain.accuracy import measure
from grounding.demo.pretrain.answers import Writer
from grounding.demo.pretrain.loop import Pretraining, PretrainStep, dense_weight, learning_rate, seconds_of_steps
from grounding.demo.pretrain.passes import Reader, Tower, patches_of
from grounding.demo.pretrain.scenes_feed import draw_shown, grid_of_step, shown_in_step
from grounding.demo.pretrain.settings import CELL_PX, SHAPES, PretrainSettings, Shape, grids
from grounding.demo.pretrain.shape import IMAGE, build_model, build_processor
from grounding.demo.sprites import all_nouns
from grounding.errors import JobError, SettingsError
from grounding.predict import Predictor
from grounding.training.lanes import Lanes

TINY = Shape(vision_width=32, vision_depth=2, vision_heads=2, deepstack_after=(0,), text_width=64, text_heads=2)
SMALL = PretrainSettings(
    steps=8, pictures_per_step=4, questions_per_picture=2, warmup_steps=2, score_pictures=3, score_every_steps=0
)
COARSE = replace(TINY, patch_px=32, merge=1)


@pytest.fixture(scope="module")
def processor() -> Any:
    return build_processor(TINY)


@pytest.mark.parametrize("shape", [TINY, COARSE])
@pytest.mark.parametrize("grid", [(8, 8), (5, 8), (10, 4)])
def test_the_pass_is_the_stock_models(shape: Shape, grid: tuple[int, int]) -> None:
    """Patches as the processor lays them out; tower and logits as the stock forward gives them, row by row."""
    processor, model = build_processor(shape), build_model(shape, 1).eval()
    rng = random.Random(4)
    shown = [draw_shown(rng, grid, SMALL) for _ in range(2)]
    writer = Writer(processor, SMALL.digit_weights)
    cells = grid[0] * grid[1]
    batch = writer.pack(shown, grid)
    stock = processor.image_processor(images=[Image.fromarray(one.pixels) for one in shown], return_tensors="pt")
    patches = patches_of(torch.from_numpy(batch.pixels), shape.patch_px, shape.merge)
    twice = patches.unflatten(-1, (3, 1, -1)).expand(-1, -1, -1, 2, -1).flatten(2)  # the stock tower reads two frames
    assert torch.allclose(twice.flatten(0, 1), stock["pixel_values"], atol=1e-5)
    assert stock["image_grid_thw"].tolist() == [[1, grid[0] * shape.merge, grid[1] * shape.merge]] * 2

    with torch.no_grad():
        tower = Tower(model.model.visual)
        logits = Reader(model).logits(tower.see(patches, grid), batch)
        halves = [
            Reader(model).logits(tower.see(patches[i : i + 1], grid), part) for i, part in enumerate(batch.split(2))
        ]
        expected, targets, told = [], [], []
        for picture, one in enumerate(shown):
            for question in one.questions:
                row, weights = writer.row(question.text, one.boxes_of(question), one.size_wh, cells)
                tokens, learned = torch.tensor([row]), torch.tensor(weights) > 0
                said = model(
                    input_ids=tokens,
                    mm_token_type_ids=(tokens == IMAGE).int(),
                    pixel_values=stock["pixel_values"].unflatten(0, (2, -1))[picture],
                    image_grid_thw=stock["image_grid_thw"][picture : picture + 1],
                ).logits[0]
                expected.append(said[:-1][learned[1:]])
                targets += tokens[0][learned].tolist()
                told += [weight for weight in weights if weight > 0]
    assert torch.allclose(logits, torch.cat(expected), atol=2e-4)
    assert torch.allclose(torch.cat(halves), logits, atol=2e-4)
    assert batch.targets.tolist() == targets and batch.weights.tolist() == pytest.approx(told)


def test_what_is_learned_is_the_answer_and_its_end(processor: Any) -> None:
    writer = Writer(processor, (3.0, 2.0, 0.4))
    boxes = (Box(0, 64, 128, 256), Box(30, 1, 140, 70))
    ids, weights = writer.row("both dogs", boxes, (256, 256), 64)
    learned = [token for token, weight in zip(ids, weights, strict=True) if weight]
    answer = '[{"bbox_2d": [0, 250, 500, 1000]}, {"bbox_2d": [117, 4, 547, 273]}]'
    assert processor.tokenizer.decode(learned) == answer + "<|im_end|>"
    assert ids.count(IMAGE) == 64
    asked = processor.tokenizer.decode([token for token, weight in zip(ids, weights, strict=True) if not weight])
    assert "Locate both dogs in this image" in asked and asked.endswith("<|im_start|>assistant\n")
    digits = [
        (processor.tokenizer.decode([token]), weight)
        for token, weight in zip(ids, weights, strict=True)
        if weight not in (0.0, 1.0)
    ]
    assert digits[:4] == [("0", 0.4), ("2", 3.0), ("5", 2.0), ("0", 0.4)]
    nothing, told = writer.row("the car", (), (256, 256), 64)
    assert processor.tokenizer.decode([t for t, w in zip(nothing, told, strict=True) if w]) == "[]<|im_end|>"


def test_every_digit_is_one_token_and_every_noun_a_few(processor: Any) -> None:
    tokenizer = processor.tokenizer
    assert len(tokenizer) == TINY.vocabulary
    assert len(tokenizer.tokenize(", 1000")) == 6
    assert all(len(tokenizer.tokenize(f" {noun}")) <= 3 for noun in all_nouns())


def test_a_step_is_a_function_of_seed_and_number() -> None:
    one, again = (list(shown_in_step(SMALL, 3)) for _ in range(2))
    assert all(
        np.array_equal(a.pixels, b.pixels) and a.questions == b.questions for a, b in zip(one, again, strict=True)
    )
    assert {one.size_wh for one in one} == {(grid_of_step(SMALL, 3)[1] * CELL_PX, grid_of_step(SMALL, 3)[0] * CELL_PX)}
    other = next(shown_in_step(replace(SMALL, seed=1), 3))
    assert not np.array_equal(other.pixels, one[0].pixels) if other.pixels.shape == one[0].pixels.shape else True
    assert {grid_of_step(SMALL, step) for step in range(400)} == set(grids())


def test_a_cell_knows_what_covers_its_centre() -> None:
    shown = draw_shown(random.Random(2), (6, 8), SMALL)
    for cell, (noun, box) in enumerate(zip(shown.cells, shown.cell_boxes, strict=True)):
        x, y = (cell % 8 + 0.5) * CELL_PX, (cell // 8 + 0.5) * CELL_PX
        covering = [
            each
            for each in shown.objects
            if each.box_xyxy_px.x1 <= x < each.box_xyxy_px.x2 and each.box_xyxy_px.y1 <= y < each.box_xyxy_px.y2
        ]
        if not covering:
            assert noun == 0 and not box.any()
        else:
            assert all_nouns()[noun - 1] == covering[-1].noun
            assert tuple(box * (256, 192, 256, 192)) == pytest.approx(tuple(covering[-1].box_xyxy_px), abs=0.01)


def told(training: Pretraining, workers: int = 0) -> list[PretrainStep]:
    return list(training.steps(workers))


@pytest.mark.slow
def test_losses_fall_and_a_stop_costs_nothing(tmp_path: Path) -> None:
    settings = replace(SMALL, checkpoint_every_steps=3, learning_rate=5e-3)
    whole = told(Pretraining(settings, TINY, tmp_path / "whole", "cpu"))
    assert [event.step for event in whole] == list(range(1, 9))
    assert whole[-1].answer < whole[0].answer - 1 and whole[-1].dense < whole[0].dense

    stopped = Pretraining(settings, TINY, tmp_path / "stopped", "cpu")
    for event in stopped.steps():
        if event.step == 5:
            break  # two steps after a checkpoint
    resumed = Pretraining(settings, TINY, tmp_path / "stopped", "cpu")
    assert resumed.step == 3
    rest = told(resumed, workers=1)
    assert [(e.step, e.answer, e.dense) for e in rest] == [(e.step, e.answer, e.dense) for e in whole[3:]]
    with pytest.raises(JobError, match="can't be gone on with"):
        Pretraining(replace(settings, learning_rate=1e-3), TINY, tmp_path / "stopped", "cpu")


def test_a_step_in_parts_learns_what_a_whole_one_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a CPU a step goes part by part, in threads: the losses and gradients are those of one batch."""
    found = []
    for name, pictures_in_lane, lanes in (("whole", 100, 1), ("parts", 1, 2)):
        monkeypatch.setattr(loop, "_PICTURES_IN_LANE", pictures_in_lane)
        training = Pretraining(SMALL, TINY, tmp_path / name, "cpu")
        training.lanes, training.dtype = Lanes(lanes), None
        batch = Writer(training.processor, SMALL.digit_weights).batch(SMALL, 0)
        losses = training._backward(batch)
        found.append((losses, {name: weight.grad for name, weight in training._weights().items()}))
    (whole, gradients), (in_parts, others) = found
    assert torch.allclose(in_parts, whole, rtol=1e-4)
    for name, gradient in gradients.items():
        assert gradient is not None and torch.allclose(gradient, others[name], atol=1e-5), name  # type: ignore[arg-type]


@pytest.mark.slow
def test_what_is_exported_loads_and_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SHAPES, "tiny", TINY)  # type: ignore[arg-type]
    settings = replace(SMALL, steps=2, checkpoint_every_steps=0, score_every_steps=1)
    assert run(settings, "tiny", tmp_path, device="cpu", minutes=0) is None, "stopped after a step"
    model = run(settings, "tiny", tmp_path, device="cpu")
    assert model is not None
    scores = [json.loads(line) for line in (tmp_path / "scores.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [(one["step"], one["pictures"]) for one in scores] == [(1, 3), (2, 3)]
    assert {"config.json", "model.safetensors", "tokenizer.json", "boxwright.json", "README.md"} <= {
        path.name for path in model.iterdir()
    }
    card = (model / "README.md").read_text(encoding="utf-8")
    assert "2 steps of 4 pictures" in card and "of the code" in card and "| one object |" in card
    assert json.loads((model / "boxwright.json").read_text(encoding="utf-8")) == {"profile": "qwen3-vl-demo"}
    from grounding.models import load_model

    again = run(settings, "tiny", tmp_path, device="cpu")
    assert again == model and (model / "README.md").read_text(encoding="utf-8") == card, "finished: only told"
    assert len((tmp_path / "scores.jsonl").read_text(encoding="utf-8").splitlines()) == 2
    answer = Predictor(load_model(str(model), device="cpu"), tmp_path).predict(Image.new("RGB", (500, 200)), "dog")
    assert answer.raw_text
    assert measure(model, SMALL, device="cpu").pictures == 3
    assert main(["--out", str(tmp_path / "x"), "--steps", "0"]) == 1


@pytest.mark.slow
def test_the_seconds_of_a_step_are_its_own(tmp_path: Path) -> None:
    """Whoever listens takes its time, as a scoring does."""
    training = Pretraining(replace(SMALL, steps=2, checkpoint_every_steps=0), TINY, tmp_path, "cpu")
    for _ in training.steps():
        time.sleep(1.5)
    assert seconds_of_steps(tmp_path)[2] < 1.5


def test_the_rate_rises_and_falls() -> None:
    settings = replace(SMALL, steps=100, warmup_steps=10, learning_rate=1.0e-2)
    rates = [learning_rate(settings, step) for step in range(100)]
    assert rates[:10] == pytest.approx([0.001 * (step + 1) for step in range(10)])
    assert max(rates) == rates[10] == pytest.approx(1e-2) and rates[-1] < 1e-5
    assert [dense_weight(settings, step) for step in (0, 99)] == pytest.approx([1.0, 0.3])


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"steps": 0}, "steps is 0"),
        ({"nothing_share": 1.2}, "nothing_share is 1.2"),
        ({"several_share": 0.99}, "at most 1"),
        ({"digit_weights": (3.0, -2.0, 0.4)}, "0 or more"),
    ],
)
def test_wrong_settings_are_refused(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        PretrainSettings(**wrong)


def test_a_shape_that_fits_no_cell_is_refused() -> None:
    with pytest.raises(SettingsError, match="patch_px is 16: expected 32"):
        Shape(merge=1)
