"""What a run would learn from, as the left of the Train tab shows it. Pure."""

from __future__ import annotations

from grounding.ui.train_parts import Ready
from grounding.ui.wording import count_of


def ready_html(ready: Ready) -> str:
    """What would be learned from, and what still stands in the way."""
    share = ready.train_ready / ready.train_total if ready.train_total else 0.0
    left_out = []
    if ready.placeholders:
        have, them = ("has", "it") if ready.placeholders == 1 else ("have", "them")
        left_out.append(f"<b>{ready.placeholders:,}</b> still {have} a placeholder: fill or write {them} in Annotate")
    if ready.flagged:
        left_out.append(f"<b>{ready.flagged:,}</b> {'is' if ready.flagged == 1 else 'are'} flagged")
    listed = "".join(f"<li>{text}</li>" for text in left_out)
    return (
        '<section class="bw-ready"><h3>What it learns from</h3>'
        f"<p><b>{ready.train_ready:,}</b> of {count_of(ready.train_total, 'train sample')} "
        f"{'has' if ready.train_ready == 1 else 'have'} a phrase to learn from</p>"
        f'<div class="bw-bar"><i style="width:{100 * share:.1f}%"></i></div>'
        f"<ul>{listed}<li>{_scored_on(ready)}</li></ul>"
        "</section>"
    )


def _scored_on(ready: Ready) -> str:
    """As many samples as the chart of a run counts: boxes are scored where there is one."""
    if not ready.val:
        return "no validation sample with a phrase: nothing to score on"
    of = "" if ready.val_boxed == ready.val else f", <b>{ready.val_boxed:,}</b> of them with a box"
    return f"scored on <b>{ready.val:,}</b> validation sample{'' if ready.val == 1 else 's'}{of}"
