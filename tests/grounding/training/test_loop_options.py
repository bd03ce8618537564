"""The options of the loop: what LoRA reaches, parts of a step, which step is kept, when it stops, where figures go."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from grounding.boxes import iou
from grounding.errors import JobError, SettingsError
from grounding.models import LoadedModel, load_model
from grounding.predict import Predictor
from grounding.records import Sample
from grounding.snapshots import Snapshot
from grounding.training import optimisers
from grounding.training.attach import attach_lora
from grounding.training.best import Best
from grounding.training.events import NoteEvent, ScoreEvent, StepEvent, TrainEvent
from grounding.training.history import SampleRow, read_history, read_rows
from grounding.training.lanes import split_evenly
from grounding.training.optimisers import make_optimiser
from grounding.training.run import TrainPlan, train
from grounding.training.scoring import Scorer, scoring_interval
from grounding.training.settings import TrainSettings
from grounding.training.steps import hash_seed
from grounding.training.verdict import verdict

QUICK = TrainSettings(
    steps=4, images_per_step=2, phrases_per_image=2, score_samples=2, score_every_steps=2, augment=False
)


@pytest.fixture
def plan(tiny_samples: Sequence[Sample], tmp_path: Path, one_thread: None) -> TrainPlan:
    snapshot = Snapshot("tiny", tmp_path, "0" * 64, tuple(tiny_samples))
    return TrainPlan("mugs", snapshot, "demo", "none", QUICK, tmp_path / "adapters" / "mugs", "run-1", tmp_path / "run")


@pytest.fixture
def fresh(one_thread: None) -> LoadedModel:
    """A model of the test's own, to change."""
    return load_model("demo")


def listen(plan: TrainPlan, **settings: Any) -> list[TrainEvent]:
    events: list[TrainEvent] = []
    train(replace(plan, settings=replace(plan.settings, **settings)), events.append, lambda: False)
    return events


def losses(events: Sequence[TrainEvent]) -> list[float]:
    return [event.loss for event in events if isinstance(event, StepEvent)]


def notes(events: Sequence[TrainEvent]) -> list[str]:
    return [event.text for event in events if isinstance(event, NoteEvent)]


def reached(fresh: LoadedModel, **settings: Any) -> set[str]:
    """The last names of the layers that LoRA changes."""
    names = attach_lora(fresh, replace(QUICK, **settings)).weights
    return {name.split(".lora_")[0].rsplit(".", 1)[1] for name in names}


ATTENTION = {"q_proj", "k_proj", "v_proj", "o_proj"}
MLP = {"gate_proj", "up_proj", "down_proj"}


@pytest.mark.parametrize(
    ("settings", "layers"),
    [
        ({}, ATTENTION | MLP),
        ({"lora_layers": "attention"}, ATTENTION),
        ({"lora_layers": "values"}, {"v_proj", "o_proj"}),
        ({"lora_layers": "mlp"}, MLP),
        ({"lora_vision": True, "lora_layers": "mlp"}, MLP | {"qkv", "proj", "linear_fc1", "linear_fc2"}),
    ],
)
def test_lora_reaches_the_layers_that_were_asked_for(
    fresh: LoadedModel, settings: dict[str, Any], layers: set[str]
) -> None:
    assert reached(fresh, **settings) == layers


