"""From (picture, phrase, adapter) to answers, whichever way the model's family and the settings ask for."""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from grounding import engine
from grounding.adapters import AdapterInfo
from grounding.attached import AttachedAdapters
from grounding.boxes import Box
from grounding.calibration import BoxEvidence, plain_confidence
from grounding.decoding.fast import FastDecoder, Skeletons, tokens_at_once
from grounding.decoding.forced import Decision, ForcedAnswer, Sampling
from grounding.decoding.generation import Written, generate
from grounding.decoding.lora import LoraWeights, is_plain_live, live_lora
from grounding.decoding.settings import Decoding
from grounding.errors import BoxError, ModelError, SettingsError
from grounding.families import DetectorFamily, TextFamily
from grounding.features import ImageFeatures
from grounding.formats import Decoded
from grounding.heat import BoxHeat, box_heat
from grounding.models import LoadedModel
from grounding.records import Status

ShouldStop = Callable[[], None]
_ASKS_AT_ONCE = 8  # of a detector, between two questions whether to stop
_TOKENS_OF_WORDS = 256  # of prompt and answer beside the picture, roughly
_LIKELIEST = (Decoding(), Sampling())


@dataclass(frozen=True)
class Ask:
    """One question. `adapter` None: the base."""

    features: ImageFeatures
    phrase: str
    adapter: AdapterInfo | None = None


@dataclass(frozen=True)
class Answer:
    """What a model answered. `confidence` is that of the first box, or of "nothing there", 0.0 to 1.0;
    `box_confidences` has one a box where the model's decisions are known, else none; `heats` likewise where they were
    asked for."""

    text: str
    decoded: Decoded
    confidence: float | None
    box_confidences: tuple[float, ...] = ()
    evidence: tuple[BoxEvidence, ...] = ()
    heats: tuple[BoxHeat, ...] = ()


