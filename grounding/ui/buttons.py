"""Buttons inside of HTML that the page draws itself."""

from __future__ import annotations

# A listener for clicks as far as the `button` that was pressed; what is done with it follows, then `});`. A button that
# throws something away asks once more, in its own place, and forgets it after some seconds.
ON_PRESSED_JS = """
element.addEventListener('click', (event) => {
  const button = event.target.closest('button[data-action]');
  if (!button || button.disabled) return;
  const asks = button.dataset.confirm;
  if (asks && !button.dataset.sure) {
    const before = button.textContent, mine = String(performance.now());
    button.dataset.sure = mine;
    button.textContent = asks;
    setTimeout(() => {
      if (button.dataset.sure !== mine) return; // gradio has made another button of it meanwhile
      button.dataset.sure = '';
      button.textContent = before;
    }, 4000);
    return;
  }
"""
