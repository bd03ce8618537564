"""Where the summary keeps its reports."""

from __future__ import annotations

from datetime import UTC, datetime

from grounding.evaluate import Report
from grounding.ui.scoreboard import ShelvedReport


class MemoryShelf:
    """Reports for as long as the process runs."""

    def __init__(self) -> None:
        self._kept: dict[tuple[str, str | None], ShelvedReport] = {}

    def latest(self, model_id: str, adapter: str | None) -> ShelvedReport | None:
        return self._kept.get((model_id, adapter))

    def keep(self, report: Report, samples_sha256: str) -> None:
        created_at = datetime.now(UTC).isoformat(timespec="seconds")
        self._kept[report.model_id, report.adapter] = ShelvedReport(report, samples_sha256, created_at)
