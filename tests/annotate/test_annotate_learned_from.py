"""What training may learn from a snapshot: what people corrected stays corrected, and no placeholder slips in."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from annotate.bulk import BulkEdit
from annotate.curation import CuratedSet
from annotate.scopes import Scope
from annotate.snapshot import freeze
from annotate.store import Store
from annotate.templates import mark_templates
from grounding.records import read_samples
from grounding.training.data import group_by_picture
from grounding.workspace import Workspace

PLACEHOLDER = "Provide a short description for this region."


def learned(workspace: Workspace, name: str) -> dict[str, tuple[str, ...]]:
    """Every phrase that a run on this snapshot would learn, by sample."""
    samples = list(read_samples(workspace.snapshots / name / "samples.jsonl"))
    pictures = {s.id: group_by_picture([s], use_alternatives=True)[0] for s in samples if s.split == "train"}
    return {sample_id: picture.targets[0].phrases for sample_id, picture in pictures.items()}


def store_of(workspace: Workspace, samples: list[Any]) -> Store:
    store = Store(workspace.annotations_db, workspace.pictures)
    assert not store.import_samples(samples, source="test", who="ann").errors
    return store


def test_a_phrase_that_a_person_replaced_is_not_learned(own_workspace: Path, make_sample: Callable[..., Any]) -> None:
    workspace = Workspace(own_workspace)
    store = store_of(
        workspace,
        [make_sample("a", phrase=PLACEHOLDER, alternatives=("wrong cat", "another cat")), make_sample("b", picture=1)],
    )
    store.repair("ann")
    store.save("a", "right cat", who="bob", expected_revision=store.get("a").revision)
    freeze(store, workspace.snapshots, "one", who="ann")
    assert learned(workspace, "one")["a"] == ("right cat", "another cat")


def test_a_replaced_phrase_is_not_learned_in_another_spelling_either(
    own_workspace: Path, make_sample: Callable[..., Any]
) -> None:
    """A repair and a save clean what the source wrote with two spaces, or with the letter and its accent apart."""
    workspace = Workspace(own_workspace)
    store = store_of(
        workspace,
        [
            make_sample("a", phrase=PLACEHOLDER, alternatives=("wrong  cat ", "another cat")),
            make_sample("b", phrase="cafe\u0301 table", alternatives=("caf\u00e9 table", "wooden table"), picture=1),
        ],
    )
    store.repair("ann")
    store.save("a", "right cat", who="bob", expected_revision=2)
    store.save("b", "round table", who="bob", expected_revision=1)
    freeze(store, workspace.snapshots, "one", who="ann")
    assert learned(workspace, "one") == {"a": ("right cat", "another cat"), "b": ("round table", "wooden table")}


def test_a_phrase_in_whose_place_a_person_took_a_suggestion_is_not_learned(
    own_workspace: Path, make_sample: Callable[..., Any]
) -> None:
    workspace = Workspace(own_workspace)
    sample = make_sample("a", phrase=PLACEHOLDER, alternatives=("wrong cat", "another cat"))
    store = store_of(workspace, [sample])
    store.repair("ann")
    store.save("a", "right cat", who="bob", expected_revision=2, origin="model")
    freeze(store, workspace.snapshots, "one", who="ann")
    assert learned(workspace, "one")["a"] == ("right cat", "another cat")


def test_what_was_undone_takes_no_alternative_away(own_workspace: Path, make_sample: Callable[..., Any]) -> None:
    workspace = Workspace(own_workspace)
    store = store_of(workspace, [make_sample("a", phrase="left cat", alternatives=("left cat", "grey cat"))])
    store.save("a", "grey cat", who="bob", expected_revision=1)
    store.undo("a", who="bob", expected_revision=2)
    batch = store.bulk(Scope(), BulkEdit("replace", find="left", put="grey"), who="ann").batch
    store.undo_batch(batch, "ann")
    freeze(store, workspace.snapshots, "one", who="ann")
    samples = {sample.id: sample for sample in read_samples(workspace.snapshots / "one" / "samples.jsonl")}
    assert (samples["a"].phrase, samples["a"].alternatives) == ("left cat", ("left cat", "grey cat"))


def test_a_placeholder_among_the_alternatives_is_not_learned(
    own_workspace: Path, make_sample: Callable[..., Any]
) -> None:
    workspace = Workspace(own_workspace)
    alternatives = (PLACEHOLDER, "the dog", "  ")
    store = store_of(workspace, [make_sample("a", phrase="a dog", alternatives=alternatives)])
    freeze(store, workspace.snapshots, "one", who="ann")
    assert learned(workspace, "one")["a"] == ("a dog", "the dog")
    # The store itself keeps what the source gave.
    assert store.get_sample("a").alternatives == alternatives


def test_what_is_ready_is_what_a_snapshot_takes(own_workspace: Path, make_sample: Callable[..., Any]) -> None:
    workspace = Workspace(own_workspace)
    store = store_of(
        workspace,
        [
            make_sample("good"),
            make_sample("flagged", picture=1),
            make_sample("both", picture=2, phrase=PLACEHOLDER),
            make_sample("empty", picture=3, phrase=PLACEHOLDER),
            make_sample("rejected", picture=4),
            make_sample("val", picture=5, split="val"),
            make_sample("absent", picture=6, split="val", boxes_xyxy_px=()),
            make_sample("val empty", picture=7, split="val", phrase=PLACEHOLDER),
        ],
    )
    for sample_id in ("flagged", "both"):
        store.flag(sample_id, "odd", who="ann", expected_revision=store.get(sample_id).revision)
    store.reject("rejected", "no object", who="ann", expected_revision=store.get("rejected").revision)
    curated = CuratedSet(store, workspace.snapshots, "ann")
    ready = curated.ready()
    assert (ready.train_ready, ready.train_total, ready.placeholders, ready.flagged) == (1, 5, 2, 1)
    assert (ready.val, ready.val_boxed) == (2, 1)
    store.reject("val", "no object", who="ann", expected_revision=store.get("val").revision)
    assert (curated.ready().val, curated.ready().val_boxed) == (1, 0)
    assert curated.freeze("mugs") == "mugs"
    assert curated.freeze("mugs") == "mugs-2"
    manifest = json.loads((workspace.snapshots / "mugs-2" / "manifest.json").read_text())
    assert manifest["counts"]["train"] == ready.train_ready


def test_what_turns_out_to_be_a_template_counts_no_more_at_once(
    own_workspace: Path, make_sample: Callable[..., Any]
) -> None:
    """An import marks templates behind its samples, while the Train tab looks at them."""
    template = "somebody has seen something in this very picture"
    samples = [make_sample(f"v{number}", number, phrase=template, split="val") for number in range(25)]
    store = store_of(Workspace(own_workspace), samples)
    curated = CuratedSet(store, own_workspace / "snapshots", "ann")
    assert curated.ready().val == 25
    before = curated.version()
    assert mark_templates(store.path).samples == 25
    assert curated.ready().val == 0
    assert curated.version() != before


def test_what_would_be_frozen_is_what_is_frozen(own_workspace: Path, make_sample: Callable[..., Any]) -> None:
    workspace = Workspace(own_workspace)
    samples = [
        make_sample("a", phrase="a dog", alternatives=(PLACEHOLDER, "the dog")),
        make_sample("b", phrase=PLACEHOLDER, picture=1),
        make_sample("v", phrase="a cat", picture=2, split="val"),
    ]
    store = store_of(workspace, samples)
    curated = CuratedSet(store, workspace.snapshots, "ann")
    before = curated.version()
    now, left_out = curated.would_be_frozen()
    name = curated.freeze("one")
    assert now == list(read_samples(workspace.snapshots / name / "samples.jsonl"))
    assert left_out == {"placeholder": 1}
    assert curated.version() == before
    store.save("b", "a mug", who="bob", expected_revision=store.get("b").revision)
    assert curated.version() != before
    assert len(curated.would_be_frozen()[0]) == 3


def test_placeholders_are_taken_when_they_are_asked_for(own_workspace: Path, make_sample: Callable[..., Any]) -> None:
    workspace = Workspace(own_workspace)
    store = store_of(workspace, [make_sample("a", phrase=PLACEHOLDER)])
    name = CuratedSet(store, workspace.snapshots, "ann").freeze("one", placeholders=True)
    assert learned(workspace, name) == {"a": (PLACEHOLDER,)}
