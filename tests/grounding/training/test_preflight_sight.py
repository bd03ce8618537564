"""What the model sees, read back: the picture, the box in the text, the tokens; and whether the largest step fits."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from grounding import engine
from grounding.boxes import Box
from grounding.models import LoadedModel, load_model
from grounding.records import Sample
from grounding.snapshots import Snapshot
from grounding.training.attach import attach_lora
from grounding.training.data import group_by_picture
from grounding.training.feed import Feed
from grounding.training.lean import StepLogits
from grounding.training.preflight import Preflight, PreflightError, memory, with_model
from grounding.training.preflight.headers import read_headers
from grounding.training.preflight.memory import Load, largest, next_settings, one_step, probe, probe_until_it_fits
from grounding.training.preflight.processed import processed_picture
from grounding.training.preflight.sight import choose, look, pack_questions
from grounding.training.preflight.with_model import before_first_step
from grounding.training.settings import TrainSettings
from grounding.training.views import trainable

SETTINGS = TrainSettings(images_per_step=4, phrases_per_image=3, steps=10)


@pytest.fixture(scope="module")
def trained(one_thread: None) -> LoadedModel:
    """A copy of the embedded model with LoRA on it."""
    loaded = load_model("demo", trainable=True)
    attach_lora(loaded, SETTINGS)
    return loaded


def test_the_picture_is_the_processors_own(loaded: Any, demo_samples: dict[str, list[Sample]]) -> None:
    with Image.open(demo_samples["train"][0].image) as opened:
        picture = opened.convert("RGB")
    shown = processed_picture(loaded, picture)
    assert shown.size == (256, 256)
    assert np.abs(np.asarray(shown, int) - np.asarray(picture, int)).max() <= 2
    wide = processed_picture(loaded, picture.resize((331, 200)))
    seen = engine.encode_images(loaded, [picture.resize((331, 200))])[0].frame.seen_size_wh
    assert wide.size == seen
    expected = np.asarray(picture.resize((331, 200)).resize(seen, Image.Resampling.BICUBIC), int)
    assert np.abs(np.asarray(wide, int) - expected).mean() < 6  # the processor's own resizing, not scrambled patches


def test_what_is_shown_is_what_the_tensors_hold(loaded: Any, demo_samples: dict[str, list[Sample]]) -> None:
    samples = demo_samples["train"]
    seen, found = look(loaded, samples, SETTINGS)
    assert found == []
    for one in seen:
        sample = next(s for s in samples if s.id == one.sample)
        text = loaded.profile.text_format.encode(
            sample.boxes_xyxy_px,
            engine.encode_images(loaded, [Image.open(sample.image).convert("RGB")])[0].frame,
            sample.phrase,
        )
        assert one.answer == text + "<|im_end|>"
        assert one.iou > 0.9
        assert len(one.boxes_xyxy_px) == len(sample.boxes_xyxy_px)
        answered = [piece for piece in one.pieces if piece.part == "answer"]
        assert "".join(piece.text for piece in answered) == one.answer
        assert all(piece.weight > 0 for piece in answered)
        assert all(piece.weight == 0 for piece in one.pieces if piece.part != "answer")
        assert sum(piece.count for piece in answered) == one.supervised_tokens
        assert one.image_tokens == 64
        prompt = "".join(piece.text for piece in one.pieces if piece.part == "prompt")
        assert loaded.profile.prompt_for(sample.phrase) in prompt
        address, content = one.picture.split(",")
        assert address == "data:image/webp;base64"
        assert Image.open(io.BytesIO(base64.b64decode(content))).size == one.seen_size_wh == (256, 256)


def test_the_samples_that_show_most_are_chosen(demo_samples: dict[str, list[Sample]]) -> None:
    train = demo_samples["train"]
    several = replace(train[3], id="several", boxes_xyxy_px=(Box(1, 1, 90, 90), Box(100, 100, 190, 190)))
    none = replace(train[4], id="none", boxes_xyxy_px=())
    tiny = replace(train[5], id="tiny", boxes_xyxy_px=(Box(1, 1, 4, 4),))
    chosen = {one.why: one for one in choose([*train[:3], several, none, tiny], SETTINGS)}
    assert chosen["the most boxes"].sample is several
    assert chosen["nothing there"].sample is none
    assert chosen["the smallest box"].sample is tiny
    assert all(one.questions[0][0] == one.sample.phrase for one in chosen.values())
    assert all(len(one.questions) <= SETTINGS.phrases_per_image for one in chosen.values())
    assert choose([], SETTINGS) == []


def test_unreadable_pictures_are_left_out(loaded: Any, demo_samples: dict[str, list[Sample]], tmp_path: Path) -> None:
    gone = [replace(sample, image=tmp_path / "gone.png") for sample in demo_samples["train"]]
    assert look(loaded, gone, SETTINGS) == ([], [])


def loads_of(samples: Sequence[Sample], settings: TrainSettings = SETTINGS) -> list[Load]:
    return largest(samples, read_headers(s.image for s in samples), settings)


def test_the_largest_pictures_and_longest_phrases_make_the_probe(
    demo_samples: dict[str, list[Sample]], tmp_path: Path
) -> None:
    Image.new("RGB", (900, 700)).save(tmp_path / "large.png")
    train = demo_samples["train"]
    plain = replace(train[0], image=tmp_path / "large.png", alternatives=())
    large = [replace(plain, id=f"l{n}", phrase="word " * n) for n in (1, 5, 9, 3)]
    loads = loads_of([*train, *large])
    assert len(loads) == 4
    assert [s.id for s in loads[0].samples] == ["l9", "l5", "l3"]


def test_the_probe_asks_the_other_phrases_of_a_box_too(demo_samples: dict[str, list[Sample]]) -> None:
    """As the steps do, where they are learned from."""
    sample = replace(demo_samples["train"][0], phrase="dog", alternatives=("the dog", "the brown dog", "", "dog"))
    (load,) = loads_of([sample])
    assert [s.phrase for s in load.samples] == ["the brown dog", "the dog", "dog"]
    (load,) = loads_of([sample], replace(SETTINGS, use_alternatives=False))
    assert [s.phrase for s in load.samples] == ["dog"]


@pytest.mark.parametrize("share", [0.06, 0.4, 0.5, 0.75])
def test_the_probe_asks_as_many_phrases_of_other_pictures_as_the_steps_may(
    demo_samples: dict[str, list[Sample]], share: float
) -> None:
    """They come beside `phrases_per_image` and share the picture's pass too."""
    train = demo_samples["train"]
    settings = replace(SETTINGS, phrases_per_image=2, negative_share=share, group_lengths=False)
    feed = Feed(group_by_picture(train, use_alternatives=True), settings)
    asked = [len(drawn.asked) for step in range(1, 50) for drawn in feed.step(step)]
    loads = loads_of(train, settings)
    counts = [len(load.samples) for load in loads]
    on_average = sum(asked) / len(asked)
    assert on_average <= sum(counts) / len(counts) < on_average + 1
    for load in loads:
        own, others = load.samples[: load.own], load.samples[load.own :]
        assert load.own == 2 and all(sample.image == load.image for sample in own)
        assert others and all(s.image != load.image and not s.boxes_xyxy_px for s in others)
    fewer = memory.largest_of(loads, replace(settings, phrases_per_image=1))
    assert [load.own for load in fewer] == [1] * len(loads)
    assert all(len(less.samples) < len(load.samples) for less, load in zip(fewer, loads, strict=True))


