"""REFER's and gRefCOCO's folders: one ref is one sample, and a pickle with code is refused."""

from __future__ import annotations

import json
import pickle
import struct
import time
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from speed import takes_less

from annotate.importers import find_importer
from annotate.importers.plain_pickle import plain_json, read_plain_pickle
from annotate.items import BadRow
from annotate.store import Store
from grounding.boxes import Box
from grounding.errors import RecordError
from grounding.records import Sample

IMAGES = [{"id": 30 + number, "file_name": f"COCO_train2014_{30 + number:012d}.jpg"} for number in range(3)]
ANNOTATIONS = [
    {"id": 100 + number, "image_id": 30 + number % 3, "category_id": 3, "bbox": [1, 2, 5 + number, 6], "iscrowd": 0}
    for number in range(6)
]
CATEGORIES = [{"id": 3, "name": "cup"}, {"id": 4, "name": "dog"}]


def ref(ref_id: int, split: str, *sentences: str, **fields: Any) -> dict[str, Any]:
    """A ref as REFER has it; sentences are shown in lower case, `raw` as they are."""
    return {
        "ref_id": ref_id,
        "ann_id": 100 + ref_id % 6,
        "category_id": 3,
        "image_id": 30 + ref_id % 3,
        "file_name": f"COCO_train2014_{30 + ref_id % 3:012d}_{ref_id}.jpg",
        "split": split,
        "sent_ids": list(range(len(sentences))),
        "sentences": [
            {"sent_id": number, "sent": text.lower(), "raw": text, "tokens": text.lower().split()}
            for number, text in enumerate(sentences)
        ],
        **fields,
    }


def instances_beside(folder: Path, annotations: list[dict[str, Any]] = ANNOTATIONS) -> None:
    tables = {"info": {}, "images": IMAGES, "annotations": annotations, "categories": CATEGORIES}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "instances.json").write_text(json.dumps(tables))


def refer_folder(folder: Path, refs: list[Any], name: str = "refs(unc).p", protocol: int = 2) -> Path:
    instances_beside(folder)
    (folder / name).write_bytes(pickle.dumps(refs, protocol))
    return folder


def pictures_in(folder: Path) -> None:
    folder.mkdir(parents=True)
    for number, image in enumerate(IMAGES):
        Image.new("RGB", (40, 30), (number, 0, 0)).save(folder / str(image["file_name"]))


