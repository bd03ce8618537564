"""The picture that the model is fed, made visible again from the tensor that its processor gives."""

from __future__ import annotations

import base64
import io
from typing import Any

import torch
from PIL import Image

from grounding.models import LoadedModel

_MOST_SIDE_PX = 640


def processed_picture(loaded: LoadedModel, image: Image.Image) -> Image.Image:
    """What the processor makes of an RGB picture, un-normalised: resized, padded or cropped as it really does.

    Pixel values are either patches with a grid (the Qwen families) or pictures [n, 3, height, width]; of several,
    tiles of one picture, all are shown side by side.
    """
    processor = loaded.processor.image_processor
    inputs = processor(images=[image], return_tensors="pt")
    pixels = inputs["pixel_values"].float()
    if "image_grid_thw" in inputs:
        pictures = from_patches(pixels, inputs["image_grid_thw"][0].tolist(), processor)[None]
    else:
        pictures = pixels.reshape(-1, *pixels.shape[-3:])
    mean, std = (torch.tensor(list(values)).view(3, 1, 1) for values in (processor.image_mean, processor.image_std))
    if not getattr(processor, "do_normalize", True):
        mean, std = torch.zeros(3, 1, 1), torch.ones(3, 1, 1)
    shown = (pictures.cpu() * std + mean) * 255
    row = torch.cat(list(shown), dim=2).round().clamp(0, 255).to(torch.uint8)
    return Image.fromarray(row.permute(1, 2, 0).numpy(), "RGB")


def from_patches(pixels: torch.Tensor, grid_thw: list[int], processor: Any) -> torch.Tensor:
    """[3, height, width] from flattened patches [patches, channels x time x side x side].

    The order is that of Qwen2VLImageProcessor in transformers 5: patches by merged cell (rows of cells, cells of a
    row, rows in the cell, patches in the row), and the values of a patch by channel, time, row, column.
    """
    side, merge, time = processor.patch_size, processor.merge_size, processor.temporal_patch_size
    frames, rows, columns = grid_thw
    cells = pixels.view(frames, rows // merge, columns // merge, merge, merge, -1, time, side, side)
    #  [frames, cell row, cell column, row, column, channel, time, y, x] -> [frames, time, channel, height, width]
    ordered = cells.permute(0, 6, 5, 1, 3, 7, 2, 4, 8)
    return ordered.reshape(frames * time, -1, rows * side, columns * side)[0]


def data_address(image: Image.Image) -> str:
    """The picture as a `data:` address, its longer side at most 640 pixels."""
    shown = image.copy()
    shown.thumbnail((_MOST_SIDE_PX, _MOST_SIDE_PX), Image.Resampling.LANCZOS)
    content = io.BytesIO()
    shown.save(content, "WEBP", quality=88)
    return f"data:image/webp;base64,{base64.b64encode(content.getvalue()).decode()}"
