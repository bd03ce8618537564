"""The rows of a snapshot, checked without a model: phrases, boxes, duplicates, leaks, pictures."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from grounding.errors import PictureError
from grounding.pictures import file_sha256, is_content_name
from grounding.placeholders import is_placeholder, normalise
from grounding.records import MAX_PHRASE_CHARACTERS, Sample
from grounding.training.preflight.headers import Header
from grounding.training.preflight.records import Finding, queue_address

LEAKS_FILE = "leaks.jsonl"
OUTSIDE_PX = 1.0
"""How far a box may reach beyond its picture: other programs round."""
# As annotate.structure, whose figures come from 5,000 phrases that people wrote: no phrase of 8 words came twice,
# and of 5 words or more few, for things of one category.
_TEMPLATE_PICTURES, _TEMPLATE_SHARE = 20, 0.005
_LONG_WORDS, _MIDDLING_WORDS = 8, 5
_AMBIGUOUS_SHARE = 0.5

Check = Callable[["Rows"], "list[Finding]"]


@dataclass(frozen=True)
class Rows:
    """What the checks look at. `leaks` are the lines of a snapshot's leaks.jsonl."""

    samples: Sequence[Sample]
    headers: Mapping[Path, Header]
    leaks: Sequence[Mapping[str, Any]] = ()
    use_alternatives: bool = True

    def split(self, name: str) -> list[Sample]:
        return [sample for sample in self.samples if sample.split == name]

    @property
    def train(self) -> list[Sample]:
        return self.split("train")


def check_rows(rows: Rows) -> list[Finding]:
    """Everything that the rows alone show, what blocks first."""
    checks: list[Check] = [
        *(_nothing_to_learn, _phrases, _templates, _ambiguous, _boxes),
        *(_duplicates, _leaks, _pictures, _validation),
    ]
    found = [finding for check in checks for finding in check(rows)]
    return sorted(found, key=lambda finding: not finding.blocking)


def read_leaks(snapshot: Path) -> list[Mapping[str, Any]]:
    """The pictures of train that stand in val or test too, as the snapshot lists them; none where it has no list."""
    try:
        lines = (snapshot / LEAKS_FILE).read_text(encoding="utf-8").splitlines()
        return [record for line in lines if isinstance(record := json.loads(line), dict)]
    except (OSError, ValueError):
        return []


def _nothing_to_learn(rows: Rows) -> list[Finding]:
    if rows.train:
        return []
    sentence = "There is no train sample: nothing can be learned. Write or repair phrases in Annotate."
    return [Finding("nothing_to_learn", True, sentence)]


def _phrases(rows: Rows) -> list[Finding]:
    """Empty phrases, placeholders and overlong ones. A wording is looked at once, however often it comes."""
    judged: dict[str, bool] = {}

    def is_one(phrase: str) -> bool:
        if phrase not in judged:
            judged[phrase] = is_placeholder(phrase)
        return judged[phrase]

    empty, placeholders, long, alternatives = [], [], [], []
    for sample in rows.train:
        if not sample.phrase.strip():
            empty.append(sample.id)
        elif is_one(sample.phrase):
            placeholders.append(sample)
        elif len(sample.phrase) > MAX_PHRASE_CHARACTERS:
            long.append(sample.id)
        if rows.use_alternatives and any(a.strip() and is_one(a) for a in sample.alternatives):
            alternatives.append(sample.id)
    found = []
    if empty:
        sentence = f"{_samples(empty)} without a phrase. Write one in Annotate."
        found.append(Finding.of("empty_phrase", sentence, empty, blocking=True, queue=queue_address("placeholders")))
    if placeholders:
        found.append(_placeholders(placeholders, len(rows.train)))
    if alternatives:
        sentence = f"{_samples(alternatives)} with a placeholder among the box's other phrases, which are learned too."
        found.append(Finding.of("placeholder_alternative", sentence, alternatives, blocking=True))
    if long:
        sentence = f"{_samples(long)} with a phrase of over {MAX_PHRASE_CHARACTERS} characters. None is cut."
        found.append(Finding.of("long_phrase", sentence, long, blocking=False))
    held_out = [s.id for s in rows.split("val") if s.phrase.strip() == "" or is_one(s.phrase)]
    if held_out:
        sentence = (
            f"{_samples(held_out, 'validation ')} with a placeholder: their scores say nothing about phrases. "
            "Fill them in Annotate."
        )
        link = queue_address("placeholders", "val")
        found.append(Finding.of("placeholder_validation", sentence, held_out, blocking=False, queue=link))
    return found


