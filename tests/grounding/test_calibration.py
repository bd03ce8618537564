"""Calibrated confidence: monotone, finite, and right where the law behind the data is known."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grounding import calibration
from grounding.calibration import BoxEvidence, Calibration, plain_confidence
from grounding.errors import ModelError

ROOT = Path(__file__).resolve().parent.parent.parent
FIELDS = ("presence", "first", "second", "later")
LAW = Calibration(bias=3.0, presence=2.0, first=0.8, second=0.4, later=0.1)

log_probabilities = st.one_of(st.floats(-40.0, 0.0), st.just(-math.inf))
evidences = st.builds(BoxEvidence, *[log_probabilities] * 4)
weights = st.floats(0.0, 10.0)
calibrations = st.builds(Calibration, st.floats(-10.0, 10.0), weights, weights, weights, weights)


def synthetic(count: int, seed: int, law: Calibration = LAW) -> tuple[list[BoxEvidence], list[bool]]:
    """Evidences as a model might give them, and hits drawn by the law."""
    random = np.random.default_rng(seed)
    rows = -random.gamma(1.0, [0.5, 2.0, 3.0, 4.0], size=(count, 4))
    found = [BoxEvidence(*map(float, row)) for row in rows]
    chances = np.array([law.apply(evidence) for evidence in found])
    return found, [bool(hit) for hit in random.random(count) < chances]


def expected_calibration_error(chances: np.ndarray, hits: np.ndarray, bins: int = 10) -> float:
    """Guo et al., On Calibration of Modern Neural Networks, 2017: gaps of equal-width bins, weighted by count."""
    which = np.minimum((chances * bins).astype(int), bins - 1)
    gaps = [abs(chances[which == b].mean() - hits[which == b].mean()) * (which == b).mean() for b in set(which)]
    return float(sum(gaps))


def test_apply_by_hand() -> None:
    law = Calibration(bias=1.0, presence=2.0, first=0.5, second=0.25, later=0.125)
    evidence = BoxEvidence(-0.5, -1.0, -2.0, -4.0)
    assert law.apply(evidence) == pytest.approx(1 / (1 + math.exp(1.5)))
    assert law.apply(BoxEvidence(0.0, 0.0, 0.0, 0.0)) == pytest.approx(1 / (1 + math.exp(-1.0)))


def test_plain_confidence_by_hand() -> None:
    assert plain_confidence(BoxEvidence(0.0, 0.0, 0.0, -9.0)) == 1.0
    assert plain_confidence(BoxEvidence(-0.5, -1.0, -3.0, -9.0)) == pytest.approx(math.exp(-1.0))


@settings(deadline=None, max_examples=200)
@given(calibrations, evidences, st.sampled_from(FIELDS), log_probabilities)
def test_a_likelier_answer_never_gets_a_lower_confidence(
    law: Calibration, evidence: BoxEvidence, field: str, value: float
) -> None:
    other = replace(evidence, **{field: value})
    low, high = sorted((evidence, other), key=lambda one: getattr(one, field))
    assert 0.0 <= law.apply(low) <= law.apply(high) <= 1.0
    assert 0.0 <= plain_confidence(low) <= plain_confidence(high) <= 1.0


@pytest.mark.parametrize("field", FIELDS)
def test_a_likelier_answer_gets_a_higher_confidence_where_its_weight_says_so(field: str) -> None:
    evidence = BoxEvidence(-1.0, -1.0, -1.0, -1.0)
    better = replace(evidence, **{field: -0.5})
    assert LAW.apply(better) > LAW.apply(evidence)
    assert (plain_confidence(better) > plain_confidence(evidence)) == (field != "later")


def test_extremes_stay_finite() -> None:
    steep = Calibration(bias=900.0, presence=1e4, first=0.0, second=0.0, later=0.0)
    nothing = BoxEvidence(-math.inf, -math.inf, -math.inf, -math.inf)
    assert steep.apply(nothing) == pytest.approx(0.0)
    assert steep.apply(BoxEvidence(0.0, 0.0, 0.0, 0.0)) == 1.0
    assert steep.apply(BoxEvidence(1e-6, 0.0, 0.0, 0.0)) == 1.0
    assert Calibration(0.5, 0.0, 0.0, 0.0, 0.0).apply(nothing) == pytest.approx(1 / (1 + math.exp(-0.5)))
    assert plain_confidence(nothing) >= 0.0
    assert plain_confidence(BoxEvidence(1e-6, 0.0, 0.0, 0.0)) == 1.0


def test_nan_is_no_evidence() -> None:
    with pytest.raises(ValueError, match="is no evidence"):
        BoxEvidence(0.0, math.nan, 0.0, 0.0)


def test_fit_recovers_the_law_behind_the_data() -> None:
    fitted = Calibration.fit(*synthetic(40_000, seed=1), measured_on="synthetic")
    assert fitted.bias == pytest.approx(LAW.bias, abs=0.15)
    for field in FIELDS:
        assert getattr(fitted, field) == pytest.approx(getattr(LAW, field), rel=0.1, abs=0.03)
    assert (fitted.samples, fitted.measured_on) == (40_000, "synthetic")


@pytest.mark.parametrize("count", [400, 5000])
def test_on_data_not_seen_the_chances_are_right(count: int) -> None:
    fitted = Calibration.fit(*synthetic(count, seed=2))
    unseen, hits = synthetic(20_000, seed=3)
    chances = np.array([fitted.apply(evidence) for evidence in unseen])
    error = expected_calibration_error(chances, np.array(hits))
    plain = np.array([plain_confidence(evidence) for evidence in unseen])
    assert error < (0.05 if count == 400 else 0.02)
    assert error < expected_calibration_error(plain, np.array(hits)) / 2


def test_a_weight_that_would_be_negative_is_zero_and_the_others_stay_best() -> None:
    """The law rewards an unlikely second symbol; the fit may not, and is then the best that the rest can do."""
    law = Calibration(bias=1.0, presence=1.0, first=0.5, second=-0.6, later=0.2)
    found, hits = synthetic(4000, seed=4, law=law)
    fitted = Calibration.fit(found, hits)
    assert fitted.second == 0.0
    features = np.array([evidence.features() for evidence in found])
    share = sum(hits) + 1
    targets = np.where(hits, share / (share + 1), 1 / (len(hits) - share + 3))
    best = np.array([fitted.bias, fitted.presence, fitted.first, fitted.second, fitted.later])
    loss = calibration._loss(best, features, targets)
    for index in range(5):
        for step in (-1e-3, 1e-3):
            tried = best.copy()
            tried[index] += step
            if tried[1:].min() >= 0:
                assert calibration._loss(tried, features, targets) > loss


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_fit_converges_on_whatever_it_is_given(data: Any) -> None:
    count = data.draw(st.integers(2, 30))
    found = data.draw(st.lists(evidences, min_size=count, max_size=count))
    hits = [True, False, *data.draw(st.lists(st.booleans(), min_size=count - 2, max_size=count - 2))]
    fitted = Calibration.fit(found, hits)
    coefficients = np.array([fitted.bias, fitted.presence, fitted.first, fitted.second, fitted.later])
    assert np.isfinite(coefficients).all()
    assert coefficients[1:].min() >= 0
    # Karush-Kuhn-Tucker: no slope along what is free, none downwards into what is allowed at the bound.
    features = np.array([evidence.features() for evidence in found])
    right = np.array(hits)
    targets = np.where(right, (right.sum() + 1) / (right.sum() + 2), 1 / ((~right).sum() + 2))
    chances = np.array([fitted.apply(evidence) for evidence in found])
    pull = coefficients - np.array([coefficients[0], 1.0, 0.125, 0.125, 0.0])
    slope = np.column_stack([np.ones(count), features]).T @ (chances - targets) + 0.1 * pull
    scale = 1e-3 * (1 + np.abs(features).max())
    assert abs(slope[0]) < scale
    for weight, along in zip(coefficients[1:], slope[1:], strict=True):
        assert along > -scale
        assert weight == 0.0 or along < scale


def test_separable_data_converge_to_platts_smoothed_shares() -> None:
    found = [BoxEvidence(-0.01, -0.1, -0.1, -0.1)] * 20 + [BoxEvidence(-3.0, -9.0, -9.0, -9.0)] * 10
    fitted = Calibration.fit(found, [True] * 20 + [False] * 10)
    assert fitted.apply(found[0]) == pytest.approx(21 / 22, abs=0.01)
    assert fitted.apply(found[-1]) == pytest.approx(1 / 12, abs=0.01)


def test_evidence_that_tells_nothing_leaves_the_plain_weights_and_the_shares() -> None:
    certain = BoxEvidence(0.0, 0.0, 0.0, 0.0)
    fitted = Calibration.fit([certain] * 40, [True] * 30 + [False] * 10)
    assert [fitted.presence, fitted.first, fitted.second, fitted.later] == pytest.approx([1.0, 0.125, 0.125, 0.0])
    assert fitted.apply(certain) == pytest.approx((30 * 31 / 32 + 10 / 12) / 40)


@pytest.mark.parametrize(("hits", "misses"), [(0, 0), (5, 0), (0, 7)])
def test_without_hits_or_misses_there_is_nothing_to_fit(hits: int, misses: int) -> None:
    found, _ = synthetic(hits + misses, seed=5)
    with pytest.raises(ModelError, match=f"there are {hits} right and {misses} wrong ones"):
        Calibration.fit(found, [True] * hits + [False] * misses)


def test_as_many_hits_as_evidences() -> None:
    with pytest.raises(ValueError, match="3 evidences and 2 hits"):
        Calibration.fit(synthetic(3, seed=6)[0], [True, False])


@settings(deadline=None, max_examples=50)
@given(calibrations, st.integers(0, 10**6), st.text(max_size=20))
def test_json_there_and_back(law: Calibration, samples: int, measured_on: str) -> None:
    law = replace(law, samples=samples, measured_on=measured_on)
    assert Calibration.from_json(json.loads(json.dumps(law.to_json()))) == law


GOOD: dict[str, Any] = {"bias": 1, "presence": 1.0, "first": 0.5, "second": 0.5, "later": 0.0}


@pytest.mark.parametrize(
    ("record", "why"),
    [
        (None, "None is no object"),
        ([1, 2], r"\[1, 2\] is no object"),
        ("bias", "'bias' is no object"),
        ({}, "'bias' is missing"),
        ({key: value for key, value in GOOD.items() if key != "second"}, "'second' is missing"),
        ({**GOOD, "first": "0.5"}, "'first' is '0.5'"),
        ({**GOOD, "first": True}, "'first' is True"),
        ({**GOOD, "later": math.nan}, "'later' is nan"),
        ({**GOOD, "bias": math.inf}, "'bias' is inf"),
        ({**GOOD, "bias": 10**400}, "too large"),
        ({**GOOD, "presence": -0.1}, "a weight is below 0"),
        ({**GOOD, "samples": -1}, "'samples' is -1"),
        ({**GOOD, "samples": "many"}, "'samples' is 'many'"),
        ({**GOOD, "measured_on": 3}, "'measured_on' is 3"),
    ],
)
def test_a_damaged_record_is_a_sentence(record: Any, why: str) -> None:
    with pytest.raises(ModelError, match=rf"is damaged: .*{why}.*\. Expected a finite 'bias'"):
        Calibration.from_json(record)
    assert Calibration.from_json(GOOD) == Calibration(1.0, 1.0, 0.5, 0.5, 0.0)


def test_the_module_imports_without_torch() -> None:
    code = "import grounding.calibration, sys; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
