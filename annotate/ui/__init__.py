"""The Annotate tab: the only part of `annotate` that imports gradio."""

from annotate.ui.tab import STYLESHEET, AnnotateParts, Widgets, build_annotate

__all__ = ["STYLESHEET", "AnnotateParts", "Widgets", "build_annotate"]