def test_the_probe_leaves_the_model_as_it_was(trained: LoadedModel, demo_samples: dict[str, list[Sample]]) -> None:
    before = {name: weight.clone() for name, weight in trained.model.named_parameters() if weight.requires_grad}
    trained.model.eval()
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    result = probe(trained, replace(SETTINGS, lora_dropout=0.5), loads_of(demo_samples["train"]))
    assert torch.equal(torch.rand(3), expected)
    assert result.fits
    assert result.seconds is not None and result.seconds > 0
    assert result.peak_bytes > 100_000_000  # the process and what a step takes
    assert result.tokens > 100
    assert not trained.model.training
    assert all(weight.grad is None for weight in trained.model.parameters())
    assert all(torch.equal(weight, before[name]) for name, weight in trained.model.named_parameters() if name in before)


def out_of_memory_above(pictures: int) -> Any:
    def step(loaded: LoadedModel, settings: TrainSettings, loads: Sequence[Load]) -> int:
        if math.ceil(len(loads) / settings.accumulation) > pictures:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")
        return 123

    return step


def test_what_does_not_fit_blocks_with_the_setting_that_does(
    trained: LoadedModel, demo_samples: dict[str, list[Sample]]
) -> None:
    probes, (found,) = probe_until_it_fits(
        trained, SETTINGS, loads_of(demo_samples["train"]), step=out_of_memory_above(1)
    )
    assert [one.fits for one in probes] == [False, False, True]
    assert (found.kind, found.blocking) == ("memory", True)
    assert found.sentence.endswith("It fits with each step computed in 4 parts, which learns the same: accumulation=4.")
    assert all(len(one.samples) == 4 for one in probes)  # no picture less a step: that would be another run
    assert found.samples == tuple(load.samples[0].id for load in loads_of(demo_samples["train"]))


