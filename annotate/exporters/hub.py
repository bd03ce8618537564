"""Push a snapshot to the Hugging Face Hub, as the data set that the format datasets writes."""

from __future__ import annotations

import tempfile
from pathlib import Path

from annotate.exporters.datasets_folder import dataset_dict, describe
from annotate.snapshot import SnapshotInfo, check_unchanged
from grounding.errors import SnapshotError
from grounding.hub import hub_errors, is_repo_id, make_repository, why_refused


def push_to_hub(snapshot: SnapshotInfo, repo_id: str, private: bool = True) -> str:
    """Upload the snapshot as the data set `repo_id` ("owner/name"), made where it is missing; returns its address.

    Raises `SnapshotError` when the snapshot was tampered with, when it is to be `private` and what stands there is
    public, or when the Hub can't be reached or refuses.
    """
    if not is_repo_id(repo_id):
        raise SnapshotError(f'{repo_id!r} is no name on the Hub. Expected "owner/name", such as "me/tools-phrases".')
    check_unchanged(snapshot)
    with tempfile.TemporaryDirectory(prefix="boxwright-push-") as folder:
        _push(snapshot, repo_id, private, Path(folder))
    return f"https://huggingface.co/datasets/{repo_id}"


def _push(snapshot: SnapshotInfo, repo_id: str, private: bool, folder: Path) -> None:
    import huggingface_hub

    try:
        refusal = make_repository(repo_id, private=private, kind="dataset")
        if refusal:
            raise SnapshotError(f"{repo_id} can't be written on the Hub: {refusal}")
        with dataset_dict(snapshot, folder) as splits:
            splits.push_to_hub(repo_id, private=private)
        card = huggingface_hub.DatasetCard.load(repo_id)
        card.text = f"\n# {snapshot.name}\n\n{describe(snapshot)}"
        card.push_to_hub(repo_id)
    except hub_errors() as error:
        why = why_refused(error, repo_id, left="What is missing there comes with the next push.")
        raise SnapshotError(f"{repo_id} can't be written on the Hub: {why}") from error
