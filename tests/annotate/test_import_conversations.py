"""Conversations of Qwen and LLaVA: what a box means is known or the row is refused; what is no grounding is too."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from annotate.conventions import MEANINGS, Convention, numbers_1000
from annotate.importers import find_importer
from annotate.items import BadRow
from annotate.store import Store
from annotate_samples import MakePicture
from grounding.boxes import Box
from grounding.errors import BoxError, RecordError
from grounding.records import Sample

ASK = "<image>\nLocate the left mug in this image and output the bbox coordinates in JSON format."
WHOLE_PX = (Box(4, 3, 20, 15),)


def chat(*said: str, **further: Any) -> dict[str, Any]:
    turns = [{"from": "gpt" if number % 2 else "human", "value": text} for number, text in enumerate(said)]
    return {"image": "0.png", "conversations": turns, **further}


@pytest.fixture
def read(make_picture: MakePicture) -> Any:
    """`read(record, ...)`: the rows of a file with these records, beside pictures of 40 x 30 and 40 x 40 pixels."""
    folder = make_picture(0).parent
    make_picture(1, (40, 40))

    def rows(*records: Any, name: str = "train.json", content: bytes | None = None) -> list[Sample | BadRow]:
        file = folder / name
        lines = "\n".join(json.dumps(record) for record in records) if name.endswith("l") else json.dumps(records)
        file.write_bytes(lines.encode() if content is None else content)
        importer = find_importer(file)
        assert importer.name == "conversations"
        return list(importer.read(file, folder))

    return rows


STAMPED = {
    "qwen3": ('[{"bbox_2d": [100, 100, 500, 500], "label": "mug"}]', "xyxy_1000", WHOLE_PX),
    "qwen3, fenced": ('```json\n[{"bbox_2d": [100, 100, 500, 500]}]\n```', "xyxy_1000", WHOLE_PX),
    "qwen3, prose around": ('Sure:\n```json\n[{"bbox_2d": [100, 100, 500, 500]}]\n```\nDone.', "xyxy_1000", WHOLE_PX),
    "qwen3, two": (
        '[{"bbox_2d": [100, 100, 500, 500]}, {"bbox_2d": [0, 0, 1000, 1000]}]',
        "xyxy_1000",
        (*WHOLE_PX, Box(0, 0, 40, 30)),
    ),
    "one object": ('{"bbox_2d": [100, 100, 500, 500]}', "xyxy_1000", WHOLE_PX),
    "qwen2.5": ('[{"bbox_2d": [4, 3, 20, 15]}]', "xyxy_px", WHOLE_PX),
    "qwen2.5, resized": ('[{"bbox_2d": [8, 6, 40, 30]}]', "xyxy_px of 80x60", WHOLE_PX),
    "llava, unpadded": ("[0.1, 0.1, 0.5, 0.5]", "xyxy_share", WHOLE_PX),
    "llava, padded": ("[0.1, 0.2, 0.5, 0.5]", "xyxy_padded_share", WHOLE_PX),
    "llava, in words": ("It is at [0.10, 0.10, 0.50, 0.50].", "xyxy_share", WHOLE_PX),
    "a stamp in words": ('[{"bbox_2d": [100, 100, 500, 500]}]', "xyxy_1000: of width and height", WHOLE_PX),
}


@pytest.mark.parametrize(("answer", "stamp", "boxes"), STAMPED.values(), ids=STAMPED)
def test_the_stamp_says_what_the_numbers_mean(answer: str, stamp: str, boxes: tuple[Box, ...], read: Any) -> None:
    (sample,) = read(chat(ASK, answer, coordinates=stamp))
    assert isinstance(sample, Sample), sample
    assert sample.boxes_xyxy_px == pytest.approx(boxes) or [list(box) for box in sample.boxes_xyxy_px] == [
        pytest.approx(list(box)) for box in boxes
    ]
    assert (sample.phrase, sample.split) == ("the left mug", "train")


CERTAIN = {
    "qwen2": "<|object_ref_start|>mug<|object_ref_end|><|box_start|>(100,100),(500,500)<|box_end|>",
    "qwen": "<ref>mug</ref><box>(100,100),(500,500)</box>",
    "internvl": "<ref>mug</ref><box>[[100, 100, 500, 500]]</box>",
    "boxwright's fractions": '{"x_min": 0.1, "y_min": 0.1, "x_max": 0.5, "y_max": 0.5}',
}


@pytest.mark.parametrize("answer", CERTAIN.values(), ids=CERTAIN)
def test_a_way_of_writing_that_has_one_meaning_needs_no_stamp(answer: str, read: Any) -> None:
    (sample,) = read(chat(ASK, answer))
    assert isinstance(sample, Sample), sample
    assert list(sample.boxes_xyxy_px[0]) == pytest.approx([4, 3, 20, 15])


UNCERTAIN = {
    "qwen3 or qwen2.5": ('[{"bbox_2d": [100, 100, 500, 500]}]', ["xyxy_1000", "xyxy_px"]),
    "above 1000: of which size": ('[{"bbox_2d": [100, 100, 1500, 500]}]', ["xyxy_px"]),
    "fractions: padded or not": ("[0.1, 0.1, 0.5, 0.5]", ["xyxy_share", "xyxy_padded_share"]),
    "zeros and ones": ("[0, 0, 1, 1]", ["xyxy_1000", "xyxy_px", "xyxy_share"]),
}


@pytest.mark.parametrize(("answer", "open_to"), UNCERTAIN.values(), ids=UNCERTAIN)
def test_what_is_not_sure_is_not_guessed(answer: str, open_to: list[str], read: Any) -> None:
    (row,) = read(chat(ASK, answer))
    assert isinstance(row, BadRow)
    assert "convention" in row.reason and "missing" in row.reason and "coordinates.txt" in row.reason
    assert all(name in row.reason for name in open_to)


def test_fractions_of_a_square_picture_are_sure(read: Any) -> None:
    (sample,) = read(chat(ASK, "[0.1, 0.25, 0.5, 0.5]") | {"image": "1.png"})
    assert sample.boxes_xyxy_px == (Box(4, 10, 20, 20),)


def test_a_file_beside_says_the_convention_for_all(read: Any, make_picture: MakePicture) -> None:
    beside = make_picture(0).parent / "coordinates.txt"
    beside.write_text("xyxy_1000\n")
    answer = '[{"bbox_2d": [100, 100, 500, 500]}]'
    (first, second) = read(chat(ASK, answer), chat(ASK, answer, coordinates="xyxy_px of 1000x1000"))
    assert first.boxes_xyxy_px == second.boxes_xyxy_px == WHOLE_PX
    beside.write_text("pixels")
    with pytest.raises(RecordError, match=r"coordinates.txt names no convention .* xyxy_1000, xyxy_px"):
        read(chat(ASK, answer))


def test_several_questions_are_several_samples(read: Any) -> None:
    box = "<|box_start|>(100,100),(500,500)<|box_end|>"
    first, second, bad, last = read(
        chat(
            ASK, box, "Where is <ref>the cup</ref>?", box, "What colour is it?", "Red", ASK.replace("mug", "jug"), "[]"
        )
    )
    assert [row.phrase for row in (first, second, last)] == ["the left mug", "the cup", "the left jug"]
    assert last.boxes_xyxy_px == ()
    assert bad == BadRow("train.json, record 1, question 3", "it is about no box: 'Red' answers 'What colour is it?'.")
    assert len({first.id, second.id, last.id}) == 3


NOTHING = ["[]", "```json\n[]\n```", "None.", "There is no such object in the image.", "I can't find it."]


@pytest.mark.parametrize("answer", NOTHING)
def test_an_answer_that_denies_refers_to_nothing(answer: str, read: Any) -> None:
    (sample,) = read(chat(ASK, answer))
    assert (sample.phrase, sample.boxes_xyxy_px) == ("the left mug", ())


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("Is there a dog?", "No."),
        ("Where does the cat sit?", "On the couch."),
        (ASK, "On the couch."),
        (ASK, ""),
        ("What is in [0.1, 0.1, 0.5, 0.5]?", "A"),
        ("Describe the picture.", "A cat on a couch."),
    ],
)
def test_what_is_no_grounding_is_listed_and_never_becomes_a_sample(question: str, answer: str, read: Any) -> None:
    (row,) = read(chat(question, answer, coordinates="xyxy_share"))
    assert isinstance(row, BadRow)


def test_a_box_in_the_question_is_the_box_of_the_answered_words(read: Any) -> None:
    ask = "<image>\nPlease provide a short description for this region: [0.1, 0.1, 0.5, 0.5]."
    (sample,) = read(chat(ask, " the left mug ", coordinates="xyxy_share"))
    assert (sample.phrase, list(sample.boxes_xyxy_px[0])) == ("the left mug", pytest.approx([4, 3, 20, 15]))


def test_labels_are_the_phrases_of_a_question_that_names_none(read: Any) -> None:
    answer = json.dumps(
        [{"bbox_2d": [100, 100, 500, 500], "label": label} for label in ("dog", "cat")]
        + [{"bbox_2d": [0, 0, 500, 500], "label": "dog"}]
    )
    dogs, cat = read(chat("Detect all animals.", answer, coordinates="xyxy_1000"))
    assert (dogs.phrase, len(dogs.boxes_xyxy_px)) == ("dog", 2)
    assert (cat.phrase, len(cat.boxes_xyxy_px)) == ("cat", 1)


def test_llava_and_vlm_r1_ask_in_their_own_words(read: Any) -> None:
    ask = "Please provide the bounding box coordinate of the region this sentence describes: the left mug"
    for question in (ask, ask + ".", f"<image>\n{ask}", f"{ask}\n<image>"):
        (sample,) = read(chat(question, "[0.1, 0.1, 0.5, 0.5]", coordinates="xyxy_share"))
        assert sample.phrase == "the left mug"


def test_messages_are_read_in_every_form(read: Any) -> None:
    box = "<|box_start|>(100,100),(500,500)<|box_end|>"
    plain = {
        "images": ["0.png"],
        "messages": [
            {"role": "system", "content": "You are helpful."},
            {"role": "user", "content": ASK},
            {"role": "assistant", "content": box},
        ],
    }
    parts = {
        "messages": [
            {"role": "user", "content": [{"type": "image", "image": "0.png"}, {"type": "text", "text": ASK[8:]}]},
            {"role": "assistant", "content": [{"type": "text", "text": box}]},
        ]
    }
    swift = {
        "images": [{"path": "0.png"}],
        "messages": [
            {"role": "user", "content": "<image>Find <ref-object>"},
            {"role": "assistant", "content": "[{'bbox_2d': <bbox>}]".replace("'", '"')},
        ],
        "objects": {"ref": ["the left mug"], "bbox": [[4, 3, 20, 15]]},
    }
    for name in ("train.json", "val.jsonl"):
        rows = read(plain, parts, swift, name=name)
        assert [row.boxes_xyxy_px for row in rows] == [WHOLE_PX] * 3
        assert [row.phrase for row in rows] == ["the left mug", "the left mug", "Find the left mug"]
        assert {row.split for row in rows} == {name.split(".")[0]}
    swift["objects"] |= {"bbox": [[0.1, 0.1, 0.5, 0.5]], "bbox_type": "norm1"}
    assert list(read(swift)[0].boxes_xyxy_px[0]) == pytest.approx([4, 3, 20, 15])
    for wrong in ({"bbox": []}, {"bbox": "x"}, {"bbox_type": "mm"}, {"bbox_type": 7}, {"ref": ["a <bbox>"]}):
        assert isinstance(read({**swift, "objects": swift["objects"] | wrong})[0], BadRow)


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("Is there snow on the ground?", "No."),
        ("What is the dog on the ground chewing?", "It is not chewing anything."),
        ("Does the bag coordinate with the shoes?", "No, they do not match."),
    ],
)
def test_a_question_about_the_ground_is_no_phrase_that_refers_to_nothing(read: Any, question: str, answer: str) -> None:
    (row,) = read(chat(f"<image>\n{question}", answer))
    assert isinstance(row, BadRow) and "about no box" in row.reason


@pytest.mark.parametrize(
    "asks", ["Ground the red mug.", "Please ground every mug", "Your task is to ground a red mug."]
)
def test_who_asks_to_ground_a_phrase_may_be_told_that_there_is_none(read: Any, asks: str) -> None:
    (row,) = read(chat(f"<image>\n{asks}", "There is none."))
    assert isinstance(row, Sample) and row.boxes_xyxy_px == ()


def test_further_keys_are_kept(read: Any) -> None:
    (sample,) = read(chat(ASK, "[]", id="x-7", source={"deep": [1]}, split="odd"))
    assert sample.extra == {"source_id": "x-7", "source": {"deep": [1]}, "source_split": "odd"}


RECORDS: dict[str, tuple[Any, str]] = {
    "no object": ([1], "expected a JSON object"),
    "no picture": ({"conversations": chat(ASK, "[]")["conversations"]}, "about 0 pictures"),
    "two pictures": (chat(ASK, "[]") | {"image": ["0.png", "1.png"]}, "about 2 pictures"),
    "a picture outside": (chat(ASK, "[]") | {"image": "../../0.png"}, "leads out of the source"),
    "a picture by its whole path": (chat(ASK, "[]") | {"image": "/etc/passwd"}, "leads out of the source"),
    "a picture by its Windows path": (chat(ASK, "[]") | {"image": "C:\\0.png"}, "leads out of the source"),
    "a missing picture": (chat(ASK, "[]") | {"image": "7.png"}, "there is no picture"),
    "no turns": (chat(), "nobody asks"),
    "no answer": (chat(ASK), "has no answer"),
    "two questions": ({"image": "0.png", "conversations": [{"from": "human", "value": "a"}] * 2}, "follow each other"),
    "an answer first": ({"image": "0.png", "conversations": [{"from": "gpt", "value": "a"}]}, "without a question"),
    "a message that is none": ({"image": "0.png", "conversations": [7]}, "a message is an object"),
    "a message without text": ({"image": "0.png", "conversations": [{"from": "gpt", "value": 7}]}, "has no text"),
    "turns that are none": ({"image": "0.png", "conversations": 7}, "no list"),
    "an unknown stamp": (chat(ASK, "[0.1, 0.1, 0.5, 0.5]", coordinates="yxyx"), "is none of xyxy_1000"),
    "a stamp that is none": (chat(ASK, "[0.1, 0.1, 0.5, 0.5]", coordinates=7), "is none of"),
    "a size of nothing": (chat(ASK, "[0.1, 0.1, 0.5, 0.5]", coordinates="xyxy_px of 0x7"), "is none of"),
    "beyond 1000": (chat(ASK, '[{"bbox_2d": [1, 1, 1001, 9]}]', coordinates="xyxy_1000"), "expected numbers 0 to 1000"),
    "beyond 1": (chat(ASK, "[0.1, 0.1, 1.5, 0.5]", coordinates="xyxy_share"), "expected numbers 0 to 1"),
    "corners swapped": (chat(ASK, '[{"bbox_2d": [9, 1, 1, 9]}]', coordinates="xyxy_1000"), "is no box"),
    "three numbers": (chat(ASK, '[{"bbox_2d": [1, 1, 9]}]', coordinates="xyxy_1000"), "is no box"),
    "one of two broken": (
        chat(ASK, '[{"bbox_2d": [1, 1, 9, 9]}, {"bbox_2d": [1, 1, "x", 9]}]', coordinates="xyxy_1000"),
        "is no box",
    ),
    "a point": (chat(ASK, '[{"point_2d": [1, 1]}]', coordinates="xyxy_1000"), "is no box"),
    "cut short": (chat(ASK, '[{"bbox_2d": [1, 1, 9', coordinates="xyxy_1000"), "is broken"),
    "marks cut short": (chat(ASK, "<|box_start|>(1,1),(9"), "is broken"),
    "marks without an end": (chat(ASK, "<|box_start|>(1,1),(9,9)"), "is broken"),
    "a list in marks without an end": (chat(ASK, "<box>[[1,1,9,9]]"), "is broken"),
    "a label that is none": (chat(ASK, '[{"bbox_2d": [1, 1, 9, 9], "label": 7}]', coordinates="xyxy_1000"), "no text"),
    "not finite": (chat(ASK, '[{"bbox_2d": [1, 1, 1e999, 9]}]', coordinates="xyxy_px"), "not finite"),
    "too long a number": (chat(ASK, f'[{{"bbox_2d": [1, 1, {"9" * 5000}, 9]}}]', coordinates="xyxy_px"), "is broken"),
    "nested without end": (chat(ASK, "[" * 100_000, coordinates="xyxy_px"), "nested too deeply"),
}


@pytest.mark.parametrize(("record", "message"), RECORDS.values(), ids=RECORDS)
def test_a_bad_record_costs_itself_only_and_is_named(record: Any, message: str, read: Any) -> None:
    good = chat(ASK, "[]")
    for name in ("train.json", "train.jsonl"):
        first, bad, last = read(good, record, good, name=name)
        assert isinstance(first, Sample) and isinstance(last, Sample)
        assert isinstance(bad, BadRow), bad
        assert bad.where.startswith(f"{name}, ") and " 2" in bad.where
        assert message in bad.reason


def test_lines_and_files_that_are_no_json_are_named(read: Any) -> None:
    good = json.dumps(chat(ASK, "[]")).encode()
    lines = [good, b"{oops", b"", b"[" * 100_000, b'{"image": "\xff"}', good]
    rows = read(name="train.jsonl", content=b"\n".join(lines))
    assert [type(row) for row in rows] == [Sample, BadRow, BadRow, BadRow, Sample]
    assert rows[1].where == "train.jsonl, line 2"
    for content in (b"[" + good + b", {oops", b"[" + good + b", " + b"[" * 100_000):
        with pytest.raises(RecordError, match=r"is no JSON file|nested too deeply"):
            read(content=content)


@pytest.mark.parametrize(
    "answer",
    [
        "x" * 10_000_000,
        "[" * 10_000_000,
        "<box>" * 2_000_000,
        "<ref>" * 2_000_000,
        "[1,1,1," * 1_500_000,
        "[" + "1" * 10_000_000,
        "<|box_start|>(1,1),(" + "1" * 10_000_000,
        "```" * 3_000_000,
        " " * 10_000_000 + "x",
        "can" * 3_000_000,
    ],
    ids=lambda text: text[:8],
)
def test_ten_megabytes_do_not_hang(answer: str, read: Any) -> None:
    start = time.thread_time()
    (row,) = read(chat(ASK, answer, coordinates="xyxy_px"))
    read(chat(f"Describe {answer}", "mug", coordinates="xyxy_px"))
    assert isinstance(row, BadRow) and len(row.reason) < 1000
    assert time.thread_time() - start < 10


def test_what_is_asked_at_length_is_kept_as_text(read: Any, store: Store, make_picture: MakePicture) -> None:
    rows = read(chat(ASK.replace("mug", "m" * 10_000_000), "[]"))
    report = store.import_samples(rows, source="x", who="ann")
    assert (report.imported, report.errors) == (1, ())


def test_other_files_are_left_to_others(tmp_path: Path) -> None:
    importer = find_importer(tmp_path, "conversations")
    for content in (
        b"",
        b"[]",
        b"{",
        b'[{"id": 1, "regions": []}]',
        b'{"filename": "a", "grounding": {}}',
        b"\xff\xfe",
    ):
        (tmp_path / "train.json").write_bytes(content)
        assert not importer.recognises(tmp_path) and not importer.recognises(tmp_path / "train.json")
    assert not importer.recognises(tmp_path / "nowhere.json")
    with pytest.raises(RecordError, match="holds no conversations"):
        list(importer.read(tmp_path, tmp_path))


def test_the_same_rows_have_the_same_ids_wherever_they_stand(read: Any) -> None:
    one, other = chat(ASK, "[]"), chat(ASK.replace("mug", "jug"), "[]")
    first = [row.id for row in read(one, other)]
    assert [row.id for row in read(other, one, name="val.jsonl")] == first[::-1]


def test_conventions_convert_both_ways() -> None:
    box = Box(4, 3, 20, 15)
    assert numbers_1000(box, (40, 30)) == [100, 100, 500, 500]
    assert Convention("xyxy_1000").box([100, 100, 500, 500], (40, 30)) == box
    for thin in (Box(0, 0, 1e-9, 30), Box(40 - 1e-9, 0, 40, 30), Box(-5, -5, 90, 90), Box(50, 0, 60, 30)):
        x1, y1, x2, y2 = numbers_1000(thin, (40, 30))
        assert 0 <= x1 < x2 <= 1000 and 0 <= y1 < y2 <= 1000
    assert Convention.from_text(" xyxy_px of 80 x 60 ") == Convention("xyxy_px", (80, 60))
    for wrong in ("", "xyxy", "xyxy_10000", "xyxy_1000 of 80x60", None, 5):
        with pytest.raises(RecordError, match=", ".join(MEANINGS)):
            Convention.from_text(wrong)
    assert Convention.from_text("xyxy_px of the original image") == Convention("xyxy_px")
    assert Convention.from_text("xyxy_1000: 0 to 1000 of width and height") == Convention("xyxy_1000")
    for unread in ("xyxy_px of 80×60", "xyxy_px of 80 by 60", "xyxy_px of 80X60", "xyxy_px (80x60)", "xyxy_px of 80"):
        with pytest.raises(RecordError, match="names a size in other words"):
            Convention.from_text(unread)
    with pytest.raises(BoxError):
        Convention("xyxy_px").box([1, 1, 1, 5], (40, 30))
