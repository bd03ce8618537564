"""Forced answers say what free ones say; batches, adapters side by side and confidences change nothing."""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from grounding import engine
from grounding.adapters import AdapterInfo
from grounding.answering import Answerer, Ask
from grounding.decoding.settings import Decoding
from grounding.demo.dataset import DemoSize, write_demo
from grounding.demo.sprites import known_nouns
from grounding.errors import Cancelled
from grounding.models import LoadedModel, load_model
from grounding.predict import Predictor
from grounding.records import Prediction, Status, read_samples

Pair = tuple[Any, str]
FREE, FORCED = Decoding(mode="free"), Decoding()
WRITTEN_NUMBERS = 1e-4
_N = "(0|[1-9][0-9]{0,2}|1000)"
# What the skeleton can spell: everything else is a free answer gone astray.
SPELLABLE = re.compile(rf'\[({{"bbox_2d": \[{_N}(, {_N}){{3}}\]}}(, )?)*\]')


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> list[Pair]:
    """Two dozen questions on pictures of three sizes, several a picture, some about nothing that is there."""
    folder = tmp_path_factory.mktemp("forced")
    write_demo(folder, size=DemoSize(24, 2, 4), seed=11)
    known = [s for s in read_samples(folder / "train.jsonl") if s.category in known_nouns() and s.boxes_xyxy_px]
    asked: list[Pair] = []
    for place, sample in enumerate(known[:16]):
        with Image.open(sample.image) as opened:
            picture = opened.convert("RGB")
        size_wh = ((256, 256), (256, 256), (224, 256))[place % 3]
        picture = picture if size_wh == picture.size else picture.crop((0, 0, *size_wh))
        asked.append((picture, f"the {sample.category}"))
        if place % 2:
            asked.append((picture, "the violet submarine"))
    return asked


