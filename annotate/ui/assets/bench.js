// The Annotate tab in the browser. tab.py joins its parts in the order in which it names them, into one script that runs
// inside gr.HTML's js_on_load, which gives `element` (the tab's HTML) and `server` (the app). Every text that the app
// sends as HTML was escaped there.

const bench = element.querySelector('.an');
const find = (selector) => bench.querySelector(selector);
const part = (name) => find(`#annotate-${name}`);
const box = part('phrase').querySelector('textarea');
const note = part('note');
const queueSelect = part('queue').querySelector('select');
const splitSelect = part('split').querySelector('select');
const conflictPage = part('conflict');
const repairPage = part('repair-preview');

const WAIT_MS = 20000;
const GONE = 'The app does not answer. What you typed is kept here: press the key again in a moment. '
  + 'If that does not help, see whether the app still runs and reload the page.';

// What this browser remembers: where it was (this tab, over a refresh) and what was typed (over a crash as well)

const stored = (kind, key, value) => {
  try {
    if (value === undefined) return JSON.parse(kind.getItem(key));
    if (value === null) kind.removeItem(key); else kind.setItem(key, JSON.stringify(value));
  } catch (error) { /* private window, or full: the page works without */ }
  return null;
};
const sessionKey = `boxwright-annotate:${bench.dataset.workspace}`;
const draftKey = (id) => `boxwright-draft:${bench.dataset.workspace}:${id}`;
const kept = {
  ...{ queue: '', split: '', category: '', words: '', by: '', trail: [], cursor: -1, atEnd: false, held: [], repaired: null, dismissed: '' },
  ...stored(sessionStorage, sessionKey),
};
// Tells the open pages of one person apart. It is kept only from the end of a page to its reload: a duplicate of a
// browser tab gets a copy of the storage, and must be another page.
const token = stored(sessionStorage, 'boxwright-token') || Math.random().toString(36).slice(2);
stored(sessionStorage, 'boxwright-token', null);
window.addEventListener('pagehide', () => stored(sessionStorage, 'boxwright-token', token));
window.addEventListener('pageshow', () => stored(sessionStorage, 'boxwright-token', null));
const remember = () => stored(sessionStorage, sessionKey, kept);
const keepDraft = (of, text) => stored(localStorage, draftKey(of.id), text.trim() && text !== of.phrase ? text : null);
const dropDraft = (id) => { for (const key of [draftKey(id), takenKey(id)]) stored(localStorage, key, null); };

// The sample shown, and what Alt+Z takes back

let shown = null; // as sent by the app; null before the first and at the end of a queue
let did = null; // the edit just made, as long as nothing else happened since
let filled = ''; // what the page itself put into the box: everything else there was typed
let conflict = null;
let running = false;
const waiting = [];

const visit = (id) => {
  const { trail, cursor } = kept;
  if (trail[cursor] === id) return;
  if (trail[cursor - 1] === id) kept.cursor -= 1;
  else if (trail[cursor + 1] === id) kept.cursor += 1;
  else {
    trail.splice(cursor + 1);
    trail.push(id);
    if (trail.length > 400) trail.shift();
    kept.cursor = trail.length - 1;
  }
};

// Show

const localTimes = (root) => {
  for (const time of root.querySelectorAll('time')) {
    const at = new Date(time.dateTime);
    if (Number.isNaN(at.getTime())) continue;
    const today = at.toDateString() === new Date().toDateString();
    time.textContent = today ? at.toLocaleTimeString([], { hour: '2-digit', minute: '2-digit' })
      : at.toLocaleDateString([], { day: 'numeric', month: 'short', year: 'numeric' });
    time.title = at.toLocaleString();
  }
};
const fill = (target, html) => { target.innerHTML = html; localTimes(target); };
const say = (html, kind = 'info') => {
  const status = part('status');
  fill(status, html);
  status.dataset.kind = kind;
  status.setAttribute('role', kind === 'problem' ? 'alert' : 'status');
};
const escaped = (text) => {
  const span = document.createElement('span');
  span.textContent = text;
  return span.innerHTML;
};

const showCounts = (counts) => {
  showScope(counts);
  const bar = part('counts').querySelector('[role=progressbar]');
  part('counts').querySelector('span').textContent = counts.sentence;
  bar.setAttribute('aria-valuemax', counts.total || 1);
  bar.setAttribute('aria-valuenow', counts.done);
  bar.firstElementChild.style.width = counts.total ? `${(100 * counts.done) / counts.total}%` : '0';
  part('repair').hidden = counts.placeholders === 0;
  menu.querySelector('[data-open=undecided] span').textContent = counts.undecided ? `(${counts.undecided})` : '';
};

const showSection = (name, html) => {
  fill(find(`.an-${name}`), html);
  const section = find(`.an-${name}-part`);
  if (section) section.hidden = !html;
};

const showHeld = () => {
  if (!kept.held.length) return;
  const chips = kept.held.map((text) => `<button type="button" class="an-chip" data-text="${
    escaped(text).replaceAll('"', '&quot;')}" data-held title="You typed this and it was not saved"><span>${
    escaped(text)}</span></button>`);
  find('.an-chips').insertAdjacentHTML('beforeend', chips.join(''));
  find('.an-chips-part').hidden = false;
};

