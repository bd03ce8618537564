"""What every test gets: a workspace of its own in a temporary folder, and no network."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

# A busy machine is no bug: what is too slow is measured where speed is promised.
settings.register_profile("boxwright", deadline=None)
settings.load_profile("boxwright")
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"


@pytest.fixture(autouse=True)
def own_workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Points BOXWRIGHT_WORKSPACE into the test's temporary folder, so no test touches real work."""
    folder = tmp_path / "workspace"
    monkeypatch.setenv("BOXWRIGHT_WORKSPACE", str(folder))
    yield folder
