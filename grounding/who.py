"""Who signs an edit or a vote when nobody has given a name."""

from __future__ import annotations

import getpass
import os


def default_who() -> str:
    """$BOXWRIGHT_USER, else the person the operating system knows, else "unknown"."""
    try:
        return os.environ.get("BOXWRIGHT_USER") or getpass.getuser()
    except (OSError, KeyError, ImportError):
        return "unknown"
