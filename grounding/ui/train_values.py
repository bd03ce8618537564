"""Training settings as a person types them."""

from __future__ import annotations


def as_typed(value: str | float | tuple[float, ...]) -> str:
    """A value as a person would type it. Numbers are text on the page: a number field would round 0.0015."""
    if isinstance(value, tuple | list):
        return ", ".join(map(as_typed, value))
    if isinstance(value, bool):
        return "on" if value else "off"
    return f"{value:g}" if isinstance(value, float) else str(value)
