"""A finished embedded model that a new one begins as: its words are taken over, and its tower's sight is learned.

What a tower makes of a picture is a target for every visual token, so a smaller one learns it from a few tens of
thousands of pictures, where answers alone take half a million (Hinton, Vinyals, Dean, Distilling the Knowledge in a
Neural Network, 2015; for features, Romero et al., FitNets, 2015).
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch

from grounding.adapters.provenance import folder_sha256
from grounding.demo.pretrain.passes import Seen, Tower, patches_of
from grounding.demo.pretrain.settings import CELL_PX
from grounding.errors import ModelError

_BLOCK = re.compile(r"(.*visual\.blocks\.)(\d+)(\..*)")


class Teacher:
    """The model in a folder, which stays as it is. Raises `ModelError` for a folder that is no embedded model."""

    def __init__(self, folder: Path, device: str) -> None:
        from transformers import AutoTokenizer, Qwen3VLForConditionalGeneration

        try:
            self.tokenizer = AutoTokenizer.from_pretrained(str(folder))
            model: Any = Qwen3VLForConditionalGeneration.from_pretrained(str(folder), dtype=torch.float32)
            self.model = model.to(device).eval().requires_grad_(False)
            self.sha256 = folder_sha256(folder)
        except (OSError, ValueError) as error:
            raise ModelError(
                f"{folder} is no model to learn from ({error}). Give the folder of an embedded model."
            ) from error
        self.folder = folder
        vision: Any = self.model.config.vision_config
        self.patch_px, self.merge = vision.patch_size, vision.spatial_merge_size
        if self.patch_px * self.merge != CELL_PX:
            raise ModelError(
                f"The visual tokens of {folder} are {self.patch_px * self.merge} px a side: expected {CELL_PX}."
            )
        self.tower = Tower(self.model.model.visual)

    @torch.no_grad()
    def begin(self, model: Any) -> None:
        """Give the new model every weight of the teacher's that has its shape; to a tower of fewer layers, those that
        lie evenly between the first and the last. Raises `ModelError` where the language models differ, or the
        number of the tower's outputs."""
        taught, own = self.model.state_dict(), model.state_dict()
        visions = self.model.config.vision_config, model.config.vision_config
        depths = visions[0].depth, visions[1].depth
        outputs = [len(vision.deepstack_visual_indexes) for vision in visions]
        if outputs[0] != outputs[1]:
            raise ModelError(
                f"The new model can't begin as {self.folder}: its tower hands on {outputs[1]} layers beside the last "
                f"one, expected {outputs[0]}. Give another --shape."
            )
        for name, weight in own.items():
            given = taught.get(_of_teacher(name, *depths))
            if given is not None and given.shape == weight.shape:
                weight.copy_(given)
            elif ".visual." not in name:
                raise ModelError(
                    f"The new model can't begin as {self.folder}: its {name} has other sizes. Give a --shape whose "
                    "language model is the same."
                )

    def apart(self, seen: Seen, pixels: torch.Tensor, grid: tuple[int, int], pictures_of_step: int) -> torch.Tensor:
        """How far what is `seen` of these pictures is from what the teacher sees: squared distances in shares of the
        variance of the teacher's in that picture, summed over the outputs of the tower, their share in the mean over
        `pictures_of_step` pictures. `pixels` [pictures, height, width, 3] uint8."""
        with torch.no_grad():
            taught = self.tower.see(patches_of(pixels, self.patch_px, self.merge), grid)
        told = zip((seen.pooled, *seen.deepstack), (taught.pooled, *taught.deepstack), strict=True)
        shares = [_share_apart(own.float(), others.float()) for own, others in told]
        return torch.stack(shares).sum() / pictures_of_step


def _share_apart(own: torch.Tensor, taught: torch.Tensor) -> torch.Tensor:
    off = (own - taught).square().mean((1, 2))
    return (off / taught.flatten(1).var(1, correction=0)).sum()


def _of_teacher(name: str, teachers_depth: int, own_depth: int) -> str:
    """Which weight of the teacher's a weight begins as."""
    block = _BLOCK.fullmatch(name)
    if block is None:
        return name
    before, number, after = block.groups()
    return f"{before}{int(number) * teachers_depth // own_depth}{after}"
