"""What a step of a run will show: the same pictures, boxes and phrases, by the same code."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from grounding.boxes import Box
from grounding.errors import PictureError
from grounding.pictures import open_picture
from grounding.training.augment import Shown
from grounding.training.curriculum import hardest_at
from grounding.training.feed import Asked, Drawn, Feed
from grounding.training.looks import look
from grounding.training.settings import TrainSettings
from grounding.training.wording import Difficulty


@dataclass(frozen=True)
class PreviewPhrase:
    """One phrase of a step. `written` is the snapshot's wording, `phrase` what the model reads; boxes in pixels of
    the view, none when the answer is "nothing there"."""

    written: str
    phrase: str
    boxes_xyxy_px: tuple[Box, ...]
    reworded: bool = False
    negative: bool = False
    jittered: bool = False
    alternative: bool = False

    @property
    def changed(self) -> bool:
        return self.phrase != self.written


@dataclass(frozen=True)
class PreviewPicture:
    """One picture of a step. `marks` says what was done to it ("mirrored", "cropped", "farther away",
    "other colours"); `image` is None when the picture can't be read, and `problem` says why: the run leaves it out."""

    path: Path
    image: Image.Image | None
    phrases: tuple[PreviewPhrase, ...]
    marks: tuple[str, ...] = ()
    rehearsed: bool = False
    problem: str = ""


def preview_step(feed: Feed, step: int, most: int | None = None) -> tuple[PreviewPicture, ...]:
    """The pictures of step `step` (from 1) as the model would see them, at most `most` of them."""
    return tuple(_preview(drawn, feed.settings) for drawn in feed.step(step)[:most])


def so_far(settings: TrainSettings, step: int) -> str:
    """What a curriculum lets through in step `step` (from 1), as a sentence; "" where everything may come."""
    hardest = hardest_at(step, settings.steps, settings.curriculum_share)
    return {
        Difficulty.NOUN: "So early the curriculum brings nouns, and of other boxes their easiest phrase.",
        Difficulty.ATTRIBUTE: "By now the curriculum brings nouns and attributes; relations come later.",
        Difficulty.RELATION: "",
    }[hardest]


def _preview(drawn: Drawn, settings: TrainSettings) -> PreviewPicture:
    path = drawn.picture.image
    try:
        shown = look(open_picture(path), drawn, settings)
    except PictureError as error:
        asked = tuple(PreviewPhrase(each.written, each.phrase, each.boxes_xyxy_px) for each in drawn.asked)
        return PreviewPicture(path, None, asked, rehearsed=drawn.rehearsed, problem=str(error))
    return PreviewPicture(path, shown.image, _phrases(drawn.asked, shown), shown.marks, drawn.rehearsed)


def _phrases(asked: Sequence[Asked], shown: Shown) -> tuple[PreviewPhrase, ...]:
    return tuple(
        PreviewPhrase(
            written=each.written,
            phrase=phrase,
            boxes_xyxy_px=boxes,
            reworded=each.phrase != each.written,
            negative=each.negative,
            jittered=place in shown.jittered,
            alternative=each.alternative,
        )
        for place, (each, (phrase, boxes)) in enumerate(zip(asked, shown.targets, strict=True))
    )
