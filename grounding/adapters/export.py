"""An adapter as a plain PEFT folder with its model card, or as a zip file of one: to be taken elsewhere."""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from grounding import whole
from grounding.adapters.card import CARD, model_card
from grounding.adapters.info import MANIFEST, AdapterInfo
from grounding.adapters.labels import LABEL
from grounding.adapters.usage import Source, cut_folders, public_base
from grounding.errors import AdapterError
from grounding.workspace import Workspace

_CONFIG = "adapter_config.json"


def export_folder(workspace: Workspace, info: AdapterInfo, target: Path, *, license: str = "") -> Path:
    """Write the adapter's files and its card into the new folder `target`, whole or not at all.

    Raises `AdapterError` when `target` stands already or can't be written.
    """
    with written_whole(target) as partial:
        copy_files(info, partial)
        card = model_card(workspace, info, Source(target.name), license=license)
        (partial / CARD).write_text(card, encoding="utf-8")
    return target


def export_zip(workspace: Workspace, info: AdapterInfo, target: Path, *, license: str = "") -> Path:
    """As `export_folder`, as a zip file with one folder of the adapter's name in it."""
    with written_whole(target) as partial, partial.open("wb") as file, zipfile.ZipFile(file, "w") as archive:
        for path in _files(info):
            # Weights don't shrink; packing them only takes time.
            archive.write(path, f"{info.name}/{path.name}")
        card = model_card(workspace, info, Source(info.name), license=license)
        archive.writestr(f"{info.name}/{CARD}", card, compress_type=zipfile.ZIP_DEFLATED)
    return target


def copy_files(info: AdapterInfo, folder: Path, *, publicly: bool = False) -> None:
    """The adapter's own files into a new folder. `publicly`: paths of this machine are cut to their last part, and the
    history of its training, with phrases and names of pictures in it, stays here."""
    folder.mkdir(parents=True)
    for path in _files(info):
        if not (publicly and path.name.startswith("training_")):
            shutil.copyfile(path, folder / path.name)
    if publicly:
        for name, key in ((_CONFIG, "base_model_name_or_path"), (MANIFEST, "base")):
            values = json.loads((folder / name).read_text(encoding="utf-8"))
            if name == MANIFEST:
                values = cut_folders(values)
            values[key] = public_base(info)
            (folder / name).write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")


@contextmanager
def written_whole(target: Path) -> Iterator[Path]:
    """A path beside `target` to write to, as of `whole.written_whole`. Raises `AdapterError` when `target` stands
    already, and for what the disk refuses."""

    def check_free() -> None:
        if target.exists():
            raise AdapterError(f"{target} stands already. Choose another place, or take it away first.")

    def refused(error: OSError) -> AdapterError:
        return AdapterError(
            f"{target} can't be written ({error.strerror or error}). Free some space or choose another place; "
            "nothing of it was left behind."
        )

    with whole.written_whole(target, check_free, refused) as partial:
        yield partial


def _files(info: AdapterInfo) -> list[Path]:
    """What makes the adapter: its note goes into the card, which is written anew."""
    own = (path for path in info.path.iterdir() if path.is_file() and not path.name.startswith("."))
    return sorted(path for path in own if path.name not in (LABEL, CARD) and path.suffix != ".partial")
