"""What one visitor of Compare has on the table, and what happens to it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from grounding.errors import BoxwrightError, PictureError, StoreError
from grounding.heat import Heat
from grounding.pictures import open_picture, picture_size_wh
from grounding.probes import probe
from grounding.prompts import ReadPrompt
from grounding.records import Sample
from grounding.ui.against_chance import AgainstChance, Standing
from grounding.ui.cards import (
    Answer,
    Evidence,
    NoAnswer,
    Scene,
    answers_html,
    empty_html,
    pending_html,
    problem_html,
)
from grounding.ui.chosen import Models, check_models, is_further, title_of
from grounding.ui.foreign import foreign_phrase
from grounding.ui.further import FurtherModels
from grounding.ui.model_service import Phase
from grounding.ui.pictures import figure_url, find_picture
from grounding.ui.processors import one_for_the_page
from grounding.ui.scoreboard import SUMMARY_SPLIT, Scoreboard
from grounding.ui.sources import Parts, picture_id
from grounding.ui.truth import truth_on_picture

if TYPE_CHECKING:
    from grounding.predict import Predictor

log = logging.getLogger(__name__)

NOTHING_YET = (
    "No samples in this workspace yet. Upload a picture, write a phrase, and press Enter; "
    "python -m annotate import FOLDER brings in a data set."
)
WRITE_A_PHRASE = "Write what to look for and press Enter"
_UNFORESEEN = "This did not work, for a reason that Boxwright did not foresee; the terminal that runs the app has it."
_BRING_BACK = "Choose another sample, or bring the file back from a backup."
PARTS = ("heats", "probes", "prompt")
"""What may be asked of answers besides; see `Evidence`."""
LATE_MODELS = "models"
"""Asked for while a further model loads: its state, or its answer."""

Told = TypeVar("Told")
_POLL_SECONDS = 0.4


@dataclass(frozen=True)
class Answered:
    """The answers on the desk, with what else was asked for."""

    scene: Scene
    models: Models
    answers: tuple[Answer, ...]
    evidence: Evidence

    def html(self) -> str:
        return answers_html(self.scene, self.answers, self.evidence)


@dataclass
class Desk:
    """The picture that one visitor looks at. Lives in the session and changes in place.

    `picture_number` counts the pictures laid here, so that an answer that comes late for an earlier one is
    recognised; `answered_number` is the last of them that was asked about by itself, `asked` the last question
    (picture number, phrase, models), `questions` how many there were, `answered` what it was answered. `offered` are
    the adapters that the page has shown.
    """

    sample_id: str | None = None
    picture_sha256: str | None = None
    offset: int = 0
    picture_number: int = 0
    answered_number: int = 0
    asked: tuple[int, str, Models] | None = None
    questions: int = 0
    answered: Answered | None = None
    offered: tuple[str, ...] = ()

    def lay(self, picture_sha256: str, sample_id: str | None) -> None:
        self.picture_sha256, self.sample_id = picture_sha256, sample_id
        self.picture_number += 1
        self.answered = None


class Compare:
    """What the Compare tab does, without a widget: every method can be called by a test."""

    def __init__(self, parts: Parts, board: Scoreboard, further: FurtherModels | None = None) -> None:
        self.parts = parts
        self.board = board
        self.further = further or FurtherModels(parts.models)
        self.against_chance = AgainstChance(parts.workspace)

    def first_sample(self, split: str | None) -> Sample | None:
        samples, _ = self.parts.source.page(split, 0, 1)
        return samples[0] if samples else None

    def default_split(self) -> str | None:
        """The test split where it has samples, else all of them."""
        return SUMMARY_SPLIT if self.parts.source.splits().get(SUMMARY_SPLIT) else None

    def check_split(self, split: object) -> str | None:
        """A split out of the client's choice; None for all. Raises `StoreError` for an unknown one."""
        if split in (None, "all"):
            return None
        if not isinstance(split, str) or split not in self.parts.source.splits():
            raise StoreError(f"There is no split {str(split)[:40]!r} in this workspace. Choose one from the list.")
        return split

    def check_models(self, chosen: object) -> Models:
        """The models out of the client's choice. Raises what `chosen.check_models` raises."""
        return check_models(chosen, self.adapter_names(), self.further.keys())

    def adapter_names(self) -> list[str]:
        """The adapters that fit the app's model, newest first."""
        return [info.name for info in self.board.adapters()]

    def pick(self, desk: Desk, sample_id: object) -> Sample:
        """Lay a sample on the desk. Raises `StoreError` for an unknown id."""
        sample = self.parts.source.get_sample(str(sample_id))
        desk.lay(picture_id(sample), sample.id)
        return sample

    def upload(self, desk: Desk, path: Path) -> None:
        """Keep an uploaded picture and lay it on the desk. Raises `PictureError`, and then nothing has changed."""
        open_picture(path)  # to the last pixel: a picture cut short must not be kept
        sha256, _ = self.parts.workspace.uploads.add(path)
        desk.lay(sha256, None)

    def phrase_of_sample(self, desk: Desk) -> str | None:
        """The phrase of the sample on the desk; None for an uploaded picture."""
        return self.parts.source.get_sample(desk.sample_id).phrase if desk.sample_id else None

    def scene(self, desk: Desk, phrase: str) -> Scene:
        """What the cards show. Raises `PictureError` when nothing lies on the desk, or its file is gone."""
        if desk.picture_sha256 is None:
            raise PictureError("There is no picture to ask about. Choose one on the left or upload one.")
        try:
            size_wh = picture_size_wh(find_picture(self.parts.workspace, desk.picture_sha256))
        except PictureError as error:
            raise PictureError(f"{error} {_BRING_BACK}") from error
        sample = self.parts.source.get_sample(desk.sample_id) if desk.sample_id else None
        sha256 = desk.picture_sha256
        truth = truth_on_picture(
            sample, lambda: self.parts.source.samples_of_picture(sha256), phrase, self.parts.is_placeholder
        )
        return Scene(figure_url(desk.picture_sha256), size_wh, phrase, truth, desk.sample_id)

    def waiting_html(self, desk: Desk, phrase: str, models: Models) -> str:
        """The desk before the model was asked."""
        if desk.picture_sha256 is None:
            return empty_html(NOTHING_YET)
        try:
            scene = self.scene(desk, phrase)
        except BoxwrightError as error:
            return empty_html(str(error))
        if not phrase.strip():
            return pending_html(scene, models, WRITE_A_PHRASE, busy=False)
        return pending_html(scene, models, self._model_message())

    def ask(self, desk: Desk, phrase: str, models: Models) -> Iterator[str]:
        """The cards as they come: while the model loads, while it works, and with the answers.

        Stops without a word when another picture was laid on the desk meanwhile.
        """
        number = desk.picture_number
        try:
            scene = self.scene(desk, phrase)
        except BoxwrightError as error:  # in place of the answers: those of the picture before would mislead
            desk.answered = None
            yield empty_html(str(error))
            return
        desk.asked, desk.answered = (number, phrase, models), None
        desk.questions += 1
        evidence = Evidence(desk.questions)
        yield from self._until_loaded(desk, scene, models)
        try:
            for answers in self._answers(desk, scene, models):
                answered = Answered(scene, models, answers, evidence)
                html = answered.html()
                if desk.picture_number != number:
                    return
                desk.answered = answered
                yield html
        except BoxwrightError as error:
            if desk.picture_number == number:
                yield problem_html(scene, models, str(error))
        except Exception:
            yield problem_html(scene, models, _UNFORESEEN)
            raise

    def more(self, desk: Desk, part: object) -> str | None:
        """The answers on the desk with one more of `PARTS`, or why it can't come; with `LATE_MODELS`, those of models
        that have come meanwhile. None when the answers are gone, or nothing is new."""
        answered = desk.answered
        if answered is not None and part == LATE_MODELS:
            return self._late(desk, answered)
        if answered is None or part not in PARTS:
            return None
        others = tuple(problem for problem in answered.evidence.problems if problem[0] != part)
        try:
            evidence = replace(self._with_part(desk, answered, str(part)), problems=others)
        except BoxwrightError as error:
            evidence = replace(answered.evidence, problems=(*others, (str(part), str(error))))
        except Exception:  # said in its place: the page, which asks once, would wait for ever
            log.exception("%s of an answer failed", part)
            evidence = replace(answered.evidence, problems=(*others, (str(part), _UNFORESEEN)))
        if desk.answered is not answered:
            return None
        desk.answered = replace(answered, evidence=evidence)
        return desk.answered.html()

    def _late(self, desk: Desk, answered: Answered) -> str | None:
        assert desk.picture_sha256 is not None
        sha256 = desk.picture_sha256
        answers = tuple(
            self._further_answer(sha256, answered.scene.phrase, answer.model)
            if isinstance(answer, NoAnswer) and answer.waiting and answer.model is not None
            else answer
            for answer in answered.answers
        )
        if desk.answered is not answered or answers == answered.answers:
            return None
        evidence = answered.evidence
        if any(type(old) is not type(new) for old, new in zip(answered.answers, answers, strict=True)):
            # What was shown besides lacks the newcomer: the page asks for it anew.
            desk.questions += 1
            evidence = Evidence(desk.questions)
        desk.answered = replace(answered, answers=answers, evidence=evidence)
        return desk.answered.html()

    def _with_part(self, desk: Desk, answered: Answered, part: str) -> Evidence:
        assert desk.picture_sha256 is not None
        path = find_picture(self.parts.workspace, desk.picture_sha256)
        phrase, evidence = answered.scene.phrase, answered.evidence
        if part == "heats":
            heats = self._each(answered, lambda own, some: own.heat(path, phrase, some), lambda why: Heat((), why))
            return replace(evidence, heats=heats)
        if part == "probes":
            sample = self.parts.source.get_sample(desk.sample_id) if desk.sample_id else None
            other, truths = foreign_phrase(self.parts, desk.picture_sha256, sample, phrase)
            results = self._each(
                answered,
                lambda own, some: probe(own, path, phrase, some, other=other, truths=truths),
                lambda why: None,
            )
            standings = tuple(map(self._standing, answered.models))
            return replace(evidence, probes=results, truths=truths, standings=standings)
        return replace(evidence, prompts=self._prompts(answered, path))

    def _standing(self, model: str | None) -> Standing:
        if model is not None and is_further(model):
            service = self.further.service(model)
            return self.against_chance.of(service.model, quantize=service.quantize)
        info = next((info for info in self.board.adapters() if info.name == model), None)
        models = self.parts.models
        return self.against_chance.of(models.model, info, quantize=models.quantize)

    def _prompts(self, answered: Answered, path: Path) -> tuple[tuple[str, ReadPrompt], ...]:
        """What is read by whom: the base and its adapters read the same."""
        phrase = answered.scene.phrase
        read = self._each(
            answered, lambda own, some: [own.prompt(path, phrase)] + [None] * (len(some) - 1), lambda why: None
        )
        pairs = zip(answered.models, read, strict=True)
        return tuple((title_of(model if is_further(model) else None), found) for model, found in pairs if found)

    def _each(
        self,
        answered: Answered,
        ask: Callable[[Predictor, Models], Sequence[Told]],
        instead: Callable[[str], Told],
    ) -> tuple[Told, ...]:
        """What `ask` tells of each model, in order: the app's own in one call, each further one by itself; `instead`
        of it for one that has not answered, with the reason."""
        told: dict[str | None, Told] = {}
        own = tuple(model for model in answered.models if not is_further(model))
        for answer in answered.answers:
            if isinstance(answer, NoAnswer):
                told[answer.model] = instead(answer.sentence)
        if any(model not in told for model in own):
            with self.parts.models.use() as predictor, one_for_the_page(predictor):
                told |= zip(own, ask(predictor, own), strict=True)
        for model in answered.models:
            if model is not None and model not in told:
                with self.further.service(model).use(0.0) as predictor:
                    (told[model],) = ask(predictor, (None,))
        return tuple(told[model] for model in answered.models)

    def _until_loaded(self, desk: Desk, scene: Scene, models: Models) -> Iterator[str]:
        number = desk.picture_number
        if all(map(is_further, models)):
            return
        while self.parts.models.state.phase is Phase.LOADING and desk.picture_number == number:
            yield pending_html(scene, models, self._model_message())
            time.sleep(_POLL_SECONDS)
        if desk.picture_number == number:
            yield pending_html(scene, models, "Asking the model")

    def _answers(self, desk: Desk, scene: Scene, models: Models) -> Iterator[tuple[Answer, ...]]:
        """The answers as they come: those of the app's own model first, nothing waits for a further one to load.

        Raises what the app's own model raises where no other one is asked.
        """
        assert desk.picture_sha256 is not None
        path = find_picture(self.parts.workspace, desk.picture_sha256)
        own = tuple(model for model in models if not is_further(model))
        others = [model for model in models if model is not None and is_further(model)]
        told: dict[str | None, Answer] = {model: NoAnswer(model, "Asking the model", waiting=True) for model in others}
        if own:
            try:
                with self.parts.models.use() as predictor, one_for_the_page(predictor):
                    told |= zip(own, predictor.compare(path, scene.phrase, own), strict=True)
            except BoxwrightError as error:
                if not others:
                    raise
                told |= {model: NoAnswer(model, str(error)) for model in own}
            yield tuple(told[model] for model in models)
        for model in others:
            told[model] = self._further_answer(desk.picture_sha256, scene.phrase, model)
            yield tuple(told[model] for model in models)

    def _further_answer(self, picture_sha256: str, phrase: str, model: str) -> Answer:
        """A further model's answer, or where it stands: it is loaded when it is asked for. Whatever fails is said in
        its place: a page that waits for it asks every second, and the others have answered."""
        try:
            state = self.further.want(model)
            if state.phase is Phase.LOADING:
                return NoAnswer(model, f"{state.sentence}, {state.seconds:.0f} s", waiting=True)
            if state.phase is not Phase.READY:
                return NoAnswer(model, state.sentence)
            path = find_picture(self.parts.workspace, picture_sha256)
            with self.further.service(model).use(0.0) as predictor:
                (answer,) = predictor.compare(path, phrase, (None,))
        except BoxwrightError as error:
            return NoAnswer(model, str(error))
        except Exception:
            log.exception("%s could not answer", title_of(model))
            return NoAnswer(model, _UNFORESEEN)
        return replace(answer, adapter=model)

    def _model_message(self) -> str:
        state = self.parts.models.state
        return f"{state.sentence}, {state.seconds:.0f} s" if state.phase is Phase.LOADING else "Asking the model"
