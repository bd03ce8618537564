"""A snapshot as a folder that `datasets.load_from_disk` opens: pictures inside, columns as lmms-lab's RefCOCO has them.

`datasets` is imported where it is needed: it takes longer to load than all the rest of the command line.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from annotate.carried import KEY, carry
from annotate.snapshot import SnapshotInfo
from annotate.xywh import COORDINATES, xywh_of
from grounding.errors import SnapshotError
from grounding.records import SPLITS, Sample, read_samples

if TYPE_CHECKING:
    import datasets

# A row holds its picture, so a thousand of them, as `datasets` would take, are too many to hold.
_ROWS_AT_ONCE = 64


class Exporter:
    """Writes a `DatasetDict` with the splits that have samples."""

    name = "datasets"

    def write(self, snapshot: SnapshotInfo, out: Path, *, link: bool) -> int:
        out.mkdir(parents=True)
        with dataset_dict(snapshot, out) as splits:
            splits.save_to_disk(out)
            (out / "README.md").write_text(f"# {snapshot.name}\n\n{describe(snapshot)}\n", encoding="utf-8")
            return sum(dataset.num_rows for dataset in splits.values())


def describe(snapshot: SnapshotInfo) -> str:
    """What the columns mean, for the README of a folder or of the Hub."""
    return (
        f"Referring phrases with their boxes: the snapshot {snapshot.name} of Boxwright.\n\n"
        f"- {COORDINATES}; four numbers for each box, none when the phrase refers to nothing.\n"
        "- question: the phrase; answer: the phrase and other phrases for the same box.\n"
        f"- {KEY}: the sample with exact boxes (x1, y1, x2, y2 in pixels of the original image) as JSON.\n"
    )


@contextmanager
def dataset_dict(snapshot: SnapshotInfo, beside: Path) -> Iterator[datasets.DatasetDict]:
    """The snapshot's splits as datasets, kept on the disk of the folder `beside` until the block ends.

    Raises `SnapshotError` when a sample or its picture can't be read.
    """
    import datasets
    from datasets.exceptions import DatasetGenerationError

    splits = datasets.DatasetDict()
    with tempfile.TemporaryDirectory(dir=beside, prefix=".rows-") as cache:
        try:
            for split in SPLITS:
                if snapshot.counts.get(split):
                    splits[split] = _dataset(snapshot, split, cache)
        except DatasetGenerationError as error:
            raise SnapshotError(
                f"The samples of {snapshot.name} can't be put into rows ({error.__cause__})."
            ) from error
        yield splits


def _dataset(snapshot: SnapshotInfo, split: str, cache: str) -> datasets.Dataset:
    import datasets

    return datasets.Dataset.from_generator(
        _rows,
        features=_features(),
        cache_dir=cache,
        gen_kwargs={"samples_path": str(snapshot.samples_path), "split": split},
        split=datasets.Split(split),
        writer_batch_size=_ROWS_AT_ONCE,
    )


def _features() -> datasets.Features:
    from datasets import Features, Image, List, Value

    text = Value("string")
    return Features(
        {
            "question_id": text,
            "image": Image(),
            "question": text,
            "answer": List(text),
            "segmentation": List(Value("float64")),
            "bbox": List(Value("float64")),
            "iscrowd": Value("int8"),
            "file_name": text,
            "category": text,
            "image_id": text,
            KEY: text,
        }
    )


def _rows(samples_path: str, split: str) -> Iterator[dict[str, Any]]:
    return (_row(sample) for sample in read_samples(samples_path) if sample.split == split)


def _row(sample: Sample) -> dict[str, Any]:
    answer = [sample.phrase, *sample.alternatives]
    file_name, iscrowd = sample.extra.get("file_name"), sample.extra.get("iscrowd")
    return {
        "question_id": sample.id,
        "image": {"bytes": sample.image.read_bytes(), "path": sample.image.name},
        "question": sample.phrase,
        "answer": answer,
        "segmentation": _polygon(sample.extra.get("segmentation")),
        "bbox": [number for box in sample.boxes_xyxy_px for number in xywh_of(box)],
        "iscrowd": int(iscrowd == 1),
        "file_name": file_name if isinstance(file_name, str) else sample.image.name,
        "category": sample.category,
        "image_id": sample.image_id,
        KEY: json.dumps(carry(sample, alternatives=answer)),
    }


def _polygon(segmentation: object) -> list[float]:
    """The one polygon x, y, x, y, ... in pixels that the column has room for; empty for any other outline."""
    if isinstance(segmentation, list) and len(segmentation) == 1 and isinstance(segmentation[0], list):
        segmentation = segmentation[0]
    if isinstance(segmentation, list) and all(isinstance(number, int | float) for number in segmentation):
        return [float(number) for number in segmentation]
    return []
