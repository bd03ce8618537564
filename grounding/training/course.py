"""What goes on beside the steps of a run: scorings, the best of them, checkpoints, logs, trackers."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

from grounding.errors import JobError, first_sentence
from grounding.training.attach import Attached
from grounding.training.best import Best
from grounding.training.checkpoint import Checkpoint, Checkpoints, identity_of
from grounding.training.events import Listener, NoteEvent, PhaseEvent, ScoreEvent, StepEvent
from grounding.training.history import History
from grounding.training.plan import TrainPlan
from grounding.training.scoring import Scorer
from grounding.training.steps import Learner, Position
from grounding.training.trackers import Trackers


class Course:
    """The course of one run, in its folder. `attached` is None until LoRA is on: the base is scored without it."""

    def __init__(self, plan: TrainPlan, folder: Path, listener: Listener) -> None:
        self.plan = plan
        self.settings = plan.settings
        self.listener = listener
        self.best = Best(plan.settings)
        self.history = History(folder, self.note)
        identity = identity_of(plan.model_id, plan.quantize, plan.snapshot.samples_sha256, plan.settings)
        self.checkpoints = Checkpoints(folder / "checkpoints", identity, plan.settings.checkpoints_kept)
        self.step = 0
        self.last: ScoreEvent | None = None
        self._told_before: set[str] = set()  # before the checkpoint that a resumed run goes on from
        self.checkpoint, refused = self.checkpoints.newest()
        if self.checkpoint is None:
            self.history.begin()
        else:
            self.step = self.checkpoint.step
            state = self.checkpoint.state
            self.history.rewind(self.step, state["scores"], state.get("notes", ()))
            self._told_before = {note.text for note in self.history.notes}
            self.last = next((score for score in self.history.scores if score.step == self.step), None)
            self.best.restore(self.history.scores, self.checkpoint.best)
            listener(PhaseEvent(f"Going on from the checkpoint of step {self.step:,}"))
        self.trackers = Trackers(plan, folder, self.step, self.note)
        for sentence in refused:
            self.note(sentence)

    @property
    def base(self) -> ScoreEvent | None:
        """The scoring before the first step, if there was one."""
        return next((score for score in self.history.scores if score.step == 0), None)

    def note(self, text: str) -> None:
        """Tell a person something while the run goes on. What each start tells is not told again by a resumed run."""
        if text in self._told_before:
            return
        event = NoteEvent(text, self.step)
        self.history.notes.append(event)
        self.listener(event)

    def resume(self, learner: Learner, attached: Attached) -> None:
        """Put weights, optimiser and position where the checkpoint has them, if there is one."""
        if self.checkpoint is None:
            return
        attached.load(self.checkpoint.weights)
        try:
            learner.optimiser.load_state_dict(dict(self.checkpoint.optimiser))
        except ValueError as error:  # such as of an earlier version, under which other weights decayed
            raise JobError(
                f"The checkpoint of step {self.checkpoint.step:,} is of another optimiser ({first_sentence(error)}). "
                "Discard the run and train again."
            ) from error
        learner.position = Position(**self.checkpoint.state["position"])
        self.checkpoint = None  # its memory is not needed any more

    def took(self, event: StepEvent) -> None:
        """A step was taken."""
        self.step = event.step
        self.listener(event)
        self.history.add_step(event)
        self.trackers.hear(event)

    def score(self, scorer: Scorer, attached: Attached | None) -> None:
        """Score the model as it would be kept now."""
        with attached.at_strength(self.settings.strength) if attached else nullcontext():
            scored = scorer.score(self.step)
        if scored is None:
            return
        event, rows = scored
        self.last = event = self.best.hear(event, attached.state if attached else lambda: None)
        self.listener(event)
        self.history.add_score(event, rows)
        self.trackers.hear(event)

    def save(self, learner: Learner, attached: Attached) -> None:
        """Write a checkpoint. One that can't be written is told of, and the run goes on."""
        history = self.history
        state = {
            "position": asdict(learner.position),
            "scores": [asdict(score) for score in history.scores],
            "notes": [asdict(note) for note in history.notes],
        }
        checkpoint = Checkpoint(
            step=self.step,
            weights=attached.state(),
            best=self.best.weights,
            optimiser=learner.optimiser.state_dict(),
            state=state,
        )
        try:
            self.checkpoints.save(checkpoint)
        except JobError as error:
            self.note(str(error))

    def write_history(self, about: Mapping[str, Any]) -> None:
        """Write the history into the run's folder. What can't be written is told of."""
        try:
            self.history.write(about)
        except OSError as error:
            self.note(f"The training history could not be written ({error.strerror or error}).")
