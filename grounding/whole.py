"""Files and folders that appear whole or not at all."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from grounding.errors import BoxwrightError


@contextmanager
def written_whole(
    target: Path, check_free: Callable[[], None], refused: Callable[[OSError], BoxwrightError]
) -> Iterator[Path]:
    """A path beside `target` to write to, which gets the name `target` when the block ends well and is removed when it
    doesn't.

    `check_free` raises where something stands in `target` that must not be replaced; it is asked before and after the
    block, and may let an empty folder pass. Raises what it raises, and what `refused` makes of the disk's errors.
    """
    partial = target.parent / f".partial-{target.name}-{secrets.token_hex(4)}"
    try:
        check_free()
        target.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        check_free()  # somebody may have been quicker
        if target.is_dir():
            target.rmdir()
        partial.rename(target)
    except OSError as error:
        raise refused(error) from error
    finally:
        if partial.is_dir():
            shutil.rmtree(partial, ignore_errors=True)
        elif partial.exists():
            partial.unlink(missing_ok=True)
