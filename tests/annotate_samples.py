"""What tests of annotate share beside their fixtures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from grounding.records import Sample

PLACEHOLDER = "Provide a short description for this region."
MakePicture = Callable[..., Path]
MakeSample = Callable[..., Sample]
