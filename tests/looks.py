"""How a state of the page looks: photographed in every look that it must stand, and checked for what eyes would catch.

Set BOXWRIGHT_SCREENSHOTS to a folder to keep the photographs and look at them.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from playwright.sync_api import Page


@dataclass(frozen=True)
class Look:
    """A size of the window in CSS pixels, light or dark."""

    name: str
    width_px: int
    height_px: int
    dark: bool


LOOKS = (
    Look("light", 1280, 720, False),
    Look("dark", 1280, 720, True),
    Look("tablet", 1024, 768, False),
    Look("portrait", 820, 1180, True),
)
_THOSE_THAT_DIFFER_MOST = (LOOKS[0], LOOKS[3])
_TO_THE_TOP = "e => e.scrollIntoView({ block: 'start', behavior: 'instant' })"
_LAID_OUT_MS = 100
_NOTHING_FADES = """() => {
  if (document.getElementById('nothing-fades')) return;
  const style = document.createElement('style');
  style.id = 'nothing-fades';
  style.textContent = '*, *::before, *::after { transition: none !important; }';
  document.head.append(style);
}"""
_FAULTS = (Path(__file__).with_name("looks.js")).read_text(encoding="utf-8")


@dataclass
class Album:
    """The states of a page, one after the other; `faults` are sentences about what is wrong in any of them."""

    page: Page
    faults: list[str] = field(default_factory=list)

    def look(self, state: str, *, at: str = "") -> None:
        """Check the page, scrolled so that `at` stands on top: light and wide, dark and narrow. Where photographs are
        kept, in every look."""
        keep = os.environ.get("BOXWRIGHT_SCREENSHOTS", "")
        self.page.evaluate(_NOTHING_FADES)  # colours on their way are of neither look
        for look in LOOKS if keep else _THOSE_THAT_DIFFER_MOST:
            self.page.set_viewport_size({"width": look.width_px, "height": look.height_px})
            self.page.evaluate("dark => document.body.classList.toggle('dark', dark)", look.dark)
            if at:
                self.page.locator(at).first.evaluate(_TO_THE_TOP)
            else:
                self.page.evaluate("scrollTo(0, 0)")
            self.page.wait_for_timeout(_LAID_OUT_MS)
            if keep:
                Path(keep).mkdir(parents=True, exist_ok=True)
                self.page.screenshot(path=Path(keep) / f"{state}-{look.name}.png")
            self.faults += [f"{state}, {look.name}: {fault}" for fault in self.page.evaluate(_FAULTS)]
