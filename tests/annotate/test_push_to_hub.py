"""The upload to the Hub, against one that is made up."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import datasets
import huggingface_hub
import pytest
from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError

from annotate.exporters.hub import push_to_hub
from annotate.snapshot import SnapshotInfo, freeze
from annotate.store import Store
from annotate_samples import MakeSample
from grounding.errors import SnapshotError
from grounding.workspace import Workspace


@pytest.fixture
def snapshot(store: Store, workspace: Workspace, make_sample: MakeSample) -> SnapshotInfo:
    samples = [make_sample("a"), make_sample("b", 1, split="val")]
    store.import_samples(samples, source="test", who="ann")
    return freeze(store, workspace.snapshots, "one", who="ann")


@pytest.fixture(autouse=True)
def repositories(monkeypatch: pytest.MonkeyPatch) -> dict[str, bool]:
    """The data sets that stand on the Hub, and whether each is private."""
    standing: dict[str, bool] = {}

    class FakeApi:
        def create_repo(self, repo_id: str, *, repo_type: str, private: bool, exist_ok: bool) -> None:
            assert repo_type == "dataset" and exist_ok
            standing.setdefault(repo_id, private)

        def repo_info(self, repo_id: str, *, repo_type: str) -> SimpleNamespace:
            return SimpleNamespace(private=standing[repo_id])

    monkeypatch.setattr(huggingface_hub, "HfApi", FakeApi)
    return standing


@pytest.fixture
def pushed(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """What the Hub got: the rows by split with the settings, then the card."""
    got: list[tuple[Any, ...]] = []

    def push(splits: datasets.DatasetDict, repo_id: str, *, private: bool) -> None:
        rows = {split: [(row["question_id"], row["question"]) for row in rows] for split, rows in splits.items()}
        got.append((repo_id, private, rows))

    class Card:
        text = ""

        @classmethod
        def load(cls, repo_id: str) -> Card:
            return cls()

        def push_to_hub(self, repo_id: str) -> None:
            got.append((repo_id, self.text))

    monkeypatch.setattr(datasets.DatasetDict, "push_to_hub", push)
    monkeypatch.setattr(huggingface_hub, "DatasetCard", Card)
    return got


@pytest.mark.parametrize("private", [True, False])
def test_the_rows_and_what_their_numbers_mean_go_up(
    private: bool, snapshot: SnapshotInfo, pushed: list[tuple[Any, ...]]
) -> None:
    assert push_to_hub(snapshot, "ann/mugs", private) == "https://huggingface.co/datasets/ann/mugs"
    rows, card = pushed
    assert rows == ("ann/mugs", private, {"train": [("a", "the a thing")], "val": [("b", "the b thing")]})
    assert card[0] == "ann/mugs" and "x, y, width, height in pixels of the original image" in card[1]


def test_it_is_private_unless_said_otherwise(snapshot: SnapshotInfo, pushed: list[tuple[Any, ...]]) -> None:
    push_to_hub(snapshot, "ann/mugs")
    assert pushed[0][1] is True


def test_nothing_private_goes_up_into_a_data_set_that_is_public(
    snapshot: SnapshotInfo, pushed: list[tuple[Any, ...]], repositories: dict[str, bool]
) -> None:
    repositories["ann/mugs"] = False
    with pytest.raises(SnapshotError, match=r"is public, so what goes up would not be private. Nothing was uploaded"):
        push_to_hub(snapshot, "ann/mugs")
    assert pushed == []
    push_to_hub(snapshot, "ann/mugs", private=False)
    assert pushed[0][:2] == ("ann/mugs", False)


@pytest.mark.parametrize("repo_id", ["", "mugs", "a/b/c", "ann/", "../x", "ann/mugs\n", "ann/my mugs"])
def test_a_name_that_is_none_is_refused_before_anything_goes_up(
    repo_id: str, snapshot: SnapshotInfo, pushed: list[tuple[Any, ...]]
) -> None:
    with pytest.raises(SnapshotError, match=r'is no name on the Hub. Expected "owner/name"'):
        push_to_hub(snapshot, repo_id)
    assert pushed == []


def test_a_changed_snapshot_does_not_go_up(snapshot: SnapshotInfo, pushed: list[tuple[Any, ...]]) -> None:
    snapshot.samples_path.write_bytes(snapshot.samples_path.read_bytes() + b"\n")
    with pytest.raises(SnapshotError, match="changed after it was made"):
        push_to_hub(snapshot, "ann/mugs")
    assert pushed == []


@pytest.mark.parametrize("error", [LocalTokenNotFoundError("no token"), ConnectionError("offline"), ValueError("bad")])
def test_a_refusal_says_the_way_out(error: Exception, snapshot: SnapshotInfo, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: Any, **settings: Any) -> None:
        raise error

    monkeypatch.setattr(datasets.DatasetDict, "push_to_hub", refuse)
    with pytest.raises(SnapshotError, match=r"can't be written on the Hub: .*hf auth login"):
        push_to_hub(snapshot, "ann/mugs")


def test_without_a_network_a_push_is_a_sentence(snapshot: SnapshotInfo, monkeypatch: pytest.MonkeyPatch) -> None:
    """The Hub's own client and a port of this machine where nobody listens."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    api = huggingface_hub.hf_api.HfApi
    monkeypatch.setattr(huggingface_hub, "HfApi", lambda: api(endpoint="http://127.0.0.1:9", token="hf_none"))
    with pytest.raises(SnapshotError, match=r"refused.*comes with the next push. Check the network"):
        push_to_hub(snapshot, "ann/mugs")


@pytest.mark.parametrize(("status", "sentence"), [(401, "nobody is signed in"), (403, "may not write for 'ann'")])
def test_what_the_hub_answers_is_put_into_words(
    status: int, sentence: str, snapshot: SnapshotInfo, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: Any, **settings: Any) -> None:
        raise HfHubHTTPError("no", response=SimpleNamespace(status_code=status, headers={}, request=None))  # type: ignore[arg-type]

    monkeypatch.setattr(datasets.DatasetDict, "push_to_hub", refuse)
    with pytest.raises(SnapshotError, match=sentence):
        push_to_hub(snapshot, "ann/mugs")


def test_nothing_is_left_of_an_upload(
    snapshot: SnapshotInfo, pushed: list[tuple[Any, ...]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    push_to_hub(snapshot, "ann/mugs")
    assert not list(tmp_path.glob("boxwright-push-*"))
