// See bench.js. A sample that was opened from another tab: the way back there, as soon as nothing is unsaved.

const FROM = 'boxwright-from'; // { id, tab }, written by whoever leads here
const cameFrom = () => stored(sessionStorage, FROM);
const returnButton = part('return');
const showReturn = () => {
  const from = cameFrom();
  returnButton.hidden = !from || !from.tab || from.tab === 'Annotate';
  if (from) returnButton.querySelector('span').textContent = `Back to ${from.tab}`;
};
document.addEventListener('boxwright-annotate', () => { if (element.isConnected) showReturn(); });
const isUnsaved = () => Boolean(shown) && (drawn.adding || boxesChanged() || box.value.trim() !== shown.phrase.trim());
let warnedOf = null; // the sample of which one was told that something is unsaved
const returnThere = () => {
  if (returnButton.hidden) return;
  if (running) { setTimeout(returnThere, 60); return; } // what is being saved is what is asked about there
  if (isUnsaved() && warnedOf !== shown.id) {
    warnedOf = shown.id;
    say(`Not saved yet: Enter saves it. Press again to go back to ${escaped(cameFrom().tab)} without it; what you typed `
      + 'is kept here.', 'problem');
    return;
  }
  warnedOf = null;
  tabNamed(cameFrom().tab)?.click();
};
// By the button or by the tab's own name: who comes back finds the sample as it stands now.
const tellReturned = (tab) => {
  const detail = cameFrom();
  if (!detail || detail.tab !== tab) return;
  stored(sessionStorage, FROM, null);
  showReturn();
  document.dispatchEvent(new CustomEvent('boxwright-returned', { detail }));
};
document.addEventListener('click', (event) => {
  const tab = element.isConnected && event.target.closest?.('#tabs [role=tab]');
  if (tab) tellReturned(tab.textContent.trim());
});
showReturn();
