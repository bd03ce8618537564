"""Which samples a person works on: a queue, narrowed down. It fits into the address bar, to be shared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

from annotate.items import Queue
from annotate.phrases import clean_text
from annotate.queues import check_queue, check_split
from grounding.errors import StoreError

MAX_FILTER_CHARACTERS = 200
_TEXTS = ("category", "phrase", "annotator")


@dataclass(frozen=True)
class Scope:
    """A queue and what narrows it down; None or '' narrows nothing.

    `phrase` holds words that must all occur in the phrase, each perhaps as the beginning of a longer one; it is never
    read as a search language. `annotator` is the last person who changed the sample. `token` names the visitor:
    samples that others have open are passed over, except in the queue "all"; '' passes over none.
    Raises `StoreError` for an unknown queue or split, or a text that is too long or can't be printed.
    """

    queue: Queue = "all"
    split: str | None = None
    category: str = ""
    phrase: str = ""
    annotator: str = ""
    token: str = ""

    def __post_init__(self) -> None:
        check_queue(self.queue)
        check_split(self.split)
        for name in (*_TEXTS, "token"):
            text = getattr(self, name)
            if len(text) > MAX_FILTER_CHARACTERS:
                raise StoreError(
                    f"The filter {name!r} has {len(text)} characters; the limit is {MAX_FILTER_CHARACTERS}."
                )
            if name != "category" and not text.isprintable():
                raise StoreError(f"The filter {name!r} has characters that can't be printed: {text[:40]!a}.")

    @property
    def words(self) -> tuple[str, ...]:
        """The words that must occur."""
        return tuple(self.phrase.split())

    @property
    def is_narrowed(self) -> bool:
        """Whether there is more to it than the queue and the split."""
        return bool(self.category or self.words or self.annotator)

    @classmethod
    def from_address(cls, parameters: Mapping[str, str], *, token: str = "") -> Scope:
        """The scope of an address; what else stands there is left aside. Raises `StoreError` as the class does."""
        texts = {name: str(parameters.get(name) or "") for name in ("queue", "split", *_TEXTS)}
        return cls(
            queue=cast(Queue, texts["queue"] or "all"),
            split=texts["split"] or None,
            category=texts["category"],
            phrase=clean_text(texts["phrase"]),
            annotator=clean_text(texts["annotator"]),
            token=token,
        )
