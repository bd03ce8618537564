"""Scores of the base and of adapters over the test split: computed once, kept on disk, shown again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from datetime import datetime
from threading import Event
from typing import TYPE_CHECKING

from grounding.adapters import AdapterInfo, AdapterRegistry
from grounding.adapters.evaluations import evaluations_of, is_base, moment
from grounding.boxes import Box
from grounding.errors import StoreError
from grounding.evaluation import evaluate
from grounding.records import MAX_PHRASE_CHARACTERS, Sample
from grounding.reports import KeptReport, ReportStore, samples_digest
from grounding.ui.sources import Parts
from grounding.ui.summary import KeptScores

if TYPE_CHECKING:
    from grounding.predict import Predictor

SUMMARY_SPLIT = "test"
_TELL_SECONDS = 0.3


class Scoreboard:
    """What the summary shows, and how it is computed anew."""

    def __init__(self, parts: Parts) -> None:
        self.parts = parts
        self.reports = ReportStore(parts.workspace.evaluations)

    def samples(self) -> list[Sample]:
        """The test samples with a usable phrase. Raises `StoreError` when there are none."""
        source, is_placeholder = self.parts.source, self.parts.is_placeholder
        usable = [
            sample
            for sample in source.iterate(SUMMARY_SPLIT)
            if not is_placeholder(sample.phrase) and 0 < len(sample.phrase.strip()) <= MAX_PHRASE_CHARACTERS
        ]
        if not usable:
            raise StoreError(f"No {SUMMARY_SPLIT} sample has a usable phrase, so there is nothing to score.")
        return usable

    def kept(self, adapter: str | None, samples: Sequence[Sample]) -> KeptScores | None:
        """The newest scores of the base (None) or an adapter, with how many of `samples` were edited since.

        Those on exactly `samples` come first, and an adapter's count under every name that it had.
        """
        digest, reports = samples_digest(samples), self._reports_of(adapter)
        same = (report for report in reports if report.samples_sha256 == digest)
        report = next(same, None) or next((report for report in reports if report.split == SUMMARY_SPLIT), None)
        if report is None:
            return None
        edits = 0 if report.samples_sha256 == digest else count_edits(report, samples)
        return KeptScores(report, in_words(report.created_at), edits)

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
        base_stands = self.reports.find(self.parts.models.model, None, samples_digest(samples)) is not None
        names = [adapter] if adapter and base_stands else [None, adapter] if adapter else [None]
        for index, name in enumerate(names):

            def told(done: int, _: int, before: int = index * len(samples)) -> None:
                progress(before + done, len(names) * len(samples))

            report = evaluate(samples, predictor, name, progress=told, cancelled=cancelled)
            self.reports.keep(report, split=SUMMARY_SPLIT)

    def computing(self, adapter: str | None, cancelled: Callable[[], bool]) -> Iterator[tuple[int, int]]:
        """`compute` with the app's model in a thread of its own, telling (done, total) a few times a second.

        Stops the work when the caller goes away. Raises what `compute` and `ModelService.use` raise.
        """
        told = [(0, 0)]
        abandoned = Event()

        def work() -> None:
            # The lock belongs to a thread, and gradio may resume a generator in another one: hence all in here.
            with self.parts.models.use() as predictor:
                self.compute(
                    predictor,
                    adapter,
                    progress=lambda done, total: told.append((done, total)),
                    cancelled=lambda: abandoned.is_set() or cancelled(),
                )

        with ThreadPoolExecutor(1, thread_name_prefix="summary") as pool:
            future = pool.submit(work)
            try:
                while not wait([future], timeout=_TELL_SECONDS).done:
                    yield told[-1]
            finally:
                abandoned.set()
            future.result()

    def adapters(self) -> list[AdapterInfo]:
        """The adapters that fit the app's model, newest first."""
        registry = AdapterRegistry(self.parts.workspace.adapters)
        return [info for info in registry.list() if info.base == self.parts.models.model]

    def _reports_of(self, adapter: str | None) -> list[KeptReport]:
        """The kept evaluations of the base (None) or of an adapter that stands here, newest first."""
        reports = self.reports.list()
        if adapter is None:
            return [report for report in reports if report.model_id == self.parts.models.model and is_base(report)]
        info = next((info for info in self.adapters() if info.name == adapter), None)
        return evaluations_of(info, reports) if info is not None else []


def count_edits(report: KeptReport, samples: Sequence[Sample]) -> int:
    """How many samples were changed, added or taken away since the report was made."""
    from pyarrow import parquet

    columns = ["id", "image", "phrase", "truth_xyxy_px"]
    rows = parquet.read_table(report.path / "samples.parquet", columns=columns).to_pylist()
    before = {row["id"]: (row["image"], row["phrase"], _rounded(row["truth_xyxy_px"])) for row in rows}
    now = {sample.id: _question(sample) for sample in samples}
    changed = sum(before[key] != now[key] for key in before.keys() & now.keys())
    return changed + len(before.keys() ^ now.keys())


def _question(sample: Sample) -> tuple[str, str, list[list[float]]]:
    return (sample.image.name, sample.phrase, _rounded(sample.boxes_xyxy_px))


def _rounded(boxes_xyxy_px: Iterable[Iterable[float]]) -> list[list[float]]:
    """To hundredths of a pixel, as reports of earlier versions have them."""
    return [list(Box(*box).rounded()) for box in boxes_xyxy_px]


def in_words(created_at: str) -> str:
    """Such as "23 Nov 2026, 09:12 UTC"; the text itself when it is no ISO 8601 time."""
    try:
        datetime.fromisoformat(created_at)
    except ValueError:
        return created_at
    time = moment(created_at)
    return f"{time.day} {time:%b %Y, %H:%M} UTC"
