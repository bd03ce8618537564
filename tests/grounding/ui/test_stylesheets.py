"""What gradio does to style sheets: it keeps plain rules, @media, @keyframes and @font-face, and drops the rest."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from annotate.ui.tab import STYLESHEET
from grounding.ui.theme import STYLESHEETS

_KEPT = ("media", "keyframes", "font-face")


@pytest.mark.parametrize("path", [*STYLESHEETS, STYLESHEET], ids=lambda path: str(path.name))
def test_no_rule_that_gradio_drops(path: Path) -> None:
    css = re.sub(r"/\*.*?\*/", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    depth = 0
    outer: list[str] = []
    for piece in re.finditer(r"[{}]|@[\w-]+", css):
        if piece[0] == "{":
            depth += 1
        elif piece[0] == "}":
            depth -= 1
        elif depth == 0:
            outer.append(piece[0][1:])
    assert depth == 0 and set(outer) <= set(_KEPT)
