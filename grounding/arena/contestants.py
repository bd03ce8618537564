"""Who stands in the arena: what tells one model, asked in one way, from another."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from grounding.compared import Comparison
from grounding.compared.comparison import Side
from grounding.decoding.settings import Decoding
from grounding.errors import RecordError
from grounding.reports import asked_plainly, weights_of

_VERSION_DIGITS = 12
_TELLING_CONDITIONS = ("profile", "quantize", "rerank")


@dataclass(frozen=True)
class Pair:
    """Two contestants by their keys, a before b as they were chosen. Votes of both orders belong together."""

    a: str
    b: str

    @property
    def sorted_keys(self) -> tuple[str, str]:
        """(first, second): the order in which the votes stand in the database."""
        return (self.a, self.b) if self.a < self.b else (self.b, self.a)


def pair_of(comparison: Comparison) -> Pair:
    """The two sides of a comparison. Raises `RecordError` for one alone, and for the same model asked the same way."""
    if comparison.b is None:
        raise RecordError("The arena needs two evaluations: choose a second one.")
    pair = Pair(contestant_key(comparison.a), contestant_key(comparison.b))
    if pair.a == pair.b:
        raise RecordError(
            f"Both evaluations are of the same model ({pair.a}), asked in the same way: there is nothing to choose "
            "between. Choose two that differ."
        )
    return pair


def contestant_key(side: Side) -> str:
    """Such as "base of demo" or "tools@0123456789ab on demo (mode=free)".

    The digits are of the adapter's files, where the evaluation knows them: one that is trained anew under an old name
    is another contestant. Raises `RecordError` where there is no report.
    """
    kept = side.kept
    if kept is None:
        raise RecordError(f"{side.folder.name} has no report that says which model answered. Evaluate anew.")
    who = f"base of {kept.model_id}"
    if kept.adapter:
        version = str(kept.settings.get("adapter_sha256") or "")[:_VERSION_DIGITS]
        who = f"{Path(kept.adapter).name}{'@' if version else ''}{version} on {kept.model_id}"
    if asked_plainly(kept):
        return who
    usual, asked = Decoding().to_json(), dict(kept.settings.get("decoding") or {})
    told = [f"{name}={value}" for name, value in sorted(asked.items()) if usual.get(name) != value]
    conditions = dict(kept.settings.get("conditions") or {})
    if (weights := weights_of(kept)) != "none":
        conditions.setdefault("quantize", weights)
    told += [f"{name}={conditions[name]}" for name in _TELLING_CONDITIONS if name in conditions]
    return f"{who} ({', '.join(told)})"
