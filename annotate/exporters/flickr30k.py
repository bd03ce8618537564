"""A snapshot as Flickr30k Entities has it: Annotations, Sentences and lists of pictures, beside the pictures.

Boxes there are whole pixels, and phrases have no brackets; what that loses stands in the folder Boxwright.
"""

from __future__ import annotations

import json
import re
from itertools import count
from pathlib import Path
from xml.sax.saxutils import escape

from annotate.carried import carry
from annotate.exporters.by_picture import by_picture
from annotate.exporters.pictures import PicturesBeside
from annotate.importers.flickr30k import BOXES_FOLDER, CARRIED_FOLDER, SENTENCES_FOLDER
from annotate.importers.foreign import NUMBERS
from annotate.snapshot import SnapshotInfo
from grounding.boxes import Box
from grounding.errors import PictureError, SnapshotError
from grounding.pictures import picture_size_wh
from grounding.records import SPLITS, Sample

COORDINATES = "xmin, ymin, xmax, ymax in whole pixels of the original image"
_TYPE = re.compile(r"[\w-]+", re.ASCII)
_NO_BRACKETS = str.maketrans("[]", "()")


class Exporter:
    """Writes a chain and a line for each sample."""

    name = "flickr30k"

    def write(self, snapshot: SnapshotInfo, out: Path, *, link: bool) -> int:
        pictures = PicturesBeside(out, link)
        for folder in (BOXES_FOLDER, SENTENCES_FOLDER, CARRIED_FOLDER):
            (out / folder).mkdir()
        stems: dict[str, list[str]] = {split: [] for split in SPLITS}
        chains = count(1)
        total = 0
        for samples in by_picture(snapshot.samples_path):
            stem = pictures.place(samples[0].image).stem
            _write_picture(out, stem, [(str(next(chains)), sample) for sample in samples])
            for split in {sample.split for sample in samples}:
                stems[split].append(stem)
            total += len(samples)
        for split, of_split in stems.items():
            (out / f"{split}.txt").write_text("".join(f"{stem}\n" for stem in of_split), encoding="utf-8")
        return total


def _write_picture(out: Path, stem: str, chains: list[tuple[str, Sample]]) -> None:
    image = chains[0][1].image
    try:
        width, height = picture_size_wh(image)
    except PictureError as error:
        raise SnapshotError(f"{chains[0][1].id}: {error}") from error
    objects = "".join(_objects(chain, sample) for chain, sample in chains)
    (out / BOXES_FOLDER / f"{stem}.xml").write_text(
        f"<annotation>\n<filename>{escape(image.name)}</filename>\n"
        f"<size><width>{width}</width><height>{height}</height><depth>3</depth></size>\n{objects}</annotation>\n",
        encoding="utf-8",
    )
    lines = (f"[/EN#{chain}/{_type(sample)} {_phrase(sample)}]\n" for chain, sample in chains)
    (out / SENTENCES_FOLDER / f"{stem}.txt").write_text("".join(lines), encoding="utf-8")
    carried = {
        chain: {
            **carry(sample, phrase=_phrase(sample), category=_type(sample)),
            NUMBERS: [_whole_px(box) for box in sample.boxes_xyxy_px],
        }
        for chain, sample in chains
    }
    (out / CARRIED_FOLDER / f"{stem}.json").write_text(
        json.dumps({"coordinates": COORDINATES, "chains": carried}, ensure_ascii=False) + "\n", encoding="utf-8"
    )


def _objects(chain: str, sample: Sample) -> str:
    if not sample.boxes_xyxy_px:
        return f"<object><name>{chain}</name><scene>0</scene><nobndbox>1</nobndbox></object>\n"
    corners = ("xmin", "ymin", "xmax", "ymax")
    boxes = (zip(corners, _whole_px(box), strict=True) for box in sample.boxes_xyxy_px)
    return "".join(
        f"<object><name>{chain}</name><bndbox>{''.join(f'<{key}>{px}</{key}>' for key, px in box)}</bndbox></object>\n"
        for box in boxes
    )


def _whole_px(box: Box) -> list[int]:
    x1, y1, x2, y2 = (round(px) for px in box)
    return [x1, y1, max(x2, x1 + 1), max(y2, y1 + 1)]


def _phrase(sample: Sample) -> str:
    return " ".join(sample.phrase.translate(_NO_BRACKETS).split())


def _type(sample: Sample) -> str:
    return sample.category if _TYPE.fullmatch(sample.category) else "other"
