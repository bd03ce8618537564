"""Look for phrases that teach nothing or the wrong thing. It only warns: people write in many ways."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby

from annotate.checks import CODES, PROFILES, CheckProfile, check, same_wording
from annotate.items import Item
from annotate.phrases import clean_text
from annotate.store import Store
from annotate.structure import RepeatedPhrase, repeated_phrases, wording_key
from annotate.view import View

_TOLD_APART = ("empty", "placeholder", "duplicate")


@dataclass(frozen=True)
class LintReport:
    """What was found among `checked` samples; rejected ones are not looked at.

    `empty` and `placeholders` are ids. `duplicates` are groups of ids: samples of one picture with the same phrase
    (articles apart) for different boxes, so that no reader could tell which is meant. `findings` are ids by code:
    those of `annotate.checks.CODES`, and "repeated" for the wordings in `repeated`, templates by structure.
    """

    checked: int
    profile: str
    empty: tuple[str, ...]
    placeholders: tuple[str, ...]
    duplicates: tuple[tuple[str, ...], ...]
    findings: Mapping[str, tuple[str, ...]]
    repeated: tuple[RepeatedPhrase, ...]

    @property
    def counts(self) -> dict[str, int]:
        """How many samples each finding concerns; beside the first three only those that were found."""
        return {
            "empty": len(self.empty),
            "placeholders": len(self.placeholders),
            "duplicates": sum(len(group) for group in self.duplicates),
        } | {code: len(ids) for code, ids in self.findings.items() if code not in _TOLD_APART}


def lint(store: Store, profile: CheckProfile = PROFILES["free"]) -> LintReport:
    """Check every sample that is not rejected as `profile` says."""
    checked = 0
    duplicates: list[tuple[str, ...]] = []
    found: dict[str, list[str]] = {code: [] for code in (*CODES, "repeated")}
    with store.view() as view:
        standing = (item for item in view.items_by_picture() if item.state != "rejected")
        for _, of_picture in groupby(standing, key=lambda item: item.picture_sha256):
            items = list(of_picture)
            checked += len(items)
            duplicates += _duplicates(item for item in items if not item.placeholder)
            for item in items:
                for code in _codes(item, profile):
                    found[code].append(item.id)
        repeated, found["repeated"] = _repeated(view)
    found["duplicate"] = [sample_id for group in duplicates for sample_id in group]
    return LintReport(
        checked=checked,
        profile=profile.name,
        empty=tuple(found["empty"]),
        placeholders=tuple(found["placeholder"]),
        duplicates=tuple(duplicates),
        findings={code: tuple(ids) for code, ids in found.items() if ids},
        repeated=repeated,
    )


def _codes(item: Item, profile: CheckProfile) -> Iterable[str]:
    if not clean_text(item.phrase):
        return ("empty",)
    if item.placeholder:
        return ("placeholder",)
    return dict.fromkeys(finding.code for finding in check(item.phrase, profile))


def _duplicates(items: Iterable[Item]) -> Iterator[tuple[str, ...]]:
    by_phrase: dict[str, list[Item]] = {}
    for item in items:
        by_phrase.setdefault(same_wording(item.phrase), []).append(item)
    for same_phrase in by_phrase.values():
        if len({item.sample.boxes_xyxy_px for item in same_phrase}) > 1:
            yield tuple(item.id for item in same_phrase)


def _repeated(view: View) -> tuple[tuple[RepeatedPhrase, ...], list[str]]:
    repeated = repeated_phrases(row[1:] for row in view.wordings())
    keys = {wording_key(wording.phrase) for wording in repeated}
    if not keys:
        return repeated, []
    return repeated, [sample_id for sample_id, phrase, *_ in view.wordings() if wording_key(phrase) in keys]
