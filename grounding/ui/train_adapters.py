"""The adapters panel of the Train tab: what stands in the workspace, and all that can be done with it."""

from __future__ import annotations

import itertools
import tempfile
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from grounding.adapters import AdapterRegistry, changes
from grounding.adapters.evaluations import standing
from grounding.adapters.export import export_folder, export_zip
from grounding.adapters.hub import push
from grounding.errors import AdapterError, BoxwrightError
from grounding.ui.adapter_cards import Card, adapters_html, told_html
from grounding.ui.chosen import shown_in_compare
from grounding.ui.compare import MODEL_QUEUE
from grounding.ui.events import tell
from grounding.ui.train_parts import TrainParts
from grounding.ui.waiting import Waiting
from grounding.ui.wording import count_of

_FREE: dict[str, Any] = {"concurrency_limit": None, "show_progress": "hidden", "api_visibility": "private"}
_MODEL: dict[str, Any] = {**MODEL_QUEUE, "show_progress": "hidden", "api_visibility": "private"}
_MOST_TEXT = 10_000
_DOWNLOADS = 4  # zip files kept for browsers that are still fetching them
_VERSIONS = itertools.count(1)

# A press on a button with `data-sure` asks once more, in the button itself.
_ON_LOAD = """
const card = (node) => node.closest('[data-name]');
// gradio changes cards node by node: what was typed stays where it stood, though another adapter may stand there by
// then. So it is kept by adapter, and a form that is opened holds what was typed for its own, else what is known.
const typed = new Map();
const keyOf = (form) => `${card(form).dataset.name} ${form.dataset.form}`;
element.addEventListener('input', (event) => {
  const form = event.target.closest('form');
  if (form) typed.set(keyOf(form), Object.fromEntries(new FormData(form)));
});
const fill = (form) => {
  form.reset();
  const fields = typed.get(keyOf(form));
  for (const field of fields ? form.elements : []) {
    if (field.type === 'checkbox') field.checked = field.name in fields;
    else if (field.name in fields) field.value = fields[field.name];
  }
};
// What was sent is forgotten when it was done: the cards are then drawn under a new version.
let sent = '';
const version = () => element.querySelector('[data-version]')?.dataset.version;
let drawn = version();
new MutationObserver(() => {
  if (version() !== drawn) { drawn = version(); typed.delete(sent); }
}).observe(element, { childList: true, subtree: true, attributes: true, attributeFilter: ['data-version'] });
const send = (button) => {
  const form = button.closest('form');
  const fields = form ? Object.fromEntries(new FormData(form)) : {};
  if (form) {
    sent = keyOf(form);
    delete typed.get(sent)?.read; // refused, as somebody else wrote too, it is sent over their note the next time
  }
  const name = card(button)?.dataset.name ?? '';
  const id = button.closest('[data-id]')?.dataset.id ?? '';
  const long = ['merge', 'push'].includes(button.dataset.act);
  if (long) hold(button);
  else { button.disabled = true; setTimeout(() => { button.disabled = false; }, 600); } // a double click is one wish
  trigger(long ? button.dataset.act : 'act', { action: button.dataset.act, name, id, fields });
};
// What takes long is pressed once: its button waits until the line above the cards tells of an end.
const hold = (button) => {
  const isBusy = () => document.querySelector('#train-adapters-told [data-kind]')?.dataset.kind === 'busy';
  const words = button.textContent;
  let heard = false, quiet = 0; // a line comes each second; other presses may tell of their end in between
  button.disabled = true;
  button.textContent = button.dataset.busy;
  const timer = setInterval(() => {
    if (isBusy()) { heard = true; quiet = 0; }
    if (++quiet < (heard ? 10 : 80)) return;
    clearInterval(timer);
    button.disabled = false;
    button.textContent = words;
  }, 250);
};
element.addEventListener('click', (event) => {
  const button = event.target.closest('button');
  if (!button || button.disabled) return;
  if (button.type === 'submit') event.preventDefault();
  if (button.dataset.show !== undefined) { trigger('show', { name: card(button).dataset.name }); return; }
  if (button.dataset.open) {
    for (const form of card(button).querySelectorAll(':scope > .bw-ad-form')) {
      form.hidden = form.dataset.form !== button.dataset.open || !form.hidden;
      if (form.hidden) continue;
      for (const one of form.matches('form') ? [form] : form.querySelectorAll('form')) fill(one);
      form.querySelector('input, textarea')?.focus();
    }
    return;
  }
  if (!button.dataset.act) return;
  if (button.dataset.asked !== undefined) {
    button.textContent = button.dataset.was;
    delete button.dataset.asked;
  } else if (button.dataset.sure) {
    const mine = String(performance.now());
    button.dataset.asked = mine;
    button.dataset.was = button.textContent;
    button.textContent = button.dataset.sure;
    setTimeout(() => {
      if (button.dataset.asked !== mine) return; // gradio has made another button of it meanwhile
      button.textContent = button.dataset.was;
      delete button.dataset.asked;
    }, 5000);
    return;
  }
  send(button);
});
element.addEventListener('submit', (event) => event.preventDefault());
"""
_UNDO = """
element.addEventListener('click', (event) => {
  const button = event.target.closest('[data-undo]');
  if (!button) return;
  button.disabled = true;
  setTimeout(() => { button.disabled = false; }, 3000); // it may not have worked
  trigger('undo', { id: button.dataset.undo });
});
"""


