"""Boxwright in the browser: `python app.py`, then open the address that it prints."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import gradio as gr

from annotate.curation import CuratedSet
from annotate.store import Store
from annotate.ui.tab import STYLESHEET, AnnotateParts, build_annotate
from annotate.upkeep import tell_progress
from grounding.demo.dataset import write_demo
from grounding.errors import BoxwrightError, WorkspaceError
from grounding.evaluating.worker import Evaluator, Work
from grounding.models import full_model_id
from grounding.placeholders import is_placeholder
from grounding.records import SPLITS, Sample, read_samples
from grounding.ui.api import build_api
from grounding.ui.compare import build_compare
from grounding.ui.events import tell
from grounding.ui.further import FurtherModels
from grounding.ui.keeper import Keeper
from grounding.ui.listener import AppListener
from grounding.ui.model_service import ModelService
from grounding.ui.pictures import figure_url, thumbnail_url
from grounding.ui.scoreboard import Scoreboard
from grounding.ui.serving import check_port_free, read_flags, serve
from grounding.ui.shell import build_header
from grounding.ui.sources import Parts
from grounding.ui.train import TrainParts, build_train
from grounding.who import default_who
from grounding.workspace import Workspace, find_workspace

_PARTIAL = ".partial-"
_OWN_NAMES = (
    *("images", "uploads", "snapshots", "runs", "arena", "adapters", "evaluations", "bin", "exports", "picture-sizes"),
    *("sweeps", "features", "calibrations.json", "compare-models.json", _PARTIAL),
)


def build_app(parts: Parts, store: Store, further: FurtherModels | None = None) -> gr.Blocks:
    """The page: a header and one tab for each step of the loop. Imports nothing of torch."""
    who = default_who()
    annotating = AnnotateParts(store, tell, figure_url, thumbnail_url, who, AppListener(parts.models))
    training = TrainParts(parts.workspace, parts.models, CuratedSet(store, parts.workspace.snapshots, who))
    with gr.Blocks(title="Boxwright", analytics_enabled=False, fill_width=True, delete_cache=(3600, 3600)) as demo:
        build_header(parts.models)
        with gr.Tabs(elem_id="tabs") as tabs:
            with gr.Tab("Compare", id="compare", elem_id="tab-compare") as tab:
                compare = build_compare(demo, tab, parts, Scoreboard(parts), further)
            with gr.Tab("Annotate", id="annotate", elem_id="tab-annotate") as tab:
                build_annotate(demo, tab, annotating)
            with gr.Tab("Train", id="train", elem_id="tab-train") as tab:
                build_train(tab, training, tabs, compare.models)
        build_api(parts)
    return demo


def open_workspace(workspace: Workspace, *, demo: bool = True) -> Store:
    """The store of a workspace; on the first start with the demo data in it. Never touches work that stands."""
    workspace.check_writable()
    if demo and not workspace.exists:
        first_start(workspace)
    return Store(workspace.annotations_db, workspace.pictures)


def first_start(workspace: Workspace) -> None:
    """Fill a new workspace with the demo data: all of it or nothing, so an interrupted start is simply repeated.

    Raises `WorkspaceError` when the folder holds files of somebody else.
    """
    foreign = [path.name for path in workspace.root.iterdir() if not path.name.startswith(_OWN_NAMES)]
    if foreign:
        raise WorkspaceError(
            f"The folder {workspace.root} is no workspace: it holds {sorted(foreign)[0]!r} and no annotations.db. "
            "Choose an empty folder, or a new one, with --workspace."
        )
    # Of its own: two starts at once must not take each other's files away.
    partial = Workspace(Path(tempfile.mkdtemp(prefix=_PARTIAL, dir=workspace.root)))
    try:
        _fill(partial, workspace)
    finally:
        shutil.rmtree(partial.root, ignore_errors=True)


def _fill(partial: Workspace, workspace: Workspace) -> None:
    drawn = partial.root / "demo"
    write_demo(drawn, progress=tell_progress("Drawing the demo pictures"))
    _take_in(partial, drawn)
    shutil.rmtree(drawn)
    shutil.copytree(partial.pictures.folder, workspace.pictures.folder, copy_function=_move, dirs_exist_ok=True)
    # Last, as its presence says that the workspace is complete; and by a link, which never replaces what stands:
    # when another start was quicker, people may have saved there already.
    with suppress(FileExistsError):
        _publish(partial.annotations_db, workspace.annotations_db)


def _take_in(partial: Workspace, drawn: Path) -> None:
    # In a function of its own: the database is whole in its one file only once its store is gone.
    Store(partial.annotations_db, partial.pictures).import_samples(
        _samples(drawn), source="demo", who="demo", link=True, to_disk=False
    )


def _publish(made: Path, place: Path) -> None:
    """Give the file its place. Raises `FileExistsError` when the place is taken."""
    try:
        place.hardlink_to(made)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links
        if place.exists():
            raise FileExistsError(place) from None
        made.rename(place)


def _samples(folder: Path) -> Iterator[Sample]:
    for split in SPLITS:
        yield from read_samples(folder / f"{split}.jsonl")


def _move(source: str, target: str) -> None:
    Path(source).replace(target)


def main(arguments: Sequence[str] | None = None) -> int:
    """Open the workspace, serve the page, load the model behind it. Exit status 1 with one sentence on failure."""
    try:
        flags = read_flags(sys.argv[1:] if arguments is None else arguments)
        check_port_free(flags.host, flags.port)
        workspace = find_workspace(flags.workspace)
        store = open_workspace(workspace, demo=flags.demo)
        models = ModelService(full_model_id(flags.model), flags.quantize, workspace)
        further = FurtherModels(models, flags.also)
        demo = build_app(Parts(workspace, store, models, is_placeholder), store, further)
        url = serve(
            demo,
            workspace,
            host=flags.host,
            port=flags.port,
            log_in=flags.log_in,
            stylesheets=[STYLESHEET],
        )
    except BoxwrightError as error:
        print(f"Boxwright: {error}", file=sys.stderr)
        return 1
    print(f"Boxwright is at {url} (workspace {workspace.root}). Stop it with Ctrl+C.", file=sys.stderr, flush=True)
    Keeper(workspace, models).start()
    Evaluator(Work(workspace, store, models, is_placeholder)).start()
    demo.block_thread()
    return 0


if __name__ == "__main__":
    sys.exit(main())
