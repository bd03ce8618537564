"""Flickr30k Entities: boxes by the chains of a picture in Annotations, phrases with their chains in Sentences."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from annotate.carried import restore
from annotate.importers.foreign import carried_boxes, content_id, unshown
from annotate.importers.picture_folders import PictureFolders, annotated_size_wh
from annotate.items import BadRow
from grounding.boxes import Box
from grounding.errors import BoxError, RecordError
from grounding.records import Sample

BOXES_FOLDER = "Annotations"
SENTENCES_FOLDER = "Sentences"
CARRIED_FOLDER = "Boxwright"
_PICTURE_FOLDERS = ("flickr30k-images", "flickr30k_images")
# A picture in two of the lists is kept out of train.
_SPLIT_FILES = {"train": "train.txt", "val": "val.txt", "test": "test.txt"}
# No bracket inside: a text full of open ones must not make the search begin anew at each.
_PHRASE = re.compile(r"\[/EN#(\d+)((?:/[^\s/\[\]]+)*+)(?: ([^\[\]]*+))?\]")
_CORNERS = ("xmin", "ymin", "xmax", "ymax")
_UNSHOWN = ("image_id", "alternatives")
OWN_KEYS = frozenset({"chain", "sentences"})


class Importer:
    """Reads a folder. A phrase is a sample with all boxes of its chain; one that several sentences share is one."""

    name = "flickr30k"
    expects = f"a folder with {BOXES_FOLDER}/*.xml and {SENTENCES_FOLDER}/*.txt, as Flickr30k Entities has them"
    recognise_order = 15

    def recognises(self, source: Path) -> bool:
        try:
            return any((source / BOXES_FOLDER).glob("*.xml")) and any((source / SENTENCES_FOLDER).glob("*.txt"))
        except OSError:
            return False

    def read(self, source: Path, scratch: Path) -> Iterator[Sample | BadRow]:
        folder = source.resolve()
        files = sorted((folder / SENTENCES_FOLDER).glob("*.txt"))
        if not files:
            raise RecordError(f"{source} holds no sentences. Expected {self.expects}.")
        # Of the folders beside the data set only those that hold nothing but its pictures.
        places = [folder] + [base / name for base in (folder, folder.parent) for name in _PICTURE_FOLDERS]
        pictures = PictureFolders(places)
        splits = _read_splits(folder)
        for file in files:
            try:
                picture = _read_picture(folder, file.stem, pictures, splits.get(file.stem, ()))
                mentions = _read_mentions(file)
            except (RecordError, OSError, UnicodeDecodeError) as error:
                yield BadRow(file.stem, str(error))
                continue
            for (chain, phrase), mention in mentions.items():
                try:
                    yield _sample(picture, chain, phrase, mention)
                except (RecordError, BoxError, RecursionError) as error:
                    yield BadRow(f"{file.stem}, {phrase[:60]!r}", str(error))


@dataclass(frozen=True)
class _Picture:
    """What the files say of one picture. `numbers` are xmin, ymin, xmax, ymax of each box, by chain; `without_box`
    says of a chain why it has none."""

    stem: str
    image: Path
    splits: tuple[str, ...]
    numbers: Mapping[str, list[list[float]]]
    without_box: Mapping[str, str]
    carried: Mapping[str, Any]


@dataclass
class _Mention:
    """Where a phrase stands: its type, and the sentences in plain words."""

    category: str
    sentences: list[str] = field(default_factory=list)


def _read_splits(folder: Path) -> dict[str, tuple[str, ...]]:
    """The splits whose list names a picture, by its stem."""
    splits: dict[str, tuple[str, ...]] = {}
    for split, name in _SPLIT_FILES.items():
        try:
            text = (folder / name).read_text(encoding="utf-8-sig")
        except FileNotFoundError:
            continue
        except (OSError, UnicodeDecodeError) as error:
            raise RecordError(f"{folder / name} can't be read as a list of pictures ({error}).") from error
        for stem in text.split():
            stem = stem.removesuffix(".jpg")
            splits[stem] = (*splits.get(stem, ()), split)
    return splits


def _read_picture(folder: Path, stem: str, pictures: PictureFolders, splits: tuple[str, ...]) -> _Picture:
    root = _read_xml(folder / BOXES_FOLDER / f"{stem}.xml")
    numbers: dict[str, list[list[float]]] = {}
    without_box: dict[str, str] = {}
    for entity in root.iter("object"):
        chains = [(name.text or "").strip() for name in entity.iter("name")]
        corners = entity.find("bndbox")
        if corners is None:
            reason = "it is the whole scene" if (entity.findtext("scene") or "").strip() == "1" else "it is not boxed"
            without_box.update(dict.fromkeys(chains, reason))
            continue
        four = [_number(corners.findtext(corner)) for corner in _CORNERS]
        for chain in chains:
            numbers.setdefault(chain, []).append(four)
    sides = {side: root.findtext(f"size/{side}") for side in ("width", "height")}
    image = pictures.find((root.findtext("filename") or f"{stem}.jpg").strip(), annotated_size_wh(sides))
    return _Picture(stem, image, splits, numbers, without_box, _read_carried(folder / CARRIED_FOLDER / f"{stem}.json"))


def _read_xml(file: Path) -> ElementTree.Element:
    parser = ElementTree.XMLParser(target=_NoDoctype())
    try:
        parser.feed(file.read_bytes())
        root: ElementTree.Element = parser.close()
    except FileNotFoundError as error:
        raise RecordError(f"there is no {BOXES_FOLDER}/{file.name} with its boxes.") from error
    except (ElementTree.ParseError, OSError, ValueError, LookupError) as error:
        raise RecordError(f"{BOXES_FOLDER}/{file.name} can't be read ({error}).") from error
    return root


class _NoDoctype(ElementTree.TreeBuilder):
    """Refuses the declaration that entities need: a few lines of them unpack to gigabytes, or read other files."""

    def doctype(self, name: str, pubid: str, system: str) -> None:
        raise RecordError("it has a DOCTYPE, which no annotation needs and which may unpack to anything")


def _number(text: str | None) -> float:
    try:
        return float(text or "")
    except ValueError as error:
        raise RecordError(f"its bndbox has {str(text)[:40]!r} in place of a number of pixels.") from error


def _read_carried(file: Path) -> Mapping[str, Any]:
    """What an export has carried for each chain; nothing of other files."""
    try:
        chains = json.loads(file.read_bytes()).get("chains")
    except (OSError, ValueError, RecursionError, AttributeError):
        return {}
    return chains if isinstance(chains, dict) else {}


def _read_mentions(file: Path) -> dict[tuple[str, str], _Mention]:
    """(chain, phrase) -> where it stands."""
    mentions: dict[tuple[str, str], _Mention] = {}
    for line in file.read_text(encoding="utf-8-sig").split("\n"):
        sentence = _PHRASE.sub(lambda found: found[3] or "", line).strip()
        for chain, types, phrase in _PHRASE.findall(line):
            mention = mentions.setdefault((chain, phrase), _Mention(types.strip("/")))
            if sentence not in mention.sentences:
                mention.sentences.append(sentence)
    return mentions


def _sample(picture: _Picture, chain: str, phrase: str, mention: _Mention) -> Sample:
    kept = picture.carried.get(chain)
    numbers = picture.numbers.get(chain, [])
    boxes_xyxy_px = carried_boxes(kept, numbers)
    if boxes_xyxy_px is None:
        if not numbers:
            reason = picture.without_box.get(chain, "it names nothing in the picture")
            raise RecordError(f"chain {chain} has no box: {reason}.")
        boxes_xyxy_px = tuple(Box.from_numbers(four) for four in numbers)
    seen = Sample(
        id=content_id(picture.stem, chain, phrase),
        image=picture.image,
        phrase=phrase,
        boxes_xyxy_px=boxes_xyxy_px,
        split=picture.splits[-1] if picture.splits else "train",
        category=mention.category,
        image_id=picture.stem,
        extra={"chain": chain, "sentences": mention.sentences},
    )
    if kept is None:
        return seen
    # One list of pictures says the split; several leave open which sample is meant.
    hidden = (*_UNSHOWN, "split") if len(picture.splits) > 1 else _UNSHOWN
    return restore(seen, unshown(kept, seen, *hidden), OWN_KEYS)