@dataclass(frozen=True)
class Widgets:
    """The panel's parts. `shown` is what it showed last, so that nothing is sent twice."""

    told: gr.HTML
    panel: gr.HTML
    download: gr.DownloadButton
    shown: gr.State


def build_adapters(
    tab: gr.Tab, parts: TrainParts, changed: gr.State, tabs: gr.Tabs, model_choice: gr.Dropdown
) -> Widgets:
    """Lay out the panel and connect it. `changed` changes when a run tells something; `tabs` and `model_choice` are
    where "Show in Compare" leads."""
    told = gr.HTML(elem_id="train-adapters-told", js_on_load=_UNDO, apply_default_css=False)
    download = gr.DownloadButton("Download", visible=False, elem_id="train-adapters-download")
    panel = gr.HTML(elem_id="train-adapters", js_on_load=_ON_LOAD, apply_default_css=False)
    w = Widgets(told, panel, download, gr.State(""))
    handlers = Handlers(parts)
    shown = [w.panel, w.shown]
    gr.on([tab.select, changed.change], handlers.refresh, w.shown, shown, **_FREE)
    done = [w.told, w.download, *shown]
    dynamic: Any = w.panel  # gradio finds out about events of an HTML component's own script when they are named
    # "multiple": by default gradio drops a press while another one is under way, as an export may be for long.
    dynamic.act(handlers.act, None, done, trigger_mode="multiple", **_FREE)
    dynamic.merge(handlers.merge, None, done, trigger_mode="once", **_MODEL)
    dynamic.push(handlers.push, None, done, trigger_mode="once", **_FREE)
    dynamic.show(handlers.show, None, [tabs, model_choice], **_FREE)
    undone: Any = w.told
    undone.undo(handlers.undo, None, done, **_FREE)
    return w


