"""Repairs and bulk edits asked for by the page: short ones are answered at once, long ones go on behind it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

from annotate.items import Batch
from annotate.ui.pages import count_of

log = logging.getLogger(__name__)

# The page waits for an answer no longer than this would be pleasant; its other presses wait behind it.
ANSWER_SECONDS = 3.0


def begin(work: Callable[[], object]) -> None:
    """Do the work in a thread of its own, and wait a moment for its end. Raises what it raised by then."""
    failed: list[Exception] = []
    answered = threading.Event()

    def run() -> None:
        try:
            work()
        except Exception as error:  # the thread's edge: raised below, or logged; the batch itself is marked
            failed.append(error)
            if answered.is_set():
                log.error("A change of many samples ended in the middle", exc_info=error)

    thread = threading.Thread(target=run, name="batch", daemon=True)
    thread.start()
    thread.join(ANSWER_SECONDS)
    answered.set()
    if failed:
        raise failed[0]


def batch_reply(batch: Batch) -> dict[str, Any]:
    """What the page shows of a batch; it asks again while that is `going`."""
    return {
        "batch": batch.name,
        "sentence": batch_sentence(batch),
        "going": batch.state in ("running", "undoing"),
        "undoable": batch.state in ("running", "done", "broken"),
        "undone": batch.state == "undone",
    }


def batch_sentence(batch: Batch) -> str:
    """Where it stands, in words; not escaped."""
    so_far = f"{batch.done:,} of {batch.total:,} samples" if batch.total else "finding the samples"
    if batch.state == "running":
        return f"{'Filling placeholders' if batch.action == 'repair' else 'Changing many'}: {so_far}."
    if batch.state == "undoing":
        return f"Putting back: {so_far}."
    if batch.state == "broken":
        return f"A change of many samples by {batch.who} ended in the middle ({so_far}). Undo puts back what it did."
    if batch.state == "undone":
        kept = f" {batch.left:,} stayed, as people changed them since." if batch.left else ""
        return f"{count_of(batch.count, 'sample')} put back.{kept}"
    if batch.action == "repair":
        return f"{count_of(batch.count, 'placeholder')} filled from the source by {batch.who}, {batch.left:,} left."
    return f"{count_of(batch.count, 'sample')} changed by {batch.who}, {batch.left:,} left as they were."
