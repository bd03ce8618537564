"""Sizes as people read them; apart from the probe, so that nothing imports torch for it."""

from __future__ import annotations


def in_gib(size_bytes: float) -> str:
    """Such as "3.4 GiB" or "210 MiB"."""
    return f"{size_bytes / 2**30:.1f} GiB" if size_bytes >= 2**30 else f"{size_bytes / 2**20:.0f} MiB"
