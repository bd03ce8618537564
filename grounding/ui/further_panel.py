"""The panel of further models in Compare: one is added, seen to load, tried again, removed. Widgets and wiring."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from html import escape
from typing import Any

import gradio as gr

from grounding.ui.chosen import MOST_MODELS, model_choices
from grounding.ui.events import tell
from grounding.ui.further import FurtherModel, FurtherModels, state_of
from grounding.ui.model_service import ModelService, ModelState, Phase

_BITS = [("Full precision", "none"), ("4-bit", "4bit"), ("8-bit", "8bit")]
_NOTHING_YET = (
    "Another base to hold against this one: a second Qwen3-VL in 4-bit, or Grounding DINO as the reference. "
    "It loads when it is chosen."
)
_ON_LOAD = """
const look = async () => {
  if (element.offsetParent !== null) {
    try {
      const html = await server.further_list(null);
      // Rows are put in place only when they say something new: a button that has the focus keeps it.
      if (element.dataset.told !== html) { element.innerHTML = html; element.dataset.told = html; }
    } catch (error) { /* the header says that the app does not answer */ }
  }
  setTimeout(look, 1000);
};
look();
element.addEventListener('click', (event) => {
  const button = event.target.closest('button[data-name]');
  if (!button) return;
  button.disabled = true;
  delete element.dataset.told;
  if (button.dataset.act === 'remove') trigger('remove', { name: button.dataset.name });
  else trigger('again', { name: button.dataset.name });
});
"""


@dataclass(frozen=True)
class FurtherWidgets:
    """The panel's controls; `show` is the button that opens it."""

    show: gr.Button
    panel: gr.Column
    model: gr.Textbox
    quantize: gr.Dropdown
    add: gr.Button
    listed: gr.HTML


def show_button() -> gr.Button:
    """The button that opens the panel, for the bar of models."""
    return gr.Button("Add a model…", size="sm", scale=0, min_width=112, elem_id="compare-further-show")


def lay_out_further(show: gr.Button, further: FurtherModels) -> FurtherWidgets:
    """The panel, closed."""

    def further_list(_: object = None) -> str:
        return list_html(further)

    with gr.Column(visible=False, elem_id="compare-further") as panel:
        with gr.Row(elem_id="compare-further-bar", equal_height=True):
            model = gr.Textbox(
                label="Model",
                show_label=False,
                container=False,
                placeholder="A folder, or an id on the Hugging Face Hub",
                max_length=500,
                scale=1,
                elem_id="compare-further-model",
            )
            quantize = gr.Dropdown(
                _BITS,
                value="none",
                label="Weights",
                show_label=False,
                container=False,
                filterable=False,
                scale=0,
                min_width=150,
                elem_id="compare-further-quantize",
            )
            add = gr.Button("Add", variant="primary", size="sm", scale=0, min_width=72, elem_id="compare-further-add")
        listed = gr.HTML(
            list_html(further),
            elem_id="compare-further-list",
            js_on_load=_ON_LOAD,
            apply_default_css=False,
            server_functions=[further_list],
        )
    return FurtherWidgets(show, panel, model, quantize, add, listed)


def connect_further(
    widgets: FurtherWidgets,
    models: gr.Dropdown,
    further: FurtherModels,
    adapter_names: Callable[[], list[str]],
    quiet: dict[str, Any],
) -> None:
    """Let the panel open, and keep the list of models in step with it."""
    w, h, shown = widgets, FurtherHandlers(further, adapter_names), gr.State(False)
    w.show.click(h.turn, shown, [shown, w.panel, w.show], **quiet)
    added = [models, w.model]
    gr.on([w.add.click, w.model.submit], h.add, [models, w.model, w.quantize], added, **quiet)
    w.listed.remove(h.remove, models, models, **quiet)
    w.listed.again(h.again, None, None, **quiet)


class FurtherHandlers:
    """What happens on each event of the panel."""

    def __init__(self, further: FurtherModels, adapter_names: Callable[[], list[str]]) -> None:
        self.further = further
        self.adapter_names = adapter_names

    def turn(self, shown: bool) -> tuple[bool, Any, Any]:
        """Open or close it."""
        label = "Add a model…" if shown else "Close"
        return not shown, gr.Column(visible=not shown), gr.Button(label)

    @tell
    def add(self, chosen: list[str] | None, model: str, quantize: str) -> tuple[Any, str]:
        """Offer the model, and choose it where there is room: then it loads."""
        added = self.further.add(model, quantize)
        kept = list(chosen or ())
        if len(kept) < MOST_MODELS:
            kept.append(added.key)
        else:
            gr.Info(f"{escape(added.name)} is in the list; take one away to see it.", title="Added")
        return self._choices(kept), ""

    @tell
    def remove(self, event: gr.EventData, chosen: list[str] | None) -> Any:
        self.further.remove(str(getattr(event, "name", "")))
        return self._choices(list(chosen or ()))

    @tell
    def again(self, event: gr.EventData) -> None:
        self.further.try_again(str(getattr(event, "name", "")))

    def _choices(self, chosen: list[str]) -> Any:
        """What there is to choose from now; what is chosen stays, as far as it is there."""
        choices = model_choices(self.adapter_names(), self.further.keys())
        known = {value for _, value in choices}
        return gr.Dropdown(choices=choices, value=[one for one in chosen if one in known], multiselect=True)


def list_html(further: FurtherModels) -> str:
    """What is offered and where each stands; everything escaped."""
    models = further.offered()
    problem = f'<p class="bw-problem" role="alert">{escape(further.problem)}</p>' if further.problem else ""
    if not models:
        return f'{problem}<p class="bw-quiet">{_NOTHING_YET}</p>'
    rows = "".join(_row(one, further.service(one.key)) for one in models)
    return f'{problem}<ul class="bw-further">{rows}</ul>'


def _row(one: FurtherModel, service: ModelService) -> str:
    state, name = state_of(service), escape(one.name)
    again = f'<button type="button" data-act="again" data-name="{name}">Try again</button>'
    busy = " disabled" if state.phase is Phase.LOADING else ""
    return (
        f'<li data-phase="{state.phase.value}"><i></i><b title="{escape(one.model)}">{name}</b>'
        f'<span title="{escape(" ".join(state.notes))}">{escape(_state(state))}</span>'
        f"{again if state.phase is Phase.FAILED else ''}"
        f'<button type="button" data-act="remove" data-name="{name}" aria-label="Remove {name}"{busy}>Remove</button>'
        "</li>"
    )


def _state(state: ModelState) -> str:
    if state.phase is Phase.LOADING:
        return f"{state.sentence}, {state.seconds:.0f} s"
    if state.phase is Phase.READY:
        return f"{state.sentence}, loaded in {state.seconds:.1f} s"
    if state.phase is Phase.FAILED:
        return state.sentence
    return "Not loaded yet: choose it above"