// The suggestion that was put into the box, kept like the draft that it may become.
const takenKey = (id) => `boxwright-taken:${bench.dataset.workspace}:${id}`;
let taken = null;
const takeUp = (text) => {
  taken = text;
  if (shown) stored(localStorage, takenKey(shown.id), text);
};
let shownAt = 0;
const show = (screen, redo) => {
  taken = screen.id ? stored(localStorage, takenKey(screen.id)) : null;
  shownAt = performance.now();
  const ahead = typedAhead();
  bench.dataset.state = screen.id ? 'sample' : 'done';
  part('done').hidden = Boolean(screen.id);
  closeNote();
  zoom(false);
  if (!screen.id) {
    shown = null;
    kept.atEnd = true;
    fill(part('done'), screen.done_html);
    for (const button of part('done').querySelectorAll('[data-tab]')) button.hidden = !tabNamed(button.dataset.tab);
    remember();
    return;
  }
  const again = shown && shown.id === screen.id;
  shown = screen;
  kept.atEnd = false;
  visit(screen.id);
  remember();
  if (!again) fill(part('figure'), screen.figure_html);
  delete bench.dataset.adding;
  takeBoxes(screen);
  fill(find('.an-stands'), screen.stands_html);
  for (const name of ['opinions', 'chips', 'facts', 'siblings', 'history']) showSection(name, screen[`${name}_html`]);
  showHeld();
  drawOthers();
  find('.an-about').scrollTop = 0;
  const draft = stored(localStorage, draftKey(screen.id));
  box.value = ahead || draft || (screen.placeholder && redo) || screen.phrase;
  filled = ahead ? '' : box.value;
  box.placeholder = screen.placeholder ? 'Write the phrase for this box' : 'The phrase for this box';
  part('flag').querySelector('span').textContent = screen.flagged ? 'Unflag' : 'Flag';
  part('reject').querySelector('span').textContent = screen.state === 'rejected' ? 'Reopen' : 'Reject';
  if (draft && !ahead && draft !== screen.phrase && !part('status').textContent) say('Your unsaved draft is back.');
  warnTwin();
  considerSample();
  beat();
};

const showNotOpened = (problem) => {
  part('done').hidden = false;
  fill(part('done'), `<div><h3>Not opened</h3><p>${escaped(problem)}</p><p><button type="button" class="an-button" `
    + 'data-queue="" data-split="">Try again</button></p></div>');
};

const showUndo = () => {
  const what = did ? 'what you just did' : shown && shown.undoable;
  part('undo').disabled = !what;
  part('undo').title = what ? `Take back: ${what}` : 'Nothing to take back';
  part('back').disabled = kept.cursor < 1 && !shown;
};

const focusBox = (redo) => {
  if (!shown || !visible() || document.querySelector('dialog[open]') || !note.closest('label').hidden) return;
  if (!menu.hidden || document.activeElement === wordsField) return; // more words may follow
  box.focus({ preventScroll: true });
  if (redo && box.value === redo) box.select(); else box.setSelectionRange(box.value.length, box.value.length);
};

const warnTwin = () => {
  const typed = box.value.trim().replace(/\s+/g, ' ').toLowerCase();
  for (const sibling of bench.querySelectorAll('.an-sibling')) {
    const twin = typed !== '' && sibling.dataset.phrase === typed;
    sibling.classList.toggle('an-twin', twin);
  }
};

// Boxes of the other phrases: faint, unless hidden by Alt+O; bright while the pointer is on one

const othersKey = 'boxwright-others-hidden';
const drawOthers = () => {
  const svg = drawing();
  if (!svg) return;
  for (const old of svg.querySelectorAll('.an-beside')) old.remove();
  if (stored(localStorage, othersKey)) return;
  const mine = JSON.stringify(shown.boxes);
  const others = [...bench.querySelectorAll('.an-siblings [data-boxes]')].map((row) => row.dataset.boxes);
  for (const boxes of new Set(others)) {
    if (boxes !== mine) for (const numbers of JSON.parse(boxes)) svg.prepend(outlined(numbers, 'an-beside'));
  }
};
const turnOthers = () => {
  if (!shown) return;
  stored(localStorage, othersKey, stored(localStorage, othersKey) ? null : true);
  drawOthers();
};
const outlined = ([x1, y1, x2, y2], kind) => shape('rect', {
  x: x1, y: y1, width: x2 - x1, height: y2 - y1, class: kind, 'vector-effect': 'non-scaling-stroke',
});

const outline = (boxes) => {
  const svg = drawing();
  if (!svg) return;
  for (const old of svg.querySelectorAll('.an-other')) old.remove();
  for (const numbers of boxes) svg.append(outlined(numbers, 'an-other'));
};
const outlineOf = (event) => event.target.closest && event.target.closest('.an-sibling');
for (const [enter, leave] of [['mouseover', 'mouseout'], ['focusin', 'focusout']]) {
  bench.addEventListener(enter, (event) => {
    const one = outlineOf(event);
    if (one) outline(JSON.parse(one.dataset.boxes));
  });
  bench.addEventListener(leave, (event) => { if (outlineOf(event)) outline([]); });
}
