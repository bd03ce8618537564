"""RefCOCO as lmms-lab publishes it, as Parquet and as a folder saved by `datasets`."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from PIL import Image
from speed import takes_less

from annotate import intake
from annotate.importers import find_importer
from annotate.importers.unpacked import Unpacked
from annotate.items import BadRow
from annotate.store import Store
from grounding.boxes import Box
from grounding.errors import RecordError
from grounding.records import Sample

QUESTION = "Please carefully observe the area circled in the image and come up with a caption for the area."
SCHEMA = pyarrow.schema(
    [
        ("question_id", pyarrow.string()),
        ("image", pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])),
        ("question", pyarrow.string()),
        ("answer", pyarrow.list_(pyarrow.string())),
        ("segmentation", pyarrow.list_(pyarrow.float32())),
        ("bbox", pyarrow.list_(pyarrow.float32())),
        ("iscrowd", pyarrow.int8()),
        ("file_name", pyarrow.string()),
    ]
)


def picture(number: int = 0) -> bytes:
    content = io.BytesIO()
    Image.new("RGB", (40, 30), (number, 5, 5)).save(content, "PNG")
    return content.getvalue()


def row(number: int, **fields: Any) -> dict[str, Any]:
    """A row as lmms-lab has it; two rows share a picture."""
    return {
        "question_id": str(number),
        "image": {"bytes": picture(number // 2), "path": None},
        "question": QUESTION,
        "answer": [f"the left cup {number}", "cup"],
        "segmentation": [1.0, 2.0, 3.0, 4.5],
        "bbox": [1.5, 2.0, 5.5, 6.0],
        "iscrowd": 0,
        "file_name": f"COCO_train2014_000000581857_{number}.jpg",
        **fields,
    }


def parquet(path: Path, rows: list[dict[str, Any]], schema: pyarrow.Schema | None = SCHEMA) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows, schema), path, row_group_size=3)
    return path


def read(source: Path, scratch: Path) -> tuple[list[Sample], list[BadRow]]:
    importer = find_importer(source)
    assert importer.name == "refcoco"
    rows = list(importer.read(source, scratch))
    return [r for r in rows if isinstance(r, Sample)], [r for r in rows if isinstance(r, BadRow)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Shards of three splits, as the Hub has them."""
    data = tmp_path / "RefCOCO" / "data"
    parquet(data / "val-00000-of-00002.parquet", [row(0), row(1)])
    parquet(data / "val-00001-of-00002.parquet", [row(2), row(3)])
    parquet(data / "testA-00000-of-00001.parquet", [row(0), row(1, answer=["man"])])
    parquet(data / "testB-00000-of-00001.parquet", [row(4)])
    return data.parent


def test_the_question_is_a_placeholder_and_the_answers_are_the_phrases(folder: Path, store: Store) -> None:
    scratch = folder / "scratch"
    report = store.import_samples(
        find_importer(folder).read(folder, scratch), source="RefCOCO", who="ann", scratch=scratch
    )
    assert (report.imported, report.errors) == (7, ())
    assert store.counts().placeholders == 7
    assert dict(store.counts().per_split) == {"train": 0, "val": 4, "test": 3}
    sample = store.get_sample("refcoco/testA/0")
    assert (sample.phrase, sample.alternatives) == (QUESTION, ("the left cup 0", "cup"))
    assert (sample.boxes_xyxy_px, sample.image_id) == ((Box(1.5, 2, 7, 8),), "581857")
    assert sample.extra == {
        "question_id": "0",
        "segmentation": [1.0, 2.0, 3.0, 4.5],
        "iscrowd": 0,
        "file_name": "COCO_train2014_000000581857_0.jpg",
        "source_split": "testA",
        "dataset": "refcoco",
    }
    assert store.repair("ann").count == 7
    assert store.get_sample("refcoco/testA/1").phrase == "man"


def test_a_dry_run_keeps_no_picture_that_it_has_looked_at(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake, "_BATCH_SAMPLES", 4)
    broken = row(98, image={"bytes": b"no picture", "path": None})
    source = parquet(tmp_path / "RefCOCO" / "val.parquet", [*(row(number) for number in range(40)), broken])
    scratch = tmp_path / "scratch"
    standing: list[int] = []
    report = store.import_samples(
        find_importer(source).read(source, scratch),
        source="R",
        who="ann",
        dry_run=True,
        scratch=scratch,
        progress=lambda done: standing.append(len(list((scratch / "unpacked").iterdir()))),
    )
    assert (report.imported, len(report.errors), report.dry_run) == (40, 1, True)
    assert len(standing) == 11 and not any(standing)
    assert not store.pictures.folder.exists() or not any(store.pictures.folder.rglob("*.png"))


