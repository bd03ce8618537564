"""What the embedded model learned from, drawn anew: scenes in which only the nouns that it knows are asked for.

Rehearsing them beside new phrases keeps it from forgetting the old ones. Its own pictures were never kept; these come
from the same rules with another seed.
"""

from __future__ import annotations

import random
import shutil
import tempfile
from pathlib import Path

from grounding.demo.phrases import known_phrases
from grounding.demo.scenes import Scene, draw_scene
from grounding.demo.sprites import known_nouns
from grounding.errors import WorkspaceError
from grounding.records import Sample, read_samples, write_samples

PICTURES = 300
_LIST = "train.jsonl"


def old_scenes(folder: Path, pictures: int = PICTURES) -> list[Sample]:
    """The samples of the scenes in `folder`, which are drawn there when it is missing: all of them or none.

    Several processes may ask at once. The same number gives the same scenes. Raises `WorkspaceError` when the folder
    can't be written.
    """
    if not (folder / _LIST).is_file():
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            partial = Path(tempfile.mkdtemp(prefix=f"{folder.name}-", dir=folder.parent))
            try:
                _draw(partial, pictures)
                partial.rename(folder)
            except OSError:
                if not (folder / _LIST).is_file():  # another process was quicker
                    raise
            finally:
                shutil.rmtree(partial, ignore_errors=True)
        except OSError as error:
            raise WorkspaceError(
                f"The scenes to rehearse can't be written to {folder} ({error.strerror or error}). Make room there, "
                "or set rehearsal_share to 0."
            ) from error
    return list(read_samples(folder / _LIST))


def _draw(folder: Path, pictures: int) -> None:
    rng = random.Random("old scenes")
    samples: list[Sample] = []
    for number in range(pictures):
        asked: list[tuple[int, list[str]]] = []
        while not asked:
            scene = draw_scene(rng)
            asked = _asked(scene)
        path = folder / f"{number:04d}.png"
        scene.image.save(path, compress_level=1)
        for index, phrases in asked:
            rng.shuffle(phrases)
            drawn = scene.objects[index]
            name = f"old-{number:04d}"
            samples.append(
                Sample(
                    f"{name}-{index}",
                    path,
                    phrases[0],
                    (drawn.box_xyxy_px,),
                    "train",
                    category=drawn.noun,
                    image_id=name,
                    alternatives=tuple(phrases[1:]),
                )
            )
    write_samples(folder / _LIST, samples)


def _asked(scene: Scene) -> list[tuple[int, list[str]]]:
    """(place of an object that the base knows, phrases true of it alone in which no new noun stands)."""
    known = set(known_nouns())
    asked = []
    for index, drawn in enumerate(scene.objects):
        phrases = [phrase.text for phrase in known_phrases(scene.objects, index)]
        if drawn.noun in known and phrases:
            asked.append((index, phrases))
    return asked
