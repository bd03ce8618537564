// Links into Annotate, on whichever tab they stand, and the return to Compare. `element` is an empty part of the page.
const tabNow = () => document.querySelector('#tabs button[role=tab][aria-selected=true]')?.textContent.trim() ?? '';
const PRESSED = ['radio', 'checkbox', 'range', 'button', 'submit'];
const isTyping = (node) => node.isContentEditable || node.matches('textarea, select')
  || (node.matches('input') && !PRESSED.includes(node.type));

document.addEventListener('click', (event) => {
  const link = element.isConnected && event.target.closest?.('a[data-annotate]');
  if (!link || event.button || event.ctrlKey || event.metaKey || event.shiftKey) return; // those open a new page
  // Kept, as gradio makes a tab only when it is opened for the first time: Annotate may not be there to be told yet.
  const from = JSON.stringify({ id: link.dataset.annotate, tab: tabNow() });
  try { sessionStorage.setItem('boxwright-from', from); } catch (error) { /* private window: no way back */ }
  document.dispatchEvent(new CustomEvent('boxwright-annotate'));
  window.scrollTo(0, 0);
  if (location.hash !== link.hash) return;
  event.preventDefault(); // the address stands there already: the browser would tell nobody
  dispatchEvent(new HashChangeEvent('hashchange'));
});
document.addEventListener('keydown', (event) => {
  if (!element.isConnected || event.defaultPrevented || event.isComposing || event.repeat) return;
  if (event.key.toLowerCase() !== 'e' || event.ctrlKey || event.metaKey || event.altKey) return;
  if (isTyping(event.target) || document.querySelector('dialog[open]')) return;
  const links = [...document.querySelectorAll('a[data-annotate][aria-keyshortcuts]')];
  const link = links.find((one) => one.offsetParent !== null);
  if (!link) return;
  event.preventDefault();
  link.click();
});
document.addEventListener('boxwright-returned', (event) => {
  if (element.isConnected && event.detail.tab === 'Compare') trigger('returned', { id: event.detail.id });
});
