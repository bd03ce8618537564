"""From decisions to confidences; adapters that only peft can compute; a base that stays what it was."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from PIL import Image
from safetensors.torch import load_file, save_file

from grounding import engine
from grounding.adapters import AdapterInfo
from grounding.answering import Answerer, Ask, box_evidence
from grounding.attached import AttachedAdapters
from grounding.calibration import BoxEvidence, Calibration, plain_confidence
from grounding.decoding.forced import Decision
from grounding.decoding.settings import Decoding
from grounding.decoding.skeleton import Choice
from grounding.errors import AdapterError, SettingsError
from grounding.models import load_model
from grounding.predict import Predictor
from grounding.records import Sample, Status

FREE, FORCED = Decoding(mode="free"), Decoding()
LINEARS = r".*language_model.*\.(q_proj|v_proj|down_proj)"
BEYOND_PLAIN = {
    "dora": {"target_modules": LINEARS, "use_dora": True},
    "vision": {"target_modules": r".*(visual.*\.qkv|language_model.*\.q_proj)"},
    "vision-only": {"target_modules": r".*visual.*\.(qkv|linear_fc1)"},
    "lora-bias": {"target_modules": r".*visual.*\.qkv", "lora_bias": True},
}


# --- evidence ---


def decision(box: int, number: int, place: int, log_probability: float) -> Decision:
    return Decision(box, Choice(number, place, (1, 2)), log_probability)


DECIDED = [
    decision(0, -1, 0, -0.25),  # there is a box
    decision(0, 0, 0, -1.0),
    decision(0, 0, 1, -2.0),
    decision(0, 0, 2, -4.0),
    decision(0, 0, 3, -8.0),
    decision(0, 1, 0, -0.5),
    decision(0, 2, 0, -0.125),
    decision(0, 3, 0, -16.0),
    decision(0, 3, 1, -32.0),
    decision(1, -1, 0, -3.0),  # there is a further one
    decision(1, -1, 1, -5.0),
    decision(1, 2, 1, -7.0),
    decision(2, -1, 0, -11.0),  # there is no third
]


def test_evidence_is_summed_by_what_was_decided() -> None:
    assert box_evidence(DECIDED, 0) == BoxEvidence(presence=-0.25, first=-17.625, second=-34.0, later=-12.0)
    assert box_evidence(DECIDED, 1) == BoxEvidence(presence=-8.0, first=0.0, second=-7.0, later=0.0)
    assert box_evidence(DECIDED[:9], 1) == BoxEvidence(0.0, 0.0, 0.0, 0.0)
    assert box_evidence(DECIDED[::-1], 0) == box_evidence(DECIDED, 0)


@pytest.fixture(scope="module")
def pictures(demo_samples: dict[str, list[Sample]]) -> list[tuple[Image.Image, str]]:
    samples = [sample for sample in demo_samples["train"] if sample.boxes_xyxy_px][:5]
    pairs = []
    for sample in samples:
        with Image.open(sample.image) as opened:
            pairs.append((opened.convert("RGB"), f"the {sample.category}"))
    return pairs


@pytest.fixture(scope="module")
def asks(loaded: Any, pictures: list[tuple[Image.Image, str]]) -> list[Ask]:
    features = engine.encode_images(loaded, [picture for picture, _ in pictures])
    return [Ask(feature, phrase) for feature, (_, phrase) in zip(features, pictures, strict=True)]


def test_confidence_without_and_with_a_calibration(loaded: Any, asks: list[Ask]) -> None:
    """The chance that the calibration gives: the sigmoid of bias and weighted evidence, for every box."""
    plain = Answerer(replace(loaded, calibration=None)).answer(asks, FORCED)
    calibration = Calibration(bias=0.3, presence=0.5, first=0.25, second=0.125, later=0.0625)
    sure = Answerer(replace(loaded, calibration=calibration)).answer(asks, FORCED)
    boxes = 0
    for before, after in zip(plain, sure, strict=True):
        assert after.decoded == before.decoded and after.evidence == before.evidence
        assert before.box_confidences == tuple(map(plain_confidence, before.evidence))
        for evidence, chance in zip(after.evidence, after.box_confidences, strict=True):
            logit = 0.3 + 0.5 * evidence.presence + 0.25 * evidence.first
            logit += 0.125 * evidence.second + 0.0625 * evidence.later
            assert chance == pytest.approx(1 / (1 + math.exp(-logit)), abs=1e-9)
            boxes += 1
        if after.decoded.status is Status.OK:
            assert after.confidence == after.box_confidences[0] != before.confidence
        else:
            assert after.confidence == before.confidence
    assert boxes >= 2


def test_notes_are_empty_where_the_fast_pass_answers(loaded: Any) -> None:
    assert Answerer(loaded).notes == ()


def test_nothing_asked_nothing_answered(loaded: Any) -> None:
    answerer = Answerer(loaded)
    assert answerer.answer([], FORCED) == answerer.answer([], FREE) == []
    assert answerer.sample([], Decoding(samples=3)) == []


# --- adapters beyond plain LoRA ---


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("unusual")


@pytest.fixture(scope="module")
def own(one_thread: None, folder: Path) -> Predictor:
    """A Predictor on a model of its own: some of these adapters change its modules for good."""
    model = load_model("demo")
    return Predictor(replace(model, profile=replace(model.profile, max_new_tokens=28)), folder)


def lora(name: str, folder: Path, settings: dict[str, Any], scale: float = 0.05) -> Any:
    """Save an adapter of random weights; returns the model that has it through peft alone."""
    from peft import LoraConfig, get_peft_model

    source = load_model("demo")
    with warnings.catch_warnings():
        # peft 0.21 asks transformers 5.23 for a property under its old name, and warns of biases it can't merge.
        warnings.simplefilter("ignore")
        tuned: Any = get_peft_model(source.model, LoraConfig(**{"r": 2, "lora_alpha": 4, **settings}))
        generator = torch.Generator().manual_seed(len(name))
        with torch.no_grad():
            for _, weight in tuned.named_parameters():
                if weight.requires_grad:
                    weight.add_(torch.randn(weight.shape, generator=generator) * scale)
        tuned.save_pretrained(str(folder / name), save_embedding_layers=False)
    AdapterInfo(name, folder / name, "demo", source.profile.name, "2026-11-22T10:00:00+00:00").save()
    return replace(source, model=tuned.base_model.model, profile=replace(source.profile, max_new_tokens=28))


@pytest.fixture(scope="module")
def base_answers(own: Predictor, pictures: list[tuple[Image.Image, str]]) -> list[list[tuple[str, float]]]:
    return [said(own.predict_many(pictures, decoding=how)) for how in (FORCED, FREE)]


def said(answers: Sequence[Any]) -> list[tuple[str, float]]:
    return [(answer.raw_text, round(answer.confidence, 4)) for answer in answers]


@pytest.mark.parametrize("kind", BEYOND_PLAIN)
def test_an_adapter_beyond_plain_lora_answers_as_peft_does(
    own: Predictor, pictures: list[tuple[Image.Image, str]], base_answers: list[Any], folder: Path, kind: str
) -> None:
    """Its own forward, vision tower and all; and the base beside it and after it is the base."""
    with_peft = lora(kind, folder, BEYOND_PLAIN[kind])
    assert own._answerer.adapters.factors(own.registry.find(kind)) is None
    features = engine.encode_images(with_peft, [picture for picture, _ in pictures])
    expected = engine.answer(with_peft, features, [phrase for _, phrase in pictures])
    freely = own.predict_many(pictures, kind, decoding=FREE)
    assert [answer.raw_text for answer in freely] == [written.text for written in expected]
    for answer, written in zip(freely, expected, strict=True):
        assert answer.confidence == pytest.approx(written.confidence, abs=1e-4)
    mixed = own.compare_many(pictures, [None, kind, None])
    assert said([one for one, _, _ in mixed]) == said([one for _, _, one in mixed]) == base_answers[0]
    for (_, forced, _), free in zip(mixed, freely, strict=True):
        assert free.status is Status.UNREADABLE or forced.boxes_xyxy_px == free.boxes_xyxy_px
    assert said(freely) != base_answers[1]
    assert said(own.predict_many(pictures, decoding=FREE)) == base_answers[1]


@pytest.fixture(scope="module")
def own_tokens(loaded: Any, pictures: list[tuple[Image.Image, str]]) -> list[int]:
    """The last tokens of the phrases, not in rising order."""
    tokenizer = loaded.processor.tokenizer
    return sorted({tokenizer(phrase, add_special_tokens=False)["input_ids"][-1] for _, phrase in pictures})[::-1]


@pytest.mark.parametrize("kind", ["words", "words-beside-dora"])
def test_an_adapter_with_words_of_its_own_answers_as_peft_does(
    own: Predictor, pictures: list[tuple[Image.Image, str]], folder: Path, own_tokens: list[int], kind: str
) -> None:
    """In the fast pass beside the base and an adapter without such words, and through peft; the base stays as it is."""
    before = [said(own.predict_many(pictures, decoding=how)) for how in (FORCED, FREE)]
    plain = kind == "words"
    settings = {"target_modules": LINEARS, "use_dora": not plain, "trainable_token_indices": own_tokens}
    with_peft = lora(kind, folder, settings, scale=0.12)
    lora("wordless", folder, {"target_modules": LINEARS})
    assert (own._answerer.adapters.factors(own.registry.find(kind)) is None) != plain
    features = engine.encode_images(with_peft, [picture for picture, _ in pictures])
    expected = engine.answer(with_peft, features, [phrase for _, phrase in pictures])
    freely = own.predict_many(pictures, kind, decoding=FREE)
    assert [answer.raw_text for answer in freely] == [written.text for written in expected]
    mixed = own.compare_many(pictures, [None, kind, "wordless", None])
    assert said([row[0] for row in mixed]) == said([row[3] for row in mixed]) == before[0]
    assert said([row[2] for row in mixed]) == said(own.predict_many(pictures, "wordless"))
    for (_, forced, _, _), free in zip(mixed, freely, strict=True):
        assert free.status is Status.UNREADABLE or forced.boxes_xyxy_px == free.boxes_xyxy_px
    assert said(own.predict_many(pictures, decoding=FREE)) == before[1] != said(freely)
    assert said(own.predict_many(pictures)) == before[0]


def test_words_of_another_model_are_refused(
    own: Predictor, pictures: list[tuple[Image.Image, str]], folder: Path, own_tokens: list[int]
) -> None:
    lora("strange", folder, {"target_modules": LINEARS, "trainable_token_indices": own_tokens})
    file = folder / "strange" / "adapter_model.safetensors"
    weights = load_file(file)
    (key,) = (key for key in weights if "trainable_tokens" in key)
    save_file({**weights, key: weights[key][:-1]}, file)
    with pytest.raises(AdapterError, match="the embeddings of its words are missing or of another model"):
        own.predict(*pictures[0], "strange")
    save_file({name: weight for name, weight in weights.items() if name != key}, file)
    info = own.registry.find("strange")
    with pytest.raises(AdapterError, match="the embeddings of its words are missing or of another model"):
        AttachedAdapters(own.loaded).factors(info)
    save_file({**weights, key: weights[key] * math.nan}, file)
    with pytest.raises(AdapterError, match="no finite numbers"):
        AttachedAdapters(own.loaded).factors(info)


IN_THE_BASE = {
    "pissa": {"target_modules": LINEARS, "init_lora_weights": "pissa"},
    "biases": {"target_modules": r".*visual.*\.qkv", "bias": "all"},
    "merger": {"target_modules": LINEARS, "modules_to_save": ["merger"]},
}


@pytest.mark.parametrize("kind", IN_THE_BASE)
def test_an_adapter_that_changes_the_base_is_refused_whichever_way_it_is_asked(
    own: Predictor, pictures: list[tuple[Image.Image, str]], base_answers: list[Any], folder: Path, kind: str
) -> None:
    """peft would change the base for good."""
    lora(kind, folder, IN_THE_BASE[kind])
    for how in (FORCED, FREE):
        with pytest.raises(AdapterError, match=rf"'{kind}' has (init_lora_weights|bias|modules_to_save)="):
            own.predict(*pictures[0], kind, decoding=how)
    assert said(own.predict_many(pictures, decoding=FREE)) == base_answers[1]
    assert said(own.predict_many(pictures)) == base_answers[0]


def test_no_expected_coordinates_through_peft(
    own: Predictor, pictures: list[tuple[Image.Image, str]], folder: Path
) -> None:
    if not (folder / "dora").exists():
        lora("dora", folder, BEYOND_PLAIN["dora"])
    with pytest.raises(SettingsError, match="expected"):
        own.predict(*pictures[0], "dora", decoding=Decoding(coordinates="expected"))


def test_another_predictor_on_a_model_that_peft_has_changed(
    own: Predictor, pictures: list[tuple[Image.Image, str]], base_answers: list[Any], folder: Path
) -> None:
    """It finds the base under peft's layers."""
    if not (folder / "dora").exists():
        lora("dora", folder, BEYOND_PLAIN["dora"])
    own.predict(*pictures[0], "dora")
    second = Predictor(own.loaded, folder)
    assert second.load_notes == own.load_notes
    assert said(second.predict_many(pictures)) == base_answers[0]
    assert said(own.predict_many(pictures)) == base_answers[0]


