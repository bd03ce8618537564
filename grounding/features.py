"""What the vision tower makes of a picture: shared by all phrases of the picture, by the base and every adapter."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from grounding.formats import Frame

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class PictureRoom:
    """What a picture will take in a sequence, known from its size alone: `tokens` visual tokens, and `positions` by
    which the text after it moves on (fewer than tokens with M-RoPE). `input_size_wh` as of `ImageFeatures`."""

    tokens: int
    positions: int
    input_size_wh: tuple[int, int] | None = None


@dataclass(frozen=True)
class ImageFeatures:
    """One picture as the language model takes it in; a detector keeps its prepared pixels here.

    `pooled` [visual_tokens, hidden] (a detector: [3, height, width]) and each of `deepstack` [visual_tokens, hidden]
    go into the language model. `grid_thw` [3] is the patch grid (time, height, width) of the Qwen families, else
    None. `image_size_wh` is the picture's size in pixels, `input_size_wh` the size the model saw (None: not known
    or of no meaning for this family).
    """

    pooled: torch.Tensor
    deepstack: tuple[torch.Tensor, ...]
    grid_thw: torch.Tensor | None
    image_size_wh: tuple[int, int]
    input_size_wh: tuple[int, int] | None = None

    @property
    def visual_tokens(self) -> int:
        return self.pooled.shape[0]

    @property
    def frame(self) -> Frame:
        """Both sizes, as the box formats take them."""
        return Frame(self.image_size_wh, self.input_size_wh)

    def to_tensors(self) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
        """Tensors and text for a file; `from_tensors` reads them back."""
        tensors = {"pooled": self.pooled, **{f"deepstack{i}": level for i, level in enumerate(self.deepstack)}}
        if self.grid_thw is not None:
            tensors["grid_thw"] = self.grid_thw
        sizes = {"image_size_wh": self.image_size_wh, "input_size_wh": self.input_size_wh}
        return tensors, {name: json.dumps(size_wh) for name, size_wh in sizes.items()}

    @classmethod
    def from_tensors(
        cls, tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str], device: str
    ) -> ImageFeatures:
        """What `to_tensors` wrote, on this device."""
        levels = sum(name.startswith("deepstack") for name in tensors)
        image_size_wh, input_size_wh = (json.loads(metadata[key]) for key in ("image_size_wh", "input_size_wh"))
        return cls(
            pooled=tensors["pooled"].to(device),
            deepstack=tuple(tensors[f"deepstack{i}"].to(device) for i in range(levels)),
            grid_thw=tensors.get("grid_thw"),
            image_size_wh=tuple(image_size_wh),
            input_size_wh=None if input_size_wh is None else tuple(input_size_wh),
        )
