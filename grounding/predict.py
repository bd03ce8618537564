"""The Predictor: boxes for phrases on pictures, from a base and any number of adapters on the same weights."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property
from importlib.metadata import version
from pathlib import Path

from PIL import Image

from grounding import engine
from grounding.adapters import AdapterInfo, AdapterRegistry
from grounding.answering import Answer, Answerer, Ask
from grounding.attached import identity_of
from grounding.boxes import iou
from grounding.calibration import BoxEvidence, Calibration
from grounding.choose import Candidate, Choice, CropScorer, rerank, vote
from grounding.decoding.settings import Decoding, is_whole
from grounding.errors import (
    AdapterError,
    Cancelled,
    ModelError,
    PictureError,
    SettingsError,
    first_sentence,
    is_out_of_memory,
)
from grounding.evaluation import check_askable
from grounding.families import DetectorFamily
from grounding.feature_store import FeatureStore, feature_key, picture_sha256
from grounding.features import ImageFeatures
from grounding.formats import Decoded
from grounding.heat import Heat
from grounding.models import LoadedModel
from grounding.pictures import check_header, check_type, open_picture, picture_name
from grounding.profiles import ModelProfile
from grounding.prompts import ReadPrompt, read_prompt
from grounding.records import Prediction, Sample, Status, check_phrase

Picture = str | Path | Image.Image
_IMAGES_PER_PASS = 20  # as many as fit into memory whatever their size
Progress = Callable[[int, int], None]
_REPLACED = (
    "The adapter {name!r} was replaced by another while it answered, so its answers don't belong together. Ask again."
)


class Predictor:
    """Answers phrases on pictures. Safe to use from several threads: one batch at a time runs on the model, and who
    waits comes next, before a further batch of a long call.

    `decoding` is how answers are made unless a call says otherwise; `features` keeps what the vision tower made of
    pictures (None: nothing is kept); `scorer` is what `Decoding(choose="rerank")` asks.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        adapters: Path,
        *,
        decoding: Decoding | None = None,
        features: FeatureStore | None = None,
        scorer: CropScorer | None = None,
    ) -> None:
        self.loaded = loaded
        self.registry = AdapterRegistry(adapters)
        self.decoding = decoding or Decoding()
        self.scorer = scorer
        self._features = features
        self._lock = loaded.lock  # of the model: two predictors may share one
        with self._lock:  # it asks the model, which another may have an adapter active in
            self._answerer = Answerer(loaded)

    @property
    def model_id(self) -> str:
        return self.loaded.model_id

    @property
    def profile(self) -> ModelProfile:
        return self.loaded.profile

    @property
    def device(self) -> str:
        return self.loaded.device

    @cached_property
    def weight_count(self) -> int:
        """How many numbers the base is made of."""
        return sum(weight.numel() for weight in self.loaded.model.parameters())

    @property
    def load_notes(self) -> tuple[str, ...]:
        """Why this device, this number type, this way of answering."""
        return (*self.loaded.notes, *self._answerer.notes)

    def predict(
        self, image: Picture, phrase: str, adapter: str | None = None, *, decoding: Decoding | None = None
    ) -> Prediction:
        """The box of one phrase. `adapter`: a name in the workspace, a folder, or None for the base."""
        return self.predict_many([(image, phrase)], adapter, decoding=decoding)[0]

    def compare(
        self,
        image: Picture,
        phrase: str,
        adapters: Sequence[str | None] = (None,),
        *,
        decoding: Decoding | None = None,
    ) -> list[Prediction]:
        """One answer per entry of `adapters` (None: the base), from a single image pass and a single decoding."""
        return self.compare_many([(image, phrase)], adapters, decoding=decoding)[0]

    def predict_many(
        self,
        pairs: Sequence[tuple[Picture, str]],
        adapter: str | None = None,
        *,
        decoding: Decoding | None = None,
        batch_size: int | None = None,
        progress: Progress | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> list[Prediction]:
        """One answer per (picture, phrase), in order; phrases with the same picture next to each other share its pass.

        `progress` is called with (done, total) after every batch. Raises `Cancelled` when `cancelled` says so.
        """
        answers = self.compare_many(
            pairs, [adapter], decoding=decoding, batch_size=batch_size, progress=progress, cancelled=cancelled
        )
        return [one for (one,) in answers]

    def compare_many(
        self,
        pairs: Sequence[tuple[Picture, str]],
        adapters: Sequence[str | None] = (None,),
        *,
        decoding: Decoding | None = None,
        batch_size: int | None = None,
        progress: Progress | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> list[list[Prediction]]:
        """For each (picture, phrase) one answer per entry of `adapters`, in order, base and adapters side by side.

        `batch_size` counts pairs. Raises `Cancelled` when `cancelled` says so: asked before every batch and every step,
        and while another call has the model; `AdapterError` when an adapter is replaced or goes away meanwhile.
        """
        how = decoding or self.decoding
        if how.choose == "rerank" and how.samples > 1 and self.scorer is None:
            raise SettingsError('choose="rerank" needs a scorer: give the Predictor one (grounding.choose.ClipScorer).')
        if batch_size is not None and (not is_whole(batch_size) or batch_size < 1):
            raise SettingsError(f"batch_size={batch_size!r} is no size: expected a whole number from 1, or None.")
        if isinstance(adapters, str) or not isinstance(adapters, Sequence):
            raise SettingsError(f"adapters={adapters!r} is no list: expected one, such as [None, 'tools-v1'].")
        pairs = [_checked(pair) for pair in pairs]
        if not adapters:
            return [[] for _ in pairs]
        infos = [None if adapter is None else self.registry.find(adapter) for adapter in adapters]
        stood = [info and identity_of(info) for info in infos]
        names = [None if adapter is None else str(adapter) for adapter in adapters]
        size = batch_size or max(1, (40 if self.device == "cpu" else 128) // max(1, len(adapters) * how.samples))
        results: list[list[Prediction]] = []

        def should_stop() -> None:
            if cancelled is not None and cancelled():
                raise Cancelled(f"Stopped after {len(results)} of {len(pairs)} phrases.")

        for start in range(0, len(pairs), size):
            should_stop()
            results += self._batch(pairs[start : start + size], infos, names, how, should_stop)
            for info, identity in zip(infos, stood, strict=True):
                if info is not None and identity_of(info) != identity:
                    raise AdapterError(_REPLACED.format(name=info.name))
            if progress is not None:
                progress(len(results), len(pairs))
        return results

    def _batch(
        self,
        pairs: Sequence[tuple[Picture, str]],
        infos: Sequence[AdapterInfo | None],
        names: Sequence[str | None],
        how: Decoding,
        should_stop: Callable[[], None],
    ) -> list[list[Prediction]]:
        with self._lock.held(should_stop):
            start = time.perf_counter()
            answers = self._answers_that_fit(pairs, infos, how, should_stop)
            seconds = (time.perf_counter() - start) / max(1, len(answers))
        predictions = [
            to_prediction(answer, seconds, name)
            for answer, name in zip(answers, [name for _ in pairs for name in names], strict=True)
        ]
        return [predictions[i : i + len(names)] for i in range(0, len(predictions), len(names))]

    def _answers_that_fit(
        self,
        pairs: Sequence[tuple[Picture, str]],
        infos: Sequence[AdapterInfo | None],
        how: Decoding,
        should_stop: Callable[[], None],
    ) -> list[Answer]:
        """As `_answers`; where the device's memory is too small for all of them, in halves."""
        import torch

        try:
            return self._answers(pairs, infos, how, should_stop)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            if len(pairs) == 1:
                raise ModelError(
                    f"The memory of {self.device} is too small for a phrase on this picture ({first_sentence(error)}). "
                    "Close other programs, take a smaller picture, or load the model with 4-bit weights."
                ) from error
        if self.device.startswith("cuda"):
            torch.cuda.empty_cache()
        half = len(pairs) // 2
        both = (pairs[:half], pairs[half:])
        return [answer for some in both for answer in self._answers_that_fit(some, infos, how, should_stop)]

    def _answers(
        self,
        pairs: Sequence[tuple[Picture, str]],
        infos: Sequence[AdapterInfo | None],
        how: Decoding,
        should_stop: Callable[[], None],
    ) -> list[Answer]:
        """The answers of every pair, one for each adapter. The caller holds the lock."""
        asks = self._asks(pairs, infos, should_stop)
        if how.samples == 1:
            return self._answerer.answer(asks, how, should_stop)
        drawn = self._answerer.sample(asks, how, should_stop)
        images = [image for image, _ in pairs for _ in infos]
        return [
            # A detector has one answer to give: there is nothing to choose.
            answers[0] if len(answers) == 1 else self._choose(image, ask, answers, how)
            for image, ask, answers in zip(images, asks, drawn, strict=True)
        ]

    def _asks(
        self, pairs: Sequence[tuple[Picture, str]], infos: Sequence[AdapterInfo | None], should_stop: Callable[[], None]
    ) -> list[Ask]:
        """The questions of every pair, one for each adapter, with what the vision tower makes of the pictures."""
        pictures = {_key(image): image for image, _ in pairs}
        shared = self._look_at(pictures, should_stop)
        features = [self._look_at_with(info, pictures, should_stop) or shared for info in infos]
        return [
            Ask(seen[_key(image)], phrase, info)
            for image, phrase in pairs
            for seen, info in zip(features, infos, strict=True)
        ]

    def heat(self, image: Picture, phrase: str, adapters: Sequence[str | None] = (None,)) -> list[Heat]:
        """Where the boxes of each entry of `adapters` (None: the base) could be: see `grounding.heat`.

        Always of the likeliest answer, whatever `decoding` says. Raises what `compare` raises.
        """
        pair = _checked((image, phrase))
        infos = [None if adapter is None else self.registry.find(adapter) for adapter in adapters]
        with self._lock.held(_go_on):
            answers = self._answerer.answer(self._asks([pair], infos, _go_on), Decoding(), heats=True)
        return [self._heat_of(answer) for answer in answers]

    def _heat_of(self, answer: Answer) -> Heat:
        if answer.heats:
            return Heat(answer.heats)
        if isinstance(self.loaded.family, DetectorFamily):
            return Heat((), f"{self.model_id} is a detector: it gives boxes with scores and writes no digits.")
        if answer.decoded.status is not Status.OK:
            return Heat((), "This answer holds no box.")
        return Heat(
            (), "This answer comes from transformers' generate, which shows no other digits than those written."
        )

    def prompt(self, image: Picture, phrase: str) -> ReadPrompt:
        """What the model reads for this question, token by token; the same for the base and every adapter."""
        image, phrase = _checked((image, phrase))
        with self._lock.held(_go_on):
            (features,) = self._look_at({_key(image): image}, _go_on).values()
            return read_prompt(self.loaded, features, phrase)

    def calibrate(self, samples: Sequence[Sample], *, progress: Progress | None = None) -> Calibration:
        """How far the base's own probabilities can be trusted, measured on samples with one target box each.

        The predictor goes on with it. Raises `ModelError` unless some of the boxes are right and some are wrong,
        `RecordError` or `PictureError` naming a sample that can't be asked.
        """
        single = [sample for sample in samples if len(sample.boxes_xyxy_px) == 1]
        if not single:
            raise ModelError(
                f"None of the {len(samples)} samples has exactly one true box: nothing to calibrate. "
                "Give some that have."
            )
        check_askable(single, self)
        evidence: list[BoxEvidence] = []
        hits: list[bool] = []
        for start in range(0, len(single), 40):
            batch = single[start : start + 40]
            with self._lock:
                pairs = [(sample.image, check_phrase(sample.phrase)) for sample in batch]
                answers = self._answers_that_fit(pairs, [None], Decoding(), lambda: None)
            for sample, answer in zip(batch, answers, strict=True):
                if answer.evidence:
                    evidence.append(answer.evidence[0])
                    hits.append(iou(answer.decoded.boxes_xyxy_px[0], sample.boxes_xyxy_px[0]) >= 0.5)
            if progress is not None:
                progress(start + len(batch), len(single))
        if not evidence:
            raise ModelError(f"{self.model_id} gave no box whose probability is known: nothing to calibrate.")
        calibration = Calibration.fit(evidence, hits, measured_on=f"{len(evidence)} answers")
        with self._lock:
            self.loaded = replace(self.loaded, calibration=calibration)
            self._answerer.loaded = self.loaded
        return calibration

    def _look_at(self, pictures: dict[object, Picture], should_stop: Callable[[], None]) -> dict[object, ImageFeatures]:
        """The features of every picture, from the store where they are kept."""
        found: dict[object, ImageFeatures] = {}
        names: dict[object, str] = {}
        store = self._features
        if store is not None and self.loaded.fingerprint and self.loaded.family.keeps_features:
            for key, image in pictures.items():
                check_header(image)  # before all its bytes are read for a name
                names[key] = self._feature_name(image)
                kept = store.get(names[key])
                if kept is not None:
                    found[key] = ImageFeatures.from_tensors(*kept, self.device)
        missing = {key: image for key, image in pictures.items() if key not in found}
        found |= self._encoded(missing, should_stop)
        if store is not None:
            for key in missing:
                if key in names and self._is_still(pictures[key], names[key]):
                    # A GPU looks again in less time than the disk takes to write.
                    put = store.put if self.device == "cpu" else store.put_soon
                    put(names[key], *found[key].to_tensors())
        return found

    def _feature_name(self, image: Picture) -> str:
        """What its features are kept under. Raises `PictureError`."""
        return feature_key(picture_sha256(image), self.loaded.fingerprint, self._feature_settings)

    def _is_still(self, image: Picture, name: str) -> bool:
        """Whether it is what it was when it was named: a file replaced before it was looked at is another picture."""
        if isinstance(image, Image.Image):
            return True
        try:
            return self._feature_name(image) == name
        except PictureError:
            return False

    def _encoded(self, pictures: dict[object, Picture], should_stop: Callable[[], None]) -> dict[object, ImageFeatures]:
        """What the vision tower makes of the pictures now, a few at a time: decoded, they are large."""
        found: dict[object, ImageFeatures] = {}
        keys = list(pictures)
        for start in range(0, len(keys), _IMAGES_PER_PASS):
            should_stop()
            some = keys[start : start + _IMAGES_PER_PASS]
            encoded = engine.encode_images(self.loaded, [self._opened(pictures[key]) for key in some])
            found |= dict(zip(some, encoded, strict=True))
        return found

    def _opened(self, image: Picture) -> Image.Image:
        """Raises `PictureError`, with the name of the file, for a picture that the model's family refuses."""
        picture = open_picture(image)
        try:
            self.loaded.family.check_picture(picture)
        except PictureError as error:
            if isinstance(image, Image.Image):
                raise
            raise PictureError(f"{picture_name(image)} can't be asked about. {error}") from error
        return picture

    def _look_at_with(
        self, info: AdapterInfo | None, pictures: dict[object, Picture], should_stop: Callable[[], None]
    ) -> dict[object, ImageFeatures] | None:
        """The features of every picture under an adapter that changes the vision tower; None: those of the base."""
        adapters = self._answerer.adapters
        if info is None or isinstance(self.loaded.family, DetectorFamily) or not adapters.changes_pictures(info):
            return None
        with adapters.using(info):
            return self._encoded(pictures, should_stop)

    @cached_property
    def _feature_settings(self) -> str:
        budget, library = self.profile.pixel_budget, version("transformers")
        return f"on white, greys stretched, {budget} {self.device} transformers {library}"

    def _choose(self, image: Picture, ask: Ask, drawn: Sequence[Answer], how: Decoding) -> Answer:
        """One answer out of several."""
        candidates = [Candidate(a.decoded.boxes_xyxy_px, a.decoded.status, a.confidence) for a in drawn]
        choice: Choice
        if how.choose == "rerank":
            assert self.scorer is not None
            choice = rerank(open_picture(image), ask.phrase, candidates, self.scorer)
        else:
            choice = vote(candidates)
        chosen = drawn[choice.index]
        return replace(
            chosen,
            decoded=Decoded(choice.boxes_xyxy_px, choice.status),
            # Answers that can't be read do not agree on anything.
            confidence=choice.agreement if choice.status in (Status.OK, Status.NO_BOX) else 0.0,
            box_confidences=(choice.agreement,) * len(choice.boxes_xyxy_px),
            evidence=(),
        )


def _go_on() -> None:
    """For work that nobody cancels."""


def _checked(pair: object) -> tuple[Picture, str]:
    """The pair, its phrase without outer blanks; what it says of the picture is only that it may be one."""
    if not isinstance(pair, tuple | list) or len(pair) != 2:
        raise SettingsError(f"{pair!r:.200} is no question: expected a pair, (picture, phrase).")
    image, phrase = pair
    check_type(image)
    return image, check_phrase(phrase)


def _key(image: Picture) -> object:
    return id(image) if isinstance(image, Image.Image) else str(image)


def to_prediction(answer: Answer, seconds: float, adapter: str | None = None) -> Prediction:
    """The answer as the record that crosses every boundary."""
    return Prediction(
        boxes_xyxy_px=answer.decoded.boxes_xyxy_px,
        status=answer.decoded.status,
        raw_text=answer.text,
        confidence=answer.confidence,
        seconds=seconds,
        adapter=adapter,
        box_confidences=answer.box_confidences,
    )
