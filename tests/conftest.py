"""What every test gets: a workspace of its own in a temporary folder, and no network."""

from __future__ import annotations

import gc
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
# The programs that tests start by the hundred would else compile the packages anew each time.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # beside each other, two threads each would mostly wait
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # and where a test wants two, they sleep while they wait


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Where several processes share the tests, files with slow ones go first: none is left over to the end."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        slow = {item.path for item in items if item.get_closest_marker("slow")}
        items.sort(key=lambda item: item.path not in slow)


def pytest_collection_finish() -> None:
    """The packages stay until the end: without them Python looks for garbage in a fraction of the time."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def own_workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Points BOXWRIGHT_WORKSPACE into the test's temporary folder, so no test touches real work."""
    folder = tmp_path / "workspace"
    monkeypatch.setenv("BOXWRIGHT_WORKSPACE", str(folder))
    yield folder
