"""A run that is stopped or killed and goes on from a checkpoint learns exactly what an uninterrupted one does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from grounding.adapters import AdapterInfo
from grounding.adapters.labels import Label, read_label, write_label
from grounding.errors import JobError
from grounding.models import load_model
from grounding.records import Sample
from grounding.snapshots import Snapshot
from grounding.training import course
from grounding.training.checkpoint import Checkpoint
from grounding.training.events import NoteEvent, PhaseEvent, ScoreEvent, StepEvent, TrainEvent
from grounding.training.history import read_history, read_lines
from grounding.training.run import TrainPlan, train
from grounding.training.settings import TrainSettings
from grounding.training.steps import Position

pytestmark = pytest.mark.slow

# Dropout on, views drawn anew, several scorings and checkpoints: everything random takes part.
SETTINGS = TrainSettings(
    steps=9,
    images_per_step=1,
    phrases_per_image=2,
    score_samples=2,
    score_every_steps=3,
    checkpoint_every_steps=2,
    lora_dropout=0.2,
    augment=True,
    warmup_share=0.2,
    learning_rate=3e-3,
)


class Killed(BaseException):
    """What no handler catches, as a kill is caught by none."""


def plan_in(folder: Path, samples: Sequence[Sample]) -> TrainPlan:
    snapshot, place = Snapshot("tiny", folder, "0" * 64, tuple(samples)), folder / "adapters" / "whole"
    return TrainPlan("whole", snapshot, "demo", "none", SETTINGS, place, "run-1", folder / "runs" / "run-1")


@pytest.fixture
def plan(tiny_samples: Sequence[Sample], tmp_path: Path, one_thread: None) -> TrainPlan:
    return plan_in(tmp_path, tiny_samples)


@dataclass(frozen=True)
class Whole:
    """A run that nothing interrupted, and what it told."""

    plan: TrainPlan
    told: list[TrainEvent]


@pytest.fixture(scope="module")
def whole(tiny_samples: Sequence[Sample], tmp_path_factory: pytest.TempPathFactory, one_thread: None) -> Whole:
    plan = plan_in(tmp_path_factory.mktemp("whole"), tiny_samples)
    return Whole(plan, listen(plan))


def elsewhere(plan: TrainPlan, name: str, **settings: Any) -> TrainPlan:
    changed = replace(plan.settings, **settings)
    folder = plan.adapter_folder.with_name(name)
    assert plan.run_folder is not None
    run_folder = plan.run_folder.with_name(name)
    return replace(plan, name=name, run_id=name, adapter_folder=folder, run_folder=run_folder, settings=changed)


def listen(plan: TrainPlan, until: Callable[[TrainEvent], bool] | None = None) -> list[TrainEvent]:
    """Train; stop after the event that `until` is true of."""
    events: list[TrainEvent] = []
    train(plan, events.append, lambda: until is not None and any(map(until, events)))
    return events


def killed_at(plan: TrainPlan, step: int) -> list[TrainEvent]:
    """Train until the listener hears of that step, then die."""
    events: list[TrainEvent] = []

    def hear(event: TrainEvent) -> None:
        events.append(event)
        if isinstance(event, StepEvent) and event.step == step:
            raise Killed

    with pytest.raises(Killed):
        train(plan, hear, lambda: False)
    return events


def losses(events: Sequence[TrainEvent]) -> dict[int, tuple[float, float, int]]:
    return {e.step: (e.loss, e.learning_rate, e.phrases) for e in events if isinstance(e, StepEvent)}


def scores(events: Sequence[TrainEvent]) -> dict[int, ScoreEvent]:
    return {e.step: replace(e, seconds=0.0) for e in events if isinstance(e, ScoreEvent)}


def weights(plan: TrainPlan) -> dict[str, torch.Tensor]:
    return load_file(plan.adapter_folder / "adapter_model.safetensors")


def same(a: TrainPlan, b: TrainPlan) -> bool:
    one, other = weights(a), weights(b)
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize(
    ("quantize", "settings"),
    [
        ("none", {}),
        pytest.param("none", {"lora_dora": True, "lora_rslora": True}, marks=pytest.mark.thorough),
        pytest.param("none", {"optimiser": "adamw_8bit", "lora_rank": 32}, marks=pytest.mark.thorough),
        ("none", {"images_per_step": 2, "accumulation": 2, "gradient_checkpointing": True}),
        ("none", {"lora_vision": True}),
        ("4bit", {"gradient_checkpointing": True}),
    ],
    ids=["plain", "dora", "8bit", "parts", "vision", "qlora"],
)
def test_stopped_and_killed_and_resumed_gives_the_same_losses(
    plan: TrainPlan, whole: Whole, quantize: str, settings: dict[str, Any]
) -> None:
    if quantize != "none" or settings:
        changed = replace(plan, quantize=quantize, settings=replace(plan.settings, **settings))
        whole = Whole(changed, listen(changed))
    if read_history(whole.plan.adapter_folder)["quantize"] != quantize:
        pytest.skip(load_model(plan.model_id, quantize=quantize, trainable=True).notes[-1])
    told = whole.told
    broken = elsewhere(plan, "broken", **settings)
    broken = replace(broken, quantize=quantize)
    first = listen(broken, lambda event: isinstance(event, StepEvent) and event.step == 3)
    assert AdapterInfo.load(broken.adapter_folder).steps == 3
    second = killed_at(broken, 7)  # the newest checkpoint is that of step 6
    third = listen(broken)
    assert [max(losses(part)) for part in (first, second, third)] == [3, 7, 9]
    assert [min(losses(part)) for part in (first, second, third)] == [1, 4, 7]
    for part in (first, second, third):
        assert losses(part).items() <= losses(told).items()
    # A stop scores what it keeps; the scorings at the steps that were set are those of the whole run.
    assert scores(second)[6] == scores(told)[6]
    assert scores(third)[9] == scores(told)[9]
    assert same(whole.plan, broken)
    steps = [read_history(p.adapter_folder)["steps"] for p in (whole.plan, broken)]
    assert steps[0]["loss"] == steps[1]["loss"]
    assert steps[1]["step"] == list(range(1, 10))


def test_dropout_takes_part(plan: TrainPlan, whole: Whole) -> None:
    """Without it the losses differ: the test above would not notice lost random numbers else."""
    without = killed_at(elsewhere(plan, "without", lora_dropout=0.0), 5)
    assert losses(whole.told)[5] != losses(without)[5]


def test_what_was_random_before_does_not_matter(plan: TrainPlan, whole: Whole) -> None:
    torch.manual_seed(2)
    assert losses(listen(plan)) == losses(whole.told)


def test_a_damaged_checkpoint_is_passed_over_with_a_sentence(plan: TrainPlan, whole: Whole) -> None:
    killed_at(plan, 7)
    assert plan.run_folder is not None
    newest = sorted((plan.run_folder / "checkpoints").iterdir())[-1]
    content = bytearray((newest / "optimiser.pt").read_bytes())
    content[len(content) // 2] ^= 1
    (newest / "optimiser.pt").write_bytes(content)
    events = listen(plan)
    notes = [event.text for event in events if isinstance(event, NoteEvent)]
    assert notes == ["The checkpoint step-00000006 is passed over: optimiser.pt is not as it was written."]
    assert any("step 4" in event.text for event in events if isinstance(event, PhaseEvent))
    assert losses(events) == {step: loss for step, loss in losses(whole.told).items() if step > 4}


def test_a_full_disk_keeps_the_checkpoint_before_and_the_run_goes_on(
    plan: TrainPlan, whole: Whole, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = course.Checkpoints._write

    def full(self: Any, checkpoint: Any) -> None:
        if checkpoint.step > 2:
            (self.folder / f".partial-step-{checkpoint.step:08d}").mkdir()
            raise OSError(28, "No space left on device")
        write(self, checkpoint)

    monkeypatch.setattr(course.Checkpoints, "_write", full)
    events = killed_at(plan, 7)
    told = [event.text for event in events if isinstance(event, NoteEvent)]
    notes = [text for text in told if "could not be written" in text]
    assert len(notes) == 2
    assert "step 4 could not be written (No space left on device). That of step 2 still stands" in notes[0]
    monkeypatch.undo()
    assert plan.run_folder is not None
    assert [path.name for path in (plan.run_folder / "checkpoints").iterdir()] == ["step-00000002"]
    assert losses(listen(plan)) == {step: loss for step, loss in losses(whole.told).items() if step > 2}


def test_a_run_that_ended_by_itself_is_not_trained_again(whole: Whole) -> None:
    assert whole.plan.run_folder is not None
    assert not (whole.plan.run_folder / "checkpoints").exists(), "no room is taken for what nobody resumes"
    before = weights(whole.plan)
    assert listen(whole.plan) == []
    assert all(torch.equal(before[name], weight) for name, weight in weights(whole.plan).items())


def test_patience_that_ran_out_before_a_kill_is_not_given_again(plan: TrainPlan) -> None:
    """The scores rise no more, the checkpoint of the last step is written, and the worker dies before it has saved."""
    plan = elsewhere(plan, "patient", patience=1, least_gain=1.0)

    def die_while_saving(*_: object, **__: object) -> None:
        raise Killed

    with pytest.MonkeyPatch.context() as patched, pytest.raises(Killed):
        patched.setattr("grounding.training.run.save_adapter", die_while_saving)
        listen(plan)
    told = listen(plan)
    assert losses(told) == {} and scores(told) == {}, "nothing is trained and nothing scored again"
    assert AdapterInfo.load(plan.adapter_folder).steps == 3
    assert read_history(plan.adapter_folder)["ended"] == "early"


def test_a_note_on_what_a_stop_kept_stays(plan: TrainPlan) -> None:
    plan = elsewhere(plan, "noted", steps=4)
    listen(plan, lambda event: isinstance(event, StepEvent))
    write_label(plan.adapter_folder, Label("on mugs"))
    listen(plan)
    assert AdapterInfo.load(plan.adapter_folder).steps == 4
    assert read_label(plan.adapter_folder).note == "on mugs"


def test_what_each_start_tells_is_told_once(plan: TrainPlan) -> None:
    assert plan.run_folder is not None
    plan.run_folder.mkdir(parents=True)
    told: list[TrainEvent] = []
    first = course.Course(plan, plan.run_folder, told.append)
    first.note("AdamW with states of 8 bits (bitsandbytes).")
    notes = [asdict(note) for note in first.history.notes]
    state = {"position": asdict(Position(2)), "scores": [], "notes": notes}
    first.checkpoints.save(Checkpoint(2, {}, None, {"state": {}, "param_groups": []}, state))
    again = course.Course(plan, plan.run_folder, told.append)
    again.note("AdamW with states of 8 bits (bitsandbytes).")
    again.note("Another.")
    assert [note.text for note in again.history.notes] == ["AdamW with states of 8 bits (bitsandbytes).", "Another."]
    assert len([event for event in told if isinstance(event, NoteEvent)]) == 2
    one_group: Any = SimpleNamespace(optimiser=torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=1.0))
    with pytest.raises(JobError, match=r"checkpoint of step 2 is of another optimiser .*Discard the run"):
        again.resume(one_group, SimpleNamespace(load=lambda weights: None))  # type: ignore[arg-type]


def test_an_adapter_of_another_run_is_never_replaced(plan: TrainPlan, whole: Whole) -> None:
    with pytest.raises(JobError, match="can't be moved"):
        listen(replace(elsewhere(plan, "other", steps=1), adapter_folder=whole.plan.adapter_folder))
    assert AdapterInfo.load(whole.plan.adapter_folder).run_id == "run-1"


def test_other_settings_never_go_on_from_a_checkpoint(plan: TrainPlan) -> None:
    killed_at(plan, 3)
    events = listen(
        replace(plan, settings=replace(plan.settings, learning_rate=1e-3)),
        lambda event: isinstance(event, StepEvent),
    )
    assert min(losses(events)) == 1
    assert any("other settings" in event.text for event in events if isinstance(event, NoteEvent))


def test_less_memory_may_be_asked_for_on_the_way(plan: TrainPlan) -> None:
    """What to do after memory ran out: the same run, its steps in parts."""
    plan = elsewhere(plan, "parts", images_per_step=2)
    killed_at(plan, 5)
    events = listen(
        replace(plan, settings=replace(plan.settings, accumulation=2, gradient_checkpointing=True)),
        lambda event: isinstance(event, StepEvent),
    )
    assert min(losses(events)) == 5


def test_the_logs_of_a_resumed_run_have_every_step_once(plan: TrainPlan) -> None:
    killed_at(plan, 7)
    listen(plan)
    assert plan.run_folder is not None
    lines = list(read_lines(plan.run_folder / "training_steps.jsonl"))
    assert [line["step"] for line in lines] == list(range(1, 10))
    answers = [line["step"] for line in read_lines(plan.adapter_folder / "training_samples.jsonl")]
    assert answers == [0, 0, 3, 3, 6, 6, 9, 9]
