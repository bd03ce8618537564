"""One training run, from snapshot to adapter, top to bottom."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from grounding.adapters import AdapterInfo
from grounding.adapters.info import WITHOUT_SIGNAL
from grounding.adapters.provenance import versions
from grounding.errors import Cancelled, JobError
from grounding.models import LoadedModel, load_model
from grounding.training.attach import Attached, attach_lora
from grounding.training.course import Course
from grounding.training.data import PictureTargets
from grounding.training.ending import ended_before
from grounding.training.events import Listener, PhaseEvent
from grounding.training.feeding import feed_of
from grounding.training.history import read_rows
from grounding.training.live_views import LiveViews
from grounding.training.new_words import in_words, phrases_of
from grounding.training.plan import TrainPlan, folder_of
from grounding.training.precision import choose_precision
from grounding.training.preflight.with_model import before_first_step
from grounding.training.saving import Outcome, save_adapter
from grounding.training.scoring import Scorer, scoring_interval
from grounding.training.settings import TrainSettings
from grounding.training.signal import measure_signal
from grounding.training.steps import Learner
from grounding.training.verdict import verdict
from grounding.training.views import AugmentedViews, KeptViews, Views, can_keep

__all__ = ["TrainPlan", "train"]


def train(plan: TrainPlan, listener: Listener, should_stop: Callable[[], bool]) -> AdapterInfo:
    """Run the plan and return the finished adapter.

    Goes on from the newest whole checkpoint in the run's folder, with the same losses as if it had never stopped;
    a run that has ended already returns its adapter at once. `listener` hears every event; `should_stop` is asked
    between steps: a checkpoint is written then, and the adapter so far saved and returned. Raises `Cancelled` when it
    says so before the first step, `SnapshotError` when there is nothing to learn, `JobError` when the loss is not
    finite, and `ModelError` from loading.
    """
    done = ended_before(plan.adapter_folder, plan.run_id)
    if done is not None:
        return done
    with folder_of(plan) as folder:
        return _train(plan, folder, listener, should_stop)


def _train(plan: TrainPlan, folder: Path, listener: Listener, should_stop: Callable[[], bool]) -> AdapterInfo:
    settings = plan.settings
    feed = feed_of(plan.snapshot, settings)
    listener(PhaseEvent("Loading the model"))
    loaded = load_model(plan.model_id, quantize=plan.quantize, trainable=True)
    if not loaded.profile.lora_targets:
        raise JobError(f"{plan.model_id} can't be trained here: its profile {loaded.profile.name!r} names no layers.")
    dtype, reason = choose_precision(loaded.device)
    listener(PhaseEvent(reason))
    views = _views(loaded, feed.pictures, settings, dtype, listener, should_stop)
    samples = plan.snapshot.split("val")[: settings.score_samples]
    scorer = Scorer(loaded, samples, listener, should_stop, dtype=dtype, encode_anew=settings.lora_vision)
    course = Course(plan, folder, listener)
    if scorer.left_out:
        course.note(left_out_sentence(f"The pictures of {scorer.left_out:,} of {len(samples):,} validation samples"))
    if course.checkpoint is None:
        course.score(scorer, None)
        if should_stop():
            raise Cancelled("Stopped before the first step: there is nothing to keep.")
    torch.manual_seed(settings.seed)
    phrases = phrases_of(plan.snapshot)
    attached = attach_lora(loaded, settings, phrases)
    if course.checkpoint is None:
        if attached.new_token_ids:
            course.note(in_words(loaded, attached.new_token_ids, phrases))
        before_first_step(loaded, plan.snapshot, settings, dtype, plan.run_folder, listener)
    learner = Learner(loaded, settings, attached, feed, views, dtype)
    if learner.note:
        course.note(learner.note)
    course.resume(learner, attached)
    ended = _take_steps(course, learner, attached, scorer, should_stop)
    if views.unread:
        course.note(left_out_sentence(f"{len(views.unread):,} of {len(feed.pictures):,} train pictures"))
    return _finish(plan, folder, loaded, course, attached, scorer, ended)


def _take_steps(
    course: Course, learner: Learner, attached: Attached, scorer: Scorer, should_stop: Callable[[], bool]
) -> str:
    """Step, score and write checkpoints; returns how it ended: "finished", "early" or "stopped"."""
    settings, ended = course.settings, "finished"
    score_every = scoring_interval(settings, len(learner.feed.new.pictures))
    if course.best.should_stop:  # it had ended by itself when something took it down
        return "early"
    for event in learner.steps():
        course.took(event)
        if event.step == settings.steps:
            break
        if should_stop():
            ended = "stopped"
            break
        if event.step % score_every == 0:
            course.score(scorer, attached)
            if course.best.should_stop:
                ended = "early"
                break
        if event.step % settings.checkpoint_every_steps == 0:
            course.save(learner, attached)
    if learner.position.step == 0:
        raise JobError("None of the train pictures could be read; the log names them. Import them again.")
    # Before the last scoring: whatever happens to it, nothing that was learned is lost.
    course.save(learner, attached)
    if course.last is None or course.last.step != course.step:
        course.score(scorer, attached)
        if ended == "stopped" and course.step % score_every == 0:
            course.save(learner, attached)  # a scoring that an uninterrupted run has too
    return ended


def left_out_sentence(which: str) -> str:
    """What is said of pictures that can't be read, or of samples on them."""
    return f"{which} are left out, as they can't be read; the log names them. Import them again."


