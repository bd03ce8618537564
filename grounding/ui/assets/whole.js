// A part of the whole-set comparison: what is pressed or chosen there is told to the server as one change; samples are
// opened in Compare and in Annotate. The same script serves the bar, the figures, the breakdowns and the list.
const BUSY_AFTER_MS = 250;
const WORDS_AFTER_MS = 250;
let busy = 0;
let typing = 0;
const host = () => document.querySelector('#whole');

const ask = (change) => {
  clearTimeout(busy);
  busy = setTimeout(() => host()?.setAttribute('data-busy', ''), BUSY_AFTER_MS);
  setTimeout(() => host()?.removeAttribute('data-busy'), 8000); // an error brings nothing new
  trigger('ask', { change });
};
const goTo = (id) => document.querySelector(id)?.scrollIntoView({ block: 'start', behavior: 'smooth' });
const layInCompare = (id) => {
  document.dispatchEvent(new CustomEvent('boxwright-lay', { detail: { id } }));
  trigger('lay', {});
  goTo('#compare');
};

element.addEventListener('click', (event) => {
  const button = event.target.closest('button');
  if (!button || button.disabled || button.ariaDisabled === 'true') return;
  if (button.dataset.go) layInCompare(button.dataset.sample);
  if (!button.dataset.set) return;
  // A row of the figures opens its samples; a chip stays where the eyes are.
  const opens = button.closest('.bw-breakdowns, .bw-outcomes') && button.ariaPressed !== 'true';
  ask(JSON.parse(button.dataset.set));
  if (opens || button.closest('.bw-whole-pager, .bw-whole-lists')) goTo('#whole-list');
});
// What a person has unfolded stays so when the figures come anew, and so does what holds the chosen row.
const unfolded = new Map();
element.addEventListener('click', (event) => {
  const fold = event.target.closest('.bw-breakdown summary')?.parentElement;
  if (fold) unfolded.set(fold.closest('.bw-breakdown').dataset.dimension, !fold.open);
});
const showFolds = () => {
  for (const fold of element.querySelectorAll('.bw-breakdown details')) {
    const { dimension } = fold.closest('.bw-breakdown').dataset;
    const open = unfolded.get(dimension) ?? Boolean(fold.querySelector('[data-chosen=true]'));
    if (fold.open !== open) fold.open = open;
  }
};
element.addEventListener('change', (event) => {
  const { name } = event.target.dataset;
  if (event.target.matches('select[data-name]')) ask({ [name]: event.target.value });
  else if (event.target.matches('input[type=checkbox][data-name]')) ask({ [name]: event.target.checked ? 'yes' : '' });
});
element.addEventListener('input', (event) => {
  if (!event.target.matches('input[type=search]')) return;
  clearTimeout(typing);
  typing = setTimeout(() => ask({ words: event.target.value }), WORDS_AFTER_MS);
});
element.addEventListener('keydown', (event) => {
  const card = event.target.closest?.('.bw-sample-open');
  if (!card || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key.toLowerCase() === 'e') {
    event.preventDefault(); // on the page it means the sample above
    card.closest('article').querySelector('a[data-annotate]')?.click();
  }
  const cards = [...element.querySelectorAll('.bw-sample-open')];
  const tops = cards.map((one) => one.getBoundingClientRect().top);
  const columns = Math.max(1, tops.filter((top) => Math.abs(top - tops[0]) < 4).length);
  const steps = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: columns, ArrowUp: -columns };
  const next = event.key in steps ? cards[cards.indexOf(card) + steps[event.key]] : null;
  if (next) { next.focus(); event.preventDefault(); }
});

// gradio changes what stands there node by node; what a person has chosen in a list stays in it unless it is put back.
const put = () => {
  clearTimeout(busy);
  host()?.removeAttribute('data-busy');
  showFolds();
  for (const one of element.querySelectorAll('select[data-value]')) one.value = one.dataset.value;
  for (const one of element.querySelectorAll('input[type=checkbox][data-name]')) one.checked = one.hasAttribute('checked');
  for (const one of element.querySelectorAll('input[type=search][data-value]')) {
    if (document.activeElement !== one) one.value = one.dataset.value;
  }
};
watch('value', put);
new MutationObserver(put).observe(element, { childList: true, subtree: true, attributes: true, attributeFilter: ['data-value', 'checked', 'open'] });

// Nothing is read before somebody sees the place where it goes.
if (element.closest('#whole-figures')) {
  const seen = new IntersectionObserver((entries) => {
    if (!entries.some((entry) => entry.isIntersecting)) return;
    seen.disconnect();
    trigger('show', {});
  }, { rootMargin: '200px' });
  seen.observe(element.closest('#whole') ?? element);
}
