"""How the app looks: one theme, one accent, light and dark, nothing fetched from the network."""

from __future__ import annotations

from pathlib import Path

import gradio as gr
from gradio.themes.utils import colors, sizes

ASSETS = Path(__file__).resolve().parent / "assets"
STYLESHEETS = sorted(ASSETS.glob("*.css"))  # boxwright.css first, then one per tab that needs more
FAVICON = ASSETS / "favicon.png"

_INK = colors.Color(
    name="ink",
    c50="#f7f8fa",
    c100="#eff1f4",
    c200="#e1e4ea",
    c300="#cdd2db",
    c400="#9aa2b1",
    c500="#6b7383",
    c600="#4d5566",
    c700="#343b4a",
    c800="#1f2430",
    c900="#161a23",
    c950="#0f1219",
)
_VIOLET = colors.Color(
    name="violet",
    c50="#f3f2ff",
    c100="#e8e6ff",
    c200="#d3cfff",
    c300="#b5aeff",
    c400="#9389ff",
    c500="#7468f5",
    c600="#5a4de6",
    c700="#4a3dcb",
    c800="#3d33a4",
    c900="#332d80",
    c950="#1f1a52",
)
_RADIUS = sizes.Size(name="calm", xxs="3px", xs="4px", sm="6px", md="8px", lg="10px", xl="14px", xxl="18px")


def build_theme() -> gr.themes.Base:
    """The theme for `launch(theme=...)`. Its fonts are plain names: a font object would be fetched or bundled."""
    theme = gr.themes.Base(
        primary_hue=_VIOLET,
        secondary_hue=_VIOLET,
        neutral_hue=_INK,
        radius_size=_RADIUS,
        text_size=gr.themes.sizes.text_sm,
        spacing_size=gr.themes.sizes.spacing_md,
        font=["Inter", "Segoe UI", "Roboto", "Helvetica Neue", "sans-serif"],
        font_mono=["SF Mono", "Cascadia Code", "Consolas", "DejaVu Sans Mono", "monospace"],
    )
    return theme.set(
        body_background_fill="*neutral_50",
        body_background_fill_dark="*neutral_950",
        body_text_color="#171a21",
        body_text_color_dark="#e7e9ee",
        body_text_color_subdued="*neutral_500",
        body_text_color_subdued_dark="*neutral_400",
        background_fill_primary="#ffffff",
        background_fill_primary_dark="*neutral_900",
        background_fill_secondary="*neutral_50",
        background_fill_secondary_dark="*neutral_950",
        border_color_primary="*neutral_200",
        border_color_primary_dark="#2a303d",
        block_background_fill="#ffffff",
        block_background_fill_dark="*neutral_900",
        block_border_width="1px",
        block_border_color="*neutral_200",
        block_border_color_dark="#2a303d",
        block_shadow="none",
        block_label_text_color="*neutral_500",
        block_title_text_weight="600",
        block_title_text_color="*neutral_600",
        block_title_text_color_dark="*neutral_300",
        input_background_fill="#ffffff",
        input_background_fill_dark="*neutral_950",
        input_border_color="*neutral_300",
        input_border_color_dark="#333a49",
        input_border_color_focus="*primary_500",
        input_border_color_focus_dark="*primary_400",
        input_shadow_focus="0 0 0 3px color-mix(in srgb, *primary_500 22%, transparent)",
        input_shadow_focus_dark="0 0 0 3px color-mix(in srgb, *primary_400 30%, transparent)",
        button_primary_background_fill="*primary_600",
        button_primary_background_fill_hover="*primary_700",
        button_primary_background_fill_dark="#6b5ef0",  # white on it stands at 4.7 to 1
        button_primary_background_fill_hover_dark="*primary_600",
        button_primary_text_color="#ffffff",
        button_primary_text_color_dark="#ffffff",
        button_primary_border_color="transparent",
        button_secondary_background_fill="#ffffff",
        button_secondary_background_fill_hover="*neutral_100",
        button_secondary_background_fill_dark="*neutral_900",
        button_secondary_background_fill_hover_dark="*neutral_800",
        button_secondary_border_color="*neutral_300",
        button_secondary_border_color_dark="#333a49",
        button_border_width="1px",
        button_large_text_weight="600",
        button_medium_text_weight="600",
        layout_gap="12px",
        form_gap_width="0px",
    )