def read(source: Path, format_name: str = "auto") -> tuple[list[Sample], list[BadRow]]:
    rows = list(find_importer(source, format_name).read(source, source / "scratch"))
    return [r for r in rows if isinstance(r, Sample)], [r for r in rows if isinstance(r, BadRow)]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A data root as the REFER toolkit wants it: three data sets beside each other, and the pictures of COCO."""
    folder = tmp_path / "data"
    pictures_in(folder / "images" / "mscoco" / "images" / "train2014")
    refer_folder(folder / "refcoco", [ref(1, "train", "Left cup", "cup"), ref(2, "testA", "man")])
    refer_folder(folder / "refcoco+", [ref(1, "val", "red cup"), ref(2, "testB", "blue one")])
    refer_folder(folder / "refcocog", [ref(1, "test", "a cup on a table")], "refs(umd).p", protocol=0)
    return folder


def test_the_three_data_sets_merge_into_one_store(root: Path, store: Store) -> None:
    importer = find_importer(root)
    assert importer.name == "refer"
    report = store.import_samples(importer.read(root, root), source="data", who="ann")
    assert (report.imported, report.errors) == (5, ())
    assert {sample.id: sample.split for sample in store.iterate()} == {
        "refcoco/unc/1": "train",
        "refcoco/unc/2": "test",
        "refcoco+/unc/1": "val",
        "refcoco+/unc/2": "test",
        "refcocog/umd/1": "test",
    }
    assert store.get_sample("refcoco/unc/1").image_id == store.get_sample("refcocog/umd/1").image_id == "31"


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
def test_a_ref_is_a_sample_with_its_other_sentences_as_alternatives(root: Path, protocol: int) -> None:
    refer_folder(root / "refcoco", [ref(1, "testA", "Left cup", "cup", "the CUP")], protocol=protocol)
    (sample,), errors = read(root / "refcoco")
    assert errors == []
    assert (sample.phrase, sample.alternatives) == ("left cup", ("cup", "the cup"))
    assert (sample.boxes_xyxy_px, sample.split, sample.category) == ((Box(1, 2, 7, 8),), "test", "cup")
    assert sample.image.name == "COCO_train2014_000000000031.jpg" and sample.image.is_file()
    assert sample.extra["source_split"] == "testA" and sample.extra["dataset"] == "refcoco"
    assert sample.extra["raw"] == ["Left cup", "cup", "the CUP"]
    assert (sample.extra["ref_id"], sample.extra["ann_id"], sample.extra["iscrowd"]) == (1, 101, 0)


def test_a_pickle_of_python_2_is_read(root: Path) -> None:
    # What Python 2 wrote: byte strings, an accent in UTF-8, a long integer.
    text = b"(lp0\n(dS'ref_id'\nL7L\nsS'ann_id'\nI101\nsS'image_id'\nI31\nsS'split'\nS'val'\nsS'sentences'\n"
    text += b"(lp1\n(dS'sent'\nS'caf\\xc3\\xa9 cup'\nsS'raw'\nVcaf\\u00e9 cup\nsasa."
    (root / "refcoco" / "refs(unc).p").write_bytes(text)
    (sample,), errors = read(root / "refcoco")
    assert (sample.id, sample.phrase, errors) == ("refcoco/unc/7", "café cup", [])
    (root / "refcoco" / "refs(unc).p").write_bytes(text.replace(b"\\xc3\\xa9", b"\\xe9"))
    assert read(root / "refcoco")[0][0].phrase == "café cup"


def test_one_split_of_the_same_refs_is_taken_and_the_other_is_named(root: Path) -> None:
    refer_folder(root / "refcocog", [ref(9, "train", "another")], "refs(google).p")
    samples, (left,) = read(root / "refcocog")
    assert [sample.id for sample in samples] == ["refcocog/umd/1"]
    assert left.where == "refcocog/refs(google).p" and "Import the file itself" in left.reason
    samples, errors = read(root / "refcocog" / "refs(google).p")
    assert ([sample.id for sample in samples], errors) == (["refcocog/google/9"], [])


BAD_REFS = {
    "no dict": (7, "expected a ref"),
    "no id": ({"sentences": []}, "expected a ref"),
    "no sentences": (ref(1, "train") | {"sentences": None}, "'sentences' are no list"),
    "a number for a sentence": (ref(1, "train") | {"sentences": [{"sent": 5}]}, "is no text"),
    "unknown split": (ref(1, "holdout", "cup"), "split 'holdout' is unknown"),
    "split a number": (ref(1, "train", "cup") | {"split": 3}, "is unknown"),
    "no such annotation": (ref(1, "train", "cup", ann_id=5), "ann_id 5 is not among"),
    "no annotation": ({k: v for k, v in ref(1, "train", "cup").items() if k != "ann_id"}, "no 'ann_id'"),
    "no such picture": (ref(1, "train", "cup", image_id=5), "image_id 5 is not among"),
    "a list for the picture": (ref(1, "train", "cup", image_id=[1]), "is not among"),
    "a list in the annotation": (ref(1, "train", "cup", ann_id={}), ""),
}


@pytest.mark.parametrize(("bad", "message"), BAD_REFS.values(), ids=BAD_REFS)
def test_a_bad_ref_costs_itself_only_and_is_named(bad: Any, message: str, root: Path) -> None:
    refer_folder(root / "refcoco", [ref(1, "train", "cup"), bad, ref(3, "train", "mug")])
    samples, errors = read(root / "refcoco")
    if message:
        (error,) = errors
        assert error.where == "refcoco/refs(unc).p, ref 2" and message in error.reason
        assert [sample.id for sample in samples] == ["refcoco/unc/1", "refcoco/unc/3"]
    else:
        assert len(samples) + len(errors) == 3


def test_a_bad_box_and_a_name_that_climbs_cost_their_refs_only(root: Path) -> None:
    folder = refer_folder(root / "refcoco", [ref(number, "train", "cup") for number in (1, 2, 3, 4)])
    instances_beside(folder, [*ANNOTATIONS[:2], ANNOTATIONS[2] | {"bbox": [1, 2, 0, 5]}, *ANNOTATIONS[3:]])
    tables = json.loads((folder / "instances.json").read_text())
    tables["images"][0]["file_name"] = "../../../../etc/passwd"
    (folder / "instances.json").write_text(json.dumps(tables))
    samples, errors = read(folder)
    assert [sample.id for sample in samples] == ["refcoco/unc/1", "refcoco/unc/4"]
    assert "is no box" in errors[0].reason and "leads out of the source" in errors[1].reason


class Hostile:
    def __reduce__(self) -> tuple[Any, ...]:
        return (exec, ("open('/tmp/boxwright-was-here', 'w').close()",))


PROGRAMS = {
    **{f"protocol {number}": pickle.dumps([Hostile()], number) for number in range(6)},
    "a plain name": b"cos\nsystem\n(S'true'\ntR.",
    "an instance": b"(ios\nsystem\n.",
    "a name from the stack": b"\x80\x04\x8c\x02os\x8c\x06system\x93.",
    "an extension": b"\x80\x02\x82\x01.",
    "a persistent id": b"Pname\n.",
    "attributes set": b"}}b.",
    "a set": pickle.dumps({1, 2}, 4),
    "bytes of any size": b"\x80\x05\x96\xff\xff\xff\xff\xff\xff\xff\x7f.",
}


@pytest.mark.parametrize("program", PROGRAMS.values(), ids=PROGRAMS)
def test_a_pickle_with_code_is_refused_before_it_runs(program: bytes, root: Path) -> None:
    (root / "refcoco" / "refs(unc).p").write_bytes(program)
    mark = Path("/tmp/boxwright-was-here")
    mark.unlink(missing_ok=True)
    with pytest.raises(RecordError, match=r"refused: a pickle is a program.*Expected refs"):
        read(root / "refcoco")
    assert not mark.exists()


BROKEN = {
    "empty": b"",
    "cut short": pickle.dumps(list(range(100)), 2)[:-20],
    "no pickle": b"PK\x03\x04 a zip",
    "an empty stack": b"\x80\x02.",
    "append to nothing": b"\x80\x02Na.",
    "an unknown memory": b"\x80\x02h\x07.",
    "a dictionary as key": b"\x80\x02}}Ns.",
    "a text of 4 GB": b"\x80\x02X\xff\xff\xff\xff.",
    "a number beyond sense": b"\x80\x02\x8b\xff\xff\xff\xff.",
}


@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN)
def test_a_broken_pickle_is_named(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "refs(unc).p"
    path.write_bytes(content)
    with pytest.raises(RecordError, match=r"refs\(unc\)\.p is (no whole pickle|refused)"):
        read_plain_pickle(path)


def test_a_pickle_can_not_reserve_memory_that_it_does_not_fill(tmp_path: Path) -> None:
    path = tmp_path / "refs(unc).p"
    path.write_bytes(b"\x80\x02Nr" + struct.pack("<I", 0x7FFFFFFF) + b".")
    began = time.thread_time()
    assert read_plain_pickle(path) is None
    assert time.thread_time() - began < 1


def test_a_value_that_stands_a_million_times_over_is_refused() -> None:
    value: Any = "x"
    for _ in range(40):
        value = [value, value]
    with pytest.raises(RecordError, match="more than 100000 values"):
        plain_json(value)
    inside: list[Any] = []
    inside.append(inside)
    with pytest.raises(RecordError):
        plain_json(inside)
    assert plain_json({1: (b"a", 2.5, None)}) == {"1": ["a", 2.5, None]}


def test_a_pickle_of_something_else_and_a_folder_without_instances_are_refused(root: Path) -> None:
    refer_folder(root / "refcoco", {"refs": []})  # type: ignore[arg-type]
    with pytest.raises(RecordError, match=r"holds a dict. Expected a list of refs"):
        read(root / "refcoco")
    (root / "refcoco+" / "instances.json").unlink()
    with pytest.raises(RecordError, match=r"has no instances\.json. Put it beside"):
        read(root / "refcoco+")
    (root / "refcocog" / "instances.json").write_text("{oops")
    with pytest.raises(RecordError, match=r"is no JSON file"):
        read(root / "refcocog")
    for format_name in ("refer", "grefcoco"):
        with pytest.raises(RecordError, match=r"has no g?refs"):
            read(root / "images", format_name)


def test_grefcoco_has_phrases_with_no_one_and_several_targets(tmp_path: Path) -> None:
    folder = tmp_path / "grefcoco"
    pictures_in(folder / "train2014")
    annotations = [*ANNOTATIONS[:5], ANNOTATIONS[5] | {"category_id": 4}]
    instances_beside(folder, annotations)
    refs = [
        ref(1, "train", "left cup", ann_id=[101], category_id=[3], no_target=False),
        ref(2, "val", "both cups", "cups", ann_id=[102, 104], category_id=[3, 3], no_target=False),
        ref(3, "testB", "the elephant", ann_id=[-1], category_id=[-1], no_target=True),
        ref(4, "testA", "nothing either", ann_id=[-1]),
        ref(5, "train", "cup and dog", ann_id=[101, 105]),
        ref(6, "train", "a lost one", ann_id=[101, 999]),
    ]
    (folder / "grefs(unc).json").write_text(json.dumps(refs))
    assert find_importer(folder).name == find_importer(folder / "grefs(unc).json").name == "grefcoco"
    samples, (error,) = read(folder)
    assert [(sample.id, len(sample.boxes_xyxy_px), sample.split) for sample in samples] == [
        ("grefcoco/unc/1", 1, "train"),
        ("grefcoco/unc/2", 2, "val"),
        ("grefcoco/unc/3", 0, "test"),
        ("grefcoco/unc/4", 0, "test"),
        ("grefcoco/unc/5", 2, "train"),
    ]
    assert samples[1].boxes_xyxy_px == (Box(1, 2, 8, 8), Box(1, 2, 10, 8))
    assert samples[1].alternatives == ("cups",)
    assert (samples[2].extra["no_target"], samples[2].extra["source_split"]) == (True, "testB")
    assert [sample.category for sample in samples] == ["cup", "cup", "", "cup", "cup, dog"]
    assert "ann_id 999" in error.reason


def test_refs_are_read_fast(root: Path) -> None:
    refs = [ref(number, "train", "the left cup", "a cup", "red cup on the left") for number in range(10_000)]
    refer_folder(root / "refcoco", refs)
    samples, errors = read(root / "refcoco")
    assert (len(samples), errors) == (10_000, [])
    assert takes_less(2, lambda: read(root / "refcoco"))
