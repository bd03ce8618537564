"""What a crash has left is cleared by the next one of its kind; what somebody fills right now stays."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from annotate.partial_folders import partial_folder

pytest.importorskip("fcntl")
REPOSITORY = Path(__file__).resolve().parents[2]
FILL = """
import sys, time
from pathlib import Path
from annotate.partial_folders import partial_folder

with partial_folder(Path(sys.argv[1]), "backup") as folder:
    (folder / "half").write_text("x")
    print(folder.name, flush=True)
    time.sleep(60)
"""


def test_a_folder_is_removed_at_the_end_wherever_that_is(tmp_path: Path) -> None:
    with partial_folder(tmp_path / "new", "backup") as folder:
        (folder / "x").write_text("x")
    assert list((tmp_path / "new").iterdir()) == []
    with pytest.raises(ZeroDivisionError), partial_folder(tmp_path, "backup"):
        raise ZeroDivisionError
    with partial_folder(tmp_path, "backup") as folder:
        folder.rename(tmp_path / "complete")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["complete", "new"]


def test_what_kill_9_leaves_is_removed_by_the_next_of_its_kind(tmp_path: Path) -> None:
    others = [".partial-restore-1234", ".partial-run", ".partial-backup-empty"]
    for name in others:
        (tmp_path / name).mkdir()
        if "empty" not in name:
            (tmp_path / name / "x").write_text("x")
    with subprocess.Popen(
        [sys.executable, "-c", FILL, str(tmp_path)], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        busy = process.stdout.readline().strip()
        with partial_folder(tmp_path, "backup") as folder:
            assert {path.name for path in tmp_path.iterdir()} == {busy, folder.name, *others}
        os.kill(process.pid, signal.SIGKILL)
    assert (tmp_path / busy / "half").exists()
    with partial_folder(tmp_path, "backup") as folder:
        assert {path.name for path in tmp_path.iterdir()} == {folder.name, *others}


def test_a_link_is_never_followed(tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "precious").write_text("x")
    (tmp_path / ".partial-backup-link").symlink_to(tmp_path / "work")
    with partial_folder(tmp_path, "backup"):
        pass
    assert (tmp_path / "work" / "precious").exists()
