"""Write the demo data set: pictures, and samples with half of train's phrases lost, as real collections come."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

from grounding.demo.mark import MARK, check_own, mark_own
from grounding.demo.phrases import Phrase, PhraseKind, absent_nouns, absent_phrase, true_phrases
from grounding.demo.plan import PicturePlan, SamplePlan, Shown, plan_split
from grounding.demo.scenes import Scene, draw_scene
from grounding.demo.sprites import known_nouns, unknown_nouns
from grounding.errors import SettingsError, WorkspaceError
from grounding.records import SPLITS, Sample, write_samples

PLACEHOLDER_PHRASE = "Please carefully observe the area circled in the image and come up with a caption for the area."
ALTERNATIVES_MIN, ALTERNATIVES_MAX = 2, 4
_LISTS = {split: f"{split}.jsonl" for split in SPLITS}
_KIND_WEIGHTS = {PhraseKind.NOUN: 3, PhraseKind.SIZE: 2, PhraseKind.LOCATION: 3, PhraseKind.RELATION: 2}

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class DemoSize:
    """How many pictures each split gets; each picture carries two samples. Raises `SettingsError` below 0."""

    train_pictures: int = 900
    val_pictures: int = 50
    test_pictures: int = 100

    def __post_init__(self) -> None:
        for split, pictures in self.by_split.items():
            if pictures < 0:
                raise SettingsError(f"{split}_pictures is {pictures}: expected 0 or more pictures.")

    @property
    def by_split(self) -> Mapping[str, int]:
        return dict(zip(SPLITS, (self.train_pictures, self.val_pictures, self.test_pictures), strict=True))

    @property
    def pictures(self) -> int:
        return sum(self.by_split.values())


@dataclass(frozen=True, slots=True)
class DemoSummary:
    """What `write_demo` wrote: counts of pictures and samples, and bytes on disk."""

    folder: Path
    pictures: int
    samples_by_split: Mapping[str, int]
    placeholders: int
    placeholders_without_alternatives: int
    without_target: int
    bytes_written: int


def write_demo(
    folder: str | Path, *, seed: int = 0, size: DemoSize | None = None, progress: Progress | None = None
) -> DemoSummary:
    """Write train.jsonl, val.jsonl, test.jsonl and images/*.png into `folder`, made where it is missing.

    The same seed and size give the same lines and the same pixels. `progress` is called with the number of
    pictures done and the number of all. What an earlier call wrote is replaced. Raises `WorkspaceError` when the
    folder can't be written, or holds files of these names that are somebody else's (see `mark.check_own`).
    """
    folder, size = Path(folder), size or DemoSize()
    by_split: dict[str, list[Sample]] = {}
    done = 0
    try:
        pictures_of = ((split, number) for split, count in size.by_split.items() for number in range(count))
        check_own(folder, _LISTS.values(), (f"images/{_image_id(*one)}.png" for one in pictures_of))
        (folder / "images").mkdir(parents=True, exist_ok=True)
        mark_own(folder, (folder / name for name in _LISTS.values()))
        for split, pictures in size.by_split.items():
            by_split[split] = []
            plans = plan_split(random.Random(f"{seed}/{split}"), pictures, placeholders=split == "train")
            for number, plan in enumerate(plans):
                by_split[split] += _write_picture(folder, plan, _image_id(split, number), seed)
                done += 1
                if progress is not None:
                    progress(done, size.pictures)
        # The lists come last, so a folder with all three has all the pictures they name.
        partial = {split: folder / f"{name}.partial" for split, name in _LISTS.items()}
        for split, samples in by_split.items():
            write_samples(partial[split], samples)
        mark_own(folder, partial.values())
        for split, name in _LISTS.items():
            partial[split].replace(folder / name)
    except OSError as error:
        raise WorkspaceError(
            f"The demo data set can't be written to {folder} ({error.strerror or error}). "
            "Choose a folder of your own with enough room (about 100 MB)."
        ) from error
    return _summarise(folder, by_split)


def _image_id(split: str, number: int) -> str:
    return f"{split}-{number:04d}"


def draw_picture(plan: PicturePlan, rng: random.Random) -> tuple[Scene, tuple[int | None, ...]]:
    """A scene for the plan, and for each of its samples the index of its object (None: refers to nothing).

    The objects are different ones, and each has at least one phrase that is true of it alone.
    """
    while True:
        scene = draw_scene(rng, focus_nouns=plan.focus_nouns, repeats=plan.repeats)
        targets = _choose_targets(rng, scene, plan.samples)
        if targets is not None:
            return scene, targets


def _choose_targets(rng: random.Random, scene: Scene, samples: Sequence[SamplePlan]) -> tuple[int | None, ...] | None:
    targets: list[int | None] = []
    for sample in samples:
        if sample.noun is None:
            targets.append(None)
            continue
        fitting = [
            index
            for index, each in enumerate(scene.objects)
            if each.noun == sample.noun and index not in targets and true_phrases(scene.objects, index)
        ]
        if not fitting:
            return None
        targets.append(rng.choice(fitting))
    return tuple(targets)


def _write_picture(folder: Path, plan: PicturePlan, image_id: str, seed: int) -> list[Sample]:
    """Draw and save one picture, from a seed of its own; returns its samples."""
    rng = random.Random(f"{seed}/{image_id}")
    scene, targets = draw_picture(plan, rng)
    path = folder.resolve() / "images" / f"{image_id}.png"
    scene.image.save(path, compress_level=1)
    split, number = image_id.rsplit("-", 1)
    samples: list[Sample] = []
    for position, (asked, target) in enumerate(zip(plan.samples, targets, strict=True)):
        sample_id = f"demo-{split}-{int(number) * len(plan.samples) + position:04d}"
        blank = Sample(sample_id, path, phrase="", boxes_xyxy_px=(), split=split, image_id=image_id)
        if target is None:
            samples.append(_ask_for_absent(rng, blank, scene, {sample.category for sample in samples}))
        else:
            samples.append(_ask_for_object(rng, blank, scene, target, asked.shown))
    return samples


def _ask_for_object(rng: random.Random, blank: Sample, scene: Scene, target: int, shown: Shown) -> Sample:
    phrases = true_phrases(scene.objects, target)
    phrase = _choose_phrase(rng, phrases)
    others = [other.text for other in phrases if other != phrase]
    wanted = rng.randint(ALTERNATIVES_MIN, ALTERNATIVES_MAX)
    alternatives = tuple(rng.sample(others, min(wanted, len(others))))
    text = phrase.text
    if shown is not Shown.PHRASE:
        text = PLACEHOLDER_PHRASE
        alternatives = (phrase.text, *alternatives) if shown is Shown.PLACEHOLDER else ()
    chosen = scene.objects[target]
    return replace(
        blank, phrase=text, boxes_xyxy_px=(chosen.box_xyxy_px,), category=chosen.noun, alternatives=alternatives
    )


def _ask_for_absent(rng: random.Random, blank: Sample, scene: Scene, asked: set[str]) -> Sample:
    group = rng.choice((known_nouns, unknown_nouns))()
    noun = rng.choice([noun for noun in absent_nouns(scene.objects, group) if noun not in asked])
    return replace(blank, phrase=absent_phrase(rng, noun).text, category=noun)


def _choose_phrase(rng: random.Random, phrases: Sequence[Phrase]) -> Phrase:
    """One phrase, its kind first: relations are many and would crowd out the rest."""
    kinds = sorted({phrase.kind for phrase in phrases})
    (kind,) = rng.choices(kinds, weights=[_KIND_WEIGHTS[kind] for kind in kinds])
    return rng.choice([phrase for phrase in phrases if phrase.kind == kind])


def _summarise(folder: Path, by_split: Mapping[str, Sequence[Sample]]) -> DemoSummary:
    samples = [sample for split in by_split.values() for sample in split]
    lost = [sample for sample in samples if sample.phrase == PLACEHOLDER_PHRASE]
    pictures = {sample.image for sample in samples}
    files = [*pictures, folder / MARK, *(folder / name for name in _LISTS.values())]
    return DemoSummary(
        folder=folder,
        pictures=len(pictures),
        samples_by_split=MappingProxyType({split: len(each) for split, each in by_split.items()}),
        placeholders=len(lost),
        placeholders_without_alternatives=sum(not sample.alternatives for sample in lost),
        without_target=sum(not sample.boxes_xyxy_px for sample in samples),
        bytes_written=sum(file.stat().st_size for file in files),
    )