def _placeholders(found: Sequence[Sample], total: int) -> Finding:
    example = found[0].phrase.strip()
    example = example if len(example) <= 100 else f"{example[:97]}..."
    if len(found) == total:
        which = f"Every one of the {total:,} train phrases is a placeholder" if total > 1 else "The only phrase is one"
    else:
        which = f"{len(found):,} of {total:,} train phrases are placeholders"
    sentence = (
        f"{which}, such as “{example}”: it names no object, so nothing about phrases can be learned from it. "
        "Repair them from their source's own phrases or write them in Annotate."
    )
    ids = [sample.id for sample in found]
    return Finding.of("placeholder", sentence, ids, blocking=True, queue=queue_address("placeholders"))


def _templates(rows: Rows) -> list[Finding]:
    """One long wording on many pictures, whatever the words are."""
    by_wording: dict[str, list[Sample]] = defaultdict(list)
    for sample in rows.train:
        by_wording[sample.phrase].append(sample)
    merged: dict[str, list[Sample]] = defaultdict(list)
    for phrase, samples in by_wording.items():
        merged[normalise(phrase)] += samples
    found, total = [], len(rows.train)
    for wording, samples in sorted(merged.items(), key=lambda each: -len(each[1])):
        words = len(wording.split())
        if len(samples) <= _TEMPLATE_PICTURES or words < _MIDDLING_WORDS or is_placeholder(samples[0].phrase):
            continue
        pictures = len({sample.image for sample in samples})
        kinds = len({sample.category for sample in samples if sample.category})
        often = len(samples) >= _TEMPLATE_SHARE * total and kinds != 1
        if pictures > _TEMPLATE_PICTURES and (words >= _LONG_WORDS or often):
            sentence = (
                f"“{samples[0].phrase.strip()[:100]}” stands on {len(samples):,} boxes in {pictures:,} pictures: a "
                "template, not a phrase. Write what tells each box from the others, in Annotate."
            )
            ids = [sample.id for sample in samples]
            found.append(Finding.of("template", sentence, ids, blocking=True, queue=_words_queue(wording)))
    return found


def _words_queue(wording: str) -> str:
    from urllib.parse import urlencode

    return f"#{urlencode({'queue': 'all', 'split': 'train', 'words': ' '.join(wording.split()[:8])})}"


def _ambiguous(rows: Rows) -> list[Finding]:
    """The same words for different boxes of one picture: they contradict each other."""
    boxes_of: dict[tuple[Path, str], set[Any]] = defaultdict(set)
    keys = [(sample.image, _wording(sample.phrase)) for sample in rows.train]
    for key, sample in zip(keys, rows.train, strict=True):
        boxes_of[key].add(sample.boxes_xyxy_px)
    ids = [sample.id for key, sample in zip(keys, rows.train, strict=True) if len(boxes_of[key]) > 1]
    if not ids:
        return []
    much = len(ids) >= _AMBIGUOUS_SHARE * len(rows.train)
    sentence = (
        f"{_samples(ids)} whose words stand on another box of the same picture too: which is meant can't be learned."
        f"{' That is most of them: phrases teach nothing so.' if much else ''} Tell them apart in Annotate."
    )
    return [Finding.of("ambiguous", sentence, ids, blocking=much)]


def _boxes(rows: Rows) -> list[Finding]:
    degenerate, outside = [], []
    for sample in rows.train:
        header = rows.headers.get(sample.image)
        size_wh = header.size_wh if header else None
        for box in sample.boxes_xyxy_px:
            if min(box.width_px, box.height_px) < 1.0:
                degenerate.append(sample.id)
                break
            if size_wh is not None and (
                min(box.x1, box.y1) < -OUTSIDE_PX
                or box.x2 > size_wh[0] + OUTSIDE_PX
                or box.y2 > size_wh[1] + OUTSIDE_PX
                or box.clip(size_wh) is None
            ):
                outside.append(sample.id)
                break
    found = []
    if degenerate:
        sentence = f"{_samples(degenerate)} with a box less than a pixel wide or high. Draw it anew in Annotate."
        found.append(Finding.of("degenerate_box", sentence, degenerate, blocking=True))
    if outside:
        sentence = (
            f"{_samples(outside)} with a box that reaches out of its picture: its numbers may be of another scale, or "
            "of the picture in another size. Check them in Annotate, or import again with the right format."
        )
        found.append(Finding.of("outside_box", sentence, outside, blocking=True))
    return found