class Answerer:
    """Answers questions with one loaded model. The caller holds the model's lock."""

    def __init__(self, loaded: LoadedModel) -> None:
        self.loaded = loaded
        self.adapters = AttachedAdapters(loaded)
        self.notes: tuple[str, ...] = ()
        self._skeletons: Skeletons | None = None
        self._fast: FastDecoder | None = None
        family = loaded.family
        if isinstance(family, TextFamily):
            self._prepare(family)

    def _prepare(self, family: TextFamily) -> None:
        """The best way of answering that this model allows; the notes say what is missing and why."""
        skeletons = Skeletons(self.loaded, family)
        try:
            skeletons.probe()
        except ModelError as error:
            self.notes = (f"Answers are written freely, never forced: {error}",)
            return
        self._skeletons = skeletons
        try:
            self._fast = FastDecoder(self.loaded, family, skeletons)
        except ModelError as error:
            self.notes = (f"Answers come from transformers' generate, the slower way: {error}",)

    def answer(
        self, asks: Sequence[Ask], how: Decoding, should_stop: ShouldStop | None = None, *, heats: bool = False
    ) -> list[Answer]:
        """One answer a question, in order: the likeliest. `heats`: with where each box could be, if the fast pass
        answers. Raises what `should_stop` raises."""
        family = self.loaded.family
        if isinstance(family, DetectorFamily):
            return self._detect(family, asks, should_stop)
        return self._write(asks, how, replace(_sampling(how, temperature=0.0), shares=heats), should_stop)

    def answer_as_it_is(self, features: Sequence[ImageFeatures], phrases: Sequence[str]) -> list[Answer]:
        """The likeliest answers of the model with whatever peft has active in it, as while an adapter is trained."""
        asks = [Ask(feature, phrase) for feature, phrase in zip(features, phrases, strict=True)]
        parts = engine.text_family(self.loaded).text_parts(self.loaded)
        if self._fast is None or parts is None:
            written = engine.answer(self.loaded, features, phrases)
            return [self._read_written(*pair) for pair in zip(asks, written, strict=True)]
        if not is_plain_live(parts[0]):
            places = self._within_memory(asks, range(len(asks)))
            written = [one for some in places for one in self._generate([asks[i] for i in some], *_LIKELIEST, None)]
            return [self._read_written(*pair) for pair in zip(asks, written, strict=True)]
        live = live_lora(parts[0])
        # In training the factors stay in float32 beside a base in bfloat16.
        cast = None if live is None else live.to(self._fast.text.device, self._fast.text.dtype)
        forced = self._fast.answer(features, phrases, [cast] * len(asks), Sampling())
        return [self._read_forced(*pair) for pair in zip(asks, forced, strict=True)]

    def sample(self, asks: Sequence[Ask], how: Decoding, should_stop: ShouldStop | None = None) -> list[list[Answer]]:
        """`how.samples` answers drawn for each question. A detector has only one to give."""
        if isinstance(self.loaded.family, DetectorFamily):
            return [[answer] for answer in self.answer(asks, how, should_stop)]
        sampling = _sampling(how, temperature=how.temperature)
        repeated = [ask for ask in asks for _ in range(how.samples)]
        answers = self._write(repeated, how, sampling, should_stop)
        return [answers[i : i + how.samples] for i in range(0, len(answers), how.samples)]

    def _write(
        self, asks: Sequence[Ask], how: Decoding, sampling: Sampling, should_stop: ShouldStop | None
    ) -> list[Answer]:
        """Answers in words: by the fast pass where it can, the rest by `generate`."""
        fast, slow = self._shared_out(asks, how)
        answers: dict[int, Answer] = {}
        if fast:
            assert self._fast is not None
            places = list(fast)
            forced = self._fast.answer(
                [asks[i].features for i in places],
                [asks[i].phrase for i in places],
                [fast[i] for i in places],
                sampling,
                should_stop,
            )
            answers |= {i: self._read_forced(asks[i], answer) for i, answer in zip(places, forced, strict=True)}
        if slow and how.coordinates == "expected":
            raise SettingsError(f'{self.loaded.model_id} gives no coordinates="expected" here: take "likeliest".')
        for adapter in {id(asks[i].adapter): asks[i].adapter for i in slow}.values():
            places = [i for i in slow if asks[i].adapter is adapter]
            for some in self._within_memory(asks, places):
                # Rows of the same question in two batches must not be drawn with the same random numbers.
                own = replace(
                    sampling, seed=sampling.seed ^ zlib.crc32(str(some[0]).encode()) if some[0] else sampling.seed
                )
                with self.adapters.using(adapter):
                    written = self._generate([asks[i] for i in some], how, own, should_stop)
                answers |= {i: self._read_written(asks[i], answer) for i, answer in zip(some, written, strict=True)}
        return [answers[i] for i in range(len(asks))]

    def _within_memory(self, asks: Sequence[Ask], places: Sequence[int]) -> Iterator[Sequence[int]]:
        """The places in batches that `generate` has memory for: large pictures make small ones."""
        budget = tokens_at_once(self.loaded)
        longest = max((asks[i].features.visual_tokens for i in places), default=1) + _TOKENS_OF_WORDS
        size = max(1, budget // longest)
        for start in range(0, len(places), size):
            yield places[start : start + size]

    def _shared_out(self, asks: Sequence[Ask], how: Decoding) -> tuple[dict[int, LoraWeights | None], list[int]]:
        """Which questions the fast pass can take, with their factors, and which it can't."""
        if self._fast is None or how.mode != "forced":
            return {}, list(range(len(asks)))
        adapters = {id(ask.adapter): ask.adapter for ask in asks}
        factors_of = {key: None if info is None else self.adapters.factors(info) for key, info in adapters.items()}
        fast: dict[int, LoraWeights | None] = {}
        slow = []
        for place, ask in enumerate(asks):
            factors = factors_of[id(ask.adapter)]
            if ask.adapter is not None and factors is None:
                slow.append(place)
            else:
                fast[place] = factors
        return fast, slow

    def _generate(
        self, asks: Sequence[Ask], how: Decoding, sampling: Sampling, should_stop: ShouldStop | None
    ) -> list[Written]:
        family, features = engine.text_family(self.loaded), [ask.features for ask in asks]
        texts = [engine.chat_text(self.loaded, ask.phrase, ask.features.visual_tokens) for ask in asks]
        skeletons = None
        if how.mode == "forced" and self._skeletons is not None:
            skeletons = [self._skeletons.of(ask.features, ask.phrase) for ask in asks]
        inputs = engine.tokenize(self.loaded, texts)
        return generate(
            self.loaded, family, features, inputs, skeletons=skeletons, how=sampling, should_stop=should_stop
        )

    def _read_forced(self, ask: Ask, answer: ForcedAnswer) -> Answer:
        text = engine.text_family(self.loaded).read_text(self.loaded, answer.tokens)
        if not answer.values:
            nothing = math.exp(sum(decision.log_probability for decision in answer.decisions))
            return Answer(text, Decoded((), Status.NO_BOX), nothing)
        box_format, frame = self.loaded.profile.text_format, ask.features.frame
        kept: dict[Box, BoxEvidence] = {}
        heats: dict[Box, BoxHeat] = {}
        for index, numbers in enumerate(answer.expected or answer.values):
            box = box_format.place(numbers, frame)
            if box is not None:
                kept.setdefault(box, box_evidence(answer.decisions, index))  # a repeated box counts once
                if answer.shares:
                    heats.setdefault(box, box_heat(box, answer.values[index], answer.shares[index], box_format, frame))
        if not kept:
            return Answer(text, Decoded((), Status.DEGENERATE), 0.0)
        chances = tuple(self._chance(evidence) for evidence in kept.values())
        decoded = Decoded(tuple(kept), Status.OK)
        return Answer(text, decoded, chances[0], chances, tuple(kept.values()), tuple(heats.values()))

    def _read_written(self, ask: Ask, answer: Written) -> Answer:
        if answer.forced is not None:
            return self._read_forced(ask, answer.forced)
        decoded = self.loaded.profile.text_format.decode(answer.text, ask.features.frame)
        return Answer(answer.text, decoded, answer.confidence)

    def _chance(self, evidence: BoxEvidence) -> float:
        calibration = self.loaded.calibration
        return plain_confidence(evidence) if calibration is None else calibration.apply(evidence)

    def _detect(self, family: DetectorFamily, asks: Sequence[Ask], should_stop: ShouldStop | None) -> list[Answer]:
        for ask in asks:
            if ask.adapter is not None:
                raise ModelError(f"{self.loaded.model_id} is a detector: it takes no adapter. Ask it without one.")
        answers: list[Answer] = []
        for start in range(0, len(asks), _ASKS_AT_ONCE):
            if should_stop is not None:
                should_stop()
            some = asks[start : start + _ASKS_AT_ONCE]
            found = family.detect(self.loaded, [ask.features for ask in some], [ask.phrase for ask in some])
            answers += [self._read_detections(ask, boxes) for ask, boxes in zip(some, found, strict=True)]
        return answers

    def _read_detections(self, ask: Ask, found: Iterable[tuple[tuple[float, float, float, float], float]]) -> Answer:
        scored: dict[Box, float] = {}
        lines = []
        for numbers, score in found:
            if score < self.loaded.profile.min_score:
                continue
            lines.append({"box_xyxy_px": [round(number, 2) for number in numbers], "score": round(score, 4)})
            box = _clipped(numbers, ask.features.image_size_wh)
            if box is not None:
                scored.setdefault(box, score)
        text = json.dumps(lines)
        if not lines:
            return Answer(text, Decoded((), Status.NO_BOX), None)
        if not scored:
            return Answer(text, Decoded((), Status.DEGENERATE), 0.0)
        boxes = tuple(scored)
        return Answer(text, Decoded(boxes, Status.OK), scored[boxes[0]], tuple(scored.values()))


def _sampling(how: Decoding, *, temperature: float) -> Sampling:
    return Sampling(temperature, how.seed, how.coordinates == "expected", how.max_boxes)


def box_evidence(decisions: Sequence[Decision], box: int) -> BoxEvidence:
    """The decisions about one box, summed up by what they decided."""
    presence = first = second = later = 0.0
    for decision in decisions:
        if decision.box != box:
            continue
        if decision.choice.number < 0:
            presence += decision.log_probability
        elif decision.choice.place == 0:
            first += decision.log_probability
        elif decision.choice.place == 1:
            second += decision.log_probability
        else:
            later += decision.log_probability
    return BoxEvidence(presence, first, second, later)


def _clipped(numbers: Sequence[float], image_size_wh: tuple[int, int]) -> Box | None:
    try:
        return Box.from_numbers(numbers).clip(image_size_wh)
    except BoxError:
        return None