def test_the_vision_tower_has_to_be_found(fresh: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("grounding.training.attach.VISION_LINEARS", "nowhere")
    with pytest.raises(JobError, match="no layer in the vision tower"):
        attach_lora(fresh, replace(QUICK, lora_vision=True))


def test_rank_stabilised_lora_scales_by_the_root_of_the_rank(fresh: LoadedModel) -> None:
    attach_lora(fresh, replace(QUICK, lora_rslora=True, lora_rank=16, lora_alpha=32))
    scalings = {m.scaling["default"] for m in fresh.model.modules() if getattr(m, "scaling", None) and hasattr(m, "r")}
    assert scalings == {8.0}


def test_a_choice_names_what_there_is() -> None:
    with pytest.raises(SettingsError, match="optimiser='sgd': expected one of adamw, adamw_8bit"):
        TrainSettings.from_mapping({"optimiser": "sgd"})
    assert TrainSettings.from_mapping({"optimiser": " adamw_8bit "}).optimiser == "adamw_8bit"


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [pytest.param({"lora_dora": True}, marks=pytest.mark.thorough), {"lora_vision": True}, {"lora_rslora": True}],
    ids=str,
)
def test_what_is_scored_is_what_compare_answers(plan: TrainPlan, settings: dict[str, Any]) -> None:
    """The last scoring's boxes are those of the saved adapter, used the way Compare uses it."""
    listen(plan, steps=8, learning_rate=5e-3, strength=0.7, keep_best=False, negative_share=0.0, **settings)
    rows = read_rows(plan.adapter_folder, 8)
    predictor = Predictor(load_model("demo"), plan.adapter_folder.parent)
    answers = predictor.predict_many([(Path(row.image), row.phrase) for row in rows], "mugs")
    base = predictor.predict_many([(Path(row.image), row.phrase) for row in rows])
    for row, answer in zip(rows, answers, strict=True):
        assert row.status == answer.status.value
        assert [x for box in row.boxes for x in box] == pytest.approx([x for box in answer.boxes for x in box], abs=0.3)
    assert [answer.boxes for answer in answers] != [answer.boxes for answer in base], "the adapter changes something"


@pytest.mark.slow
def test_a_step_in_parts_learns_what_a_whole_one_does(plan: TrainPlan) -> None:
    place, folder = plan.adapter_folder.parent, plan.run_folder
    assert folder is not None
    whole = listen(plan)
    parts = listen(
        replace(plan, adapter_folder=place / "parts", run_folder=folder / "parts", run_id="parts"),
        accumulation=5,
        gradient_checkpointing=True,
    )
    assert losses(parts) == pytest.approx(losses(whole), rel=2e-2)
    assert losses(parts)[0] == pytest.approx(losses(whole)[0], rel=1e-3)


def test_parts_are_even_and_in_order() -> None:
    assert split_evenly([1, 2, 3, 4, 5], 2) == [[1, 2, 3], [4, 5]]
    assert split_evenly([1, 2], 2) == [[1], [2]]


def test_every_step_has_a_seed_of_its_own() -> None:
    seeds = {hash_seed(seed, step) for seed in range(20) for step in range(200)}
    assert len(seeds) == 4000
    assert all(0 <= seed < 2**63 for seed in seeds)


@pytest.mark.parametrize(
    ("each_epoch", "pictures", "steps"), [(False, 10, 2), (True, 10, 5), (True, 11, 6), (True, 1, 1)]
)
def test_scoring_each_so_many_steps_or_each_round(each_epoch: bool, pictures: int, steps: int) -> None:
    assert scoring_interval(replace(QUICK, score_each_epoch=each_epoch), pictures) == steps


def scored(step: int, mean_iou: float) -> ScoreEvent:
    return ScoreEvent(step, 10, mean_iou, 0.5, 0.5, 1.0, 1.0)


def heard(settings: TrainSettings, ious: Sequence[float]) -> Best:
    best = Best(settings)
    for step, value in enumerate(ious):
        best.hear(scored(step, value), lambda step=step: {"at": torch.tensor(step)})  # type: ignore[misc]
    return best


def test_patience_does_not_run_out_where_no_sample_has_a_box() -> None:
    """Their mean IoU is 0 whatever is learned: that is no score that has stopped rising."""
    best = Best(replace(QUICK, patience=2))
    for step in range(6):
        best.hear(replace(scored(step, 0.0), count=0), lambda: None)
    assert not best.should_stop
    assert best.event is not None and best.event.step == 5


@pytest.mark.parametrize(
    ("ious", "best_step"),
    [([0.9, 0.3], 1), ([0.1, 0.5, 0.4], 1), ([0.1, 0.5, 0.5], 2), ([0.1, 0.2, 0.1, 0.3], 3)],
)
def test_the_best_is_the_highest_and_of_equals_the_later(ious: Sequence[float], best_step: int) -> None:
    best = heard(QUICK, ious)
    assert best.event is not None and best.weights is not None
    assert (best.event.step, int(best.weights["at"]), best.event.best) == (best_step, best_step, True)
    again = Best(QUICK)
    again.restore([scored(step, value) for step, value in enumerate(ious)], best.weights)
    assert again.event == best.event and again.without_gain == best.without_gain


