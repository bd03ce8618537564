"""How answers are made: what the person may choose. No torch here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from grounding.errors import SettingsError

MODES = ("forced", "free")
COORDINATES = ("likeliest", "expected")
CHOICES = ("vote", "rerank")
MOST_SAMPLES = 64
_COLDEST = 0.001  # below, the likeliest answer is all there is


@dataclass(frozen=True)
class Decoding:
    """How a model's answer is made.

    `mode`: "forced" feeds the fixed characters of the answer and leaves only decisions to the model; "free" lets it
    write, and is the reference. `coordinates`: "likeliest" takes the likeliest digits, "expected" the mean over the
    values near them (forced only). `samples` above 1 draws so many answers at `temperature` (0.001 to 2.0)
    with `seed`; `choose` merges them by "vote" or takes the one whose crop fits the phrase best ("rerank", which
    needs a scorer). `max_boxes` ends an answer that never would.

    Drawn again with the same seed, forced answers are the same whatever they are asked together with. Freely written
    ones are only where the whole call is: `generate` of transformers draws for all rows of a batch from one source of
    random numbers.

    Raises `SettingsError` for a value out of its range.
    """

    mode: str = "forced"
    coordinates: str = "likeliest"
    samples: int = 1
    temperature: float = 0.7
    seed: int = 0
    choose: str = "vote"
    max_boxes: int = 16

    def __post_init__(self) -> None:
        for name, known in (("mode", MODES), ("coordinates", COORDINATES), ("choose", CHOICES)):
            if getattr(self, name) not in known:
                raise SettingsError(f"{name}={getattr(self, name)!r} is unknown. Expected one of {', '.join(known)}.")
        for name, least, most in (("samples", 1, MOST_SAMPLES), ("max_boxes", 1, 100)):
            value = getattr(self, name)
            if not is_whole(value) or not least <= value <= most:
                raise SettingsError(f"{name}={value!r} is out of range. Expected a whole number, {least} to {most}.")
        if not is_whole(self.seed) or not 0 <= self.seed < 2**63:
            raise SettingsError(f"seed={self.seed!r} is out of range. Expected a whole number, 0 to 2**63 - 1.")
        number = isinstance(self.temperature, int | float) and not isinstance(self.temperature, bool)
        if not number or not _COLDEST <= self.temperature <= 2.0:
            raise SettingsError(f"temperature={self.temperature!r} is out of range. Expected {_COLDEST} to 2.")
        if self.mode == "free" and self.coordinates == "expected":
            raise SettingsError('coordinates="expected" needs mode="forced": free text shows no distribution.')

    def to_json(self) -> dict[str, Any]:
        """The settings as plain values, to stand beside what they produced."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Decoding:
        """Raises `SettingsError` naming a key that is none of the settings."""
        unknown = set(values) - {field.name for field in fields(cls)}
        if unknown:
            raise SettingsError(f"{sorted(unknown)[0]!r} is no decoding setting.")
        return cls(**values)


def is_whole(value: object) -> bool:
    """Whether it is an int; True and False aren't."""
    return isinstance(value, int) and not isinstance(value, bool)
