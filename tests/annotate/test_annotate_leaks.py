"""What stands in train and in val or test is found by bytes, by id and by its looks, and snapshots leave it out."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from test_annotate_twins import draw

from annotate.leaks import LeakReport
from annotate.snapshot import freeze
from annotate.store import Store
from annotate.twins import fill_hashes
from grounding.records import Sample, read_samples
from grounding.workspace import Workspace

Put = Callable[..., None]


@pytest.fixture
def put(store: Store, tmp_path: Path) -> Put:
    """`put(id, picture, split, image_id="", source="one")` imports a sample on that picture."""

    def put_one(sample_id: str, picture: Image.Image, split: str, *, image_id: str = "", source: str = "one") -> None:
        path = tmp_path / f"{sample_id}.png"
        picture.save(path)
        sample = Sample(sample_id, path, f"the {sample_id} thing", (), split, image_id=image_id)
        assert not store.import_samples([sample], source=source, who="w").errors

    return put_one


def test_without_looking_only_what_is_certain_is_told(put: Put, store: Store) -> None:
    put("same-train", draw(1), "train")
    put("same-test", draw(1), "test", source="two")
    put("id-train", cut(draw(3)), "train", image_id="581857")
    put("id-val", draw(3), "val", image_id="581857")
    put("near-train", smaller(draw(2)), "train", image_id="7")
    put("near-val", draw(2), "val", image_id="7", source="two")
    with store.view() as view:
        report = view.leaks(by_looks=False)
    assert [pair[0] for pair in pairs(report)] == ["same_picture", "same_image_id"]
    assert [pair[0] for pair in pairs(find(store))] == ["same_picture", "same_image_id", "same_image_id"]


def find(store: Store) -> LeakReport:
    fill_hashes(store.path, store.pictures)
    with store.view() as view:
        return view.leaks()


def pairs(report: LeakReport) -> list[tuple[str, tuple[str, ...], tuple[str, ...]]]:
    return [(leak.kind, leak.train_samples, leak.held_out_samples) for leak in report.leaks]


def smaller(picture: Image.Image) -> Image.Image:
    return picture.resize((picture.width // 2, picture.height // 2))


def cut(picture: Image.Image) -> Image.Image:
    return picture.crop((0, 0, picture.width // 2, picture.height // 2))


def test_the_three_kinds(put: Put, store: Store) -> None:
    put("same-train", draw(1), "train")
    put("same-train-2", draw(1), "train")
    put("same-test", draw(1), "test")
    put("near-train", smaller(draw(2)), "train")
    put("near-val", draw(2), "val")
    put("id-train", cut(draw(3)), "train", image_id="581857")
    put("id-test", draw(3), "test", image_id="581857")
    put("clean-train", draw(4), "train", image_id="7")
    put("clean-test", draw(5), "test", image_id="8")
    put("twice-train", smaller(draw(4)), "train")
    put("twice-test", smaller(draw(5)), "test")
    report = find(store)
    assert pairs(report) == [
        ("same_picture", ("same-train", "same-train-2"), ("same-test",)),
        ("same_image_id", ("id-train",), ("id-test",)),
        ("near_duplicate", ("near-train",), ("near-val",)),
    ]
    assert report.counts() == {"same_picture": 2, "same_image_id": 1, "near_duplicate": 1}
    assert report.not_compared == 0


def test_a_pair_is_told_once_under_the_first_kind(put: Put, store: Store) -> None:
    put("train", smaller(draw(1)), "train", image_id="5")
    put("test", draw(1), "test", image_id="5")
    put("val", draw(1).convert("L"), "val")
    report = find(store)
    assert pairs(report) == [
        ("same_image_id", ("train",), ("test",)),
        ("near_duplicate", ("train",), ("val",)),
    ]
    assert report.counts() == {"same_picture": 0, "same_image_id": 1, "near_duplicate": 0}


def test_two_sources_may_number_other_pictures_alike(put: Put, store: Store) -> None:
    put("train", draw(1), "train", image_id="5", source="coco")
    put("other", draw(2), "test", image_id="5", source="visual genome")
    assert pairs(find(store)) == []
    put("again", smaller(draw(1)), "test", image_id="5", source="refcoco+")
    assert pairs(find(store)) == [("same_image_id", ("train",), ("again",))]


@pytest.mark.parametrize("count", [3, 12])
def test_a_source_that_counts_anew_in_each_split_is_not_believed(count: int, put: Put, store: Store) -> None:
    for number in range(count):
        put(f"train-{number}", draw(number), "train", image_id=f"{number:04}")
        put(f"test-{number}", draw(100 + number), "test", image_id=f"{number:04}")
    assert len(find(store).leaks) == (count if count < 8 else 0)


def test_an_id_of_very_many_pictures_is_none(put: Put, store: Store) -> None:
    for number in range(20):
        put(f"s{number}", draw(number), "train" if number % 2 else "test", image_id="0")
    assert pairs(find(store)) == []


def test_even_surfaces_leak_only_as_the_same_picture(put: Put, store: Store) -> None:
    for number in range(6):
        put(f"s{number}", Image.new("RGB", (64, 48), (250, 250, 250 - number)), "train" if number % 2 else "test")
    put("again", Image.new("RGB", (64, 48), (250, 250, 249)), "test")
    report = find(store)
    assert pairs(report) == [("same_picture", ("s1",), ("again",))]
    assert report.not_compared == 6


def test_a_picture_that_is_gone_stops_nothing(put: Put, store: Store) -> None:
    put("train", draw(1), "train")
    put("test", smaller(draw(1)), "test")
    fill_hashes(store.path, store.pictures)
    store.get("test").sample.image.unlink()
    assert pairs(find(store)) == []


def test_a_snapshot_leaves_them_out_counts_and_lists_them(put: Put, store: Store, workspace: Workspace) -> None:
    put("same", draw(1), "train")
    put("test", draw(1), "test")
    put("near", smaller(draw(2)), "train")
    put("near-flagged", smaller(draw(2)), "train")
    put("val", draw(2), "val", image_id="")
    put("good", draw(4), "train")
    store.flag("near-flagged", "?", who="ann", expected_revision=1)
    told: list[tuple[int, int]] = []
    info = freeze(store, workspace.snapshots, "one", who="ann", progress=lambda done, total: told.append((done, total)))
    assert [sample.id for sample in read_samples(info.samples_path)] == ["test", "val", "good"]
    assert info.left_out == {"flagged": 1, "leak": 1, "near_duplicate": 1}
    assert info.leaks == {"same_picture": 1, "same_image_id": 0, "near_duplicate": 2}
    assert sum(info.counts.values()) + sum(info.left_out.values()) == store.counts().total
    lines = [json.loads(line) for line in (info.path / "leaks.jsonl").read_text().splitlines()]
    assert lines == [
        {
            "kind": "same_picture",
            "train_picture": store.get("same").picture_sha256,
            "held_out_picture": store.get("same").picture_sha256,
            "train_samples": ["same"],
            "held_out_samples": ["test"],
        },
        {
            "kind": "near_duplicate",
            "train_picture": store.get("near").picture_sha256,
            "held_out_picture": store.get("val").picture_sha256,
            "train_samples": ["near", "near-flagged"],
            "held_out_samples": ["val"],
        },
    ]
    assert told == [(4, 4)]


def test_a_copy_that_is_imported_while_a_snapshot_looks_at_the_pictures_is_left_out_too(
    put: Put, store: Store, workspace: Workspace
) -> None:
    put("val", draw(2), "val")
    put("good", draw(4), "train")
    meanwhile = iter([lambda: put("near", smaller(draw(2)), "train")])

    def look(done: int, total: int) -> None:
        next(meanwhile, lambda: None)()

    info = freeze(store, workspace.snapshots, "one", who="ann", progress=look)
    assert [sample.id for sample in read_samples(info.samples_path)] == ["val", "good"]
    assert info.left_out == {"near_duplicate": 1}


def test_a_picture_stands_in_one_split_of_a_snapshot(put: Put, store: Store, workspace: Workspace) -> None:
    for number, split in enumerate(("train", "val", "test", "val", "train")):
        put(f"{split}-{number}", draw(1 + number // 3), split)
    put("train-alone", draw(3), "train")
    info = freeze(store, workspace.snapshots, "one", who="ann")
    kept = [sample.id for sample in read_samples(info.samples_path)]
    assert kept == ["test-2", "val-3", "train-alone"]
    assert info.left_out == {"leak": 2, "in_test_too": 1}


def test_the_demo_data_leaks_nothing(store: Store, tmp_path: Path, workspace: Workspace) -> None:
    from grounding.demo.dataset import DemoSize, write_demo

    write_demo(tmp_path / "demo", size=DemoSize(60, 20, 20))
    for split in ("train", "val", "test"):
        store.import_samples(read_samples(tmp_path / "demo" / f"{split}.jsonl"), source="demo", who="w")
    assert find(store).leaks == ()
