"""What the Annotate tab does, without a widget: each request of the page is answered in one go."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import asdict, replace
from html import escape
from typing import Any

from annotate.batches import batch_name
from annotate.items import Batch, Change, Counts, Item
from annotate.opinions import Opinions
from annotate.phrases import clean_text
from annotate.queues import QUEUES
from annotate.reads import MOST_SIBLINGS
from annotate.scopes import Scope
from annotate.store import Store
from annotate.suggest import candidates, origin_of
from annotate.ui.asks import Ask, find_action
from annotate.ui.behind import batch_reply, batch_sentence, begin
from annotate.ui.dialogs import bulk_edit
from annotate.ui.pages import (
    QUEUE_LABELS,
    chosen_html,
    conflict_html,
    done_html,
    filtered_done_html,
    options_html,
    repair_html,
)
from annotate.ui.screens import build_screen, opinions_html, quoted, target_figure_html, time_html
from grounding.errors import StaleSaveError, StoreError
from grounding.records import SPLITS

Reply = dict[str, Any]
_EXAMPLES = 12
# Whoever fills these comes to their front again: each edit takes a sample out, or puts it behind the others.
_ROUND_QUEUES = ("placeholders", "skipped")
# These are offered even while they are empty.
_ALWAYS = ("placeholders", "flagged", "skipped", "all")


class Workbench:
    """Answers the page. Holds no state of a visitor: every request says what its page showed.

    A reply may hold `screen` (a sample; or `done_html` with an empty id), `counts`, `notice_html`, `conflict`,
    `problem` (a sentence; nothing was changed) and `redo_text` (what an undo took out of the box).
    """

    def __init__(self, store: Store, picture_url: Callable[[str], str], thumbnail_url: Callable[[str], str]) -> None:
        self.store = store
        self.opinions = Opinions(store)
        self.picture_url = picture_url
        self.thumbnail_url = thumbnail_url
        self._actions: dict[str, Callable[[Ask], Reply]] = {
            "start": self._open,
            "open": self._open,
            "show": self._show,
            "next": self._next,
            "back": self._back,
            "look": self._look,
            "save": self._save,
            "skip": self._skip,
            "flag": self._flag,
            "unflag": self._unflag,
            "note": self._note,
            "undo": self._undo,
            "add": self._add,
            "reject": self._reject,
            "reopen": self._reopen,
            "revert": self._revert,
            "propose": self._propose,
            "decide": self._decide,
            "decide_on": self._decide_on,
            "undecided": self._undecided,
            "bulk": self._bulk,
            "repair_preview": self._repair_preview,
            "repair": self._repair,
            "undo_repair": self._undo_repair,
        }

    @property
    def workspace_key(self) -> str:
        """Short name of this workspace for the browser's own storage."""
        return hashlib.sha256(str(self.store.path).encode()).hexdigest()[:12]

    def answer(self, sent: object, login_name: str | None, default_who: str) -> Reply:
        """The reply to one request. `login_name` wins over the name that the page sends. Raises `StoreError`."""
        action, ask = find_action(self._actions, sent, login_name, default_who)
        if ask.do == "start":
            ask = replace(ask, scope=replace(ask.scope, queue="placeholders", split=self._first_split()))
        return action(ask) | {"counts": self._counts(ask)}

    # Look

    def _first_split(self) -> str | None:
        """The split to begin with: train, unless only others have something to do or train is empty."""
        counts = self.store.all_counts()
        train, everywhere = counts["train"], counts[None]
        waiting = train.placeholders or not everywhere.placeholders
        return "train" if train.total and waiting else None

    def _open(self, ask: Ask) -> Reply:
        """The sample asked for, if it still stands, else the first of the queue; and a change that broke off."""
        broken = self.store.broken_batch()
        offer: Reply = {} if broken is None else {"broken": batch_reply(broken)}
        if ask.sample_id:
            try:
                return self._screen(ask, self.store.get(ask.sample_id)) | offer
            except StoreError:  # a link from another workspace, or to one made anew: the page begins at the front
                offer |= {"notice_html": f"The sample {quoted(ask.sample_id, 80)} is not in this workspace."}
        return self._screen(ask, self.store.next_item(ask.scope)) | offer

    def _show(self, ask: Ask) -> Reply:
        return self._screen(ask, self.store.get(ask.sample_id))

    def _next(self, ask: Ask) -> Reply:
        return self._screen(ask, self._following(ask))

    def _back(self, ask: Ask) -> Reply:
        item = self.store.previous_item(ask.scope, ask.place)
        return {"notice_html": "This is the first one."} if item is None else self._screen(ask, item)

    def _look(self, ask: Ask) -> Reply:
        """The sample again when it was changed elsewhere since the page showed it; else the counts alone."""
        if not ask.sample_id:
            return {}
        item = self.store.get(ask.sample_id)
        return {} if item.revision == ask.revision else self._screen(ask, item)

    # Edit

    def _save(self, ask: Ask) -> Reply:
        try:
            item, words = self._save_or_approve(ask)
        except StaleSaveError as error:
            current: Item = error.current
            if current.placeholder or not self._stands_as_asked(current, ask):
                return self._conflict(ask, current)
            if current.state == "rejected":
                return self._stale(ask, error)
            item, words = current, "Already saved:"
        return self._go_on(ask, item, f"{words} {quoted(item.phrase)}")

    def _stands_as_asked(self, item: Item, ask: Ask) -> bool:
        """Whether what stands is what the page wanted to save; without boxes, those that it showed."""
        if item.phrase != clean_text(ask.text):
            return False
        if ask.boxes_xyxy_px is not None:
            return item.sample.boxes_xyxy_px == ask.boxes_xyxy_px
        return not any(change.boxes_changed for change in self.store.history(item.id) if change.revision > ask.revision)

    def _save_or_approve(self, ask: Ask) -> tuple[Item, str]:
        """A phrase sent back as it stands is approved rather than written again."""
        item = self.store.get(ask.sample_id)
        unchanged = not item.placeholder and item.phrase == clean_text(ask.text) and ask.boxes_xyxy_px is None
        names: dict[str, Any] = {"who": ask.who, "expected_revision": ask.revision}
        if item.revision == ask.revision and unchanged:
            return self.store.approve(ask.sample_id, **names), "Approved"
        names["origin"] = self._origin(item, ask)
        return self.store.save(ask.sample_id, ask.text, **names, boxes_xyxy_px=ask.boxes_xyxy_px), "Saved"

    def _origin(self, item: Item, ask: Ask) -> str:
        """Whose words these are: a suggestion taken as it was is no person's."""
        if ask.taken is None:
            return "human"
        return origin_of(ask.text, ask.taken, candidates(item, self.store.siblings(item.id)))

    def _conflict(self, ask: Ask, current: Item) -> Reply:
        last = self.store.history(current.id)[-1]
        mine = current.sample if ask.boxes_xyxy_px is None else replace(current.sample, boxes_xyxy_px=ask.boxes_xyxy_px)
        url = self.picture_url(current.picture_sha256)
        figures = target_figure_html(current, url), target_figure_html(replace(current, sample=mine), url)
        html = conflict_html(current, last.who, last.at, ask.text, figures)
        return {"conflict": {"id": current.id, "revision": current.revision, "html": html}}

    def _skip(self, ask: Ask) -> Reply:
        try:
            item = self.store.skip(ask.sample_id, who=ask.who, expected_revision=ask.revision)
        except StaleSaveError as error:
            return self._stale(ask, error)
        return self._go_on(ask, item, "Skipped: it comes again after all others")

    def _reject(self, ask: Ask) -> Reply:
        try:
            item = self.store.reject(ask.sample_id, ask.text, who=ask.who, expected_revision=ask.revision)
        except StaleSaveError as error:
            return self._stale(ask, error)
        return self._go_on(ask, item, "Rejected")

    def _reopen(self, ask: Ask) -> Reply:
        return self._mark(
            ask, "Open again", lambda: self.store.reopen(ask.sample_id, who=ask.who, expected_revision=ask.revision)
        )

    def _revert(self, ask: Ask) -> Reply:
        def put_back() -> Item:
            return self.store.revert(ask.sample_id, ask.change, who=ask.who, expected_revision=ask.revision)

        return self._mark(ask, "Put back", put_back)

    def _add(self, ask: Ask) -> Reply:
        """A new sample on the picture shown; the page stays where it was."""
        added = self.store.add(ask.sample_id, ask.text, ask.boxes_xyxy_px or (), who=ask.who)
        words = f"Added {quoted(added.phrase)} to this picture"
        return self._screen(ask, self.store.get(ask.sample_id)) | {"notice_html": self._signed(added, words)}

    def _flag(self, ask: Ask) -> Reply:
        return self._mark(ask, "Flagged", lambda: self._flagged(ask))

    def _flagged(self, ask: Ask) -> Item:
        return self.store.flag(ask.sample_id, ask.text, who=ask.who, expected_revision=ask.revision)

    def _unflag(self, ask: Ask) -> Reply:
        return self._mark(
            ask,
            "Flag taken away",
            lambda: self.store.unflag(ask.sample_id, who=ask.who, expected_revision=ask.revision),
        )

    def _mark(self, ask: Ask, words: str, edit: Callable[[], Item]) -> Reply:
        """An edit after which the page stays where it is."""
        try:
            item = edit()
        except StaleSaveError as error:
            return self._stale(ask, error)
        return self._screen(ask, item) | {"notice_html": self._signed(item, words)}

    def _note(self, ask: Ask) -> Reply:
        try:
            item = self._flagged(ask)
        except StaleSaveError as error:
            return self._stale(ask, error)
        return self._go_on(ask, item, "Flagged, with a note")

    def _undo(self, ask: Ask) -> Reply:
        before = self.store.get(ask.sample_id)
        try:
            item = self.store.undo(ask.sample_id, who=ask.who, expected_revision=ask.revision)
        except StaleSaveError as error:
            return self._stale(ask, error)
        reply = self._screen(ask, item) | {"notice_html": self._signed(item, "Undone")}
        if before.phrase != item.phrase and not before.placeholder:
            reply["redo_text"] = before.phrase
        return reply

    def _stale(self, ask: Ask, error: StaleSaveError) -> Reply:
        """Nothing was done: the page gets the sample as it stands now, and who was first."""
        last = self.store.history(ask.sample_id)[-1]
        words = f"Not done: {last.who} changed this sample after your page showed it. Here it is as it stands now."
        return self._screen(ask, error.current) | {"problem": words}

    # Other opinions

    def _propose(self, ask: Ask) -> Reply:
        """What a further person would write: kept beside the sample, which stays as it is."""
        self.opinions.propose(
            ask.sample_id, ask.revision, ask.who, ask.text, boxes_xyxy_px=ask.boxes_xyxy_px, seconds=ask.seconds
        )
        words = f"Kept as another opinion: {quoted(clean_text(ask.text))} · {escape(ask.who)}"
        return self._screen(ask, self._following(ask)) | {"notice_html": words}

    def _decide(self, ask: Ask) -> Reply:
        """Opinion 0 stands for what stands already."""
        try:
            if ask.opinion:
                item = self.opinions.decide(ask.opinion, ask.who, ask.revision)
            else:
                item = self.opinions.keep(ask.sample_id, ask.who, ask.revision)
        except StaleSaveError as error:
            return self._stale(ask, error)
        reply = self._screen(ask, self.store.get(item.id))
        return reply | {"notice_html": self._signed(item, f"Decided for {quoted(item.phrase)}")}

    def _decide_on(self, ask: Ask) -> Reply:
        """Decide, and go on to the next sample that waits for it."""
        reply = self._decide(ask)
        item = None if "problem" in reply else self._next_undecided(ask)
        if item is None:
            return reply
        did = {name: reply["screen"][name] for name in ("id", "revision")}
        return self._screen(ask, item) | {"notice_html": reply["notice_html"], "did": did}

    def _undecided(self, ask: Ask) -> Reply:
        item = self._next_undecided(ask)
        if item is None:
            return {"notice_html": "Nobody disagrees: there is nothing to decide."}
        return self._screen(ask, item)

    def _next_undecided(self, ask: Ask) -> Item | None:
        """Behind the sample shown, or from the first again."""
        after = -1 if ask.place is None else int(ask.place[1])
        return self.opinions.next_undecided(ask.split, after) or self.opinions.next_undecided(ask.split)

    # Many at once

    def _bulk(self, ask: Ask) -> Reply:
        edit = bulk_edit(ask.edit)
        name = batch_name(f"bulk-{edit.kind}")
        return self._many(ask, name, lambda: self.store.bulk(ask.scope, edit, who=ask.who, as_of=ask.as_of, batch=name))

    def _many(self, ask: Ask, name: str, work: Callable[[], object]) -> Reply:
        """Begin the work of the batch; what takes long goes on behind the page, which asks how far it is."""
        try:
            begin(work)
        except StoreError as error:
            batch = self.store.batch(name)
            if batch is None or batch.state != "broken":
                raise
            return {"problem": str(error), "repaired": batch_reply(batch)}
        batch = self.store.batch(name) or Batch(name, "", ask.who, "", "running")
        if batch.state == "undone":
            return self._again(ask) | {"notice_html": escape(batch_sentence(batch))}
        return self._again(ask) | {"repaired": batch_reply(batch)}

    def _repair_preview(self, ask: Ask) -> Reply:
        preview = self.store.repair_preview(_EXAMPLES)
        items = [self.store.get(sample_id) for sample_id, _, _ in preview.examples]
        examples = [(item, before, after) for item, (_, before, after) in zip(items, preview.examples, strict=True)]
        urls = [self.thumbnail_url(item.picture_sha256) for item in items]
        return {"repair_html": repair_html(preview, examples, urls)}

    def _repair(self, ask: Ask) -> Reply:
        name = batch_name("repair")
        return self._many(ask, name, lambda: self.store.repair(ask.who, as_of=ask.as_of, batch=name))

    def _undo_repair(self, ask: Ask) -> Reply:
        return self._many(ask, ask.batch, lambda: self.store.undo_batch(ask.batch, ask.who))

    def _again(self, ask: Ask) -> Reply:
        """The sample that the page showed, unless a repair took it out of the queue."""
        item = self.store.get(ask.sample_id) if ask.sample_id else None
        if item is None or (ask.queue == "placeholders" and not item.placeholder):
            item = self.store.next_item(ask.scope)
        return self._screen(ask, item)

    # Build replies

    def _go_on(self, ask: Ask, item: Item, words_html: str) -> Reply:
        """After an edit: the next sample, and what was done to the one before."""
        done = {"id": item.id, "revision": item.revision}
        return self._screen(ask, self._following(ask)) | {"notice_html": self._signed(item, words_html), "did": done}

    def _signed(self, item: Item, words_html: str) -> str:
        last: Change = self.store.history(item.id)[-1]
        return f"{words_html} · {escape(last.who)} · {time_html(last.at)}"

    def _following(self, ask: Ask) -> Item | None:
        """The sample that the page asked to go on with, else the next of the queue."""
        if ask.then_id:
            return self.store.get(ask.then_id)
        item = self.store.next_item(ask.scope, ask.place)
        if item is None and ask.queue in _ROUND_QUEUES:
            item = self.store.next_item(ask.scope)
        return item

    def _screen(self, ask: Ask, item: Item | None) -> Reply:
        if item is None:
            return {"screen": {"id": "", "done_html": self._done_html(ask)}}
        self.store.mark_seen(item.id)
        siblings, history = self.store.siblings(item.id), self.store.history(item.id)
        siblings_in_all = self.store.sibling_count(item.id) if len(siblings) >= MOST_SIBLINGS else len(siblings)
        screen = build_screen(item, siblings, history, self.picture_url, ask.queue, siblings_in_all)
        opinions = opinions_html(self.opinions.of(item.id), self.opinions.agreement(item.id), item)
        upcoming = self.store.next_item(ask.scope, screen.place)
        return {
            "screen": asdict(screen) | {"opinions_html": opinions},
            "preload_url": "" if upcoming is None else self.picture_url(upcoming.picture_sha256),
        }

    def _done_html(self, ask: Ask) -> str:
        if ask.scope.is_narrowed:
            return filtered_done_html(*self.store.count_in(ask.scope))
        counts = self.store.all_counts()
        return done_html(ask.queue, ask.split, counts[ask.split], counts[None])

    def _counts(self, ask: Ask) -> Reply:
        """The selects and the progress, as they stand now."""
        by_split = self.store.all_counts()
        here, everywhere = by_split[ask.split], by_split[None]
        queues = [
            (name, f"{label} ({_in_queue(here, name):,})")
            for name, label in QUEUE_LABELS.items()
            if name in _ALWAYS or _in_queue(everywhere, name) or name == ask.queue
        ]
        splits = [("", f"All splits ({_in_queue(everywhere, ask.queue):,})")]
        splits += [(name, f"{name} ({_in_queue(by_split[name], ask.queue):,})") for name in SPLITS]
        done = here.repaired + here.written
        total = done + here.placeholders
        return {
            "queue": ask.queue,
            "split": ask.split or "",
            "queues_html": options_html(queues, ask.queue),
            "splits_html": options_html(splits, ask.split or ""),
            **self._filters(ask.scope),
            "done": done,
            "total": total,
            "sentence": f"{done:,} of {total:,} phrases done" if total else "No placeholder in this data set",
            "placeholders": everywhere.placeholders,
            "undecided": self.opinions.undecided_count(ask.split),
        }

    def _filters(self, scope: Scope) -> Reply:
        """What narrows the queue down, and how many samples that leaves."""
        found, is_capped = self.store.count_in(scope) if scope.is_narrowed else (0, False)
        return {
            "category": scope.category,
            "words": scope.phrase,
            "by": scope.annotator,
            "categories_html": chosen_html("Every category", self.store.categories(), scope.category),
            "people_html": chosen_html("By anybody", self.store.annotators(), scope.annotator),
            "filtered": f"{found:,}{'+' if is_capped else ''} found" if scope.is_narrowed else "",
        }


def _in_queue(counts: Counts, queue: str) -> int:
    assert queue in QUEUES
    return counts.total if queue == "all" else int(getattr(counts, queue))
