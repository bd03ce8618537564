"""From the log probabilities of a model's own decisions to the chance that a box is right. No torch here."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from grounding.errors import ModelError, WorkspaceError

LOG_PROBABILITY_FLOOR = -100.0  # a probability that rounded to zero has no logarithm; below this nothing is learned
_PENALTY = 0.1
_MAX_STEPS = 100
_FEATURES = ("presence", "first", "second", "later")
_PLAIN_WEIGHTS = np.array([1.0, 0.125, 0.125, 0.0])


@dataclass(frozen=True)
class BoxEvidence:
    """Log probabilities (natural, <= 0) of the model's own decisions about one box.

    `presence`: that there is a (further) box at all. `first`, `second` and `later`: the sums over the four numbers of
    the first, the second and the later symbols chosen; 0.0 where numbers have no such symbol. Minus infinity is
    allowed and counts as `LOG_PROBABILITY_FLOOR`. Raises `ValueError` for NaN.
    """

    presence: float
    first: float
    second: float
    later: float

    def __post_init__(self) -> None:
        if any(math.isnan(value) for value in (self.presence, self.first, self.second, self.later)):
            raise ValueError(f"{self} is no evidence: expected log probabilities, numbers <= 0.")

    def features(self) -> tuple[float, float, float, float]:
        """presence, first, second, later between `LOG_PROBABILITY_FLOOR` and 0.0 (a sum may round to just above)."""
        return _bounded(self.presence), _bounded(self.first), _bounded(self.second), _bounded(self.later)


def _bounded(log_probability: float) -> float:
    return min(0.0, max(LOG_PROBABILITY_FLOOR, log_probability))


def plain_confidence(evidence: BoxEvidence) -> float:
    """Confidence without a calibration, 0.0 to 1.0: exp(presence + (first + second) / 8).

    The probability that there is a box, times the geometric mean over the eight leading symbols of its four numbers.
    It orders boxes sensibly and goes down with each field but `later`; it is no measured chance of being right.
    """
    presence, first, second, _ = evidence.features()
    return math.exp(presence + (first + second) / 8)


@dataclass(frozen=True)
class Calibration:
    """Chance that a box has IoU >= 0.5 with the true one = sigmoid(bias + weights . evidence).

    The weights are >= 0: a likelier answer never gets a lower confidence. `samples` boxes were measured, on what
    `measured_on` says.
    """

    bias: float
    presence: float
    first: float
    second: float
    later: float
    samples: int = 0
    measured_on: str = ""

    def apply(self, evidence: BoxEvidence) -> float:
        """The chance that the box is right, 0.0 to 1.0."""
        weights = (self.presence, self.first, self.second, self.later)
        return _sigmoid(self.bias + math.fsum(w * x for w, x in zip(weights, evidence.features(), strict=True)))

    @classmethod
    def fit(cls, evidences: Sequence[BoxEvidence], hits: Sequence[bool], *, measured_on: str = "") -> Calibration:
        """The calibration of highest likelihood for boxes that were right (`hits`, True) or wrong.

        Platt scaling with four features: logistic regression on Platt's smoothed targets, which keep it finite where
        hits and misses can be told apart without error (Platt, Probabilistic Outputs for Support Vector Machines and
        Comparisons to Regularized Likelihood Methods, 1999, section 2.2). A small L2 penalty pulls the weights to
        those of `plain_confidence`, where few samples say little.

        Raises `ModelError` unless there are both hits and misses, `ValueError` when the lengths differ.
        """
        if len(evidences) != len(hits):
            raise ValueError(f"{len(evidences)} evidences and {len(hits)} hits: expected as many of one as the other.")
        right = np.array([bool(hit) for hit in hits], dtype=bool)
        hit_count, miss_count = int(right.sum()), int((~right).sum())
        if not hit_count or not miss_count:
            raise ModelError(
                f"A calibration needs boxes that are right and boxes that are wrong; there are {hit_count} right and "
                f"{miss_count} wrong ones. Measure it on more samples, or on harder ones."
            )
        features = np.array([evidence.features() for evidence in evidences])
        targets = np.where(right, (hit_count + 1) / (hit_count + 2), 1 / (miss_count + 2))
        bias, presence, first, second, later = map(float, _fit_with_weights_from_zero(features, targets))
        return cls(bias, presence, first, second, later, len(hits), measured_on)

    def to_json(self) -> dict[str, Any]:
        """All fields by name; `from_json` takes them back."""
        return asdict(self)

    @classmethod
    def from_json(cls, record: Any) -> Calibration:
        """The calibration from its JSON form, decoded. Raises `ModelError` when it is damaged."""
        try:
            bias, *weights = (_finite(record[name], name) for name in ("bias", *_FEATURES))
            if min(weights) < 0:
                raise ValueError("a weight is below 0")
            samples, measured_on = record.get("samples", 0), record.get("measured_on", "")
            if isinstance(samples, bool) or not isinstance(samples, int) or samples < 0:
                raise ValueError(f"'samples' is {samples!r}")
            if not isinstance(measured_on, str):
                raise ValueError(f"'measured_on' is {measured_on!r}")
        except KeyError as error:
            raise _damaged(f"{error} is missing") from error
        except (ValueError, TypeError, AttributeError, OverflowError) as error:
            raise _damaged(str(error) if isinstance(record, Mapping) else f"{record!r:.80} is no object") from error
        presence, first, second, later = weights
        return cls(bias, presence, first, second, later, samples, measured_on)


def _damaged(why: str) -> ModelError:
    return ModelError(
        f"The calibration of the confidence is damaged: {why}. Expected a finite 'bias' and finite weights >= 0 "
        f"for {', '.join(_FEATURES)}. Measure it anew, or remove it."
    )


def _finite(value: object, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{name!r} is {value!r:.80}")
    return float(value)


def _sigmoid(logit: float) -> float:
    """1 / (1 + exp(-logit)), 0.0 to 1.0; every step keeps the order of logits, and none overflows."""
    return 1 / (1 + math.exp(min(700.0, -logit)))


def _fit_with_weights_from_zero(features: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """[bias, weights] of least loss with weights >= 0; `features` is (n, 4), `targets` (n,) in 0 to 1.

    The loss is convex. So with the right weights held at 0 the least loss over the others is the answer, and with
    four weights all 16 choices can be tried.
    """
    best, best_loss = np.zeros(0), math.inf
    for free_count in range(len(_FEATURES), -1, -1):
        for free in itertools.combinations(range(len(_FEATURES)), free_count):
            found = _newton(features, targets, np.array([0, *(index + 1 for index in free)]))
            loss = _loss(found, features, targets)
            if found[1:].min() >= 0 and loss < best_loss:
                best, best_loss = found, loss
        if free_count == len(_FEATURES) and best.size:
            break  # nothing needs to be held at 0
    return best


def _loss(coefficients: np.ndarray, features: np.ndarray, targets: np.ndarray) -> float:
    """The sum of the cross-entropies and the penalty; the bias goes free."""
    logits = coefficients[0] + features @ coefficients[1:]
    pull = coefficients[1:] - _PLAIN_WEIGHTS
    return float(np.sum(np.logaddexp(0.0, logits) - targets * logits) + _PENALTY / 2 * pull @ pull)


def _newton(features: np.ndarray, targets: np.ndarray, free: np.ndarray) -> np.ndarray:
    """[bias, weights] of least loss where all but the `free` coefficients are 0, by Newton steps, halved if need be."""
    design = np.column_stack([np.ones(len(features)), features])
    penalty = np.array([0.0, *[_PENALTY] * len(_FEATURES)])
    centre = np.array([0.0, *_PLAIN_WEIGHTS])
    coefficients = np.zeros(len(penalty))
    loss = _loss(coefficients, features, targets)
    for _ in range(_MAX_STEPS):
        chances = 1 / (1 + np.exp(-np.clip(design @ coefficients, -500, 500)))
        gradient = (design.T @ (chances - targets) + penalty * (coefficients - centre))[free]
        curvature = design.T @ (design * (chances * (1 - chances))[:, None]) + np.diag(penalty)
        # The ridge only matters where all chances are rounded to 0 or 1 and the bias has no curvature left.
        direction = np.linalg.solve(curvature[np.ix_(free, free)] + 1e-12 * np.eye(len(free)), gradient)
        if gradient @ direction < 1e-16 * (1 + abs(loss)):
            break
        share = 1.0
        while share > 1e-10:
            tried = coefficients.copy()
            tried[free] -= share * direction
            tried_loss = _loss(tried, features, targets)
            if tried_loss <= loss - 1e-4 * share * float(gradient @ direction):
                break
            share /= 2
        else:
            break  # as good as it gets in floating point
        coefficients, loss = tried, tried_loss
    return coefficients


def kept_calibration(path: Path, model_id: str, profile: str, quantize: str = "none") -> Calibration | None:
    """The calibration that a workspace keeps for a model, loaded and asked in this way; None: it keeps none.

    Raises `ModelError` when the file is damaged.
    """
    kept = _read_kept(path).get(_kept_as(model_id, profile, quantize))
    return None if kept is None else Calibration.from_json(kept)


def keep_calibration(path: Path, model_id: str, profile: str, calibration: Calibration, quantize: str = "none") -> None:
    """Put the calibration beside those of other models. Raises `WorkspaceError` when it can't be written."""
    kept = _read_kept(path) | {_kept_as(model_id, profile, quantize): calibration.to_json()}
    partial = path.with_name(f"{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
        partial.replace(path)
    except OSError as error:
        raise WorkspaceError(
            f"The calibration can't be kept in {path}: {error}. Free space or rights there."
        ) from error


def _kept_as(model_id: str, profile: str, quantize: str) -> str:
    return f"{model_id} {profile}" + ("" if quantize == "none" else f" {quantize}")


def _read_kept(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        return dict(kept)
    except (OSError, ValueError, TypeError) as error:
        raise ModelError(f"{path} is damaged ({error}). Delete it and calibrate again.") from error
