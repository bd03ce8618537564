"""What the parts of a whole-set comparison share: colours of its sides, and buttons that change what is looked at."""

from __future__ import annotations

import json
from collections.abc import Mapping
from html import escape
from types import MappingProxyType

from grounding.overlay import Kind

KINDS: Mapping[str, Kind] = MappingProxyType({"a": "base", "b": "adapter"})
"""The colour of each side, as the plots have them."""


def press(change: Mapping[str, str], content: str, attributes: str = "") -> str:
    """A button that asks the server for a change (see `Looking.change`). `content` and `attributes` are HTML."""
    asked = escape(json.dumps(change, separators=(",", ":")), quote=True)
    return f'<button type="button" data-set="{asked}" {attributes}>{content}</button>'
