"""The loss on validation samples: how likely the model finds the true answers, token by token."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch.nn import functional

from grounding.features import ImageFeatures
from grounding.models import LoadedModel
from grounding.records import Sample
from grounding.training.batches import BranchBuilder, pack, packed_logits
from grounding.training.precision import computing_in

_PHRASES_A_PICTURE = 8  # that share its pass
_PICTURES_AT_ONCE = 4


@torch.no_grad()
def validation_losses(
    loaded: LoadedModel,
    builder: BranchBuilder,
    samples: Sequence[Sample],
    features: Mapping[Path, ImageFeatures],
    dtype: torch.dtype | None,
) -> list[tuple[float, int]]:
    """For each sample, in order: (sum of its answer's cross-entropies in nats, number of its answer's tokens).

    Teacher-forced and unweighted, end token included, in the numbers in which the steps compute. The model is as the
    caller left it: in eval mode, for a figure without dropout.
    """
    results: list[tuple[float, int]] = [(0.0, 0)] * len(samples)
    rows = _rows(samples)
    for start in range(0, len(rows), _PICTURES_AT_ONCE):
        some = rows[start : start + _PICTURES_AT_ONCE]
        shown = [features[samples[places[0]].image] for places in some]
        branches = [
            [builder.branch(samples[i].phrase, samples[i].boxes_xyxy_px, feature.frame) for i in places]
            for places, feature in zip(some, shown, strict=True)
        ]
        batch = pack(loaded, builder, shown, branches)
        with computing_in(loaded.device, dtype):
            logits = packed_logits(loaded, batch, shown)
        losses = functional.cross_entropy(logits.float(), batch.target_ids, reduction="none")  # [tokens]
        places = [i for row in some for i in row]
        counts = [branch.supervised for row in branches for branch in row]
        for i, part in zip(places, losses.split(counts), strict=True):
            results[i] = (float(part.sum()), len(part))
    return results


def _rows(samples: Sequence[Sample]) -> list[list[int]]:
    """The samples' places by picture, at most so many together."""
    by_picture: dict[Path, list[int]] = {}
    for i, sample in enumerate(samples):
        by_picture.setdefault(sample.image, []).append(i)
    return [
        places[start : start + _PHRASES_A_PICTURE]
        for places in by_picture.values()
        for start in range(0, len(places), _PHRASES_A_PICTURE)
    ]
