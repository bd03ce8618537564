"""Whether the phrases carried signal: measured on own against other phrases of the same pictures."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from grounding.boxes import Box
from grounding.records import Sample
from grounding.training.signal import Paired, judge, measure_signal, other_phrases


def sample(number: int, picture: str, phrase: str) -> Sample:
    box = Box(number * 20.0, 10, number * 20.0 + 15, 40)
    return Sample(f"{picture}-{number}", Path(f"/{picture}.png"), phrase, (box,), "val")


def test_another_phrase_is_of_the_same_picture_where_there_is_one() -> None:
    samples = [sample(0, "a", "cup"), sample(1, "a", "dog"), sample(0, "b", "car")]
    assert {s.id: other for s, other in other_phrases(samples)} == {"a-0": "dog", "a-1": "cup", "b-0": "cup"}
    assert other_phrases(samples[:1]) == []
    twice = [samples[0], replace(samples[0], id="again", phrase="mug")]  # the same box: no other phrase
    assert other_phrases(twice) == []


def test_equal_words_are_not_avoided() -> None:
    samples = [sample(0, "a", "object"), sample(1, "a", "object")]
    assert [other for _, other in other_phrases(samples)] == ["object", "object"]


def paired(own: float, other: float, gain: float, low: float) -> Paired:
    return Paired(own, other, gain, low, gain + (gain - low), 40)


@pytest.mark.parametrize(
    ("accuracy", "nats", "verdict"),
    [
        ((0.7, 0.1, 0.6, 0.4), (0.2, 1.4, 1.2, 1.0), "carried"),
        ((0.3, 0.3, 0.0, -0.1), (0.2, 1.4, 1.2, 1.0), "train_only"),
        ((0.3, 0.3, 0.0, -0.1), (0.5, 0.5, 0.0, 0.0), "none"),
        ((0.7, 0.1, 0.6, 0.4), (0.5, 0.5, 0.0, 0.0), "none"),  # what the base knew already, not what it was taught
        (None, (0.5, 0.5, 0.0, 0.0), "none"),
        ((0.7, 0.1, 0.6, 0.4), None, "carried"),
        (None, None, "unknown"),
    ],
)
def test_the_verdict(accuracy: Any, nats: Any, verdict: str) -> None:
    signal = judge(accuracy and paired(*accuracy), nats and paired(*nats))
    assert signal.verdict == verdict
    assert ("no signal" in signal.sentence) is (verdict in ("none", "train_only"))


def test_placeholders_learned_by_heart_carry_nothing() -> None:
    by_heart = judge(paired(0.7, 0.1, 0.6, 0.4), paired(0.2, 1.4, 1.2, 1.0), placeholders=400)
    assert by_heart.verdict == "none"
    assert "every one of the 400 train phrases is a placeholder" in by_heart.sentence
    assert "1.20 nats" in by_heart.sentence
    assert judge(None, None, placeholders=1).sentence.startswith(
        "The phrases carried no signal: the only train phrase is a placeholder, and"
    )


@pytest.mark.slow
def test_the_embedded_model_hears_phrases_and_not_placeholders(
    loaded: Any, demo_samples: dict[str, list[Sample]], demo_folder: Path
) -> None:
    from grounding.answering import Answerer
    from grounding.demo.sprites import known_nouns
    from grounding.predict import to_prediction

    answerer = Answerer(loaded)

    def answer(features: Any, phrases: Any) -> Any:
        return [to_prediction(one, 0.0) for one in answerer.answer_as_it_is(features, phrases)]

    everyone = [s for split in demo_samples.values() for s in split if s.category in known_nouns() and s.boxes_xyxy_px]
    plain = [replace(s, phrase=f"the {s.category}") for s in everyone]
    signal = measure_signal(loaded, plain, plain, answer)
    assert signal.verdict == "carried", signal
    assert signal.accuracy is not None and signal.accuracy.own > 0.6
    empty = [replace(s, phrase="Please describe the marked region.") for s in everyone]
    silent = measure_signal(loaded, empty, plain, answer)
    assert silent.verdict == "none"
    assert silent.nats is not None and silent.nats.gain == pytest.approx(0, abs=1e-4)
    assert "carried no signal" in silent.sentence
    wordings = ("caption", "object", "Describe this region.")
    various = [replace(s, phrase=wordings[i % 3], alternatives=()) for i, s in enumerate(everyone)]
    assert f"every one of the {len(everyone)} train" in measure_signal(loaded, various, plain, answer).sentence
    named = [replace(s, alternatives=(f"the {s.category}",)) for s in various]
    assert "every one of" not in measure_signal(loaded, named, plain, answer).sentence
    assert not loaded.model.training


def test_nothing_to_compare_is_said(loaded: Any) -> None:
    nobody = SimpleNamespace()
    signal = measure_signal(loaded, [], [], lambda *_: [nobody])
    assert signal.verdict == "unknown"