def _duplicates(rows: Rows) -> list[Finding]:
    first: dict[Any, str] = {}
    repeated = []
    for sample in rows.train:
        key = (sample.image, _wording(sample.phrase), sample.boxes_xyxy_px)
        if first.setdefault(key, sample.id) != sample.id:
            repeated.append(sample.id)
    if not repeated:
        return []
    sentence = (
        f"{_samples(repeated)} that stand there already with the same picture, words and boxes: they count twice. "
        "Reject them in Annotate."
    )
    return [Finding.of("duplicate", sentence, repeated, blocking=True)]


def _leaks(rows: Rows) -> list[Finding]:
    """Train samples on a picture that stands in val or test too: the same file, the same bytes, or as listed."""
    held_out = {sample.image for sample in rows.samples if sample.split != "train"}
    train = rows.train
    shared = {sample.image for sample in train if sample.image in held_out}
    shared |= _same_bytes({sample.image for sample in train} - shared, held_out, rows.headers)
    in_held_out = {sample.id for sample in rows.samples if sample.split != "train"}
    listed: set[str] = set()
    for leak in rows.leaks:
        if in_held_out & set(leak.get("held_out_samples", ())):
            listed |= set(leak.get("train_samples", ()))
    ids = [sample.id for sample in train if sample.image in shared or sample.id in listed]
    if not ids:
        return []
    sentence = (
        f"{_samples(ids)} on a picture that stands in val or test too: the model would be scored on what it has "
        "learned by heart. Put all samples of a picture into one split; a snapshot frozen here leaves them out."
    )
    return [Finding.of("leak", sentence, ids, blocking=True)]


def _same_bytes(ours: Iterable[Path], theirs: Iterable[Path], headers: Mapping[Path, Header]) -> set[Path]:
    """Those of `ours` that are a copy of one of `theirs`. Only files of equal size and name or form are read."""

    def key(path: Path) -> Any:
        header = headers.get(path)
        return (header.bytes, header.size_wh) if header is not None and header.size_wh else None

    by_key: dict[Any, list[Path]] = defaultdict(list)
    for path in theirs:
        by_key[key(path)].append(path)
    by_key.pop(None, None)
    copies = set()
    hashes: dict[Path, str] = {}
    for path in ours:
        for other in by_key.get(key(path), ()):
            # Pictures of a workspace are called what their content hashes to: those need no reading.
            if is_content_name(path.stem) and is_content_name(other.stem):
                continue
            try:
                for each in (path, other):
                    hashes.setdefault(each, "") or hashes.update({each: file_sha256(each)})
            except PictureError:
                continue
            if hashes[path] == hashes[other]:
                copies.add(path)
                break
    return copies


def _pictures(rows: Rows) -> list[Finding]:
    unread: dict[str, list[str]] = {"train": [], "val": []}
    reason = ""
    for sample in rows.samples:
        header = rows.headers.get(sample.image)
        if header is not None and header.size_wh is None and sample.split in unread:
            unread[sample.split].append(sample.id)
            reason = reason or header.reason
    found = []
    for split, ids in unread.items():
        if not ids:
            continue
        everyone = len(ids) == len(rows.split(split))
        sentence = (
            f"{_samples(ids, 'validation ' if split == 'val' else '')} with a picture that can't be read, the first: "
            f"{reason} Import {'it' if len(ids) == 1 else 'them'} again."
        )
        kind = "unreadable_picture" if split == "train" else "unreadable_validation_picture"
        found.append(Finding.of(kind, sentence, ids, blocking=everyone and split == "train"))
    return found


def _validation(rows: Rows) -> list[Finding]:
    if rows.split("val") or not rows.train:
        return []
    sentence = (
        "There is no validation sample, so nobody can say whether the adapter is better than the base. Put some "
        "pictures into the split val."
    )
    return [Finding("no_validation", False, sentence)]


def _wording(phrase: str) -> str:
    return " ".join(phrase.lower().split())


def _samples(ids: Sequence[str], kind: str = "train ") -> str:
    return f"One {kind}sample" if len(ids) == 1 else f"{len(ids):,} {kind}samples"
