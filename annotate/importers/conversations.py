"""Conversations of Qwen and LLaVA as JSON or JSONL: each question about a phrase, with its answer, is a sample.

What the four numbers of a box mean is never guessed: the record says it ("coordinates"), or a file coordinates.txt
beside it, or the way of writing settles it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from annotate.carried import KEY, restore
from annotate.conventions import MEANINGS, XYXY_SHARE, Convention
from annotate.importers.answers import Said, read_answer, referred_words
from annotate.importers.chats import PICTURE_MARK, RECORD_KEYS, Chat, read_chat
from annotate.importers.foreign import (
    as_named,
    carried_boxes,
    content_id,
    folder_of,
    further_keys,
    json_files,
    printable,
    unshown,
)
from annotate.importers.json_stream import members
from annotate.importers.picture_folders import PictureFolders
from annotate.importers.splits import split_in
from annotate.items import BadRow
from grounding.boxes import Box
from grounding.errors import BoxError, PictureError, RecordError
from grounding.records import Sample

# How Qwen3-VL, the embedded model, LLaVA and VLM-R1 are asked: the words ahead of the phrase and those behind it.
QUESTION = (
    'Locate every object that matches the description "',
    '" in the image. Report bbox coordinates in JSON format.',
)
_QUESTIONS = (
    QUESTION,
    ("Locate ", " in this image and output the bbox coordinates in JSON format."),
    ("Please provide the bounding box coordinate of the region this sentence describes: ", "."),
    ("Please provide the bounding box coordinate of the region this sentence describes: ", ""),
    ("Please provide the bounding box coordinates of the region this sentence describes: ", ""),
)
COORDINATES_FILE = "coordinates.txt"
_LOOKED_AT_BYTES = 1 << 18
_TURNS_KEY = re.compile(rb'"(?:conversations|messages)"\s*:\s*\[')
# Not the ground that something lies on, nor a bag that is coordinated with shoes.
_ASKS_FOR_A_BOX = re.compile(
    r"\b(?:locate|detect|bbox(?:es)?|bounding box(?:es)?|coordinates|the coordinate)\b"
    r"|(?:^|[.:!?]\s|\b(?:please|to)\s)ground\s(?:the|all|each|every|an?|this|that|these|those|any|what)\b",
    re.IGNORECASE,
)
_ASKS_FOR_WORDS = re.compile(r"\b(?:describe|description|caption|expression|phrase)\b", re.IGNORECASE)
_CHARACTERS_LOOKED_AT = 2000
_UNSHOWN = ("category", "alternatives")


class Importer:
    """Reads one file, or those of a folder, line by line or entry by entry."""

    name = "conversations"
    expects = 'a .json or .jsonl file of records with "image" and "conversations" or "messages", or a folder of them'
    recognise_order = 20

    def recognises(self, source: Path) -> bool:
        return any(_looks_like_chats(file) for file in _files(source))

    def read(self, source: Path, scratch: Path) -> Iterator[Sample | BadRow]:
        files = [file for file in _files(source) if _looks_like_chats(file)] if source.is_dir() else [source]
        if not files:
            raise RecordError(f"{source} holds no conversations. Expected {self.expects}.")
        for file in files:
            yield from _Reader(as_named(file)).rows()


def _files(source: Path) -> list[Path]:
    return json_files(source) if source.is_dir() else [source]


def _looks_like_chats(file: Path) -> bool:
    try:
        with file.open("rb") as content:
            head = content.read(_LOOKED_AT_BYTES).removeprefix(b"\xef\xbb\xbf").lstrip()
    except OSError:
        return False
    return head.startswith((b"[", b"{")) and bool(_TURNS_KEY.search(head))


class _Reader:
    """One file. Remembers the size of each picture: it may be gone when a later row asks for it."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._pictures = PictureFolders((folder_of(file), folder_of(file.resolve())))
        named = split_in(file.stem)
        self._split = named[0] if named else "train"
        self._beside = _convention_beside(file.parent)

    def rows(self) -> Iterator[Sample | BadRow]:
        for where, record in _records(self._file):
            if isinstance(record, RecordError):
                yield BadRow(where, str(record))
                continue
            try:
                chat = read_chat(record)
                image = self._pictures.find(chat.picture)
            except RecordError as error:
                yield BadRow(where, str(error))
                continue
            for number, turn in enumerate(chat.turns, start=1):
                try:
                    yield from self._samples(record, chat, turn, image)
                except (RecordError, BoxError, PictureError, RecursionError) as error:
                    yield BadRow(where if len(chat.turns) == 1 else f"{where}, question {number}", str(error))

    def _samples(self, record: dict[str, Any], chat: Chat, turn: tuple[str, str], image: Path) -> Iterator[Sample]:
        """Mostly one; one a label where the question names no phrase and the answer several things."""
        said, phrases = _understood(*turn)
        kept = record.get(KEY) if len(chat.turns) == 1 else None
        for phrase, numbers in phrases:
            boxes_xyxy_px = carried_boxes(kept, numbers)
            if boxes_xyxy_px is None:
                boxes_xyxy_px = self._boxes(said, numbers, chat.stamp, image)
            seen = Sample(
                id=content_id(chat.picture, phrase, numbers),
                image=image,
                phrase=phrase,
                boxes_xyxy_px=boxes_xyxy_px,
                split=self._split,
                image_id=printable(chat.picture),
                extra=further_keys(record, (*RECORD_KEYS, KEY)),
            )
            yield seen if kept is None else restore(seen, unshown(kept, seen, *_UNSHOWN), ("source_id",))

    def _boxes(self, said: Said, numbers: list[tuple[float, ...]], stamp: object, image: Path) -> tuple[Box, ...]:
        if not numbers:
            return ()
        size_wh = self._pictures.size_wh(image)
        convention = Convention.from_text(stamp) if stamp is not None else self._beside
        if convention is None:
            convention = _settled(said, size_wh)
        return tuple(convention.box(four, size_wh) for four in numbers)


