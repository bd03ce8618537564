"""Scores of the base and of adapters over the test split: computed once, kept on disk, shown again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol

from grounding.adapters import AdapterInfo, AdapterRegistry
from grounding.errors import StoreError
from grounding.evaluate import Report, evaluate
from grounding.records import Sample
from grounding.ui.sources import Parts, picture_id
from grounding.ui.summary import KeptScores, count_edits

if TYPE_CHECKING:
    from grounding.predict import Predictor

SUMMARY_SPLIT = "test"


@dataclass(frozen=True)
class ShelvedReport:
    """A report as it was kept. `created_at` is ISO 8601 in UTC."""

    report: Report
    samples_sha256: str
    created_at: str


class Shelf(Protocol):
    """Where reports are kept between visits."""

    def latest(self, model_id: str, adapter: str | None) -> ShelvedReport | None:
        """The newest report of the base (None) or an adapter, whatever samples it was made on."""

    def keep(self, report: Report, samples_sha256: str) -> None:
        """Write a report down."""


class Scoreboard:
    """What the summary shows, and how it is computed anew."""

    def __init__(self, parts: Parts, shelf: Shelf) -> None:
        self.parts = parts
        self.shelf = shelf

    def samples(self) -> list[Sample]:
        """The test samples with a usable phrase; raises `StoreError` when there are none."""
        source, is_placeholder = self.parts.source, self.parts.is_placeholder
        usable = [s for s in source.iterate(SUMMARY_SPLIT) if s.phrase.strip() and not is_placeholder(s.phrase)]
        if not usable:
            raise StoreError(
                f"The {SUMMARY_SPLIT} split has no sample with a usable phrase, so there is nothing to score."
            )
        return usable

    def kept(self, adapter: str | None) -> KeptScores | None:
        """The newest scores of the base (None) or an adapter, with how many samples were edited since."""
        shelved = self._shelved(adapter)
        if shelved is None:
            return None
        edits = count_edits([row.sample for row in shelved.report.rows], self.samples())
        return KeptScores(shelved.report, in_words(shelved.created_at), edits)

    def compute(
        self,
        predictor: Predictor,
        adapter: str | None,
        *,
        progress: Callable[[int, int], None],
        cancelled: Callable[[], bool],
    ) -> None:
        """Score the adapter, and the base where its kept scores are of other samples. Raises `Cancelled`."""
        samples = self.samples()
        digest = samples_sha256(samples)
        base = self._shelved(None)
        wanted: list[str | None] = [] if base is not None and base.samples_sha256 == digest else [None]
        wanted += [adapter] if adapter else []
        wanted = wanted or [None]
        for index, name in enumerate(wanted):
            before, total = index * len(samples), len(wanted) * len(samples)
            report = evaluate(
                samples,
                predictor,
                name,
                progress=lambda done, _, before=before, total=total: progress(before + done, total),  # type: ignore[misc]
                cancelled=cancelled,
            )
            self.shelf.keep(report, digest)

    def adapters(self) -> list[AdapterInfo]:
        """The adapters that fit the app's model, newest first."""
        registry = AdapterRegistry(self.parts.workspace.adapters)
        return [info for info in registry.list() if info.base == self.parts.models.model]

    def _shelved(self, adapter: str | None) -> ShelvedReport | None:
        shelved = self.shelf.latest(self.parts.models.model, adapter)
        if shelved is None or adapter is None:
            return shelved
        # An adapter trained anew under the same name is another adapter.
        created = next((info.created_at for info in self.adapters() if info.name == adapter), "")
        return None if _moment(created) > _moment(shelved.created_at) else shelved


def samples_sha256(samples: Sequence[Sample]) -> str:
    """A hash of what was asked and what is true: ids, phrases, boxes and pictures."""
    content = [(s.id, s.phrase, [box.rounded() for box in s.boxes_xyxy_px], picture_id(s)) for s in samples]
    return hashlib.sha256(json.dumps(content, ensure_ascii=False).encode()).hexdigest()


def in_words(created_at: str) -> str:
    """Such as "23 Nov 2026, 09:12 UTC"; the text itself when it is no ISO 8601 time."""
    moment = _moment(created_at)
    return created_at if moment == _NEVER else f"{moment.day} {moment:%b %Y, %H:%M} UTC"


_NEVER = datetime(1, 1, 1, tzinfo=UTC)


def _moment(iso: str) -> datetime:
    try:
        moment = datetime.fromisoformat(iso)
    except ValueError:
        return _NEVER
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
