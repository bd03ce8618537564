"""The demo data set: its files, shares and split, and that nothing hidden shows through."""

from __future__ import annotations

import json
import random
from collections import Counter, defaultdict
from pathlib import Path

import pytest
from PIL import Image

from grounding.demo import dataset
from grounding.demo.dataset import PLACEHOLDER_PHRASE, DemoSize, DemoSummary, draw_picture, write_demo
from grounding.demo.mark import MARK
from grounding.demo.phrases import true_phrases
from grounding.demo.plan import PicturePlan, SamplePlan, Shown, plan_split
from grounding.demo.scenes import Scene
from grounding.demo.sprites import known_nouns, unknown_nouns
from grounding.errors import Cancelled, SettingsError, WorkspaceError
from grounding.records import Sample, read_samples, write_samples

SIZE = DemoSize(train_pictures=50, val_pictures=13, test_pictures=25)
KEYS = {"id", "image", "phrase", "boxes_xyxy_px", "split", "category", "image_id", "alternatives"}


@pytest.fixture(scope="module")
def summary(tmp_path_factory: pytest.TempPathFactory) -> DemoSummary:
    return write_demo(tmp_path_factory.mktemp("demo"), seed=3, size=SIZE)


@pytest.fixture(scope="module")
def samples(summary: DemoSummary) -> dict[str, list[Sample]]:
    return {split: list(read_samples(summary.folder / f"{split}.jsonl")) for split in ("train", "val", "test")}


@pytest.fixture(scope="module")
def scenes(summary: DemoSummary) -> dict[str, Scene]:
    """The scenes again, by image id: drawn anew from the plan and the picture's own seed."""
    drawn = {}
    for split, pictures in SIZE.by_split.items():
        plans = plan_split(random.Random(f"3/{split}"), pictures, placeholders=split == "train")
        for number, plan in enumerate(plans):
            image_id = f"{split}-{number:04d}"
            drawn[image_id], _ = draw_picture(plan, random.Random(f"3/{image_id}"))
    return drawn


def phrases_of(scene: Scene, sample: Sample) -> set[str]:
    """What the grammar says of the sample's object."""
    boxes = [each.box_xyxy_px for each in scene.objects]
    return {phrase.text for phrase in true_phrases(scene.objects, boxes.index(sample.boxes_xyxy_px[0]))}


def test_the_default_size_is_that_of_the_contract() -> None:
    assert dict(DemoSize().by_split) == {"train": 900, "val": 50, "test": 100}


def test_a_negative_size_is_refused() -> None:
    with pytest.raises(SettingsError, match="val_pictures is -1"):
        DemoSize(val_pictures=-1)