def test_a_picture_is_written_once_and_leaves_the_scratch_folder(folder: Path, store: Store, workspace: Any) -> None:
    scratch = folder / "scratch"
    samples, _ = read(folder, scratch)
    assert len({sample.image for sample in samples}) == 3
    assert len(list((scratch / "unpacked").iterdir())) == 3
    shutil.rmtree(scratch)
    store.import_samples(find_importer(folder).read(folder, scratch), source="R", who="ann", scratch=scratch)
    assert not list((scratch / "unpacked").iterdir())
    assert len(list(workspace.pictures.folder.glob("*/*.png"))) == 3


def test_a_picture_that_was_taken_is_not_written_again(tmp_path: Path) -> None:
    unpacked = Unpacked(tmp_path)
    path = unpacked.path_of(picture(1))
    assert path.read_bytes() == picture(1)
    path.unlink()
    assert unpacked.path_of(picture(1)) == path and not path.exists()
    assert unpacked.path_of(picture(2)) != path


@pytest.mark.parametrize(
    ("place", "source", "sample_id", "split"),
    [
        ("RefCOCO/data/train-0.parquet", "RefCOCO/data/train-0.parquet", "refcoco/train/0", "train"),
        ("lmms-lab--RefCOCOplus/data/validation-0.parquet", "lmms-lab--RefCOCOplus", "refcoco+/validation/0", "val"),
        ("RefCOCOg/testB.parquet", "RefCOCOg", "refcocog/testB/0", "test"),
        ("cups/x/test.parquet", "cups/x", "x/test/0", "test"),
        ("cups/data/rows.parquet", "cups", "cups/test/0", "test"),
    ],
)
def test_data_set_and_split_are_in_the_names(
    place: str, source: str, sample_id: str, split: str, tmp_path: Path
) -> None:
    parquet(tmp_path / place, [row(0)])
    at = tmp_path / source
    (sample,), errors = read(at, tmp_path)
    assert (sample.id, sample.split, errors) == (sample_id, split, [])


def test_a_question_id_that_comes_twice_makes_two_samples(tmp_path: Path) -> None:
    path = parquet(tmp_path / "refcoco" / "val.parquet", [row(1), row(1), row(2, question_id=None), row(1)])
    samples, _ = read(path, tmp_path)
    assert [sample.id for sample in samples] == [
        "refcoco/val/1",
        "refcoco/val/1~2",
        "refcoco/val/row-3",
        "refcoco/val/1~3",
    ]


@pytest.mark.parametrize("kind", ["DatasetDict", "Dataset", "with an index"])
def test_a_folder_of_save_to_disk_is_read(kind: str, tmp_path: Path) -> None:
    import datasets

    out = tmp_path / "refcoco" / "testA"
    table = pyarrow.Table.from_pylist([row(0), row(1)], SCHEMA)
    dataset = datasets.Dataset(table, split=datasets.Split("testA"))
    if kind == "DatasetDict":
        out = tmp_path / "refcoco"
        datasets.DatasetDict({"testA": dataset}).save_to_disk(out)
    elif kind == "Dataset":
        dataset.save_to_disk(out, num_shards=2)
    else:
        out.mkdir(parents=True)
        (out / "state.json").write_text(json.dumps({"_data_files": [{"filename": "a.arrow"}]}))
        with pyarrow.ipc.new_file(out / "a.arrow", SCHEMA) as writer:
            writer.write_table(table)
    samples, errors = read(out, tmp_path / "scratch")
    assert errors == []
    assert [sample.id for sample in samples] == ["refcoco/testA/0", "refcoco/testA/1"]
    assert samples[0].alternatives == ("the left cup 0", "cup")
    assert samples[0].image.read_bytes() == picture(0)


def test_a_saved_folder_that_names_files_outside_of_it_is_refused(tmp_path: Path) -> None:
    parquet(tmp_path / "secret.arrow", [row(0)])
    folder = tmp_path / "refcoco"
    folder.mkdir()
    for files in ([{"filename": "../secret.arrow"}], [{"filename": "/etc/passwd"}], [{}], 7, [[]]):
        (folder / "state.json").write_text(json.dumps({"_data_files": files}))
        assert not find_importer(folder, "refcoco").recognises(folder)
        with pytest.raises(RecordError, match=r"leads out of the source|is not what `datasets` writes"):
            list(find_importer(folder, "refcoco").read(folder, tmp_path))


