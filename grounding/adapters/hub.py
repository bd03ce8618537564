"""Push an adapter, or a merged model, to the Hugging Face Hub with its model card."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from grounding.adapters.card import CARD, model_card
from grounding.adapters.export import copy_files
from grounding.adapters.info import AdapterInfo
from grounding.adapters.merge import MERGED
from grounding.adapters.registry import AdapterRegistry
from grounding.adapters.usage import Source, cut_folders, public_base
from grounding.errors import AdapterError
from grounding.hub import hub_errors, is_repo_id, make_repository, why_refused
from grounding.workspace import Workspace

Told = Callable[[int, int], None]
"""Called with the number of files and their bytes before they go up."""


def _untold(files: int, size_bytes: int) -> None:
    """For callers that want to hear nothing."""


def push(
    workspace: Workspace,
    info: AdapterInfo,
    repo_id: str,
    *,
    private: bool = True,
    license: str = "",
    tell: Told = _untold,
) -> str:
    """Upload the adapter as the model `repo_id` ("owner/name"), made where it is missing; returns its address.

    Paths of this machine are cut from what goes up. All files go up as one commit: all of them or none.
    Raises `AdapterError` for a name that is none, when it is to be `private` and what stands there is public, or when
    the Hub can't be reached or refuses.
    """
    check_repo_id(repo_id)
    card = model_card(workspace, info, Source(repo_id, on_hub=True), license=license)
    with tempfile.TemporaryDirectory(prefix="boxwright-push-") as made:
        folder = Path(made) / "adapter"
        copy_files(info, folder, publicly=True)
        return _upload(folder, {CARD: card}, repo_id, private, f"Adapter {info.name}", tell)


def push_merged(
    workspace: Workspace,
    merged: Path,
    repo_id: str,
    *,
    adapter: str | None = None,
    private: bool = True,
    license: str = "",
) -> str:
    """Upload a folder that `merge` has written, with a card for the Hub; returns its address. Raises as `push` does,
    and where it was not made of `adapter` (None: whichever it is)."""
    check_repo_id(repo_id)
    try:
        made_of = json.loads((merged / MERGED).read_text(encoding="utf-8"))
        info, agreement = AdapterInfo.from_json(made_of["adapter"], merged), str(made_of["sentence"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise AdapterError(
            f"{merged} is no merged model: there is no readable {MERGED} in it. Make one with `adapters merge`."
        ) from error
    if adapter is not None and not _is_of(workspace, adapter, info):
        if info.name == adapter:
            raise AdapterError(f"{adapter!r} was trained anew since {merged} was made of it. Merge it again.")
        raise AdapterError(
            f"{merged} was made of the adapter {info.name!r}, not of {adapter!r}. Name that one, or the folder that "
            f"{adapter!r} was merged into."
        )
    source = Source(repo_id, on_hub=True, merged=True)
    card = model_card(workspace, info, source, license=license, agreement=agreement)
    made_of["adapter"] = cut_folders(made_of["adapter"]) | {"base": public_base(info)}
    told = {CARD: card, MERGED: json.dumps(made_of, indent=1) + "\n"}
    return _upload(merged, told, repo_id, private, f"Merged model {merged.name}")


def _is_of(workspace: Workspace, adapter: str, made_of: AdapterInfo) -> bool:
    """Whether a merged model was made of the adapter of this name, whatever that was called then. One that is gone is
    known by its name."""
    try:
        named = AdapterRegistry(workspace.adapters).find(adapter)
    except AdapterError:
        return adapter == made_of.name
    return named.to_json() == {**made_of.to_json(), "name": named.name}


def check_repo_id(repo_id: str) -> str:
    """The name, when it may be one of the Hub's. Raises `AdapterError` otherwise."""
    if not is_repo_id(repo_id):
        raise AdapterError(f'{repo_id!r:.120} is no name on the Hub. Expected "owner/name", such as "me/tools-v1".')
    return repo_id


def _upload(
    folder: Path, told: Mapping[str, str], repo_id: str, private: bool, message: str, tell: Told = _untold
) -> str:
    """The files of a folder, those in `told` with other content, as one commit."""
    from huggingface_hub import CommitOperationAdd, HfApi

    files = {path.name: path for path in sorted(folder.iterdir()) if path.is_file()}
    content: dict[str, Path | bytes] = {**files, **{name: text.encode() for name, text in told.items()}}
    tell(len(content), sum(len(what) if isinstance(what, bytes) else what.stat().st_size for what in content.values()))
    try:
        refusal = make_repository(repo_id, private=private)
        if refusal:
            raise AdapterError(f"{repo_id} can't be written on the Hub: {refusal}")
        added = [CommitOperationAdd(path_in_repo=name, path_or_fileobj=what) for name, what in content.items()]
        HfApi().create_commit(repo_id, operations=added, commit_message=message)
    except hub_errors() as error:
        why = why_refused(error, repo_id, left="Nothing has changed there: a push is one commit.")
        raise AdapterError(f"{repo_id} can't be written on the Hub: {why}") from error
    return f"https://huggingface.co/{repo_id}"
