"""The Compare tab in a browser, and evaluations for it to open."""

from __future__ import annotations

import random

from playwright.sync_api import Page, expect

from annotate.store import Store
from compared_samples import answered, keep
from grounding.boxes import Box
from grounding.workspace import Workspace


def wait_for_answers(page: Page) -> None:
    """Until the picture laid down is answered."""
    expect(page.locator("#compare-results .bw-answers")).to_have_attribute("aria-busy", "false", timeout=240_000)


def keep_base_and_adapter(workspace: Workspace, adapter: str) -> None:
    """Evaluations of the test split: the base right on 40% by chance, the adapter on 80%."""
    samples = list(Store(workspace.annotations_db, workspace.pictures).iterate("test"))
    rng = random.Random(3)
    for name, who, hits in (("base", None, 0.4), ("adapter", adapter, 0.8)):
        some = [(s, s.boxes_xyxy_px if rng.random() < hits else (Box(1, 1, 20, 20),)) for s in samples]
        keep(workspace.evaluations / name, [answered(sample, boxes) for sample, boxes in some], who)
