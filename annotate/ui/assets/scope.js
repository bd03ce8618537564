// See bench.js. Which samples: the queue, the split and the filters, kept in the address so that it can be sent on.

const SCOPE = ['queue', 'split', 'category', 'words', 'by'];
const filters = part('filters');
const wordsField = part('words');
const categorySelect = part('category').querySelector('select');
const bySelect = part('by').querySelector('select');
const scopeNow = () => Object.fromEntries(SCOPE.map((name) => [name, kept[name] || '']));
const isFiltered = () => Boolean(kept.category || kept.words || kept.by);

// "#queue=problems&words=dog": nothing of it is trusted, the app checks it like everything that a page sends.
const scopeOfAddress = () => {
  const given = new URLSearchParams(location.hash.slice(1));
  if (!given.has('queue') && !given.has('sample')) return null;
  return { ...Object.fromEntries(SCOPE.map((name) => [name, given.get(name) || ''])), sample: given.get('sample') || '' };
};
// Another scope than the address names is a step that the browser's Back takes back, more letters of a word are not.
// The sample of each step stands in the history's own state: so Back leads to it, and a link sent on does not.
const isStep = (from) => {
  const changed = from ? SCOPE.filter((name) => (from[name] || '') !== (kept[name] || '')) : [];
  return changed.length > 1 || (changed.length === 1 && !(changed[0] === 'words' && from.words && kept.words));
};
const writeAddress = (step = isStep(scopeOfAddress())) => {
  if (!visible()) return;
  const told = Object.entries(scopeNow()).filter(([, value]) => value);
  const address = `${location.pathname}${location.search}#${new URLSearchParams(told)}`;
  const state = { ...history.state, sample: shown ? shown.id : '' };
  if (step) history.pushState(state, '', address); else history.replaceState(state, '', address);
};
// The scope goes with the press: the answer to one that is still on its way tells of the scope before.
const openScope = (changed, id = '') => {
  Object.assign(kept, changed);
  press({ do: 'open', send: { ...scopeNow(), id }, forget: true });
};
// Hundreds of options are built anew only where they are others than those shown.
const optionsShown = new Map();
const fillSelect = (select, html, value) => {
  if (optionsShown.get(select) !== html) select.innerHTML = html;
  optionsShown.set(select, html);
  select.value = value;
};
let answered = Object.fromEntries(SCOPE.map((name) => [name, ''])); // the last scope that the app took
const refuseScope = () => { Object.assign(kept, answered); remember(); writeAddress(false); };
const showScope = (counts) => {
  for (const name of SCOPE) kept[name] = counts[name] || '';
  answered = scopeNow();
  fillSelect(queueSelect, counts.queues_html, kept.queue);
  fillSelect(splitSelect, counts.splits_html, kept.split);
  fillSelect(categorySelect, counts.categories_html, kept.category);
  fillSelect(bySelect, counts.people_html, kept.by);
  if (document.activeElement !== wordsField) wordsField.value = kept.words;
  filters.hidden = !isFiltered() && part('filter').getAttribute('aria-expanded') !== 'true';
  part('filter').setAttribute('aria-expanded', String(!filters.hidden));
  part('filter').dataset.on = String(isFiltered());
  filters.querySelector('output').textContent = counts.filtered;
  part('unfilter').hidden = !isFiltered();
};
const turnFilters = () => {
  const open = part('filter').getAttribute('aria-expanded') === 'true';
  if (open && isFiltered()) CLICKS['annotate-unfilter']();
  part('filter').setAttribute('aria-expanded', String(!open));
  filters.hidden = open;
  if (!open) wordsField.focus(); else focusBox();
};
let typing = 0;
wordsField.addEventListener('input', () => {
  clearTimeout(typing);
  typing = setTimeout(() => openScope({ words: wordsField.value }), 350);
});
wordsField.addEventListener('keydown', (event) => {
  if (event.key !== 'Enter' && event.key !== 'Escape') return;
  event.preventDefault();
  event.stopPropagation();
  clearTimeout(typing);
  wordsField.blur();
  if (wordsField.value !== kept.words) openScope({ words: wordsField.value });
  focusBox();
});
for (const [select, name] of [[queueSelect, 'queue'], [splitSelect, 'split'], [categorySelect, 'category'], [bySelect, 'by']]) {
  select.addEventListener('change', () => openScope({ [name]: select.value }));
}
window.addEventListener('hashchange', () => {
  const given = scopeOfAddress();
  if (!given || !element.isConnected) return;
  const { sample, ...scope } = given;
  wordsField.value = scope.words; // also while the caret is in it
  openScope(scope, sample || (history.state && history.state.sample) || '');
});