def test_a_table_with_the_columns_of_our_jsonl_is_read(tmp_path: Path) -> None:
    Image.new("RGB", (40, 30)).save(tmp_path / "a.png")
    plain = {
        "id": "mine",
        "image": "a.png",
        "phrase": "the mug",
        "boxes_xyxy_px": [[1.0, 2.0, 3.0, 4.0], [5.0, 6.0, 7.0, 8.0]],
        "split": "testB",
        "category": "mug",
        "image_id": "7",
        "alternatives": ["a mug"],
        "my_key": {"deep": [1, 2]},
    }
    path = parquet(tmp_path / "rows.parquet", [plain, plain | {"id": "none", "boxes_xyxy_px": []}], None)
    (one, none), errors = read(path, tmp_path)
    assert errors == []
    assert one == Sample(
        id="mine",
        image=tmp_path / "a.png",
        phrase="the mug",
        boxes_xyxy_px=(Box(1, 2, 3, 4), Box(5, 6, 7, 8)),
        split="test",
        category="mug",
        image_id="7",
        alternatives=("a mug",),
        extra={"my_key": {"deep": [1, 2]}},
    )
    assert none.boxes_xyxy_px == ()


BAD = {
    "no box": ({"bbox": None}, "its bbox is None"),
    "five numbers": ({"bbox": [1.0] * 5}, "5 numbers"),
    "a flat box": ({"bbox": [1.0, 2.0, 0.0, 4.0]}, "is no box"),
    "a hole in the box": ({"bbox": [1.0, None, 3.0, 4.0]}, "expected four numbers"),
    "not finite": ({"bbox": [1.0, 2.0, float("inf"), 4.0]}, "finite"),
    "no picture": ({"image": None}, "has no picture"),
    "an empty picture": ({"image": {"bytes": b"", "path": None}}, "has no picture"),
    "a picture elsewhere": ({"image": {"bytes": None, "path": "/etc/passwd"}}, "leads out of the source"),
    "a picture above": ({"image": {"bytes": None, "path": "../../x.jpg"}}, "leads out of the source"),
    "a lost picture": ({"image": {"bytes": None, "path": "x.jpg"}}, "no picture 'x.jpg'"),
    "a hole in the answers": ({"answer": ["a", None]}, "no list of texts"),
}


@pytest.mark.parametrize(("fields", "message"), BAD.values(), ids=BAD)
def test_a_bad_row_costs_itself_only_and_is_named(fields: dict[str, Any], message: str, tmp_path: Path) -> None:
    path = parquet(tmp_path / "refcoco" / "val.parquet", [row(0), row(1, **fields), row(2)])
    samples, (error,) = read(path, tmp_path)
    assert [sample.id for sample in samples] == ["refcoco/val/0", "refcoco/val/2"]
    assert error.where == "val.parquet, row 2" and message in error.reason


def test_a_picture_that_is_none_and_a_text_that_is_none_cost_their_rows_only(tmp_path: Path, store: Store) -> None:
    rows = [row(0), row(2, image={"bytes": b"no picture", "path": "a.png"}), row(4)]
    table = pyarrow.Table.from_pylist(rows, SCHEMA)
    broken = pyarrow.array([b"ok", b"\xff\xfe", b"ok"]).view(pyarrow.string())
    path = tmp_path / "refcoco" / "val.parquet"
    path.parent.mkdir()
    pyarrow.parquet.write_table(table, path)
    report = store.import_samples(find_importer(path).read(path, tmp_path), source="R", who="ann", scratch=tmp_path)
    assert report.imported == 2 and "refcoco/val/2" in report.errors[0] and "not a picture" in report.errors[0]
    pyarrow.parquet.write_table(table.set_column(7, "file_name", broken), path)
    samples, (error,) = read(path, tmp_path)
    assert len(samples) == 2 and error.where == "val.parquet, row 2" and "can't be read" in error.reason


def test_what_is_no_such_table_is_left_alone_or_named(tmp_path: Path, folder: Path) -> None:
    other = parquet(tmp_path / "other" / "a.parquet", [{"text": "x"}], None)
    damaged = tmp_path / "damaged" / "val.parquet"
    damaged.parent.mkdir()
    content = (folder / "data" / "val-00000-of-00002.parquet").read_bytes()
    damaged.write_bytes(content[: len(content) // 2])
    importer = find_importer(folder)
    for source in (other, other.parent, damaged, damaged.parent, tmp_path / "none", tmp_path):
        assert not importer.recognises(source)
    with pytest.raises(RecordError, match=r"has the columns text. Expected image, bbox"):
        list(importer.read(other, tmp_path))
    with pytest.raises(RecordError, match=r"can't be read as a table"):
        list(importer.read(damaged, tmp_path))
    with pytest.raises(RecordError, match=r"holds no Parquet"):
        list(importer.read(damaged.parent.parent / "none", tmp_path))


def test_rows_are_read_fast(tmp_path: Path) -> None:
    shared = picture(1)
    rows = [row(number, image={"bytes": shared, "path": None}) for number in range(5000)]
    path = tmp_path / "refcoco" / "val.parquet"
    path.parent.mkdir()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows, SCHEMA), path)
    samples, errors = read(path, tmp_path)
    assert (len(samples), errors) == (5000, [])
    assert takes_less(1, lambda: read(path, tmp_path))