@pytest.mark.parametrize(
    ("patience", "least_gain", "ious", "stops"),
    [
        (0, 0.0, [0.5, 0.1, 0.1, 0.1], False),
        (2, 0.0, [0.5, 0.1, 0.1], True),
        (2, 0.0, [0.1, 0.2, 0.1, 0.3], False),
        (2, 0.1, [0.1, 0.15, 0.19], True),  # each is better than the one before, none by enough
        (2, 0.1, [0.1, 0.15, 0.21], False),  # small gains add up
    ],
)
def test_patience_counts_from_the_last_real_gain(
    patience: int, least_gain: float, ious: Sequence[float], stops: bool
) -> None:
    assert heard(replace(QUICK, patience=patience, least_gain=least_gain), ious).should_stop is stops


def planned_scores(monkeypatch: pytest.MonkeyPatch, ious: Sequence[float]) -> None:
    """Scorings that say what the test wants, whatever the boxes are."""
    real, queue = Scorer.score, list(ious)

    def score(self: Scorer, step: int) -> Any:
        event, rows = real(self, step)  # type: ignore[misc]
        return replace(event, mean_iou=queue.pop(0)), rows

    monkeypatch.setattr(Scorer, "score", score)


@pytest.mark.slow
@pytest.mark.parametrize(("keep_best", "kept"), [(True, 2), (False, 6)])
def test_the_best_step_is_kept_at_its_strength(
    plan: TrainPlan, monkeypatch: pytest.MonkeyPatch, keep_best: bool, kept: int
) -> None:
    from safetensors.torch import load_file

    planned_scores(monkeypatch, [0.1, 0.6, 0.3, 0.2])
    events = listen(plan, steps=6, strength=0.5, keep_best=keep_best)
    history = read_history(plan.adapter_folder)
    assert (history["best_step"], history["kept_step"], history["steps_taken"]) == (2, kept, 6)
    assert [event.best for event in events if isinstance(event, ScoreEvent)] == [False, True, False, False]
    info = json.loads((plan.adapter_folder / "adapter.json").read_text())
    assert (info["steps"], info["scores"]["step"], info["scores"]["mean_iou"]) == (6, kept, 0.6 if kept == 2 else 0.2)
    monkeypatch.undo()
    place = plan.adapter_folder.with_name("short")
    # The same run in full strength, cut off where the best was: twice the B that was kept.
    short = replace(plan, adapter_folder=place, run_id="short", run_folder=place.with_name("run-short"))
    taken: list[TrainEvent] = []
    settings = replace(plan.settings, steps=6, strength=1.0, keep_best=False)
    stop = lambda: any(isinstance(e, StepEvent) and e.step == kept for e in taken)  # noqa: E731
    train(replace(short, settings=settings), taken.append, stop)
    whole, half = (load_file(folder / "adapter_model.safetensors") for folder in (place, plan.adapter_folder))
    for name, weight in whole.items():
        assert torch.equal(half[name], weight * 0.5 if "lora_B" in name else weight), name


@pytest.mark.slow
def test_patience_ends_a_run_which_is_then_done(plan: TrainPlan, monkeypatch: pytest.MonkeyPatch) -> None:
    planned_scores(monkeypatch, [0.5, 0.4, 0.3])
    events = listen(plan, steps=50, patience=2)
    assert len(losses(events)) == 4
    assert read_history(plan.adapter_folder)["ended"] == "early"
    assert listen(plan, steps=50, patience=2) == []


@pytest.mark.slow
def test_loss_and_perplexity_of_the_true_answers_are_told(plan: TrainPlan) -> None:
    events = listen(plan, steps=30, learning_rate=5e-3)
    first, *_, last = [event for event in events if isinstance(event, ScoreEvent)]
    assert first.loss is not None and last.loss is not None and last.perplexity is not None
    assert last.perplexity == pytest.approx(2.718281828**last.loss)
    rows = read_rows(plan.adapter_folder, 0)
    assert len(rows) == 2 and all(row.loss is not None and row.loss > 0 for row in rows)


