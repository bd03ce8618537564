"""What step n learns from: a pure function of seed, step and picture, so that any process can draw any part of it."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageFilter

from grounding.boxes import Box
from grounding.demo.pretrain.settings import CELL_PX, PretrainSettings, grids
from grounding.demo.questions import Question, ask
from grounding.demo.scenes import Scene, SceneObject, draw_scene
from grounding.demo.sprites import all_nouns

_SQUARE = (8, 8)
_TRIES = 40


@dataclass(frozen=True, eq=False)
class Shown:
    """One picture with what is asked about it. `pixels` [height, width, 3] uint8; `cells` [rows * columns] int, 0 for
    ground and 1 + the noun's place in `all_nouns()` for what covers a cell's centre, and `cell_boxes`
    [rows * columns, 4] its box in shares of the picture's sides (0.0 for ground)."""

    pixels: np.ndarray
    questions: tuple[Question, ...]
    objects: tuple[SceneObject, ...]
    cells: np.ndarray
    cell_boxes: np.ndarray

    @property
    def size_wh(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self.pixels.shape[1], self.pixels.shape[0]

    def boxes_of(self, question: Question) -> tuple[Box, ...]:
        """The boxes that answer a question, in the order of an answer."""
        return tuple(self.objects[place].box_xyxy_px for place in question.targets)


def grid_of_step(settings: PretrainSettings, step: int) -> tuple[int, int]:
    """(rows, columns) of all pictures of a step: square for `square_share` of the steps, then each grid alike."""
    rng = random.Random(f"{settings.seed}/{step}/grid")
    return _SQUARE if rng.random() < settings.square_share else rng.choice(grids())


def shown_in_step(settings: PretrainSettings, step: int) -> Iterator[Shown]:
    """The pictures of a step, one after the other."""
    grid = grid_of_step(settings, step)
    for number in range(settings.pictures_per_step):
        yield draw_shown(random.Random(f"{settings.seed}/{step}/{number}"), grid, settings)


def draw_shown(rng: random.Random, grid: tuple[int, int], settings: PretrainSettings) -> Shown:
    """A scene of this grid with so many questions, a few of them twice where there is little to ask."""
    rows, columns = grid
    size_wh = (columns * CELL_PX, rows * CELL_PX)
    questions: list[Question] = []
    while not questions:
        scene = draw_scene(rng, size_wh=size_wh)
        questions = _questions(rng, scene, size_wh, settings)
    while len(questions) < settings.questions_per_picture:
        questions.append(rng.choice(questions))
    cells, cell_boxes = _cells(scene.objects, grid, size_wh)
    pixels = np.asarray(_weathered(rng, scene.image, settings))
    return Shown(pixels, tuple(questions), scene.objects, cells, cell_boxes)


def _questions(
    rng: random.Random, scene: Scene, size_wh: tuple[int, int], settings: PretrainSettings
) -> list[Question]:
    found: dict[str, Question] = {}
    for _ in range(_TRIES):
        question = ask(rng, scene.objects, size_wh, settings.mix)
        if question is not None:
            found.setdefault(question.text, question)
        if len(found) == settings.questions_per_picture:
            break
    return list(found.values())


def _cells(
    objects: Sequence[SceneObject], grid: tuple[int, int], size_wh: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    rows, columns = grid
    cells = np.zeros((rows, columns), dtype=np.int64)
    boxes = np.zeros((rows, columns, 4), dtype=np.float32)
    across = (np.arange(columns) + 0.5) * CELL_PX
    down = (np.arange(rows) + 0.5) * CELL_PX
    sides = np.array((*size_wh, *size_wh), dtype=np.float32)
    nouns = {noun: place + 1 for place, noun in enumerate(all_nouns())}
    for each in objects:  # larger ones first: what is painted over them has the cell
        box = each.box_xyxy_px
        inside = np.ix_((down >= box.y1) & (down < box.y2), (across >= box.x1) & (across < box.x2))
        cells[inside] = nouns[each.noun]
        boxes[inside] = np.array(tuple(box), dtype=np.float32) / sides
    return cells.reshape(-1), boxes.reshape(-1, 4)


def _weathered(rng: random.Random, image: Image.Image, settings: PretrainSettings) -> Image.Image:
    """A colour cast on some pictures, a blur on others: photographs have both."""
    if rng.random() < settings.recoloured_share:
        gains = [rng.uniform(0.75, 1.25) for _ in range(3)]
        table = [min(255, round(value * gain)) for gain in gains for value in range(256)]
        image = image.point(table)
    if rng.random() < settings.blurred_share:
        image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0.4, 1.4)))
    return image