def _finish(
    plan: TrainPlan, folder: Path, loaded: LoadedModel, course: Course, attached: Attached, scorer: Scorer, ended: str
) -> AdapterInfo:
    """Save the best step, or the last, at its strength, with the history of the run."""
    kept_step, score = course.step, course.last
    best = course.best
    if plan.settings.keep_best and best.event is not None and best.weights is not None:
        kept_step, score = best.event.step, best.event
        attached.load(best.weights)
    attached.keep_share(plan.settings.strength)
    signal = measure_signal(loaded, plan.snapshot.split("train"), scorer.samples, scorer.boxes, plan.settings.seed)
    if signal.verdict in WITHOUT_SIGNAL:
        course.note(signal.sentence)
    judged = verdict(read_rows(folder, 0), read_rows(folder, kept_step))
    course.write_history(
        {
            "run_id": plan.run_id,
            "adapter": plan.name,
            "base": plan.model_id,
            "quantize": loaded.quantize,
            "profile": loaded.profile.name,
            "snapshot": plan.snapshot.name,
            "snapshot_sha256": plan.snapshot.samples_sha256,
            "settings": plan.settings.to_json(),
            "versions": dict(versions(plan.quantize)),
            "ended": ended,
            "steps_taken": course.step,
            "best_step": best.event.step if best.event else None,
            "kept_step": kept_step,
            "verdict": judged.kind,
            "sentence": judged.sentence,
        }
    )
    course.trackers.close()
    outcome = Outcome(course.step, kept_step, score, course.base, signal)
    info = save_adapter(plan, loaded, attached.peft_model, outcome, course.history)
    if ended != "stopped":
        course.checkpoints.remove()
    return info


def _views(
    loaded: LoadedModel,
    pictures: Sequence[PictureTargets],
    settings: TrainSettings,
    dtype: torch.dtype | None,
    listener: Listener,
    should_stop: Callable[[], bool],
) -> Views:
    if settings.lora_vision:
        return LiveViews(loaded, settings, dtype)
    # A run too short to show every picture once looks at those that it shows.
    if can_keep(settings) and settings.steps * settings.images_per_step >= len(pictures):
        return KeptViews(loaded, pictures, settings, dtype, listener, should_stop)
    return AugmentedViews(loaded, settings, dtype)