class Handlers:
    """What happens on each event of the panel."""

    def __init__(self, parts: TrainParts) -> None:
        self.parts = parts
        self.workspace = parts.workspace
        self._packed: deque[tempfile.TemporaryDirectory[str]] = deque()

    @tell
    def refresh(self, shown: str) -> tuple[Any, Any]:
        """The panel as it should be now; nothing is sent when it is so already."""
        html = self._html()
        return (gr.skip(), gr.skip()) if html == shown else (html, html)

    @tell
    def act(self, event: gr.EventData) -> tuple[Any, ...]:
        """Everything that is done at once: rename, note, delete, restore, purge, export."""
        action, name, entry, fields = _asked(event)
        actions = {
            "rename": lambda: self._renamed(name, fields.get("new_name", "").strip()),
            "note": lambda: self._noted(name, fields.get("text", ""), fields.get("read")),
            "delete": lambda: self._deleted(name),
            "restore": lambda: self._restored(entry),
            "purge": lambda: (f"{changes.purge(self.workspace, entry)} adapter deleted for good.", "", None),
            "folder": lambda: self._exported(name, zipped=False),
            "zip": lambda: self._exported(name, zipped=True),
        }
        if action not in actions:
            raise AdapterError(f"There is no action {action[:40]!r} on adapters. Reload the page.")
        sentence, undo, file = actions[action]()
        return self._done(sentence, undo, file)

    @tell
    def undo(self, event: gr.EventData) -> tuple[Any, ...]:
        """Bring back what was deleted."""
        sentence, undo, file = self._restored(str(event._data.get("id", ""))[:200])
        return self._done(sentence, undo, file)

    @tell
    def merge(self, event: gr.EventData) -> Iterator[tuple[Any, ...]]:
        """Merge into the base, telling what is going on. On a GPU the page's model gives up its memory meanwhile."""
        from grounding.adapters.merge import merge

        info = AdapterRegistry(self.workspace.adapters).find(_asked(event)[1])
        target = _free_place(self.workspace.exports / f"{info.name}-merged")

        def work() -> str:
            with self.parts.models.lent("the merging of an adapter"):
                agreement = merge(self.workspace, info, target)
            return f"{agreement.sentence} Written to {target}."

        says = f"Merging {info.name}: the base, the merged model and both their answers. A minute or more."
        yield from self._told_meanwhile(work, lambda: says)

    @tell
    def push(self, event: gr.EventData) -> Iterator[tuple[Any, ...]]:
        """Upload to the Hub, telling how much goes up and for how long it has been under way."""
        _, name, _, fields = _asked(event)
        info = AdapterRegistry(self.workspace.adapters).find(name)
        repo_id, license_ = fields.get("repo_id", "").strip(), fields.get("license", "").strip()
        public = "public" in fields
        parcels: list[str] = []

        def tell_parcel(files: int, size_bytes: int) -> None:
            parcels.append(f", {count_of(files, 'file')}, {size_bytes / 1e6:,.1f} MB")

        def work() -> str:
            url = push(self.workspace, info, repo_id, private=not public, license=license_, tell=tell_parcel)
            return f"Pushed to {url}, {'for everybody to see' if public else 'private'}."

        says = f"Uploading {info.name} to {repo_id[:200]} on the Hub"
        yield from self._told_meanwhile(work, lambda: says + "".join(parcels))

    def _told_meanwhile(self, work: Callable[[], str], says: Callable[[], str]) -> Iterator[tuple[Any, ...]]:
        """What `says` tells while the work goes on, then the sentence that it gives. An error is shown in the page as
        well as raised: a person may have gone to another tab meanwhile."""
        same = (gr.skip(), gr.skip(), gr.skip())
        yield told_html(says(), seconds=0), *same
        waiting = Waiting(work)
        for seconds in waiting.seconds():
            yield told_html(says(), seconds=seconds), *same
        try:
            sentence = waiting.result()
        except BoxwrightError as error:
            yield told_html(str(error), problem=True), *same
            raise
        yield self._done(sentence)

    @tell
    def show(self, event: gr.EventData) -> tuple[Any, Any]:
        """Switch to Compare with this adapter chosen. Raises `AdapterError` when it is gone or of another base."""
        name = str(event._data.get("name", ""))
        known = AdapterRegistry(self.workspace.adapters).list()
        names = [info.name for info in known if info.base == self.parts.models.model]
        if name not in names:
            raise AdapterError(f"The adapter {name[:80]!r} is not there for this model. Reload the page.")
        return gr.Tabs(selected="compare"), shown_in_compare(names, name)

    def _renamed(self, name: str, new_name: str) -> tuple[str, str, Path | None]:
        changes.rename(self.workspace, name, new_name)
        return f"{name} is called {new_name} now.", "", None

    def _noted(self, name: str, text: str, read: str | None) -> tuple[str, str, Path | None]:
        note = changes.set_note(self.workspace, name, text, read=read)
        return f"The note of {name} is kept." if note else f"{name} has no note now.", "", None

    def _deleted(self, name: str) -> tuple[str, str, Path | None]:
        entry = changes.delete(self.workspace, name)
        return f"{name} is in the bin.", entry.id, None

    def _restored(self, entry: str) -> tuple[str, str, Path | None]:
        found = changes.find_deleted(self.workspace, entry)
        name = found.name
        taken = (self.workspace.adapters / name).exists() or name in changes.names_at_work(self.workspace)
        if taken:  # its place is gone: it comes back beside it
            name = _free_place(self.workspace.adapters / f"{name[:56]}-back").name
        changes.restore(self.workspace, found.id, name)
        why = f", as there is another {found.name} now" if taken else ""
        return f"{found.name} is back{f' as {name}' if taken else ''}{why}.", "", None

    def _exported(self, name: str, *, zipped: bool) -> tuple[str, str, Path | None]:
        info = AdapterRegistry(self.workspace.adapters).find(name)
        if zipped:
            path = export_zip(self.workspace, info, self._download_folder() / f"{info.name}.zip")
            return f"{info.name} is packed, {path.stat().st_size / 1e6:.1f} MB: press Download.", "", path
        path = export_folder(self.workspace, info, _free_place(self.workspace.exports / name))
        return f"Written to {path}.", "", None

    def _download_folder(self) -> Path:
        """A new folder outside the workspace, which gradio serves nothing of; those of earlier downloads go."""
        self._packed.append(tempfile.TemporaryDirectory(prefix="boxwright-zip-"))
        while len(self._packed) > _DOWNLOADS:
            self._packed.popleft().cleanup()
        return Path(self._packed[-1].name)

    def _done(self, sentence: str, undo: str = "", file: Path | None = None) -> tuple[Any, ...]:
        html = self._html(version=next(_VERSIONS))
        button = gr.DownloadButton(
            f"Download {file.name}" if file else "Download", value=str(file) if file else None, visible=file is not None
        )
        return told_html(sentence, undo=undo), button, html, html

    def _html(self, version: int = 0) -> str:
        models = self.parts.models
        cards = [
            Card(
                info, changes.note_of(info), standing(self.workspace, info, models.quantize), info.base == models.model
            )
            for info in AdapterRegistry(self.workspace.adapters).list()
        ]
        return adapters_html(cards, changes.deleted(self.workspace), version=version)


def _asked(event: gr.EventData) -> tuple[str, str, str, Mapping[str, str]]:
    """(action, name, id in the bin, fields of the form) of what the page sent; it may send anything."""
    data = event._data if isinstance(event._data, dict) else {}
    fields = data.get("fields")
    texts = {str(key): str(value)[:_MOST_TEXT] for key, value in fields.items()} if isinstance(fields, dict) else {}
    action, name, entry = (str(data.get(key, ""))[:200] for key in ("action", "name", "id"))
    return action, name, entry, texts


def _free_place(wanted: Path) -> Path:
    """The path, or the first with a number that nothing has."""
    numbered = (wanted.with_name(f"{wanted.stem}-{number}{wanted.suffix}") for number in range(2, 10_000))
    return next(path for path in itertools.chain([wanted], numbered) if not path.exists())
