"""Taking samples in: what is kept, what is refused and named, and that nothing that stands is touched."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from annotate import intake
from annotate.check import check
from annotate.items import BadRow, ImportReport
from annotate.store import Store
from annotate_samples import PLACEHOLDER, MakePicture, MakeSample
from grounding.boxes import Box
from grounding.errors import StoreError
from grounding.pictures import PictureStore
from grounding.records import Sample
from grounding.workspace import Workspace

Fill = Callable[..., Store]


def take(store: Store, *samples: Sample | BadRow, **options: Any) -> ImportReport:
    return store.import_samples(samples, source="test", who="importer", **options)


def test_everything_is_taken_once_and_counted(store: Store, make_sample: MakeSample) -> None:
    samples = [make_sample("a", 0), make_sample("b", 0), make_sample("c", 1, phrase=PLACEHOLDER)]
    assert take(store, *samples) == ImportReport(3, 0, ())
    assert take(store, *samples) == ImportReport(0, 3, ())
    assert (store.counts().total, store.counts().placeholders) == (3, 1)
    assert len(list(store.pictures.folder.rglob("*.png"))) == 2


def test_a_sample_that_stands_is_not_touched(fill: Fill, make_sample: MakeSample) -> None:
    store = fill("a")
    saved = store.save("a", "ann's words", who="ann", expected_revision=1)
    report = take(store, make_sample("a", 1, phrase="the source again"))
    assert (report.imported, report.already_there) == (0, 1)
    assert store.get("a") == saved
    assert len(store.history("a")) == 2


def lose(picture: Path) -> None:
    picture.unlink()


def truncate(picture: Path) -> None:
    picture.write_bytes(picture.read_bytes()[:40])


def change_one_byte(picture: Path) -> None:
    content = bytearray(picture.read_bytes())
    content[-9] ^= 1
    picture.write_bytes(content)


@pytest.mark.parametrize("harm", [lose, truncate, change_one_byte])
@pytest.mark.parametrize("link", [False, True], ids=["copy", "link"])
def test_importing_again_brings_back_a_missing_or_damaged_picture(
    harm: Callable[[Path], None], link: bool, fill: Fill, workspace: Workspace, make_sample: MakeSample
) -> None:
    store = fill("a", "b")
    samples = [make_sample("a"), make_sample("b"), make_sample("c")]
    before = store.get("a")
    harm(before.sample.image)
    dry = take(store, *samples[:2], dry_run=True)
    assert (dry.brought_back, len(check(workspace).problems)) == (1, 1)
    report = take(store, *samples[:2], link=link)
    assert (report.imported, report.already_there, report.errors, report.brought_back) == (0, 2, (), 1)
    assert check(workspace).problems == () and store.get("a") == before
    assert take(store, *samples).brought_back == 0


@pytest.mark.parametrize("harm", [lose, truncate, change_one_byte])
def test_a_new_sample_brings_the_picture_back_too(
    harm: Callable[[Path], None], fill: Fill, workspace: Workspace, make_sample: MakeSample
) -> None:
    store = fill("a")
    harm(store.get_sample("a").image)
    report = take(store, make_sample("new"), make_sample("a"))
    assert (report.imported, report.brought_back, check(workspace).problems) == (1, 0, ())


def test_only_the_very_same_picture_comes_back(fill: Fill, workspace: Workspace, make_sample: MakeSample) -> None:
    store = fill("a")
    lose(store.get_sample("a").image)
    report = take(store, make_sample("a", 1), make_sample("d", image=Path("gone.png")))
    assert (report.already_there, report.brought_back, len(report.errors)) == (1, 0, 2)
    assert report.errors[0].startswith("a: its picture in the workspace is missing or damaged, and stays so: 1.png is")
    assert not list(store.pictures.folder.rglob("*.png")), "another picture is no sample's"


def test_pictures_out_of_an_archive_come_back_too(
    fill: Fill, workspace: Workspace, make_sample: MakeSample, tmp_path: Path
) -> None:
    store = fill("a")
    lose(store.get_sample("a").image)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    taken_out = Path(shutil.copy(make_sample("a").image, scratch))
    report = take(store, *(make_sample(name, image=taken_out) for name in ("a", "b")), scratch=scratch)
    assert (report.imported, report.brought_back, report.errors) == (1, 1, ())
    assert check(workspace).problems == () and not taken_out.exists()


def test_an_import_waits_once_for_the_disk(
    store: Store, make_sample: MakeSample, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[None] = []
    monkeypatch.setattr(intake, "sync_disk", lambda: waits.append(None))
    monkeypatch.setattr(intake, "_BATCH_SAMPLES", 1)
    samples = [make_sample(name) for name in "abc"]
    take(store, *samples, dry_run=True)
    assert waits == []
    take(store, *samples)
    take(store, *samples)
    assert len(waits) == 1


def test_an_id_that_another_import_took_meanwhile_is_not_touched(
    fill: Fill, make_sample: MakeSample, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = fill("a")
    before = store.get("a")
    monkeypatch.setattr(intake.Intake, "_standing_ids", lambda self, ids: set())
    report = take(store, make_sample("a", 1, phrase="from elsewhere", boxes_xyxy_px=()), make_sample("b"))
    assert (report.imported, report.already_there, report.errors) == (1, 1, ())
    assert store.get("a") == before


BOXES = {
    "inside": (Box(1, 2, 40, 30), Box(1, 2, 40, 30), None),
    "slightly over each edge": (Box(-1.5, -2, 41, 31.9), Box(0, 0, 40, 30), None),
    "far over the right edge": (Box(1, 2, 44, 30), None, "stands outside its picture of 40 x 30 pixels"),
    "far over the top edge": (Box(1, -9, 20, 30), None, "stands outside"),
    "wholly outside": (Box(41, 2, 42, 30), None, "stands outside"),
}


@pytest.mark.parametrize(("given", "kept", "message"), BOXES.values(), ids=BOXES)
def test_boxes_are_checked_against_the_picture(
    given: Box, kept: Box | None, message: str | None, store: Store, make_sample: MakeSample
) -> None:
    report = take(store, make_sample("a", boxes_xyxy_px=(Box(5, 5, 6, 6), given)))
    if kept is None:
        assert message and report.imported == 0
        assert len(report.errors) == 1 and report.errors[0].startswith("a: ") and message in report.errors[0]
        assert store.counts().total == 0
    else:
        assert store.get_sample("a").boxes_xyxy_px == (Box(5, 5, 6, 6), kept)
        assert report.clipped == (given != kept)


def bad_picture(tmp_path: Path, kind: str) -> Path:
    path = tmp_path / f"{kind}.png"
    if kind == "text":
        path.write_text("no picture")
    elif kind == "empty":
        path.touch()
    elif kind == "folder":
        path.mkdir()
    return path


@pytest.mark.parametrize("kind", ["missing", "text", "empty", "folder"])
@pytest.mark.parametrize("dry_run", [False, True], ids=["import", "dry run"])
def test_a_bad_picture_costs_its_rows_only(
    kind: str, dry_run: bool, store: Store, make_sample: MakeSample, tmp_path: Path
) -> None:
    bad = bad_picture(tmp_path, kind)
    samples = [make_sample("a"), make_sample("b", image=bad), make_sample("c", image=bad), make_sample("d")]
    report = take(store, *samples, dry_run=dry_run)
    assert report.imported == 2
    assert [error.split(":")[0] for error in report.errors] == ["b", "c"]
    assert all(bad.name in error for error in report.errors)


ROWS = {
    "id of another script": ({"id": "собака 7"}, None),
    "control character in id": ({"id": "a\x07"}, "characters that can't be printed"),
    "lone surrogate in id": ({"id": "a\ud800"}, "characters that can't be printed"),
    "an id of pages": ({"id": "a" * 1001}, "the id has 1001 characters; the limit is 1000"),
    "lone surrogate in phrase": ({"phrase": "mug\ud800"}, "'phrase' is no valid text"),
    "lone surrogate in an alternative": ({"alternatives": ("\ud800",)}, "can't be kept as JSON"),
    "lone surrogate in a further key": ({"extra": {"k": ["\udfff"]}}, "can't be kept as JSON"),
    "object in a further key": ({"extra": {"k": object()}}, "can't be kept as JSON"),
}


@pytest.mark.parametrize(("fields", "message"), ROWS.values(), ids=ROWS)
def test_text_that_cannot_be_kept_is_named(
    fields: dict[str, Any], message: str | None, store: Store, make_sample: MakeSample
) -> None:
    report = take(store, make_sample(fields.pop("id", "a"), **fields), make_sample("z"))
    assert report.imported == (1 if message else 2)
    assert [message in error for error in report.errors] == ([True] if message else [])
    "".join(report.errors).encode()


def test_bad_rows_of_the_importer_are_listed_in_order(store: Store, make_sample: MakeSample, tmp_path: Path) -> None:
    missing = make_sample("b", image=tmp_path / "none.png")
    report = take(store, BadRow("line 1", "no JSON"), make_sample("a"), missing, BadRow("line 4", "no id"))
    assert report.imported == 1
    assert report.errors[0] == "line 1: no JSON"
    assert report.errors[1].startswith("b: There is no picture at")
    assert report.errors[2] == "line 4: no id"


def test_an_error_of_megabytes_is_cut(store: Store, make_sample: MakeSample) -> None:
    report = take(store, make_sample("x" * 5_000_000), BadRow("line 2", "y" * 5_000_000), make_sample("a"))
    assert (report.imported, len(report.errors)) == (1, 2)
    assert [error[:1] for error in report.errors] == ["x", "l"] and max(map(len, report.errors)) < 3000


@pytest.mark.parametrize("dry_run", [False, True], ids=["import", "dry run"])
@pytest.mark.parametrize("batch_samples", [500, 1])
def test_an_id_twice_in_one_source_is_an_error(
    dry_run: bool, batch_samples: int, store: Store, make_sample: MakeSample, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake, "_BATCH_SAMPLES", batch_samples)
    report = take(store, make_sample("a"), make_sample("a", phrase="another"), dry_run=dry_run)
    assert (report.imported, report.already_there) == (1, 0)
    assert report.errors == ("a: this id stands twice in the source; only the first row of it counts.",)


def test_an_error_says_nothing_to_the_terminal_and_nothing_untrue(
    store: Store, make_sample: MakeSample, tmp_path: Path
) -> None:
    steering = "a\x1b[2J\u202e"
    report = take(
        store,
        *(make_sample(steering) for _ in range(2)),
        BadRow(f"{steering}.json, record 1", "no record"),
        *(make_sample("b", image=image) for image in (tmp_path / "none.png", make_sample("c").image)),
    )
    assert len(report.errors) == 5 and all(error.isprintable() for error in report.errors)
    assert report.errors[1].startswith("a\\x1b[2J\\u202e: this id stands twice")
    # The first row of "b" has no picture: none was taken.
    assert report.errors[4] == "b: this id stands twice in the source; only the first row of it counts."


def test_a_dry_run_says_what_an_import_does_and_writes_nothing(
    fill: Fill, make_sample: MakeSample, tmp_path: Path
) -> None:
    store = fill("a")
    samples = [
        make_sample("a"),
        make_sample("b", 5, boxes_xyxy_px=(Box(-1, 0, 9, 9),)),
        make_sample("c", image=tmp_path / "none.png"),
    ]
    before = sorted(store.pictures.folder.rglob("*"))
    dry = take(store, *samples, dry_run=True)
    assert dry.dry_run and store.counts().total == 1
    assert sorted(store.pictures.folder.rglob("*")) == before
    real = take(store, *samples)
    assert (dry.imported, dry.already_there, dry.errors, dry.clipped) == (1, 1, real.errors, 1)
    assert (real.imported, real.already_there, real.clipped) == (1, 1, 1)


def test_batches_commit_and_report_progress(
    store: Store, make_sample: MakeSample, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake, "_BATCH_SAMPLES", 2)
    done: list[int] = []

    def breaks_off() -> Any:
        yield from (make_sample(f"s{number}") for number in range(4))
        raise StoreError("the source broke off")

    with pytest.raises(StoreError, match=r"broke off"):
        store.import_samples(breaks_off(), source="test", who="importer", progress=done.append)
    assert (done, store.counts().total) == ([2, 4], 4)
    assert [item.id for item in store.siblings("s0")] == ["s1", "s2", "s3"]


@pytest.mark.parametrize("link", [False, True], ids=["copy", "link"])
def test_link_shares_the_file_and_copy_does_not(
    link: bool, store: Store, make_sample: MakeSample, make_picture: MakePicture
) -> None:
    take(store, make_sample("a"), link=link)
    assert store.get_sample("a").image.samefile(make_picture(0)) == link


def test_a_picture_folder_that_cannot_be_made_is_explained(
    workspace: Any, make_sample: MakeSample, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    store = Store(workspace.annotations_db, PictureStore(tmp_path / "file" / "images"))
    with pytest.raises(StoreError, match=r"picture folder .* can't be written .* import again"):
        take(store, make_sample("a"))
    assert store.counts().total == 0