def test_the_loss_of_a_sample_is_that_of_the_stock_forward(loaded: LoadedModel, tiny_samples: Sequence[Sample]) -> None:
    """Each sample alone through the model's own forward, image pass and all."""
    from grounding.engine import chat_text
    from grounding.pictures import open_picture

    samples = list(tiny_samples)
    scorer = Scorer(loaded, samples, lambda event: None, lambda: False)
    scoring = scorer.score(0)
    assert scoring is not None
    tokenizer = loaded.processor.tokenizer
    for sample, row in zip(samples, scoring[1], strict=True):
        feature = scorer.features[sample.image]
        prompt = chat_text(loaded, sample.phrase, feature.visual_tokens)
        answer = loaded.profile.text_format.encode(sample.boxes_xyxy_px, feature.frame, sample.phrase)
        ids = tokenizer(prompt + answer + tokenizer.eos_token, return_tensors="pt", add_special_tokens=False)[
            "input_ids"
        ]
        start = len(tokenizer(prompt, add_special_tokens=False)["input_ids"])
        inputs = loaded.processor.image_processor(images=[open_picture(sample.image)], return_tensors="pt")
        types = (ids == scorer.builder.image_token_id).to(torch.int32)
        with torch.no_grad():
            logits = loaded.model(input_ids=ids, mm_token_type_ids=types, **inputs).logits[0]
        expected = torch.nn.functional.cross_entropy(logits[start - 1 : -1], ids[0, start:])
        assert row.loss == pytest.approx(float(expected), rel=1e-3)


@pytest.mark.parametrize("name", ["adamw", "adamw_8bit", "paged_adamw_8bit"])
def test_every_optimiser_lowers_a_loss_here(name: str) -> None:
    weight = torch.nn.Parameter(torch.ones(64, 128))
    optimiser, note = make_optimiser({"lora_A": weight}, replace(QUICK, optimiser=name, learning_rate=0.05), "cpu")
    for _ in range(20):
        optimiser.zero_grad()
        weight.square().mean().backward()
        optimisers.optimiser_step(optimiser)
    assert weight.square().mean() < 0.5
    assert (note == "") is (name == "adamw")
    assert ("not paged: this is the CPU" in note) is (name == "paged_adamw_8bit")


@pytest.mark.parametrize("name", ["adamw", "adamw_8bit"])
def test_b_moves_faster_when_asked(name: str) -> None:
    """AdamW's first step is as long as the rate, whatever the gradient."""
    a, b, magnitude = (torch.nn.Parameter(torch.ones(64, 128)) for _ in range(3))
    settings = replace(QUICK, optimiser=name, learning_rate=0.01, lora_b_rate=4.0, steps=2, warmup_share=0.5)
    weights = {"x.lora_A.default": a, "x.lora_B.default": b, "x.lora_magnitude_vector": magnitude}
    optimiser, _ = make_optimiser(weights, settings, "cpu")
    assert optimisers.set_rate(optimiser, 0, settings) == 0.01
    (a.sum() + b.sum() + magnitude.sum()).backward()
    optimisers.optimiser_step(optimiser)
    moved = [1 - float(weight.detach().mean()) for weight in (a, b, magnitude)]
    assert moved == pytest.approx([0.01, 0.04, 0.01], rel=1e-2)


def test_weight_decay_pulls_no_length_of_the_base_to_nothing() -> None:
    """DoRA's lengths are the base's own: A and B fall back to no change, these would to no weights at all."""
    settings = replace(QUICK, weight_decay=0.5, learning_rate=0.1)
    names = ("x.lora_A.default.weight", "x.lora_B.default.weight", "x.lora_magnitude_vector.default.weight")
    weights = {name: torch.nn.Parameter(torch.ones(4)) for name in names}
    optimiser, _ = make_optimiser(weights, settings, "cpu")
    for weight in weights.values():
        weight.grad = torch.zeros(4)
    optimisers.optimiser_step(optimiser)
    assert [float(weight.detach().mean()) for weight in weights.values()] == pytest.approx([0.95, 0.95, 1.0])


def test_eight_bits_that_do_not_work_give_way_to_adamw_with_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> None:
        raise RuntimeError("no kernel image is available for execution on the device. Long story")

    monkeypatch.setattr(optimisers, "_probe", broken)
    weight = torch.nn.Parameter(torch.ones(2))
    optimiser, note = make_optimiser({"lora_A": weight}, replace(QUICK, optimiser="adamw_8bit"), "cpu")
    assert type(optimiser) is torch.optim.AdamW
    assert note.startswith("AdamW in full instead of adamw_8bit: no kernel image is available")
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    assert "AdamW in full" in make_optimiser({"lora_A": weight}, replace(QUICK, optimiser="adamw_8bit"), "cpu")[1]


