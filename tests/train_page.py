"""The Train tab as a person uses it."""

from __future__ import annotations

from playwright.sync_api import Page, expect

from grounding.ui.train_values import GROUPS


def set_values(page: Page, **values: int) -> None:
    page.get_by_role("button", name="Settings").click()
    for name, value in values.items():
        field = page.locator(f"#train-set-{name}").get_by_role("textbox")
        group = next(title for title, names in GROUPS.items() if name in names)
        if not field.is_visible() and group != next(iter(GROUPS)):
            page.get_by_role("button", name=group).first.click()
        expect(field).to_be_visible()
        field.click()
        field.fill(str(value))
        field.press("Tab")
    for name, value in values.items():
        expect(page.locator(f"#train-set-{name}").get_by_role("textbox")).to_have_value(str(value))
