"""Tiny pictures, samples on them, and a store in the test's own workspace."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from annotate import intake
from annotate.store import Store
from annotate_page import app, browser, context, page, rows  # noqa: F401  # fixtures of the browser tests
from annotate_samples import PLACEHOLDER, MakePicture, MakeSample
from grounding import database
from grounding.boxes import Box
from grounding.records import Sample, write_samples
from grounding.workspace import Workspace


@pytest.fixture(autouse=True)
def quick_disk(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """No waiting for the disk, except in tests that ask for `real_disk`: what is tested here is not the power cut."""
    if "real_disk" not in request.fixturenames:
        pragmas = [pragma.replace("synchronous = FULL", "synchronous = OFF") for pragma in database._PRAGMAS]
        monkeypatch.setattr(database, "_PRAGMAS", pragmas)
        monkeypatch.setattr(intake, "sync_disk", lambda: None)


@pytest.fixture
def real_disk() -> None:
    """The database waits for the disk as it does in earnest."""


@pytest.fixture
def make_picture(tmp_path: Path) -> MakePicture:
    """`make_picture(number)` is a PNG of 40 x 30 pixels; each number another colour, so another SHA-256."""

    def make(number: int = 0, size_wh: tuple[int, int] = (40, 30)) -> Path:
        path = tmp_path / "source" / f"{number}.png"
        if not path.exists():
            path.parent.mkdir(exist_ok=True)
            Image.new("RGB", size_wh, (number % 256, number // 256, 7)).save(path)
        return path

    return make


@pytest.fixture
def make_sample(make_picture: MakePicture) -> MakeSample:
    """`make_sample(id, picture=0, **fields)`: a sample with one box and the phrase "the ID thing"."""

    def make(sample_id: str, picture: int = 0, **fields: Any) -> Sample:
        fields.setdefault("phrase", f"the {sample_id} thing")
        fields.setdefault("boxes_xyxy_px", (Box(1, 2, 10, 12.5),))
        fields.setdefault("split", "train")
        fields.setdefault("image", make_picture(picture))
        return Sample(id=sample_id, **fields)

    return make


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "workspace")


@pytest.fixture
def store(workspace: Workspace) -> Store:
    return Store(workspace.annotations_db, workspace.pictures)


@pytest.fixture
def fill(store: Store, make_sample: MakeSample) -> Callable[..., Store]:
    """`fill("a", "b", phrase=...)` imports samples a and b with those fields and returns the store."""

    def fill_with(*ids: str, **fields: Any) -> Store:
        report = store.import_samples(
            [make_sample(sample_id, **fields) for sample_id in ids], source="test", who="importer"
        )
        assert report.errors == ()
        return store

    return fill_with


@pytest.fixture
def source_folder(tmp_path: Path, make_sample: MakeSample) -> Path:
    """A folder with train, val and test.jsonl: four train samples (two placeholders, one repairable), a val, a test."""
    folder = tmp_path / "dataset"
    train = [
        make_sample("t1", 1),
        make_sample("t2", 1, boxes_xyxy_px=(Box(20, 5, 30, 20),), extra={"my_key": [1, "x"]}),
        make_sample("t3", 2, phrase=PLACEHOLDER, alternatives=("  ", PLACEHOLDER, "red cup", "cup")),
        make_sample("t4", 2, phrase=PLACEHOLDER),
    ]
    write_samples(folder / "train.jsonl", train)
    write_samples(folder / "val.jsonl", [make_sample("v1", 3, split="val")])
    write_samples(folder / "test.jsonl", [make_sample("s1", 4, split="test", boxes_xyxy_px=())])
    return folder
