"""The frame around the tabs: the name, what the model is doing, light or dark."""

from __future__ import annotations

from html import escape

import gradio as gr

from grounding.ui.model_service import ModelService, Phase

_TAGLINE = "See where the box goes. Fix the phrase. Teach the model."
_LOGO = (
    '<svg class="bw-logo" viewBox="0 0 32 32" aria-hidden="true"><rect x="1" y="1" width="30" height="30" rx="8"/>'
    '<rect x="8" y="11" width="11" height="13" rx="1.5"/><rect x="13" y="8" width="11" height="13" rx="1.5"/></svg>'
)

_ON_LOAD = """
const chip = element.querySelector('#model-status');
const say = async () => {
  let wait = 8000;
  try {
    const state = await server.model_state(null);
    chip.dataset.phase = state.phase;
    chip.querySelector('span').textContent = state.text;
    chip.title = state.title;
    if (state.phase === 'loading') wait = 700;
  } catch (error) {
    chip.dataset.phase = 'failed';
    chip.querySelector('span').textContent = 'The app does not answer';
    chip.title = 'Is it still running in its terminal? This page goes on asking.';
  }
  setTimeout(say, wait);
};
say();
const dark = () => document.body.classList.contains('dark');
element.querySelector('#theme-switch').addEventListener('click', () => {
  const next = !dark();
  document.body.classList.toggle('dark', next);
  try { localStorage.setItem('boxwright-theme', next ? 'dark' : 'light'); } catch (error) { /* private window */ }
});
try {
  const kept = localStorage.getItem('boxwright-theme');
  if (kept && !new URLSearchParams(location.search).has('__theme')) {
    document.body.classList.toggle('dark', kept === 'dark');
  }
} catch (error) { /* private window */ }

// gradio 6.31 opens its page about the endpoints by a button of its footer, which is hidden here; called by its
// address, it takes itself for open and loads nothing until it is closed and opened.
const apiButton = () => document.querySelector('footer button.show-api');
element.querySelector('#api-link').addEventListener('click', (event) => {
  if (!apiButton()) return;
  event.preventDefault();
  apiButton().click();
});
const openApi = () => {
  if (!apiButton()) { requestAnimationFrame(openApi); return; }
  apiButton().click();
  setTimeout(() => apiButton().click(), 50);
};
if (new URLSearchParams(location.search).get('view') === 'api') openApi();

// The page reloads by itself when its app is back: it then opens on the tab it was on.
const TAB = 'boxwright-tab';
const tabs = () => [...document.querySelectorAll('#tabs button[role=tab]')];
const keepTab = () => {
  const open = tabs().find((tab) => tab.ariaSelected === 'true');
  try { if (open) sessionStorage.setItem(TAB, open.textContent.trim()); } catch (error) { /* private window */ }
};
// An address that names a queue or a sample ("#queue=flagged") is one of the Annotate tab.
const tabOfAddress = () => (/[#&](queue|sample)=/.test(location.hash) ? 'Annotate' : null);
addEventListener('hashchange', () => tabs().find((tab) => tab.textContent.trim() === tabOfAddress())?.click());
const openKeptTab = () => {
  if (!tabs().length) { requestAnimationFrame(openKeptTab); return; }
  let kept = null;
  try { kept = sessionStorage.getItem(TAB); } catch (error) { /* private window */ }
  kept = kept || tabOfAddress();
  const wanted = tabs().find((tab) => tab.textContent.trim() === kept);
  if (wanted && wanted.ariaSelected !== 'true') wanted.click();
  new MutationObserver(keepTab).observe(document.querySelector('#tabs'), {
    attributes: true, attributeFilter: ['aria-selected'], subtree: true,
  });
};
openKeptTab();
"""


def build_header(models: ModelService) -> gr.HTML:
    """The header; its chip asks for the model's state by itself, often while it loads and rarely afterwards."""

    def model_state(_: object = None) -> dict[str, str]:
        return chip_state(models)

    return gr.HTML(
        f'<header class="bw-header">{_LOGO}<h1>Boxwright</h1><p>{_TAGLINE}</p>{_chip_html(models)}'
        '<a id="api-link" href="?view=api" title="The endpoints for programs">API</a>'
        '<button type="button" id="theme-switch" aria-label="Switch between light and dark">◐</button></header>',
        elem_id="boxwright-header",
        js_on_load=_ON_LOAD,
        apply_default_css=False,
        server_functions=[model_state],
    )


def chip_state(models: ModelService) -> dict[str, str]:
    """What the status chip shows: `phase`, `text` in a few words, `title` with the reasons."""
    state = models.state
    if state.phase is Phase.LOADING:
        text = f"{state.sentence} · {state.seconds:.0f} s"
    elif state.phase is Phase.READY:
        text = f"{models.model} · {state.sentence}"
    else:
        text = state.sentence
    reasons = [f"Model: {models.model}.", *state.notes]
    if state.phase is Phase.READY:
        reasons.append(f"Loaded in {state.seconds:.1f} s.")
    return {"phase": state.phase.value, "text": text, "title": " ".join(reasons)}


def _chip_html(models: ModelService) -> str:
    state = chip_state(models)
    return (
        f'<div id="model-status" class="bw-chip" role="status" data-phase="{escape(state["phase"])}" '
        f'title="{escape(state["title"])}"><i></i><span>{escape(state["text"])}</span></div>'
    )