@pytest.fixture(scope="module")
def own(one_thread: None, tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    """A Predictor on a model of its own, with two adapters of weights so small that answers stay readable."""
    from peft import LoraConfig, get_peft_model

    adapters = tmp_path_factory.mktemp("mild-adapters")
    for name, seed, rank in (("mild", 1, 2), ("milder", 2, 4)):
        source = load_model("demo")
        config = LoraConfig(r=rank, lora_alpha=8, target_modules=source.profile.lora_targets)
        with warnings.catch_warnings():
            # peft 0.21 asks transformers 5.23 for a property under its old name.
            warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
            tuned: Any = get_peft_model(source.model, config)
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for weight_name, weight in tuned.named_parameters():
                if "lora_" in weight_name:
                    weight.copy_(torch.randn(weight.shape, generator=generator) * 0.015)
        tuned.save_pretrained(str(adapters / name), save_embedding_layers=False)
        AdapterInfo(name, adapters / name, "demo", source.profile.name, "2026-11-22T10:00:00+00:00").save()
    return Predictor(load_model("demo"), adapters)


def spelled(prediction: Prediction) -> tuple[str, Status]:
    return prediction.raw_text, prediction.status


@pytest.mark.parametrize("adapter", [None, "mild", "milder"])
def test_forced_answers_say_what_free_ones_say(own: Predictor, pairs: list[Pair], adapter: str | None) -> None:
    """Wherever the free answer is one that the skeleton can spell, it is the forced one."""
    forced = own.predict_many(pairs, adapter, decoding=FORCED)
    free = own.predict_many(pairs, adapter, decoding=FREE)
    readable = [(a, b) for a, b in zip(forced, free, strict=True) if SPELLABLE.fullmatch(b.raw_text)]
    assert len(readable) >= 16
    for ours, theirs in readable:
        assert (ours.boxes_xyxy_px, ours.status) == (theirs.boxes_xyxy_px, theirs.status), theirs.raw_text
    assert {b.status for _, b in readable} >= {Status.OK, Status.NO_BOX}
    assert len({spelled(b) for _, b in readable}) >= 6


def test_adapters_change_answers_or_the_tests_here_say_nothing(own: Predictor, pairs: list[Pair]) -> None:
    said = [[spelled(p) for p in own.predict_many(pairs, adapter)] for adapter in (None, "mild", "milder")]
    assert all(a != b for a, b in zip(said, [*said[1:], said[0]], strict=True))


@pytest.fixture(scope="module")
def alone(own: Predictor, pairs: list[Pair]) -> dict[str | None, list[Prediction]]:
    """Every question by itself."""
    few = pairs[:8]
    return {a: [own.predict(*pair, a) for pair in few] for a in (None, "mild", "milder")}


@pytest.mark.parametrize("batch_size", [None, 3])
@pytest.mark.parametrize("models", [[None, "mild", "milder"], ["milder", None], ["mild", "mild"]])
def test_base_and_adapters_side_by_side_are_each_alone(
    own: Predictor,
    pairs: list[Pair],
    alone: dict[str | None, list[Prediction]],
    models: list[str | None],
    batch_size: int | None,
) -> None:
    together = own.compare_many(pairs[:8], models, batch_size=batch_size)
    for place, answers in enumerate(together):
        assert [answer.adapter for answer in answers] == models
        for model, answer in zip(models, answers, strict=True):
            expected = alone[model][place]
            assert spelled(answer) == spelled(expected)
            assert answer.confidence == pytest.approx(expected.confidence, abs=WRITTEN_NUMBERS)
            assert answer.box_confidences == pytest.approx(expected.box_confidences, abs=WRITTEN_NUMBERS)


def test_every_box_has_a_confidence(alone: dict[str | None, list[Prediction]]) -> None:
    answers = [answer for some in alone.values() for answer in some]
    for answer in answers:
        assert len(answer.box_confidences) == len(answer.boxes_xyxy_px)
        assert all(0 <= one <= 1 for one in answer.box_confidences)
        assert answer.confidence is not None and 0 <= answer.confidence <= 1
        if answer.box_confidences:
            assert answer.confidence == answer.box_confidences[0]
    assert len({round(answer.confidence or 0, 4) for answer in answers}) > len(answers) / 2


@torch.inference_mode()
def test_nothing_there_has_its_own_probability(own: Predictor, pairs: list[Pair]) -> None:
    """The share of "nothing there" where the model decides between that and a box."""
    compared = 0
    tokenizer = own.loaded.processor.tokenizer
    nothing, begins = tokenizer("[]")["input_ids"], tokenizer('[{"bbox_2d": [')["input_ids"]
    at = next(place for place, (one, other) in enumerate(zip(nothing, begins, strict=False)) if one != other)
    for image, phrase in pairs[:16]:
        answer = own.predict(image, phrase)
        if answer.status is not Status.NO_BOX:
            continue
        (features,) = engine.encode_images(own.loaded, [image])
        text = engine.chat_text(own.loaded, phrase, features.visual_tokens)
        inputs = engine.tokenize(own.loaded, [text + tokenizer.decode(begins[:at])])
        extra = own.loaded.family.generate_inputs(own.loaded, [features], inputs["input_ids"])
        logits = own.loaded.model(**inputs, **extra).logits[0, -1]
        options = [nothing[at], begins[at]]
        assert answer.confidence == pytest.approx(float(logits[options].softmax(0)[0]), abs=1e-3)
        compared += 1
    assert compared >= 1


def test_confidence_is_the_product_of_what_was_decided(own: Predictor, pairs: list[Pair]) -> None:
    """Evidence is negative logarithms that get surer as answers do; an answer has as much of it as boxes."""
    answerer = Answerer(own.loaded)
    features = engine.encode_images(own.loaded, [image for image, _ in pairs[:6:2]])
    asks = [Ask(feature, phrase) for feature, (_, phrase) in zip(features, pairs[:6:2], strict=True)]
    for answer in answerer.answer(asks, FORCED):
        assert len(answer.evidence) == len(answer.decoded.boxes_xyxy_px) == len(answer.box_confidences)
        for evidence in answer.evidence:
            sums = (evidence.presence, evidence.first, evidence.second, evidence.later)
            assert all(-100 < one <= 1e-6 for one in sums) and math.fsum(sums) < 0


# --- ended in the middle ---


def after(steps: int) -> Callable[[], bool]:
    """Says "stop" from the given question on."""
    asked = iter(range(10**6))
    return lambda: next(asked) >= steps


@pytest.mark.parametrize("how", [FORCED, FREE, Decoding(samples=2), Decoding(coordinates="expected")], ids=str)
def test_an_answer_ended_in_the_middle_leaves_everything_usable(
    own: Predictor, pairs: list[Pair], alone: dict[str | None, list[Prediction]], how: Decoding
) -> None:
    with pytest.raises(Cancelled, match="after 0 of 3 phrases"):
        own.compare_many(pairs[:3], ["mild", None], decoding=how, cancelled=after(4))
    assert [spelled(p) for p in own.predict_many(pairs[:3])] == [spelled(p) for p in alone[None][:3]]
    assert [spelled(p) for p in own.predict_many(pairs[:3], "mild")] == [spelled(p) for p in alone["mild"][:3]]
    free = own.predict_many(pairs[:3], decoding=FREE)
    readable = [place for place, answer in enumerate(free) if SPELLABLE.fullmatch(answer.raw_text)]
    assert readable
    assert all(free[place].boxes_xyxy_px == alone[None][place].boxes_xyxy_px for place in readable)


def test_cancelling_in_the_second_batch_counts_the_first(own: Predictor, pairs: list[Pair]) -> None:
    told: list[int] = []
    since = iter(range(10**6))

    def cancelled() -> bool:
        return bool(told) and next(since) >= 2

    with pytest.raises(Cancelled, match="after 2 of 6 phrases"):
        own.predict_many(pairs[:6], batch_size=2, progress=lambda done, _: told.append(done), cancelled=cancelled)
    assert told == [2]


def test_it_is_asked_before_every_step(own: Predictor, pairs: list[Pair]) -> None:
    count = [0]

    def cancelled() -> bool:
        count[0] += 1
        return False

    own.predict_many(pairs[:4], cancelled=cancelled)
    assert count[0] > 8


def test_a_model_of_its_own_is_still_the_stock_one(own: Predictor, pairs: list[Pair]) -> None:
    """After all that, the base inside answers as a fresh one."""
    fresh: LoadedModel = load_model("demo")
    expected: Sequence[Prediction] = Predictor(fresh, Path("nowhere")).predict_many(pairs[:6], decoding=FREE)
    assert [p.raw_text for p in own.predict_many(pairs[:6], decoding=FREE)] == [p.raw_text for p in expected]