def test_lines_follow_the_contract(summary: DemoSummary) -> None:
    for split in ("train", "val", "test"):
        lines = (summary.folder / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()
        for number, line in enumerate(lines):
            record = json.loads(line)
            assert set(record) == KEYS
            assert record["id"] == f"demo-{split}-{number:04d}"
            assert record["image"] == f"images/{record['image_id']}.png"
            assert record["split"] == split


def test_lines_come_back_unchanged(summary: DemoSummary, samples: dict[str, list[Sample]]) -> None:
    for split, each in samples.items():
        again = summary.folder / f"{split}-again.jsonl"
        write_samples(again, each)
        text = again.read_text(encoding="utf-8")
        again.unlink()
        assert text == (summary.folder / f"{split}.jsonl").read_text(encoding="utf-8")


def test_every_picture_stands_in_one_split_with_two_samples(
    summary: DemoSummary, samples: dict[str, list[Sample]]
) -> None:
    of_split = {split: Counter(sample.image for sample in each) for split, each in samples.items()}
    assert {split: len(each) for split, each in of_split.items()} == dict(SIZE.by_split)
    assert all(count == 2 for each in of_split.values() for count in each.values())
    named = set().union(*of_split.values())
    assert len(named) == SIZE.pictures
    assert named == set((summary.folder / "images").resolve().glob("*.png"))
    for path in named:
        with Image.open(path) as picture:
            assert (picture.format, picture.size, picture.mode) == ("PNG", (256, 256), "RGB")


def test_the_two_samples_of_a_picture_are_about_different_things(samples: dict[str, list[Sample]]) -> None:
    of_picture = defaultdict(list)
    for sample in (sample for each in samples.values() for sample in each):
        of_picture[sample.image_id].append((sample.boxes_xyxy_px, sample.category))
    assert all(first != second for first, second in of_picture.values())
    same_noun = sum(first[1] == second[1] for first, second in of_picture.values())
    assert 0.05 < same_noun / len(of_picture) < 0.4


def test_shown_phrases_and_alternatives_are_true_of_the_box(
    samples: dict[str, list[Sample]], scenes: dict[str, Scene]
) -> None:
    for sample in (sample for each in samples.values() for sample in each if sample.boxes_xyxy_px):
        true = phrases_of(scenes[sample.image_id], sample)
        said = [phrase for phrase in (sample.phrase, *sample.alternatives) if phrase != PLACEHOLDER_PHRASE]
        assert set(said) <= true, sample.id
        assert len(set(said)) == len(said), sample.id
        if sample.phrase != PLACEHOLDER_PHRASE:
            assert min(2, len(true) - 1) <= len(sample.alternatives) <= 4, sample.id
        elif sample.alternatives:
            assert min(3, len(true)) <= len(sample.alternatives) <= 5, sample.id


def test_phrases_for_nothing_name_an_absent_noun(samples: dict[str, list[Sample]], scenes: dict[str, Scene]) -> None:
    empty = [sample for each in samples.values() for sample in each if not sample.boxes_xyxy_px]
    assert len(empty) == 4 + 1 + 2
    for sample in empty:
        assert sample.category not in {each.noun for each in scenes[sample.image_id].objects}
        assert sample.category in sample.phrase
        assert sample.alternatives == ()


def test_placeholders_stand_in_train_only_and_hide_the_phrase(
    summary: DemoSummary, samples: dict[str, list[Sample]]
) -> None:
    lost = [sample for sample in samples["train"] if sample.phrase == PLACEHOLDER_PHRASE]
    assert len(lost) == 48
    assert sum(not sample.alternatives for sample in lost) == 6
    assert all(sample.boxes_xyxy_px for sample in lost)
    assert not any(sample.phrase == PLACEHOLDER_PHRASE for split in ("val", "test") for sample in samples[split])
    assert (summary.placeholders, summary.placeholders_without_alternatives) == (48, 6)


def test_kinds_are_mixed(samples: dict[str, list[Sample]], scenes: dict[str, Scene]) -> None:
    kinds: Counter[str] = Counter()
    for sample in samples["test"] + samples["val"]:
        if sample.boxes_xyxy_px:
            objects = scenes[sample.image_id].objects
            target = [each.box_xyxy_px for each in objects].index(sample.boxes_xyxy_px[0])
            kinds.update(p.kind.value for p in true_phrases(objects, target) if p.text == sample.phrase)
    assert set(kinds) == {"noun", "size", "location", "relation"}
    assert max(kinds.values()) < 0.6 * kinds.total()


def test_the_summary_counts_what_was_written(summary: DemoSummary) -> None:
    assert summary.pictures == 88
    assert dict(summary.samples_by_split) == {"train": 100, "val": 26, "test": 50}
    assert summary.without_target == 7
    assert summary.bytes_written == sum(file.stat().st_size for file in summary.folder.rglob("*") if file.is_file())


def test_the_same_seed_writes_the_same_bytes_and_another_does_not(tmp_path: Path) -> None:
    size = DemoSize(train_pictures=4, val_pictures=1, test_pictures=2)
    for name, seed in (("one", 7), ("again", 7), ("other", 8)):
        write_demo(tmp_path / name, seed=seed, size=size)
    files = {
        name: {file.relative_to(tmp_path / name): file.read_bytes() for file in (tmp_path / name).rglob("*.*")}
        for name in ("one", "again", "other")
    }
    assert len(files["one"]) == 3 + 7 + 1
    assert files["one"] == files["again"]
    assert all(files["one"][path] != files["other"][path] for path in files["one"])


def test_a_picture_does_not_depend_on_those_before_it(
    summary: DemoSummary, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Drawn alone, the last test picture has the pixels it has in the whole data set."""
    plan = plan_split(random.Random("3/test"), 25, placeholders=False)[24]
    scene, _ = draw_picture(plan, random.Random("3/test-0024"))
    with Image.open(summary.folder / "images" / "test-0024.png") as picture:
        assert picture.tobytes() == scene.image.tobytes()


def test_progress_counts_every_picture(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    write_demo(tmp_path, size=DemoSize(2, 0, 1), progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_a_stop_leaves_no_list_that_names_missing_pictures(tmp_path: Path) -> None:
    def stop(done: int, total: int) -> None:
        if done == 2:
            raise Cancelled("Stopped.")

    with pytest.raises(Cancelled):
        write_demo(tmp_path, size=DemoSize(3, 1, 1), progress=stop)
    assert not list(tmp_path.glob("*.jsonl"))


def test_a_folder_that_cannot_be_written_is_explained(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("here first")
    with pytest.raises(WorkspaceError, match=r"can't be written to .*file.*Choose a folder"):
        write_demo(tmp_path / "file", size=DemoSize(1, 0, 0))


SMALL = DemoSize(2, 1, 1)


def drawn(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_what_the_demo_wrote_may_be_written_again(tmp_path: Path) -> None:
    write_demo(tmp_path, size=SMALL)
    first = drawn(tmp_path)
    write_demo(tmp_path, seed=1, size=SMALL)
    assert drawn(tmp_path)["train.jsonl"] != first["train.jsonl"]
    write_demo(tmp_path, size=DemoSize(1, 1, 1))
    write_demo(tmp_path, size=SMALL)
    assert drawn(tmp_path).keys() == first.keys()


def test_so_may_what_a_stop_or_an_earlier_version_left(tmp_path: Path) -> None:
    def stop(done: int, total: int) -> None:
        raise Cancelled("Stopped.")

    with pytest.raises(Cancelled):
        write_demo(tmp_path, size=SMALL, progress=stop)
    write_demo(tmp_path, size=SMALL)
    (tmp_path / MARK).unlink()
    with pytest.raises(Cancelled):
        write_demo(tmp_path, size=SMALL, progress=stop)
    write_demo(tmp_path, size=SMALL)


@pytest.mark.parametrize("name", ["train.jsonl", "val.jsonl", "test.jsonl", "images/train-0001.png"])
def test_somebodys_own_files_are_never_written_over(tmp_path: Path, name: str) -> None:
    own = tmp_path / name
    own.parent.mkdir(exist_ok=True)
    own.write_text('{"id": "a", "image": "a.png", "phrase": "dog", "boxes_xyxy_px": []}')
    before = drawn(tmp_path)
    with pytest.raises(WorkspaceError, match=rf"{name} would be written over.*Choose another folder"):
        write_demo(tmp_path, size=SMALL)
    assert drawn(tmp_path) == before


def test_nor_is_a_list_of_the_demo_that_somebody_has_changed(tmp_path: Path) -> None:
    write_demo(tmp_path, size=SMALL)
    changed = (tmp_path / "train.jsonl").read_text().replace('"phrase": "', '"phrase": "my ', 1)
    (tmp_path / "train.jsonl").write_text(changed)
    with pytest.raises(WorkspaceError, match="not as the demo wrote it"):
        write_demo(tmp_path, size=SMALL)
    (tmp_path / MARK).write_text("{")
    with pytest.raises(WorkspaceError, match="not as the demo wrote it"):
        write_demo(tmp_path, size=SMALL)
    assert (tmp_path / "train.jsonl").read_text() == changed


def test_other_files_in_the_folder_are_none_of_the_demos_business(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    write_demo(tmp_path, size=SMALL)
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_the_full_plan_keeps_shares_and_balance() -> None:
    for split, pictures in DemoSize().by_split.items():
        plans = plan_split(random.Random(f"0/{split}"), pictures, placeholders=split == "train")
        asked = Counter(sample.noun for plan in plans for sample in plan.samples)
        assert len(plans) == pictures
        for nouns, share in ((unknown_nouns(), 0.72), (known_nouns(), 0.24)):
            counts = [asked[noun] for noun in nouns]
            assert sum(counts) == round(2 * pictures * share), split
            assert max(counts) - min(counts) <= 1, split
        assert asked[None] == round(2 * pictures * 0.04), split
        assert sum(plan.repeats for plan in plans) == round(0.6 * pictures), split
        assert 0.15 < sum(plan.is_twin for plan in plans) / pictures < 0.3, split


def test_the_full_plan_hides_half_of_train() -> None:
    plans = plan_split(random.Random("0/train"), 900, placeholders=True)
    shown = Counter(sample.shown for plan in plans for sample in plan.samples)
    assert shown == {Shown.PHRASE: 936, Shown.PLACEHOLDER: 760, Shown.BARE_PLACEHOLDER: 104}
    assert all(sample.shown is Shown.PHRASE for plan in plans for sample in plan.samples if sample.noun is None)


def test_no_pictures_make_no_plan() -> None:
    assert plan_split(random.Random(0), 0, placeholders=True) == []


def test_two_absent_nouns_on_one_picture_differ(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A short list of nouns makes a clash all but certain unless it is prevented."""
    plan = PicturePlan((SamplePlan(None), SamplePlan(None)), repeats=False)
    monkeypatch.setattr(dataset, "absent_nouns", lambda objects, nouns: ("tent", "drum"))
    (tmp_path / "images").mkdir()
    for number in range(6):
        first, second = dataset._write_picture(tmp_path, plan, f"val-{number:04d}", seed=0)
        assert {first.category, second.category} == {"tent", "drum"}
