"""A snapshot as conversations for Qwen3-VL: train.json, val.json and test.json beside a folder of pictures.

Question and answer are those of the profile `qwen3-vl`: `bbox_2d` in 0 to 1000 of width and height.
"""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from annotate.carried import KEY, carry
from annotate.conventions import XYXY_1000, numbers_1000
from annotate.exporters.json_list import JsonList
from annotate.exporters.pictures import FOLDER, PicturesBeside
from annotate.importers.chats import PICTURE_MARK
from annotate.importers.conversations import QUESTION
from annotate.importers.foreign import NUMBERS
from annotate.snapshot import SnapshotInfo
from grounding.errors import PictureError, SnapshotError
from grounding.pictures import picture_size_wh
from grounding.records import SPLITS, Sample, read_samples


class Exporter:
    """Writes what Qwen's and LLaVA's own trainers read, a sample a record, and what `import` reads back."""

    name = "conversations"

    def write(self, snapshot: SnapshotInfo, out: Path, *, link: bool) -> int:
        pictures = PicturesBeside(out, link)
        sizes_wh: dict[str, tuple[int, int]] = {}
        total = 0
        with ExitStack() as stack:
            files = {
                split: stack.enter_context(JsonList(out / f"{split}.json"))
                for split in SPLITS
                if snapshot.counts.get(split)
            }
            for sample in read_samples(snapshot.samples_path):
                name = pictures.place(sample.image).name
                if name not in sizes_wh:
                    sizes_wh[name] = _size_wh(sample)
                total += 1
                files[sample.split].append(_record(sample, f"{FOLDER}/{name}", sizes_wh[name]))
        return total


def _size_wh(sample: Sample) -> tuple[int, int]:
    try:
        return picture_size_wh(sample.image)
    except PictureError as error:
        raise SnapshotError(f"{sample.id}: {error}") from error


def _record(sample: Sample, image: str, image_size_wh: tuple[int, int]) -> dict[str, Any]:
    # A phrase is words: it can't end the turn, nor stand for a picture.
    phrase = sample.phrase.replace("<|", "< |").replace(PICTURE_MARK, "< image>").strip()
    numbers = [numbers_1000(box, image_size_wh) for box in sample.boxes_xyxy_px]
    return {
        "id": sample.id,
        "image": image,
        "conversations": [
            {"from": "human", "value": f"{PICTURE_MARK}\n{phrase.join(QUESTION)}"},
            {"from": "gpt", "value": _answer(phrase, numbers)},
        ],
        "coordinates": XYXY_1000,
        KEY: {**carry(sample, phrase=phrase), NUMBERS: numbers},
    }


def _answer(phrase: str, numbers: list[list[int]]) -> str:
    if not numbers:
        return "```json\n[]\n```"
    # A fence inside the label would end the one around the answer.
    label = json.dumps(phrase, ensure_ascii=False).replace("[", "\\u005b").replace("`", "\\u0060")
    return "```json\n[\n" + ",\n".join(f'\t{{"bbox_2d": {four}, "label": {label}}}' for four in numbers) + "\n]\n```"
