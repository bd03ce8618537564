"""What the page asks beside its edits: checks, listeners, suggestions, leases, overlays. No sample is changed by it."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from html import escape
from typing import Any

from annotate.checks import check, profile_named
from annotate.heard import Heard, HeardAnswer
from annotate.items import Item
from annotate.leases import Held, Leases
from annotate.listening import Listener, Listening, Phase, walk
from annotate.opinions import Opinions
from annotate.people import progress
from annotate.phrases import usable_phrase
from annotate.problems import check_profile, duplicate_of
from annotate.store import Store
from annotate.suggest import Suggestion, candidates, ranked
from annotate.ui import dialogs
from annotate.ui.asks import Ask, find_action
from annotate.ui.behind import batch_reply
from annotate.ui.pages import QUEUE_LABELS
from annotate.ui.screens import quoted
from annotate.undecided import HIT_IOU
from grounding.boxes import Box
from grounding.errors import BusyError, StoreError
from grounding.overlay import Layer, figure_html

Reply = dict[str, Any]
_EXAMPLES = 30
_SUGGESTIONS = 6


@dataclass(frozen=True)
class AsideParts:
    """What the answers are made from. `listener` None: no model is asked."""

    store: Store
    picture_url: Callable[[str], str]
    listener: Listener | None = None


class Asides:
    """Answers the page's questions. Holds no state of a visitor."""

    def __init__(self, parts: AsideParts) -> None:
        self.store = parts.store
        self.picture_url = parts.picture_url
        self.listener = parts.listener
        self.leases = Leases(parts.store.path)
        self.heard = Heard(parts.store.path)
        self.opinions = Opinions(parts.store)
        self.listening = None if parts.listener is None else Listening(parts.store, parts.listener)
        self._actions: dict[str, Callable[[Ask], Reply]] = {
            "check": self._check,
            "listen": self._listen,
            "suggest": self._suggest,
            "beat": self._beat,
            "take_over": self._take_over,
            "release": self._release,
            "people": self._people,
            "bulk_form": self._bulk_form,
            "bulk_preview": self._bulk_preview,
            "batch": self._batch,
            "blind": self._blind,
            "point": self._point,
            "pass": self._pass,
            "pass_start": self._pass_start,
            "pass_stop": self._pass_stop,
        }

    def answer(self, sent: object, login_name: str | None, default_who: str) -> Reply:
        """The reply to one question. `login_name` wins over the name that the page sends. Raises `StoreError`."""
        action, ask = find_action(self._actions, sent, login_name, default_who)
        try:
            return action(ask)
        except BusyError as error:
            return {"later": str(error)}

    # The phrase as it is typed

    def _check(self, ask: Ask) -> Reply:
        rival = duplicate_of(self.store.path, self.store.get(ask.sample_id).id, ask.text)
        others = () if rival is None else (rival,)
        findings = check(ask.text, profile_named(check_profile(self.store.path)), others)
        rows = "".join(f'<li data-code="{finding.code}">{escape(finding.sentence)}</li>' for finding in findings)
        return {"findings_html": rows}

    def _listen(self, ask: Ask) -> Reply:
        """Where the models point for what is being typed; kept when it is the phrase that stands."""
        if self.listener is None:
            return {}
        item, phrase = self.store.get(ask.sample_id), usable_phrase(ask.text)
        if phrase is None:
            return {"heard_html": ""}
        self.heard.belong_to(self.listener.model)
        stands = phrase == item.phrase and item.listener_iou is not None
        kept = self.heard.of(item.id) if stands and self.heard.has(item.id, phrase, self.listener.asked()) else ()
        if not kept:
            predictions = self.listener(item.sample.image, phrase)
            if phrase == item.phrase:
                self.heard.record(item.id, phrase, predictions)
            kept = self.heard.judge(item.id, phrase, predictions)
        return {"heard_html": "".join(self._heard_html(answer, item) for answer in kept)}

    def _heard_html(self, answer: HeardAnswer, item: Item) -> str:
        kind = "base" if answer.listener == "base" else "adapter"
        name = "Base" if kind == "base" else f"Adapter {answer.listener.removeprefix('adapter ')}"
        where = "" if answer.boxes_xyxy_px else "says that nothing is there"
        rival_boxes: Sequence[Box] = ()
        if answer.rival is not None:
            rival = self.store.get(answer.rival)
            rival_boxes = rival.sample.boxes_xyxy_px
            where = f"points at {quoted(rival.phrase, 60)}" if not rival.placeholder else "points at another box"
        elif answer.boxes_xyxy_px and not item.sample.boxes_xyxy_px:
            where = "points at something"
        return (
            f'<li data-listener="{kind}" data-boxes="{_numbers(answer.boxes_xyxy_px)}" '
            f'data-rival="{_numbers(rival_boxes)}"><i></i><b>{escape(name)}</b>'
            f'<b class="an-iou" data-hit="{str(answer.iou >= HIT_IOU).lower()}">IoU {answer.iou:.2f}</b>'
            f"<span>{where}</span></li>"
        )

    def _suggest(self, ask: Ask) -> Reply:
        item = self.store.get(ask.sample_id)
        locations = profile_named(check_profile(self.store.path)).location_allowed
        siblings = self.store.siblings(item.id)
        # Of more than are read here, none can be said to be the only one.
        whole = len(siblings) == self.store.sibling_count(item.id)
        made = candidates(item, siblings, locations=locations) if whole else ()
        found = [one for one in made if one.origin == "model"]
        try:
            ordered = ranked(item, found, self.listener)
        except BusyError:
            ordered = tuple(found)
        return {"suggested_html": "".join(_suggestion_html(one) for one in ordered[:_SUGGESTIONS])}

    # Leases

    def _beat(self, ask: Ask) -> Reply:
        return self._holder(self.leases.hold(ask.sample_id, ask.who, ask.scope.token))

    def _take_over(self, ask: Ask) -> Reply:
        return self._holder(self.leases.take_over(ask.sample_id, ask.who, ask.scope.token))

    def _release(self, ask: Ask) -> Reply:
        self.leases.release(ask.scope.token)
        return {}

    def _holder(self, held: Held) -> Reply:
        return {} if held.yours else {"holder_html": f"<b>{escape(held.by)}</b> has this sample open."}

    # Overlays

    def _people(self, ask: Ask) -> Reply:
        return {"dialog_html": dialogs.people_html(progress(self.store.path), *self.opinions.figures())}

    def _bulk_form(self, ask: Ask) -> Reply:
        return {"dialog_html": dialogs.bulk_form_html(self._scope_words(ask))}

    def _bulk_preview(self, ask: Ask) -> Reply:
        preview = self.store.bulk_preview(ask.scope, dialogs.bulk_edit(ask.edit), _EXAMPLES)
        return {"preview_html": dialogs.bulk_preview_html(preview)}

    def _batch(self, ask: Ask) -> Reply:
        """Where a repair or bulk edit stands that goes on behind the page."""
        batch = self.store.batch(ask.batch)
        return {} if batch is None else {"repaired": batch_reply(batch)}

    def _scope_words(self, ask: Ask) -> str:
        """The scope for people: "the 23 samples of Placeholders in train"."""
        found, is_capped = self.store.count_in(ask.scope)
        number = f"{found:,}{' and more' if is_capped else ''}"
        split = f" in {ask.split}" if ask.split else ""
        narrowed = ", as filtered" if ask.scope.is_narrowed else ""
        return f"the {number} sample{'' if found == 1 else 's'} of “{QUEUE_LABELS[ask.queue]}”{split}{narrowed}"

    def _blind(self, ask: Ask) -> Reply:
        asked = self.opinions.next_blind(ask.who, ask.split, ask.sample_id or None)
        if asked is None:
            return {"dialog_html": dialogs.blind_done_html()}
        picture = figure_html(
            self.picture_url(asked.picture_sha256), asked.image_size_wh, [], alt="The picture, without its box"
        )
        blind = {"id": asked.sample_id, "revision": asked.revision}
        return {"dialog_html": dialogs.blind_html(asked, picture), "blind": blind}

    def _point(self, ask: Ask) -> Reply:
        opinion = self.opinions.point(
            ask.sample_id, ask.revision, ask.who, boxes_xyxy_px=ask.boxes_xyxy_px or (), seconds=ask.seconds
        )
        item = self.store.get(ask.sample_id)
        layers = [
            Layer("where it is", "target", item.sample.boxes_xyxy_px),
            Layer("where you pointed", "base", opinion.boxes_xyxy_px),
        ]
        picture = figure_html(
            self.picture_url(item.picture_sha256), item.image_size_wh, [one for one in layers if one.boxes_xyxy_px]
        )
        return {"figure_html": picture, "verdict_html": dialogs.verdict_html(opinion)}

    # The model's pass over a queue

    def _pass(self, ask: Ask) -> Reply:
        if self.listening is None:
            raise StoreError("No model is loaded beside this page, so none can be asked.")
        state = self.listening.state
        return {"pass_html": dialogs.pass_html(state, self._scope_words(ask)), "running": state.phase is Phase.RUNNING}

    def _pass_start(self, ask: Ask) -> Reply:
        if self.listening is not None:
            self.listening.start(walk(self.store, replace(ask.scope, token="")))
        return self._pass(ask)

    def _pass_stop(self, ask: Ask) -> Reply:
        if self.listening is not None:
            self.listening.stop()
            self.listening.wait(2.0)
        return self._pass(ask)


def _numbers(boxes: Sequence[Box]) -> str:
    """The boxes for the page's script, as JSON."""
    return json.dumps([list(box.rounded(1)) for box in boxes])


def _suggestion_html(one: Suggestion) -> str:
    # A miss says more about the model than about the phrase, which is true of the box.
    is_found = one.iou is not None and one.iou >= HIT_IOU
    heard = f'<small title="IoU {one.iou:.2f} at least">✓ found</small>' if is_found else ""
    return (
        f'<button type="button" class="an-chip" data-text="{escape(one.text)}" data-taken '
        f'title="A suggestion: nobody wrote it"><span>{escape(one.text)}</span>{heard}</button>'
    )
