// The arena: a click or a key picks, and picks once. `element` holds the question and is filled anew by the server.
const panel = element.closest('#arena') ?? element;
const PATIENCE_MS = 5000; // after which a pick that brought nothing may be made again
const KEYS = {
  1: 'left', 2: 'both', 3: 'neither', 4: 'right',
  ArrowLeft: 'left', ArrowUp: 'both', ArrowDown: 'neither', ArrowRight: 'right',
};
let picked = null; // the question that was answered here, until the next one comes
const question = () => element.querySelector('.bw-arena-question');

const show = () => {
  const now = question();
  if (!now) return;
  const waits = picked !== null && now.dataset.question === picked.question;
  now.setAttribute('aria-busy', String(waits));
  for (const part of now.querySelectorAll('[data-choice]')) {
    part.toggleAttribute('data-picked', waits && part.dataset.choice === picked.choice);
  }
};
const pick = (choice) => {
  const now = question();
  if (!now || picked?.question === now.dataset.question) return;
  const mine = { question: now.dataset.question, choice };
  picked = mine;
  show();
  trigger('pick', mine);
  setTimeout(() => { if (picked === mine) { picked = null; show(); } }, PATIENCE_MS);
};
let taken = null;
const undo = () => {
  const vote = Number(element.querySelector('[data-undo]')?.dataset.undo);
  if (!vote || taken === vote) return;
  taken = vote;
  setTimeout(() => { if (taken === vote) taken = null; }, PATIENCE_MS);
  picked = null;
  trigger('undo', { vote });
};

element.addEventListener('click', (event) => {
  if (event.target.closest('[data-undo]')) undo();
  else if (event.target.closest('[data-choice]')) {
    pick(event.target.closest('[data-choice]').dataset.choice);
    question()?.focus({ preventScroll: true });
  }
});
panel.addEventListener('keydown', (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
  if (event.target.closest('input, textarea, select, [role=listbox]')) return;
  if (event.key.startsWith('Arrow') && event.target.matches('#arena > button')) return; // from the heading they scroll
  if (event.key.toLowerCase() === 'u') undo();
  else if (event.key in KEYS && question()) pick(KEYS[event.key]);
  else return;
  event.preventDefault();
});
// gradio changes what stands there into what comes, node by node, and takes away what was set here.
watch('value', show);
new MutationObserver(show).observe(element, { childList: true, subtree: true, attributes: true, attributeFilter: ['data-question'] });
