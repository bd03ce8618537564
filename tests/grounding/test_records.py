"""Samples as JSONL lines: what is written reads back, and a bad line is named."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from grounding.boxes import Box
from grounding.errors import RecordError
from grounding.records import Prediction, Sample, Status, read_samples, write_samples

GOOD: dict[str, Any] = {"id": "a", "image": "images/a.png", "phrase": "left mug", "boxes_xyxy_px": [[1, 2, 3, 4]]}
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
# Text as JSON may hold it: every character, lone surrogates too.
texts = st.text(st.characters(exclude_categories=()), max_size=12)
known_keys = {"id", "image", "phrase", "boxes_xyxy_px", "split", "category", "image_id", "alternatives"}


@st.composite
def boxes(draw: st.DrawFn) -> Box:
    hundredths = st.integers(0, 1_000_000)
    x1, y1 = draw(hundredths), draw(hundredths)
    return Box(x1 / 100, y1 / 100, (x1 + draw(hundredths) + 1) / 100, (y1 + draw(hundredths) + 1) / 100)


def one_line(folder: Path, record: Any) -> list[Sample]:
    path = folder / "samples.jsonl"
    path.write_text(json.dumps(record) + "\n", encoding="utf-8")
    return list(read_samples(path))


def test_a_line_of_the_contract(tmp_path: Path) -> None:
    line = (
        '{"id": "demo-test-0007", "image": "images/0007.png", "phrase": "drum on the left", "boxes_xyxy_px": '
        '[[12.0, 80.5, 77.0, 140.0]], "split": "test", "category": "drum", "image_id": "0007", '
        '"alternatives": ["left drum"], "license": "CC BY"}'
    )
    (tmp_path / "test.jsonl").write_text(line + "\n", encoding="utf-8")
    (sample,) = read_samples(str(tmp_path / "test.jsonl"))
    assert sample == Sample(
        id="demo-test-0007",
        image=tmp_path.resolve() / "images" / "0007.png",
        phrase="drum on the left",
        boxes_xyxy_px=(Box(12, 80.5, 77, 140),),
        split="test",
        category="drum",
        image_id="0007",
        alternatives=("left drum",),
        extra={"license": "CC BY"},
    )
    assert sample.to_json(tmp_path.resolve()) == json.loads(line)


def test_what_may_be_left_out(tmp_path: Path) -> None:
    (sample,) = one_line(tmp_path, GOOD)
    assert (sample.split, sample.category, sample.image_id, sample.alternatives) == ("test", "", "", ())
    assert dict(sample.extra) == {}
    (empty,) = one_line(tmp_path, GOOD | {"boxes_xyxy_px": []})
    assert empty.boxes_xyxy_px == (), "a phrase may refer to nothing"


def test_null_is_as_good_as_left_out_and_a_number_as_good_as_its_text(tmp_path: Path) -> None:
    (sample,) = one_line(tmp_path, GOOD | {"split": None, "category": None, "image_id": 0})
    assert (sample.split, sample.category, sample.image_id) == ("test", "", "0")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.text(min_size=1, max_size=8),
    texts,
    st.lists(boxes(), max_size=3),
    st.sampled_from(["train", "val", "test"]),
    st.lists(texts, max_size=3),
    st.dictionaries(texts.filter(lambda key: key not in known_keys), json_values, max_size=3),
)
def test_a_sample_written_reads_back(
    tmp_path: Path,
    sample_id: str,
    phrase: str,
    boxes_xyxy_px: list[Box],
    split: str,
    alternatives: list[str],
    extra: dict[str, Any],
) -> None:
    sample = Sample(
        sample_id,
        tmp_path.resolve() / "pictures" / "a b.png",
        phrase,
        tuple(boxes_xyxy_px),
        split,
        category=phrase,
        image_id=sample_id,
        alternatives=tuple(alternatives),
        extra=extra,
    )
    path = tmp_path / "lists" / "samples.jsonl"
    assert write_samples(path, [sample, sample]) == 2
    assert list(read_samples(path)) == [sample, sample]
    first = path.read_bytes()
    write_samples(path, list(read_samples(path)))
    assert path.read_bytes() == first


def test_text_that_has_no_utf_8_comes_back_all_the_same(tmp_path: Path) -> None:
    sample = Sample("a", tmp_path.resolve() / "a.png", "half \ud83d of a smile", (), extra={"\udfff": "\\ud800"})
    write_samples(tmp_path / "s.jsonl", [sample])
    assert list(read_samples(tmp_path / "s.jsonl")) == [sample]


def test_coordinates_are_written_to_the_last_digit(tmp_path: Path) -> None:
    thin = Sample("thin", tmp_path / "a.png", "hair", (Box(5.001, 0.123, 5.002, 9.876), Box(0.126, 0, 9.9, 9)))
    write_samples(tmp_path / "s.jsonl", [thin])
    (back,) = read_samples(tmp_path / "s.jsonl")
    assert back.boxes_xyxy_px == thin.boxes_xyxy_px


def test_image_paths_are_relative_to_the_file_and_move_with_it(tmp_path: Path) -> None:
    picture = tmp_path / "set" / "images" / "a.png"
    write_samples(tmp_path / "set" / "lists" / "train.jsonl", [Sample("a", picture, "mug", (), "train")])
    written = json.loads((tmp_path / "set" / "lists" / "train.jsonl").read_text(encoding="utf-8"))
    assert written["image"] == "../images/a.png"
    (tmp_path / "set").rename(tmp_path / "moved")
    (sample,) = read_samples(tmp_path / "moved" / "lists" / "train.jsonl")
    assert sample.image == tmp_path.resolve() / "moved" / "images" / "a.png"


def test_an_absolute_image_path_is_taken_as_it_is(tmp_path: Path) -> None:
    (sample,) = one_line(tmp_path, GOOD | {"image": "/pictures/a.png"})
    assert sample.image == Path("/pictures/a.png")


def test_a_key_of_the_contract_wins_over_an_extra_one(tmp_path: Path) -> None:
    sample = Sample("a", tmp_path / "a.png", "mug", (), extra={"phrase": "other", "mine": 1})
    assert sample.to_json(tmp_path)["phrase"] == "mug"
    assert sample.to_json(tmp_path)["mine"] == 1


def test_empty_lines_line_ends_and_a_byte_order_mark_do_not_matter(tmp_path: Path) -> None:
    line = json.dumps(GOOD)
    (tmp_path / "s.jsonl").write_bytes(b"\xef\xbb\xbf" + f"{line}\r\n\r\n   \n{line}".encode())
    assert len(list(read_samples(tmp_path / "s.jsonl"))) == 2
    (tmp_path / "empty.jsonl").write_text("")
    assert list(read_samples(tmp_path / "empty.jsonl")) == []


@pytest.mark.parametrize(
    ("case", "line", "says"),
    [
        ("not JSON", "{not json}", "no JSON (Expecting property name enclosed in double quotes, at character 2). Exp"),
        ("cut short", json.dumps(GOOD)[:-9], "delimiter"),
        ("a list", "[1, 2]", "expected a JSON object, found list"),
        ("a bare text", '"phrase"', "found str"),
        ("no id", json.dumps(GOOD | {"id": ""}), "needs an id"),
        ("an id that is a number", json.dumps(GOOD | {"id": 7}), "'id' must be text, not 7"),
        ("no key id", json.dumps({k: v for k, v in GOOD.items() if k != "id"}), "? lacks the key 'id'"),
        ("no key image", json.dumps({k: v for k, v in GOOD.items() if k != "image"}), "a lacks the key 'image'"),
        ("no key phrase", json.dumps({k: v for k, v in GOOD.items() if k != "phrase"}), "a lacks the key 'phrase'"),
        ("no key boxes", json.dumps({k: v for k, v in GOOD.items() if k != "boxes_xyxy_px"}), "'boxes_xyxy_px'"),
        ("a phrase that is null", json.dumps(GOOD | {"phrase": None}), "'phrase' must be text, not None"),
        ("an image that is a list", json.dumps(GOOD | {"image": ["a.png"]}), "'image' must be text"),
        ("an unknown split", json.dumps(GOOD | {"split": "dev"}), "split 'dev' is not one of train, val, test"),
        ("boxes that are one box", json.dumps(GOOD | {"boxes_xyxy_px": [1, 2, 3, 4]}), "list of boxes, as [["),
        ("boxes that are a text", json.dumps(GOOD | {"boxes_xyxy_px": "1 2 3 4"}), "must be a list of boxes"),
        ("a box of three", json.dumps(GOOD | {"boxes_xyxy_px": [[1, 2, 3]]}), "expected four numbers"),
        ("a box as width and height", json.dumps(GOOD | {"boxes_xyxy_px": [[9, 9, 5, 5]]}), "x2 must be greater"),
        ("a box of null", json.dumps(GOOD | {"boxes_xyxy_px": [None]}), "a: None is no box: expected four numbers"),
        ("a box with NaN", json.dumps(GOOD | {"boxes_xyxy_px": [[0, 0, float("nan"), 5]]}), "finite"),
        ("alternatives that are a text", json.dumps(GOOD | {"alternatives": "cup"}), "must be a list of texts"),
        ("alternatives with a number", json.dumps(GOOD | {"alternatives": ["cup", 5]}), "must be a list of texts"),
        ("a null character in the path", json.dumps(GOOD | {"image": "a\0.png"}), "a: 'a\\x00.png' is no path"),
        ("a number of 5,000 digits", '{"id": "a", "n": ' + "9" * 5000 + "}", "digit"),
        ("nested 100,000 deep", "[" * 100_000, "recursion"),
    ],
)
def test_a_bad_line_is_named_with_its_file_and_number(tmp_path: Path, case: str, line: str, says: str) -> None:
    path = tmp_path / "train.jsonl"
    path.write_text(f"{json.dumps(GOOD)}\n\n{line}\n", encoding="utf-8")
    samples = read_samples(path)
    assert next(samples).id == "a", "the good line before it comes first"
    with pytest.raises(RecordError) as caught:
        next(samples)
    assert str(caught.value).startswith(f"{path}, line 3: ")
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("case", "content"),
    [("missing", None), ("not UTF-8", b'{"id": "\xff"}\n'), ("a picture", b"\x89PNG\r\n\x1a\n\xff\xfe")],
)
def test_a_file_that_can_not_be_read_is_named(tmp_path: Path, case: str, content: bytes | None) -> None:
    path = tmp_path / "train.jsonl"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(RecordError, match=r"train\.jsonl"):
        list(read_samples(path))


def test_a_folder_is_no_file_of_samples(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="can't be read as a JSONL file of samples"):
        list(read_samples(tmp_path))


@pytest.mark.parametrize(
    ("case", "changes", "says"),
    [("an empty id", {"id": ""}, "needs an id"), ("an unknown split", {"split": "Train"}, "'Train' is not one of")],
)
def test_a_sample_checks_itself(case: str, changes: dict[str, Any], says: str) -> None:
    with pytest.raises(RecordError, match=says):
        dataclasses.replace(Sample("a", Path("a.png"), "mug", ()), **changes)


def test_samples_do_not_change() -> None:
    sample = Sample("a", Path("a.png"), "mug", ())
    with pytest.raises(dataclasses.FrozenInstanceError):
        sample.phrase = "cup"  # type: ignore[misc]
    with pytest.raises(TypeError):
        sample.extra["new"] = 1  # type: ignore[index]


def test_a_prediction_under_both_names_and_the_words_of_a_status() -> None:
    prediction = Prediction((Box(0, 0, 1, 1),), Status.OK, "[]", None, 0.5)
    assert prediction.boxes is prediction.boxes_xyxy_px
    assert prediction.adapter is None
    assert [str(status) for status in Status] == ["ok", "no_box", "unreadable", "degenerate"]