@pytest.mark.slow
def test_tensorboard_gets_the_curves_on_request(plan: TrainPlan) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    listen(plan, tensorboard=True)
    assert plan.run_folder is not None
    events = EventAccumulator(str(plan.run_folder / "tensorboard"))
    events.Reload()
    tags = set(events.Tags()["scalars"])
    assert {"loss/train", "boxes/mean_iou", "perplexity/validation", "learning_rate"} <= tags
    assert [event.step for event in events.Scalars("boxes/mean_iou")] == [0, 2, 4]
    assert len(events.Scalars("loss/train")) == 4


class FakeTrackio(ModuleType):
    def __init__(self) -> None:
        super().__init__("trackio")
        self.__spec__ = ModuleSpec("trackio", None)  # others ask whether it is installed
        self.told: list[Any] = []

    def init(self, **about: Any) -> None:
        self.told.append(about["name"])

    def log(self, figures: dict[str, float], step: int) -> None:
        if step == 3:
            raise RuntimeError("disk I/O error")
        self.told.append(step)

    def finish(self) -> None:
        self.told.append("finish")


@pytest.mark.slow
def test_trackio_gets_the_curves_and_its_failure_ends_nothing(plan: TrainPlan, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeTrackio()
    monkeypatch.setitem(sys.modules, "trackio", fake)
    events = listen(plan, trackio=True)
    assert fake.told == ["run-1", 0, 1, 2, 2]
    assert [text for text in notes(events) if "trackio" in text] == [
        "trackio takes no more figures (disk I/O error); the run goes on."
    ]
    assert len(losses(events)) == 4


@pytest.mark.slow
def test_trackers_that_are_not_installed_are_named_with_the_command(
    plan: TrainPlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "trackio", None)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    told = notes(listen(plan, trackio=True, tensorboard=True))
    assert [text.split("`")[1] for text in told if "`" in text] == ["pip install tensorboard", "pip install trackio"]


def row(image: int, value: float, step: int = 0) -> SampleRow:
    box = (0.0, 0.0, 10.0, 10.0)
    return SampleRow(step, f"s{image}", f"/{image}.png", "the dog", (box,), (box,), "ok", value)


@pytest.mark.parametrize(
    ("before", "after", "kind"),
    [(0.2, 0.8, "better"), (0.8, 0.2, "worse"), (0.5, 0.5, "unclear")],
)
def test_the_verdict_goes_by_the_interval(before: float, after: float, kind: str) -> None:
    base = [row(i, before + 0.01 * (i % 5)) for i in range(30)]
    kept = [row(i, after + 0.01 * (i % 7), 4) for i in range(30)]
    judged = verdict(base, kept)
    assert judged.kind == kind
    assert "30 validation samples" in judged.sentence


def test_two_pictures_are_too_few_to_claim_anything() -> None:
    judged = verdict([row(i, 0.1) for i in range(2)], [row(i, 0.3 + 0.2 * i, 4) for i in range(2)])
    assert judged.kind == "unclear" and judged.sentence.startswith("Too few pictures to tell")


def test_without_validation_samples_nothing_is_claimed() -> None:
    assert verdict([], []).kind == "unscored" and "no validation sample" in verdict([], []).sentence
    lost = verdict([row(0, 0.5)], [])
    assert lost.kind == "unscored" and "logged" in lost.sentence


@pytest.mark.slow
def test_four_bit_weights_are_trained_and_learn(plan: TrainPlan, tiny_samples: Sequence[Sample]) -> None:
    events = listen(replace(plan, quantize="4bit"), steps=25, learning_rate=5e-3, strength=1.0)
    assert sum(losses(events)[-3:]) < 0.5 * sum(losses(events)[:3])
    predictor = Predictor(load_model("demo"), plan.adapter_folder.parent)
    sample = next(sample for sample in tiny_samples if sample.split == "train")
    assert iou(predictor.predict(sample.image, sample.phrase, "mugs").boxes[0], sample.boxes_xyxy_px[0]) > 0.3