def test_when_nothing_fits_the_last_way_out_is_named(
    trained: LoadedModel, demo_samples: dict[str, list[Sample]]
) -> None:
    loads = loads_of(demo_samples["train"])
    probes, (found,) = probe_until_it_fits(trained, SETTINGS, loads, step=out_of_memory_above(0))
    assert not any(one.fits for one in probes)
    assert "4-bit weights" in found.sentence
    _, (found,) = probe_until_it_fits(trained, SETTINGS, loads, quantize="4bit", step=out_of_memory_above(0))
    assert "4-bit" not in found.sentence


def test_the_mildest_change_comes_first() -> None:
    steps = [changes for changes, _ in next_settings(replace(SETTINGS, images_per_step=5))]
    assert [changes["accumulation"] for changes in steps[:3]] == [2, 4, 5]
    assert "gradient_checkpointing" not in steps[2] and steps[3]["gradient_checkpointing"] is True
    assert steps[-1]["quantize"] == "4bit"
    assert not any("images_per_step" in changes for changes in steps)


@pytest.mark.parametrize(("parts", "sizes"), [(1, [4]), (2, [2, 2]), (3, [2, 1, 1]), (9, [1, 1, 1, 1])])
def test_the_probe_computes_a_step_in_the_parts_of_the_run(
    trained: LoadedModel,
    demo_samples: dict[str, list[Sample]],
    monkeypatch: pytest.MonkeyPatch,
    parts: int,
    sizes: list[int],
) -> None:
    packed: list[int] = []
    monkeypatch.setattr(memory, "pack_questions", lambda *given: packed.append(len(given[3])) or pack_questions(*given))
    settings = replace(SETTINGS, accumulation=parts)
    logits_of = StepLogits(trained)
    one_step(trained, settings, loads_of(demo_samples["train"]), logits_of)
    assert logits_of.is_lean  # the pass that the steps take
    assert packed == [1, *sizes]  # the first decides between the passes


def test_checkpointing_that_is_tried_is_on_in_the_probe_and_off_after(
    trained: LoadedModel, demo_samples: dict[str, list[Sample]]
) -> None:
    seen: list[bool] = []

    def step(loaded: LoadedModel, settings: TrainSettings, loads: Sequence[Load]) -> int:
        seen.append(loaded.model.is_activation_checkpointing)
        if not seen[-1]:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return 1

    probes, (found,) = probe_until_it_fits(trained, SETTINGS, loads_of(demo_samples["train"]), step=step)
    assert probes[-1].fits and probes[-1].changes["gradient_checkpointing"]
    assert "gradient_checkpointing=True" in found.sentence
    assert seen[:4] == [False, False, False, True]
    assert not trained.model.is_activation_checkpointing


