"""The row checks: what blocks, what is listed, and where each finding leads."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from grounding.boxes import Box
from grounding.errors import BoxError
from grounding.families import all_profiles
from grounding.formats import QwenJson1000
from grounding.profiles import ModelProfile
from grounding.records import Sample
from grounding.training.data import group_by_picture
from grounding.training.feed import Feed
from grounding.training.preflight import Finding, Preflight, PreflightError, annotate_address
from grounding.training.preflight.check import check_samples
from grounding.training.preflight.headers import read_header, read_headers
from grounding.training.preflight.rounding import round_trip
from grounding.training.settings import TrainSettings

PLACEHOLDER = "Please carefully observe the area circled in the image and come up with a caption for the area."
PROFILE = all_profiles()["qwen3-vl-demo"]


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    Image.new("RGB", (200, 100), "teal").save(tmp_path / "a.png")
    return tmp_path / "a.png"


def sample(number: int, picture: Path, phrase: str = "", **changes: object) -> Sample:
    box = Box(number % 50, 5, number % 50 + 60, 80)
    return replace(Sample(f"s{number}", picture, phrase or f"mug {number}", (box,), "train"), **changes)  # type: ignore[arg-type]


def check(samples: list[Sample], **changes: object) -> Preflight:
    return check_samples(samples, PROFILE, TrainSettings(), **changes)  # type: ignore[arg-type]


def finding(checked: Preflight, kind: str) -> Finding:
    (found,) = [f for f in checked.findings if f.kind == kind]
    return found


def kinds(checked: Preflight) -> dict[str, bool]:
    return {f.kind: f.blocking for f in checked.findings}


def held_out(picture: Path) -> Sample:
    other = picture.with_name("val.png")
    Image.new("RGB", (90, 100), "navy").save(other)
    return Sample("v", other, "the cup", (Box(1, 1, 50, 50),), "val")


def test_a_sound_set_has_no_finding(picture: Path) -> None:
    checked = check([sample(1, picture), sample(2, picture), held_out(picture)])
    assert checked.findings == ()
    assert checked.counts == {"train": 2, "val": 1, "train_pictures": 1}
    checked.check()


@pytest.mark.parametrize(("share", "per_step"), [(0.0, 4), (0.4, 4), (0.4, 9), (0.0, 9)])
def test_rounds_are_those_of_the_steps_with_what_is_rehearsed_beside_them(
    picture: Path, share: float, per_step: int
) -> None:
    train = [sample(n, picture.with_name(f"{n}.png")) for n in range(6)]
    old = [sample(n, picture.with_name(f"{n}.png")) for n in range(6, 60)] if share else []
    settings = TrainSettings(steps=60, images_per_step=per_step, rehearsal_share=share, group_lengths=False)
    new, rehearsed = (group_by_picture(some, use_alternatives=True) if some else [] for some in (train, old))
    feed = Feed(new, settings, rehearsed)
    shown = [drawn for step in range(1, 61) for drawn in feed.step(step) if not drawn.rehearsed]
    cost = check_samples(train, PROFILE, settings).cost
    assert cost is not None
    assert cost.rounds == pytest.approx(len(shown) / len(train), rel=0.01)


def test_placeholders_only_are_refused_with_the_reason(picture: Path) -> None:
    checked = check([sample(n, picture, PLACEHOLDER) for n in range(5)])
    found = finding(checked, "placeholder")
    assert found.blocking
    assert found.sentence.startswith("Every one of the 5 train phrases is a placeholder, such as “Please carefully")
    assert "nothing about phrases can be learned" in found.sentence
    assert found.samples == ("s0", "s1", "s2", "s3", "s4")
    assert found.queue == "#queue=placeholders&split=train"
    with pytest.raises(PreflightError, match="Every one of the 5 train phrases") as refused:
        checked.check()
    assert "Train anyway" in str(refused.value)
    replace(checked, forced=True).check()


def test_a_few_placeholders_are_counted(picture: Path) -> None:
    found = finding(check([sample(1, picture, PLACEHOLDER), sample(2, picture)]), "placeholder")
    assert found.sentence.startswith("1 of 2 train phrases are placeholders")
    assert found.samples == ("s1",)


def test_each_fault_is_found_by_itself(picture: Path) -> None:
    whole = [sample(1, picture), sample(2, picture), held_out(picture)]
    cases: dict[str, tuple[Sample, bool]] = {
        "empty_phrase": (replace(sample(9, picture), phrase="  "), True),
        "degenerate_box": (replace(sample(9, picture), boxes_xyxy_px=(Box(1, 1, 1.5, 40),)), True),
        "outside_box": (replace(sample(9, picture), boxes_xyxy_px=(Box(150, 10, 260, 90),)), True),
        "duplicate": (replace(sample(1, picture), id="s9", phrase="Mug  1"), True),
        "placeholder_alternative": (replace(sample(9, picture), alternatives=(PLACEHOLDER,)), True),
        "ambiguous": (replace(sample(9, picture), phrase="mug 1"), False),
        "long_phrase": (replace(sample(9, picture), phrase="word " * 200), False),
        "unreadable_picture": (replace(sample(9, picture), image=picture.with_name("gone.png")), False),
        "tiny_boxes": (replace(sample(9, picture), boxes_xyxy_px=(Box(10.05, 10.05, 11.1, 11.1),)), False),
    }
    for kind, (fault, blocking) in cases.items():
        # Two of four rows that contradict each other would be most of them.
        checked = check([*whole, sample(5, picture), sample(6, picture), fault])
        assert kinds(checked).get(kind) is blocking, (kind, kinds(checked))
        assert fault.id in finding(checked, kind).samples
        if kind != "outside_box":
            assert set(kinds(checked)) <= {kind, "tiny_boxes"}, kind


def test_boxes_that_reach_out_by_rounding_pass(picture: Path) -> None:
    assert (
        check([replace(sample(1, picture), boxes_xyxy_px=(Box(-0.4, 0, 200.9, 100.5),)), held_out(picture)]).findings
        == ()
    )


def test_contradictions_block_when_most_are(picture: Path) -> None:
    same = [replace(sample(n, picture), phrase="the thing here") for n in range(4)]
    found = finding(check(same), "ambiguous")
    assert found.blocking
    assert "teach" in found.sentence


def test_a_template_is_found_by_structure(tmp_path: Path) -> None:
    samples = []
    for n in range(30):
        path = tmp_path / f"{n}.png"
        Image.new("RGB", (100, 100), (n, 0, 0)).save(path)
        samples.append(sample(n, path, "one of those nice things that we saw on our way"))
    assert finding(check(samples), "template").blocking
    cars = [replace(s, phrase="the car on the left", category="car") for s in samples]
    assert "template" not in kinds(check(cars))


def test_leaks_by_file_by_bytes_and_by_the_snapshots_list(picture: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.png"
    shutil.copy(picture, copy)
    other = tmp_path / "other.png"
    Image.new("RGB", (10, 400), "red").save(other)
    train = sample(1, picture)
    for image in (picture, copy):
        assert finding(check([train, Sample("v", image, "the cup", (Box(1, 1, 9, 9),), "val")]), "leak").samples == (
            "s1",
        )
    val = Sample("v", other, "the cup", (Box(1, 1, 9, 9),), "val")
    assert "leak" not in kinds(check([train, val]))
    line = {"kind": "near_duplicate", "train_samples": ["s1"], "held_out_samples": ["v"]}
    (tmp_path / "leaks.jsonl").write_text(json.dumps(line) + "\n")
    assert finding(check([train, val], leaks_of=tmp_path), "leak").blocking
    # The list also names what the snapshot left out.
    (tmp_path / "leaks.jsonl").write_text(json.dumps(line | {"train_samples": ["elsewhere"]}) + "\n")
    assert "leak" not in kinds(check([train, val], leaks_of=tmp_path))


def test_no_readable_picture_at_all_blocks(tmp_path: Path) -> None:
    found = finding(check([sample(1, tmp_path / "gone.png")]), "unreadable_picture")
    assert found.blocking
    assert "gone.png" in found.sentence


def test_nothing_to_learn_and_nothing_to_score_on(picture: Path) -> None:
    assert finding(check([held_out(picture)]), "nothing_to_learn").blocking
    assert not finding(check([sample(1, picture)]), "no_validation").blocking


def test_a_profile_that_is_not_trained_blocks(picture: Path) -> None:
    detector = next(p for p in all_profiles().values() if not p.lora_targets)
    assert kinds(check_samples([sample(1, picture)], detector, TrainSettings()))["untrainable"]


def test_rounding_is_measured(picture: Path) -> None:
    rounding, found = round_trip(
        [replace(sample(1, picture), boxes_xyxy_px=(Box(10, 10, 20, 20), Box(10.07, 10.04, 10.97, 10.96)))],
        read_headers([picture]),
        QwenJson1000(),
    )
    assert rounding.boxes == 2
    assert rounding.below == 1
    assert rounding.worst[0].iou < 0.9 < rounding.worst[1].iou
    assert 0 < rounding.mean_loss < 0.3
    assert [f.kind for f in found] == ["tiny_boxes"]


class Shifted(QwenJson1000):
    """Reads another box than was written."""

    def read(self, text: str) -> list[list[float]] | None:
        return [[number + 40 for number in box] for box in super().read(text) or []]


class OneBox(QwenJson1000):
    def encode(self, boxes_xyxy_px, frame, phrase=""):  # type: ignore[no-untyped-def]
        if len(boxes_xyxy_px) != 1:
            raise BoxError("one box only")
        return super().encode(boxes_xyxy_px, frame, phrase)


@pytest.mark.parametrize(("text_format", "kind"), [(Shifted(), "round_trip"), (OneBox(), "unsayable")])
def test_a_format_that_loses_boxes_blocks(picture: Path, text_format: QwenJson1000, kind: str) -> None:
    profile: ModelProfile = replace(PROFILE, box_format=text_format)
    samples = [sample(1, picture), replace(sample(2, picture), boxes_xyxy_px=())]
    checked = check_samples(samples, profile, TrainSettings())
    assert kinds(checked)[kind]


def test_sizes_are_read_from_headers_upright_and_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.new("RGB", (30, 20)).save(tmp_path / "plain.png")
    Image.new("RGB", (30, 20)).save(tmp_path / "turned.png", exif=turned)
    Image.new("RGB", (30, 20)).save(tmp_path / "turned.jpg", exif=turned)
    (tmp_path / "torn.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    paths = [tmp_path / name for name in ("plain.png", "turned.png", "turned.jpg", "torn.png", "gone.png")]
    cache = tmp_path / "sizes.db"
    first = read_headers(paths, cache)
    assert [first[path].size_wh for path in paths] == [(30, 20), (20, 30), (20, 30), None, None]
    monkeypatch.setattr("grounding.training.preflight.headers.read_header", lambda *_: pytest.fail("read again"))
    assert read_headers(paths, cache) == first
    monkeypatch.undo()
    Image.new("RGB", (31, 20)).save(tmp_path / "plain.png")
    assert read_headers(paths, cache)[paths[0]].size_wh == (31, 20)
    assert read_header(tmp_path / "torn.png").reason


def test_a_damaged_cache_costs_time_only(picture: Path, tmp_path: Path) -> None:
    (tmp_path / "sizes.db").write_bytes(b"no database at all" * 100)
    assert read_headers([picture], tmp_path / "sizes.db")[picture].size_wh == (200, 100)


def test_it_goes_through_json_and_back(picture: Path, tmp_path: Path) -> None:
    checked = check([sample(1, picture, PLACEHOLDER), sample(2, picture)])
    assert Preflight.from_json(json.loads(json.dumps(checked.to_json()))) == checked
    checked.save(tmp_path / "run")
    assert Preflight.load(tmp_path / "run") == checked
    (tmp_path / "run" / "preflight.json").write_text("{}")
    assert Preflight.load(tmp_path / "run") is None


def test_an_address_holds_any_id() -> None:
    assert annotate_address("a b/ü&queue=x") == "#queue=all&sample=a%20b%2F%C3%BC%26queue%3Dx"
