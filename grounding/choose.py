"""Several candidate answers to one phrase -> one: by vote, or by how well what a box holds fits the phrase.

Importing this module imports no torch: that happens in `ClipScorer`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any, Protocol

from PIL import Image

from grounding.boxes import Box, iou, set_iou
from grounding.errors import ModelError, first_sentence
from grounding.records import Status

CROP_MARGIN = 0.1  # of a box's width to the left and right, of its height above and below
AGREEING_IOU = 0.5
_LEAST_WEIGHT = 1e-6  # a candidate with confidence 0 still counts a little, so that a mean always exists
_CROPS_PER_BATCH = 32
_MAX_ASPECT = 8
_SCORER_TYPES = ("clip", "siglip", "siglip2")


@dataclass(frozen=True)
class Candidate:
    """One answer: its boxes in pixels of the original image, its status, its confidence (0.0 to 1.0) if known."""

    boxes_xyxy_px: tuple[Box, ...]
    status: Status
    confidence: float | None

    @property
    def gives_boxes(self) -> bool:
        return self.status is Status.OK and bool(self.boxes_xyxy_px)

    @property
    def weight(self) -> float:
        """The confidence, or 1 where there is none; always > 0."""
        if self.confidence is None:
            return 1.0
        return self.confidence if self.confidence > _LEAST_WEIGHT else _LEAST_WEIGHT


@dataclass(frozen=True)
class Choice:
    """One answer from several. `index` is of the candidate whose text stands for it.

    `boxes_xyxy_px` are merged ones after `vote`, the candidate's own after `rerank`. `agreement` is the share of all
    candidates that agree: by the same status, for boxes by `set_iou` of at least the threshold. 0.0 to 1.0.
    """

    index: int
    boxes_xyxy_px: tuple[Box, ...]
    status: Status
    agreement: float


def vote(candidates: Sequence[Candidate], *, min_iou: float = 0.5) -> Choice:
    """The answer that most candidates share.

    "Nothing there" is voted on first, against boxes: heads count, then weights, then boxes win. Boxes of different
    candidates are then clustered by IoU >= `min_iou` with the cluster's mean box and averaged by weight: weighted
    boxes fusion (Solovyev, Wang and Gabruseva, Weighted boxes fusion: Ensembling boxes from different object
    detection models, Image and Vision Computing 107, 2021). Clusters that more than half of the candidates with boxes
    share are kept, heaviest first; when there is none, the heaviest alone. So of two candidates that differ, the one
    of more weight is kept. Unreadable and degenerate candidates have no vote unless there are no others.

    The order of the candidates decides nothing but the index among equally close ones (the first).
    Raises `ValueError` without candidates or for a `min_iou` outside (0, 1].
    """
    if not candidates:
        raise ValueError("No candidates to choose from: expected at least one.")
    if not 0 < min_iou <= 1:
        raise ValueError(f"min_iou={min_iou}: expected more than 0 and at most 1.")
    with_boxes = [candidate for candidate in candidates if candidate.gives_boxes]
    nothing = [candidate for candidate in candidates if candidate.status is Status.NO_BOX]
    if not with_boxes and not nothing:
        statuses = [candidate.status for candidate in candidates]
        return _of_status(candidates, max(sorted(set(statuses)), key=statuses.count))
    if _ballot(nothing) > _ballot(with_boxes):
        return _of_status(candidates, Status.NO_BOX)
    merged = _fuse(with_boxes, min_iou)
    index = _first_best(candidates, lambda c: set_iou(c.boxes_xyxy_px, merged) if c.gives_boxes else -1.0)
    return Choice(index, merged, Status.OK, _agreement(candidates, merged, min_iou))


def _ballot(candidates: Sequence[Candidate]) -> tuple[int, float]:
    # fsum, here and below: its result doesn't depend on the order.
    return len(candidates), math.fsum(candidate.weight for candidate in candidates)


def _of_status(candidates: Sequence[Candidate], status: Status) -> Choice:
    """The choice of a status without boxes; of the candidates that have it, the most confident stands for it."""
    agreement = fmean(candidate.status is status for candidate in candidates)
    index = _first_best(candidates, lambda c: c.weight if c.status is status else -1.0)
    return Choice(index, (), status, agreement)


def _first_best(candidates: Sequence[Candidate], value: Callable[[Candidate], float]) -> int:
    return max(range(len(candidates)), key=lambda index: value(candidates[index]))


def _agreement(candidates: Sequence[Candidate], boxes_xyxy_px: Sequence[Box], min_iou: float) -> float:
    return fmean(c.gives_boxes and set_iou(c.boxes_xyxy_px, boxes_xyxy_px) >= min_iou for c in candidates)


@dataclass
class _Cluster:
    """Boxes taken for one object, at most one of each candidate, with their weighted mean."""

    mean: Box
    boxes_xyxy_px: list[Box] = field(default_factory=list)
    weights: list[float] = field(default_factory=list)
    owners: set[int] = field(default_factory=set)

    def add(self, box: Box, weight: float, owner: int) -> None:
        self.boxes_xyxy_px.append(box)
        self.weights.append(weight)
        self.owners.add(owner)
        self.mean = Box(*(self._mean(sides) for sides in zip(*self.boxes_xyxy_px, strict=True)))

    def _mean(self, sides: Sequence[float]) -> float:
        """From the first on, so that the mean of equal numbers is exactly that number."""
        origin = sides[0]
        shifts = math.fsum(w * (side - origin) for w, side in zip(self.weights, sides, strict=True))
        return origin + shifts / self.weight

    @property
    def weight(self) -> float:
        return math.fsum(self.weights)


def _fuse(with_boxes: Sequence[Candidate], min_iou: float) -> tuple[Box, ...]:
    # Candidates that are equal in all this compares are interchangeable: so their order doesn't matter.
    in_order = sorted(with_boxes, key=lambda candidate: (-candidate.weight, candidate.boxes_xyxy_px))
    clusters: list[_Cluster] = []
    for owner, candidate in enumerate(in_order):
        for box in candidate.boxes_xyxy_px:
            free = [cluster for cluster in clusters if owner not in cluster.owners]
            closest = max(free, key=lambda cluster: iou(cluster.mean, box), default=None)
            if closest is None or iou(closest.mean, box) < min_iou:
                closest = _Cluster(box)
                clusters.append(closest)
            closest.add(box, candidate.weight, owner)
    clusters.sort(key=lambda cluster: (-cluster.weight, cluster.mean))
    shared = [cluster for cluster in clusters if 2 * len(cluster.owners) > len(with_boxes)]
    return tuple(cluster.mean for cluster in shared or clusters[:1])


class CropScorer(Protocol):
    """Says for each box of a picture how well what it holds fits the phrase; higher is better."""

    def __call__(self, picture: Image.Image, boxes_xyxy_px: Sequence[Box], phrase: str) -> list[float]: ...


def rerank(picture: Image.Image, phrase: str, candidates: Sequence[Candidate], scorer: CropScorer) -> Choice:
    """The candidate with the highest mean score over its boxes; the first of equal ones.

    Candidates that say "nothing there" win only when no candidate has boxes; then `vote` decides. The scorer is
    asked once, for all boxes. `picture` is upright, the boxes are in its pixels. Raises `ModelError` when the scorer
    gives something else than one finite number per box, `ValueError` without candidates.
    """
    boxes = [box for candidate in candidates if candidate.gives_boxes for box in candidate.boxes_xyxy_px]
    if not boxes:
        return vote(candidates)
    scores = scorer(picture, boxes, phrase)
    if len(scores) != len(boxes) or not all(math.isfinite(score) for score in scores):
        raise ModelError(
            f"The scorer of crops gave {scores!r:.200} for {len(boxes)} boxes: expected one finite number per box. "
            "Choose another scorer."
        )
    remaining = iter(scores)
    means = [
        fmean(next(remaining) for _ in candidate.boxes_xyxy_px) if candidate.gives_boxes else -math.inf
        for candidate in candidates
    ]
    index = means.index(max(means))
    chosen = candidates[index].boxes_xyxy_px
    return Choice(index, chosen, Status.OK, _agreement(candidates, chosen, AGREEING_IOU))


def crop_px(box: Box, image_size_wh: tuple[int, int]) -> tuple[int, int, int, int]:
    """Left, upper, right, lower in whole pixels: the box grown by `CROP_MARGIN`, inside the picture, never empty."""
    width, height = image_size_wh
    left, right = _grown(box.x1, box.x2, width)
    upper, lower = _grown(box.y1, box.y2, height)
    return left, upper, right, lower


def _grown(start_px: float, end_px: float, size_px: int) -> tuple[int, int]:
    margin_px = CROP_MARGIN * (end_px - start_px)
    start = min(max(math.floor(start_px - margin_px), 0), size_px - 1)
    return start, min(max(math.ceil(end_px + margin_px), start + 1), size_px)


class ClipScorer:
    """Cosine similarity of crops and phrase, -1.0 to 1.0, by a CLIP, SigLIP or SigLIP2 model.

    `model_id` is a local folder or a Hub id. The phrase is put as "This is a photo of PHRASE.", the form that the
    zero-shot pipeline of transformers uses. Raises `ModelError` when the model is missing, broken or of another kind.
    """

    def __init__(self, model_id: str, device: str = "cpu") -> None:
        from transformers import AutoConfig, AutoModel, AutoProcessor
        from transformers.utils import logging as transformers_logging

        from grounding.models import local_folder

        transformers_logging.disable_progress_bar()
        # What its load reports warn of is checked below, and said in a sentence.
        transformers_logging.set_verbosity_error()
        self.model_id = model_id
        self.device = device
        folder = local_folder(model_id)
        source = model_id if folder is None else str(folder)
        if folder is None and (model_id.startswith(("/", ".", "~")) or model_id.count("/") > 1):
            raise ModelError(
                f"There is no folder {model_id[:200]} with a model that scores crops. Give a folder that exists, "
                'or a Hub id such as "google/siglip2-base-patch16-224".'
            )
        with _loading(model_id):
            config = AutoConfig.from_pretrained(source)
        if config.model_type not in _SCORER_TYPES:
            raise ModelError(
                f"The model {model_id!r} is of the type {config.model_type!r} and can't score crops. "
                f"Expected one of {', '.join(_SCORER_TYPES)}."
            )
        with _loading(model_id):
            self.processor: Any = AutoProcessor.from_pretrained(source)
            loaded: Any = AutoModel.from_pretrained(source, output_loading_info=True)
            model, report = loaded
            self.model: Any = model.to(device).eval()
        missing = sorted(report["missing_keys"])
        if missing:
            raise ModelError(
                f"The model {model_id!r} is incomplete: {len(missing)} weights are missing, {missing[0]} among them."
            )
        # SigLIP learned from texts filled up to full length, and reads others worse.
        self._padding = "longest" if config.model_type == "clip" else "max_length"
        self._max_tokens = config.text_config.max_position_embeddings

    def __call__(self, picture: Image.Image, boxes_xyxy_px: Sequence[Box], phrase: str) -> list[float]:
        """One score per box, in order. `picture` is upright, the boxes are in its pixels."""
        import torch

        if not boxes_xyxy_px:
            return []
        picture = picture.convert("RGB")
        crops = [_squeezed(picture.crop(crop_px(box, picture.size))) for box in boxes_xyxy_px]
        with torch.inference_mode():
            text = _unit(self.model.get_text_features(**self._text_inputs(phrase)).pooler_output)
            images = torch.cat([self._embed(batch) for batch in _batches(crops)])
            return [float(score) for score in (images @ text[0]).float().clamp(-1.0, 1.0).cpu()]

    def _text_inputs(self, phrase: str) -> Any:
        return self.processor.tokenizer(
            [f"This is a photo of {phrase}."],
            padding=self._padding,
            truncation=True,
            max_length=self._max_tokens,
            return_tensors="pt",
        ).to(self.device)

    def _embed(self, crops: list[Image.Image]) -> Any:
        # Not by the processor: that of SigLIP2 has a patch size of its own, which wins over the model's.
        inputs = self.processor.image_processor(images=crops, return_tensors="pt")
        return _unit(self.model.get_image_features(**inputs.to(self.device)).pooler_output)


def _squeezed(crop: Image.Image) -> Image.Image:
    """A crop at most `_MAX_ASPECT` times as long as wide: CLIP scales the short side up, which may need gigabytes."""
    width, height = crop.size
    size_wh = min(width, _MAX_ASPECT * height), min(height, _MAX_ASPECT * width)
    return crop if size_wh == crop.size else crop.resize(size_wh)


def _unit(embeddings: Any) -> Any:
    return embeddings / embeddings.norm(dim=-1, keepdim=True)


def _batches(crops: list[Image.Image]) -> Iterable[list[Image.Image]]:
    return (crops[start : start + _CROPS_PER_BATCH] for start in range(0, len(crops), _CROPS_PER_BATCH))


@contextmanager
def _loading(model_id: str) -> Iterator[None]:
    """Turns what a loader raises into a ModelError that names the model and the way out."""
    try:
        yield
    except Exception as error:
        raise ModelError(
            f"The model {model_id!r} that scores crops can't be loaded: {first_sentence(error)}. "
            "Check that its folder is complete, or that the Hub can be reached and the id is right."
        ) from error
