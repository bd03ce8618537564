"""The small models of all families, written once a session and loaded by the code that loads real ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np
import pytest
from PIL import Image
from small_models import Small, build

Loader = Callable[[str], tuple[Small, Any]]
_SIZES_WH = ((64, 48), (300, 200), (100, 100), (48, 64), (211, 97))


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory, one_thread: None) -> Loader:
    """`small(kind)`: the small model of this kind, as it lies in its folder and as it is loaded. Shared by all tests:
    what a test changes on it, it puts back."""
    from transformers.utils import logging

    from grounding.models import load_model

    logging.disable_progress_bar()

    @cache
    def load(kind: str) -> tuple[Small, Any]:
        written = build(kind, tmp_path_factory.mktemp("small") / kind)
        return written, load_model(str(written.folder))

    return load


@pytest.fixture(scope="session")
def noise_pictures() -> Sequence[Image.Image]:
    """Pictures of several sizes, 64 x 48 to 300 x 200: coarse random patches of colour."""
    random = np.random.default_rng(0)
    pictures = []
    for width, height in _SIZES_WH:
        coarse = random.integers(0, 256, (4, 5, 3), dtype=np.uint8)
        pictures.append(Image.fromarray(coarse).resize((width, height), Image.Resampling.NEAREST))
    return pictures