def test_a_trained_vision_tower_is_part_of_the_probe(one_thread: None, demo_samples: dict[str, list[Sample]]) -> None:
    settings = replace(SETTINGS, lora_vision=True, images_per_step=1)
    loaded = load_model("demo", trainable=True)
    attached = attach_lora(loaded, settings)
    reached: set[str] = set()
    for name, weight in attached.weights.items():
        weight.register_hook(lambda gradient, name=name: reached.add(name))
    probe(loaded, settings, loads_of(demo_samples["train"], settings))
    assert any("visual" in name for name in reached)


def test_more_than_the_memory_there_is_does_not_fit(
    trained: LoadedModel, demo_samples: dict[str, list[Sample]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("grounding.training.preflight.memory.free_memory_bytes", lambda: 0)
    result = probe(trained, SETTINGS, loads_of(demo_samples["train"]))
    assert not result.fits
    assert result.seconds is None
    assert result.limit_bytes is not None and result.peak_bytes > 0.95 * result.limit_bytes


def test_the_worker_looks_before_the_first_step_and_keeps_what_it_found(
    trained: LoadedModel, tiny_samples: list[Sample], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshot = Snapshot("tiny", tmp_path, "0" * 64, tuple(tiny_samples))
    told: list[Any] = []
    Preflight("tiny", "0" * 64, {"train": 2}, ()).save(tmp_path / "run")
    whole = before_first_step(trained, snapshot, SETTINGS, None, tmp_path / "run", told.append)
    assert whole.cost is not None and whole.cost.seconds and whole.cost.adapter_bytes
    trained_weights = sum(w.numel() for w in trained.model.parameters() if w.requires_grad)
    assert whole.cost.adapter_bytes == 4 * trained_weights
    kept = Preflight.load(tmp_path / "run")
    assert kept is not None and kept.counts == {"train": 2} and kept.seen and not kept.seen[0].picture
    assert "tokens of a phrase are learned from" in told[-1].text

    monkeypatch.setattr("grounding.training.preflight.with_model.probe_until_it_fits", one_that_fails)
    with pytest.raises(PreflightError, match="does not fit"):
        before_first_step(trained, snapshot, SETTINGS, None, tmp_path / "run", told.append)
    replace(kept, forced=True).save(tmp_path / "run")
    before_first_step(trained, snapshot, SETTINGS, None, tmp_path / "run", told.append)


def test_scoring_each_round_is_counted_in_the_time(
    trained: LoadedModel, demo_samples: dict[str, list[Sample]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bad.png").write_bytes(b"nonsense")
    unread = replace(demo_samples["val"][0], image=tmp_path / "bad.png")
    snapshot = Snapshot("tiny", tmp_path, "0" * 64, (*demo_samples["train"], unread, *demo_samples["val"]))
    ticks = iter(range(100))
    monkeypatch.setattr(with_model.time, "perf_counter", lambda: float(next(ticks)))
    settings = replace(SETTINGS, steps=100, images_per_step=4, score_every_steps=1000)
    seldom = with_model._scoring_seconds(trained, snapshot, settings)
    often = with_model._scoring_seconds(trained, snapshot, replace(settings, score_each_epoch=True))
    assert seldom > 0
    assert often / seldom == pytest.approx((2 + 99 // 2) / 2)  # 8 pictures, 4 a step: every second step


def one_that_fails(loaded: LoadedModel, settings: TrainSettings, loads: Any, *_: Any, **__: Any) -> Any:
    return probe_until_it_fits(loaded, settings, loads, step=out_of_memory_above(0))


def test_features_of_the_probe_can_be_trained_through(trained: LoadedModel, tiny_samples: list[Sample]) -> None:
    picture = Image.open(tiny_samples[0].image).convert("RGB")
    assert not any(f.pooled.is_inference() for f in trainable(engine.encode_images(trained, [picture])))