def test_what_peft_has_active_answers_as_it_is(pictures: list[tuple[Image.Image, str]], folder: Path) -> None:
    """While an adapter is trained: the live weights, in the fast pass, as peft computes them."""
    with_peft = lora("live", folder, {"target_modules": LINEARS})
    features = engine.encode_images(with_peft, [picture for picture, _ in pictures])
    phrases = [phrase for _, phrase in pictures]
    layers = [module for module in with_peft.model.modules() if isinstance(module, BaseTunerLayer)]
    for layer in layers:  # as at the begin of training, when an adapter changes nothing yet
        layer.enable_adapters(False)
    answerer = Answerer(with_peft)
    assert answerer.notes == ()
    for layer in layers:
        layer.enable_adapters(True)
    expected = engine.answer(with_peft, features, phrases)
    live = answerer.answer_as_it_is(features, phrases)
    box_format = with_peft.profile.box_format
    compared = 0
    for answer, written, feature in zip(live, expected, features, strict=True):
        free = box_format.decode(written.text, feature.frame)
        if free.status is not Status.UNREADABLE:
            assert answer.decoded == free
            compared += 1
    assert compared >= 3
    base = answerer.answer([Ask(*one) for one in zip(features, phrases, strict=True)], FORCED)
    assert [one.confidence for one in base] != [one.confidence for one in live]
