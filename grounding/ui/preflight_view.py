"""Pre-flight as HTML for the Train tab. Pure functions of what was found; everything is escaped."""

from __future__ import annotations

import time
from dataclasses import replace
from html import escape

from grounding.boxes import Box
from grounding.overlay import Layer, figure_html
from grounding.training.preflight import Finding, Piece, Preflight, Probe, Seen
from grounding.training.preflight.check import own_pictures_shown
from grounding.training.preflight.memory_words import in_gib
from grounding.training.preflight.records import Numbers
from grounding.training.preflight.text import in_minutes
from grounding.training.settings import TrainSettings
from grounding.ui.preflight_desk import DeskState
from grounding.ui.to_annotate import annotate_link_html
from grounding.ui.wording import count_of

_LISTED = 40


def panel_html(state: DeskState, settings: TrainSettings | None = None) -> str:
    """The panel: its state in a word, what was found, and what the model sees where that was asked for. `settings`
    are those on the page now (None: those of the look)."""
    state = as_of_now(state, settings)
    chip, word = _chip(state)
    trouble = f'<p class="bw-flight-trouble" role="alert">{escape(state.trouble)}</p>' if state.trouble else ""
    return (
        f'<section class="bw-flight" data-state="{chip}"><header><h3>Check before training</h3>'
        f'<span class="bw-state" data-state="{chip}" id="train-check-state">{escape(word)}</span>'
        f"<p>{escape(_line(state, settings))}</p></header>{trouble}{_findings(state)}{_model(state)}</section>"
    )


def is_old(state: DeskState, settings: TrainSettings | None) -> bool:
    """Whether the model was asked with other settings than those on the page now."""
    return settings is not None and state.model_settings is not None and settings != state.model_settings


def as_of_now(state: DeskState, settings: TrainSettings | None) -> DeskState:
    """Without what the model's part says of memory, time and size, where the settings are others by now."""
    if state.model is None or not is_old(state, settings):
        return state
    kept = tuple(finding for finding in state.model.findings if finding.kind != "memory")
    return replace(state, model=replace(state.model, findings=kept, probes=(), cost=None), settings_changed=True)


def blocked(state: DeskState) -> bool:
    """Whether something known stands in the way of training."""
    return any(part is not None and part.blocking for part in (state.rows, _current(state)))


def may_be_forced(state: DeskState) -> bool:
    """Whether a person may decide to train although something stands in the way."""
    parts = [part for part in (state.rows, _current(state)) if part is not None and part.blocking]
    return bool(parts) and all(part.may_be_forced for part in parts)


def _current(state: DeskState) -> Preflight | None:
    return state.model if state.model_version == state.version else None


def _chip(state: DeskState) -> tuple[str, str]:
    if blocked(state):
        return "failed", "Stops training"
    if state.rows is None:
        return "running", "Checking" if state.busy else "Not checked"
    notes = len(state.rows.warnings)
    return "done", "Ready" if not notes else f"Ready, {count_of(notes, 'note')}"


def _line(state: DeskState, settings: TrainSettings | None) -> str:
    rows = state.rows
    if rows is None:
        return ""
    counts = rows.counts
    on = count_of(counts["train_pictures"], "picture")
    line = f"{count_of(counts['train'], 'train sample')} on {on}, {counts['val']:,} to score on"
    rounds = rounds_under(state, settings)
    if rounds:
        line += f" · each phrase about {count_of(max(1, round(rounds)), 'time')}"
    return line


def rounds_under(state: DeskState, settings: TrainSettings | None) -> float | None:
    """How often the steps show each phrase under these settings; None where the check would have to be made again.

    In proportion to how many of the run's own pictures are shown; what of each picture's phrases is shown must be as
    it was checked.
    """
    rows, checked = state.rows, state.settings
    if rows is None or rows.cost is None or not rows.cost.phrases:
        return None
    if settings is None or checked is None or settings == checked:
        return rows.cost.rounds
    of_a_picture = ("phrases_per_image", "use_alternatives")
    if any(getattr(settings, name) != getattr(checked, name) for name in of_a_picture):
        return None
    pictures = rows.counts["train_pictures"]
    return rows.cost.rounds * own_pictures_shown(settings, pictures) / own_pictures_shown(checked, pictures)


def _findings(state: DeskState) -> str:
    found = list(state.rows.findings) if state.rows is not None else []
    current = _current(state)
    if current is not None:
        known = {finding.kind for finding in found}
        found += [finding for finding in current.findings if finding.kind not in known]
    found.sort(key=lambda finding: not finding.blocking)
    return f'<ul class="bw-findings">{"".join(map(_finding, found))}</ul>' if found else ""


def _finding(finding: Finding) -> str:
    link = ""
    if finding.queue:
        # Of no one sample; Annotate then leads back here.
        link = f' <a href="{escape(finding.queue)}" data-annotate="">Show them in Annotate</a>'
    listed = ""
    if finding.samples:
        shown = finding.samples[:_LISTED]
        links = "".join(annotate_link_html(sample, sample) for sample in shown)
        more = f"<span>and {finding.count - len(shown):,} more</span>" if finding.count > len(shown) else ""
        listed = f"<details><summary>{count_of(finding.count, 'sample')}</summary><p>{links}{more}</p></details>"
    return (
        f'<li data-kind="{escape(finding.kind)}" data-blocking="{str(finding.blocking).lower()}">'
        f"<p>{escape(finding.sentence)}{link}</p>{listed}</li>"
    )