def _records(file: Path) -> Iterator[tuple[str, Any]]:
    """(where, record) of each record; a `RecordError` in place of one that can't be read."""
    if file.suffix.lower() != ".jsonl":
        for number, (key, record) in enumerate(members(file), start=1):
            yield f"{file.name}, record {number}", RecordError(f"{key!r} is no list of records.") if key else record
        return
    try:
        with file.open("rb") as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    yield f"{file.name}, line {number}", _decoded(line)
    except OSError as error:
        raise RecordError(f"{file} can't be read ({error.strerror or error}).") from error


def _decoded(line: bytes) -> Any:
    try:
        return json.loads(line.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        return RecordError(f"the line is no JSON object in UTF-8 ({error}).")


def _convention_beside(folder: Path) -> Convention | None:
    file = folder / COORDINATES_FILE
    try:
        with file.open(encoding="utf-8-sig") as lines:
            return Convention.from_text(lines.read(200))
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError, RecordError) as error:
        raise RecordError(f"{file} names no convention ({error}). Expected one of {', '.join(MEANINGS)}.") from error


def _settled(said: Said, size_wh: tuple[int, int]) -> Convention:
    """The convention that is sure without being told. Raises `RecordError` when none is."""
    if said.certain is not None:
        return Convention(said.certain)
    if XYXY_SHARE in said.possible and size_wh[0] == size_wh[1]:
        return Convention(XYXY_SHARE)  # a square picture is not padded
    open_to = said.possible or tuple(MEANINGS)
    meanings = "; ".join(f"{name} ({MEANINGS[name]})" for name in open_to)
    raise RecordError(
        f'the convention of its box {list(said.boxes[0][0])} is missing. Say it with the key "coordinates" in the '
        f"record, or in a file {COORDINATES_FILE} beside this one: {meanings}."
    )


def _understood(question: str, answer: str) -> tuple[Said, list[tuple[str, list[tuple[float, ...]]]]]:
    """What the boxes of the turn are, and its (phrase, boxes); raises `RecordError` for one that is about no box."""
    asked = question.strip().removeprefix(PICTURE_MARK).removesuffix(PICTURE_MARK).strip()
    phrase = _phrase_in(asked)
    said = read_answer(answer)
    if phrase is None and not said.boxes and not said.nothing:
        pointed_at = read_answer(asked)
        if pointed_at.boxes and answer.strip() and _ASKS_FOR_WORDS.search(asked[:_CHARACTERS_LOOKED_AT]):
            # Asked the other way round: the box is given, the words are the answer.
            return pointed_at, [(answer.strip(), [numbers for numbers, _ in pointed_at.boxes])]
    phrase = phrase if phrase is not None else referred_words(asked) or None
    if said.boxes:
        return said, _by_label(said, phrase, asked)
    if phrase is None and not said.nothing and not _ASKS_FOR_A_BOX.search(asked[:_CHARACTERS_LOOKED_AT]):
        raise RecordError(f"it is about no box: {answer[:60]!r} answers {asked[:60]!r}.")
    if not said.nothing and not said.denied:
        raise RecordError(f"the answer {answer[:60]!r} has no box. Expected one, or [] for a phrase that fits nothing.")
    return said, [(asked if phrase is None else phrase, [])]


def _phrase_in(asked: str) -> str | None:
    """The phrase, where this is a question that we know."""
    for before, behind in _QUESTIONS:
        if len(asked) >= len(before) + len(behind) and asked.startswith(before) and asked.endswith(behind):
            return asked[len(before) : len(asked) - len(behind)]
    return None


def _by_label(said: Said, phrase: str | None, asked: str) -> list[tuple[str, list[tuple[float, ...]]]]:
    """All boxes under the phrase; where the question names none, the boxes of each label under that."""
    if phrase is not None:
        return [(phrase, [numbers for numbers, _ in said.boxes])]
    by_label: dict[str, list[tuple[float, ...]]] = {}
    for numbers, label in said.boxes:
        by_label.setdefault(label, []).append(numbers)
    return [(label or asked, numbers) for label, numbers in by_label.items()]
