"""The adapters of the workspace as cards: scores against the base, provenance, actions. Plain HTML, escaped."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from grounding.adapters import AdapterInfo
from grounding.adapters.card import sweep_words
from grounding.adapters.changes import Deleted
from grounding.adapters.evaluations import Standing
from grounding.training.preflight.text import in_minutes
from grounding.ui.train_values import as_shown
from grounding.ui.wording import count_of, setting_label

_FIGURES = (("accuracy_50", "Acc@0.5"), ("accuracy_75", "Acc@0.75"), ("mean_iou", "Mean IoU"))
_SHOWN_DIGITS = 12


@dataclass(frozen=True)
class Card:
    """One adapter with what is known of it. `fits`: it is of the base that the page has loaded."""

    info: AdapterInfo
    note: str
    standing: Standing | None
    fits: bool


def adapters_html(cards: Sequence[Card], bin_: Sequence[Deleted], *, version: int = 0) -> str:
    """The panel. A new `version` makes the page draw it anew, forms closed, even where nothing else is new."""
    if not cards and not bin_:
        return ""
    listed = "".join(_card(card) for card in cards)
    empty = '<div class="bw-empty"><p>No adapter in this workspace. Those in the bin can be brought back.</p></div>'
    return (
        f'<section class="bw-adapters" data-version="{version}"><header><h3>Adapters</h3>'
        f"<span>{len(cards):,} in this workspace</span></header>"
        f"{f'<div class=bw-ad-grid>{listed}</div>' if cards else empty}{_bin(bin_)}</section>"
    )


def told_html(sentence: str, *, undo: str = "", problem: bool = False, seconds: float | None = None) -> str:
    """What the last action did, or does: `seconds` is how long it has taken so far. `undo` is the id in the bin of
    what was deleted."""
    if not sentence:
        return ""
    if seconds is not None:
        # The clock is for eyes alone: a screen reader would read the line anew every second.
        clock = f'<time aria-hidden="true">{in_minutes(seconds)}</time>'
        told = f'<span class="bw-wait"></span><span role="status">{escape(sentence)}</span>{clock}'
        return f'<div class="bw-ad-told" data-kind="busy">{told}</div>'
    again = f'<button type="button" data-undo="{escape(undo)}">Undo</button>' if undo else ""
    kind = "problem" if problem else "done"
    return f'<div class="bw-ad-told" data-kind="{kind}" role="status"><span>{escape(sentence)}</span>{again}</div>'


def _card(card: Card) -> str:
    info, name = card.info, escape(card.info.name)
    other = "" if card.fits else f'<span class="bw-ad-base" title="{escape(info.base)}">of another base</span>'
    show = '<button type="button" class="bw-ad-main" data-show>Show in Compare</button>' if card.fits else ""
    note = f'<p class="bw-ad-note">{escape(card.note)}</p>' if card.note else ""
    return (
        f'<article class="bw-ad" data-name="{name}"><header><i class="bw-key" data-kind="adapter"></i><h4>{name}</h4>'
        f'{other}<time datetime="{escape(info.created_at)}">{escape(info.created_at[:10])}</time></header>'
        f"{_scores(card.standing)}{note}"
        f'<div class="bw-ad-actions">{show}<button type="button" data-open="rename">Rename</button>'
        '<button type="button" data-open="note">Note</button><button type="button" data-open="export">Export</button>'
        f'<button type="button" data-act="delete">Delete</button></div>{_forms(card)}'
        f"<details><summary>Where it comes from</summary>{_provenance(info)}</details></article>"
    )


def _scores(found: Standing | None) -> str:
    if found is None:
        unseen = "phrases with a box that it did not learn from"
        return f'<p class="bw-ad-none">Not scored yet on {unseen}: choose it in Compare and press Evaluate.</p>'
    rows = "".join(_row(words, found, key) for key, words in _FIGURES if key in found.scores)
    where = (
        f"Kept evaluation on {found.split}, {count_of(found.count, 'phrase')}"
        if found.source == "evaluation"
        else f"At the end of its training, {count_of(found.count, 'validation phrase')}"
    )
    base = "" if found.base_scores else " · the base was not asked the same"
    seen = f" · {found.seen_words}" if found.seen_words else ""
    return f'<div class="bw-ad-scores">{rows}</div><p class="bw-ad-where">{escape(where + seen + base)}</p>'


def _row(words: str, found: Standing, key: str) -> str:
    mine, base = found.scores[key], (found.base_scores or {}).get(key)
    bars = f'<i data-kind="adapter" style="width:{100 * mine:.1f}%"></i>'
    change = ""
    if base is not None:
        bars = f'<i data-kind="base" style="width:{100 * base:.1f}%"></i>{bars}'
        gain = mine - base
        sign = "up" if gain > 0 else "down" if gain < 0 else "same"
        text = f"{gain:+.3f}".replace("-", "−")
        change = f'<b class="bw-difference" data-sign="{sign}">{text}</b>'
    was = f'<span class="bw-ad-was">{base:.3f}</span>' if base is not None else "<span></span>"
    return f'<span>{words}</span><div class="bw-bars">{bars}</div>{was}<b>{mine:.3f}</b>{change or "<b></b>"}'


def _forms(card: Card) -> str:
    name, note = escape(card.info.name), escape(card.note)
    return (
        '<form class="bw-ad-form" data-form="rename" hidden><label><span>New name</span>'
        f'<input name="new_name" value="{name}" maxlength="64" autocomplete="off"></label>'
        '<button type="submit" data-act="rename">Rename</button></form>'
        '<form class="bw-ad-form" data-form="note" hidden><label><span>Note</span>'
        f'<textarea name="text" rows="3" maxlength="4000">{note}</textarea></label>'
        f'<input type="hidden" name="read" value="{note}">'  # last: the form's first field gets the cursor
        '<button type="submit" data-act="note">Keep the note</button></form>'
        '<div class="bw-ad-form" data-form="export" hidden>'
        '<div class="bw-ad-ways"><button type="button" data-act="folder">PEFT folder</button>'
        '<button type="button" data-act="zip">Zip to download</button>'
        '<button type="button" data-act="merge" data-busy="Merging…">Merged model</button></div>'
        "<p>Each comes with a model card. A merged model is held against the adapter first, and written only when both "
        "find the same boxes.</p>"
        '<form data-form="push"><label><span>Or push to the Hub as</span>'
        '<input name="repo_id" placeholder="owner/name" maxlength="200" autocomplete="off"></label>'
        "<label><span>Licence, for the card</span>"
        '<input name="license" placeholder="apache-2.0" maxlength="40" autocomplete="off"></label>'
        '<label class="bw-ad-check"><input type="checkbox" name="public"><span>for everybody to see</span></label>'
        '<button type="submit" data-act="push" data-busy="Uploading…" data-sure="Push it now">Push</button>'
        "</form></div>"
    )


def _provenance(info: AdapterInfo) -> str:
    budget = f"{info.pixel_budget[0]:,} to {info.pixel_budget[1]:,} px" if info.pixel_budget else ""
    rows = {
        "Base": info.base,
        "Revision": info.base_revision,
        "Base files": _digest(info.base_sha256),
        "Weights": "" if info.quantize == "none" else f"trained on {info.quantize}",
        "Profile": info.profile,
        "Pixel budget": budget,
        "Snapshot": " ".join(part for part in (info.snapshot, _digest(info.snapshot_sha256)) if part),
        "Samples": ", ".join(f"{count:,} {of}" for of, count in info.data.items()),
        "Run": info.run_id,
        "Sweep": sweep_words(info),
        "Steps": f"{info.steps:,}" if info.steps else "",
        "Seed": str(info.settings.get("seed", "")),
        "Versions": ", ".join(f"{name} {number}" for name, number in info.versions.items()),
        "Folder": str(info.path),
    }
    table = "".join(f"<dt>{key}</dt><dd>{escape(value)}</dd>" for key, value in rows.items() if value)
    return f'<dl class="bw-ad-facts">{table}</dl>{_settings(info.settings)}'


def _settings(settings: Mapping[str, Any]) -> str:
    if not settings:
        return ""
    told = ", ".join(
        f"{setting_label(name)} {as_shown(tuple(value) if isinstance(value, list) else value).replace(', ', '/')}"
        for name, value in settings.items()
        if name != "seed" and value != ""
    )
    return f'<p class="bw-ad-settings">{escape(told)}</p>'


def _digest(sha256: str) -> str:
    return f"{sha256[:_SHOWN_DIGITS]}…" if sha256 else ""


def _bin(entries: Iterable[Deleted]) -> str:
    rows = "".join(
        f'<li data-id="{escape(entry.id)}"><b>{escape(entry.name)}</b><span>deleted {_minute(entry.deleted_at)}</span>'
        '<button type="button" data-act="restore">Restore</button>'
        '<button type="button" data-act="purge" data-sure="Sure? It is gone then">Delete for good</button></li>'
        for entry in entries
    )
    if not rows:
        return ""
    count = rows.count("<li ")
    return f'<details class="bw-ad-bin"><summary>In the bin: {count:,}</summary><ul>{rows}</ul></details>'


def _minute(iso: str) -> str:
    return escape(f"{iso[:16].replace('T', ' ')} UTC")