def _model(state: DeskState) -> str:
    if state.looking:
        seconds = time.monotonic() - state.looking_since
        return (
            f'<p class="bw-waiting"><span class="bw-wait"></span><span>{escape(state.looking)}'
            f"{f' · {seconds:.0f} s' if seconds >= 2 else ''}</span></p>"
        )
    if state.model is None:
        return ""
    changed = [
        *(["phrases"] if state.model_version != state.version else []),
        *(["settings"] if state.settings_changed else []),
    ]
    old = f"<p>The {' and the '.join(changed)} have changed since this look.</p>" if changed else ""
    cards = "".join(map(_card, state.model.seen))
    seen = ""
    if cards:
        summary = f"<summary>What the model sees of {count_of(len(state.model.seen), 'sample')}</summary>"
        seen = f'<details{" open" if state.unfolded else ""}>{summary}<div class="bw-seen">{cards}</div></details>'
    return f'<div class="bw-flight-model">{old}{_facts(state.model)}{seen}</div>'


def _facts(model: Preflight) -> str:
    """Memory, time and size as tiles."""
    tiles = []
    if model.probes:
        tiles.append(_memory_tile(model.probes))
    cost = model.cost
    if cost is not None and cost.seconds is not None:
        tiles.append(("Time", f"about {in_minutes(cost.seconds)}", _pace(model)))
    if cost is not None and cost.adapter_bytes is not None:
        tiles.append(
            ("Adapter on disk", in_gib(cost.adapter_bytes), f"{count_of(cost.phrases, 'phrase')} shown in all")
        )
    if model.rounding is not None and model.rounding.boxes:
        rounding = model.rounding
        lose = "loses" if rounding.below == 1 else "lose"
        small = f"{rounding.below:,} box{'' if rounding.below == 1 else 'es'} {lose} over a tenth"
        small = small if rounding.below else "no box loses over a tenth"
        tiles.append(("Lost by rounding boxes", f"{rounding.mean_loss:.1%} IoU", small))
    shown = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd><dd class='bw-was'>{escape(note)}</dd></div>"
        for name, value, note in tiles
    )
    return f'<dl class="bw-tiles">{shown}</dl>'


def _pace(model: Preflight) -> str:
    return "steps and scorings" if not model.busy else "much less once the machine has nothing else to do"


def _memory_tile(probes: tuple[Probe, ...]) -> tuple[str, str, str]:
    first = probes[0]
    limit = f"of {in_gib(first.limit_bytes)}" if first.limit_bytes is not None else "limit not known"
    if first.fits:
        return "Memory of the largest step", in_gib(first.peak_bytes), f"{limit}: fits"
    last = probes[-1]
    way = ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in last.changes.items()) if last.fits else ""
    return "Memory of the largest step", "does not fit", f"{limit}; fits with {way}" if way else limit


def _card(seen: Seen) -> str:
    """One sample: the processed picture with both boxes, and its tokens with the supervised part marked."""
    layers = [Layer("in the text", "target", _boxes(seen.boxes_xyxy_px, seen))] if seen.boxes_xyxy_px else []
    if seen.true_boxes_xyxy_px:
        layers.append(Layer("your box", "truth", _boxes(seen.true_boxes_xyxy_px, seen), labelled=False))
    alt = f"The picture as the model sees it, with the box for {seen.phrase}"
    figure = figure_html(seen.picture, seen.seen_size_wh, layers, alt=alt) if seen.picture else ""
    shared = "alone on its picture" if seen.shared_by == 1 else f"{seen.shared_by} phrases share its picture"
    tokens = "".join(map(_piece, seen.pieces))
    size = f"{seen.seen_size_wh[0]} x {seen.seen_size_wh[1]}"
    was = f", from {seen.image_size_wh[0]} x {seen.image_size_wh[1]}" if seen.image_size_wh != seen.seen_size_wh else ""
    overlap = f"box kept to IoU {seen.iou:.3f}" if seen.true_boxes_xyxy_px else "nothing there"
    return (
        f'<article class="bw-card" data-sample="{escape(seen.sample)}"><header><h3 title="{escape(seen.phrase)}">'
        f"{escape(seen.phrase)}</h3>{annotate_link_html(seen.sample)}</header>"
        f'<div class="bw-stage">{figure}</div><ul class="bw-facts"><li>{escape(seen.why)}</li>'
        f"<li>{size} pixels{was}</li><li>{overlap}</li>"
        f"<li>{seen.image_tokens} image + {seen.prompt_tokens} prompt + <b>{seen.supervised_tokens} learned</b> tokens"
        f"</li><li>{shared}</li></ul>"
        f'<div class="bw-tokens" aria-label="The tokens, the learned ones marked">{tokens}</div></article>'
    )


def _boxes(numbers: tuple[Numbers, ...], seen: Seen) -> tuple[Box, ...]:
    """In pixels of the processed picture."""
    across = seen.seen_size_wh[0] / seen.image_size_wh[0]
    down = seen.seen_size_wh[1] / seen.image_size_wh[1]
    return tuple(Box(x1 * across, y1 * down, x2 * across, y2 * down) for x1, y1, x2, y2 in numbers)


def _piece(piece: Piece) -> str:
    if piece.part == "image":
        return f'<span data-part="image">{count_of(piece.count, "image token")}</span>'
    weight = f' title="loss weight {piece.weight:g}"' if piece.part == "answer" else ""
    strong = ' data-heavy="true"' if piece.weight > 1 else ""
    return f'<span data-part="{escape(piece.part)}"{weight}{strong}>{escape(piece.text)}</span>'
