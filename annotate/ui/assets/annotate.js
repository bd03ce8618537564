// The Annotate tab in the browser: keys, the line of key presses, drafts. Runs inside gr.HTML's js_on_load, which
// gives `element` (the tab's HTML) and `server` (the app). Every text that reaches the page as HTML was escaped there.

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
const kept = { queue: '', split: '', trail: [], cursor: -1, held: [], repaired: null, ...stored(sessionStorage, sessionKey) };
const remember = () => stored(sessionStorage, sessionKey, kept);
const keepDraft = (shown, text) => stored(localStorage, draftKey(shown.id), text.trim() && text !== shown.phrase ? text : null);
const dropDraft = (id) => stored(localStorage, draftKey(id), null);

// The sample shown, and what Alt+Z takes back

let shown = null; // as sent by the app; null before the first and at the end of a queue
let did = null; // the edit just made, as long as nothing else happened since
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
const escaped = (text) => { const span = document.createElement('span'); span.textContent = text; return span.innerHTML; };

const showCounts = (counts) => {
  Object.assign(kept, { queue: counts.queue, split: counts.split });
  fill(queueSelect, counts.queues_html);
  fill(splitSelect, counts.splits_html);
  const bar = part('counts').querySelector('[role=progressbar]');
  part('counts').querySelector('span').textContent = counts.sentence;
  bar.setAttribute('aria-valuemax', counts.total || 1);
  bar.setAttribute('aria-valuenow', counts.done);
  bar.firstElementChild.style.width = counts.total ? `${(100 * counts.done) / counts.total}%` : '0';
  part('repair').hidden = counts.placeholders === 0;
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

const show = (screen, redo) => {
  const ahead = box.value; // typed while the app was answering: it belongs to the sample that comes now
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
  if (!again || part('figure').innerHTML === '' ) fill(part('figure'), screen.figure_html);
  fill(find('.an-stands'), screen.stands_html);
  for (const name of ['chips', 'facts', 'siblings', 'history']) showSection(name, screen[`${name}_html`]);
  showHeld();
  find('.an-about').scrollTop = 0;
  const draft = stored(localStorage, draftKey(screen.id));
  box.value = ahead || draft || (screen.placeholder && redo) || screen.phrase;
  if (ahead) keepDraft(screen, ahead);
  box.placeholder = screen.placeholder ? 'Write the phrase for this box' : 'The phrase for this box';
  part('flag').querySelector('span').textContent = screen.flagged ? 'Unflag' : 'Flag';
  if (draft && !ahead && draft !== screen.phrase && !part('status').textContent) say('Your unsaved draft is back.');
  warnTwin();
};

const showUndo = () => {
  const what = did ? 'what you just did' : shown && shown.undoable;
  part('undo').disabled = !what;
  part('undo').title = what ? `Take back: ${what}` : 'Nothing to take back';
  part('back').disabled = kept.cursor < 1 && !shown;
};

const focusBox = (redo) => {
  if (!shown || !visible() || document.querySelector('dialog[open]') || !note.closest('label').hidden) return;
  box.focus({ preventScroll: true });
  if (redo && box.value === redo) box.select(); else box.setSelectionRange(box.value.length, box.value.length);
};

const warnTwin = () => {
  const typed = box.value.trim().replace(/\s+/g, ' ').toLowerCase();
  let twins = 0;
  for (const sibling of bench.querySelectorAll('.an-sibling')) {
    const twin = typed !== '' && sibling.dataset.phrase === typed;
    sibling.classList.toggle('an-twin', twin);
    twins += twin;
  }
  bench.dataset.twin = twins > 0;
};

// Ask the app: one request at a time, key presses wait in line

const ask = async (sent) => {
  const who = document.querySelector('#annotate-who textarea, #annotate-who input');
  const timeout = new Promise((resolve) => { setTimeout(resolve, WAIT_MS); });
  const reply = await Promise.race([server.annotate({ queue: kept.queue, split: kept.split, who: who ? who.value : '', ...sent }), timeout]);
  return reply || { problem: GONE };
};

const press = async (job) => {
  job.early = running;
  if (!STAYS.includes(job.do)) job.text = take();
  waiting.push(job);
  if (running) return;
  running = true;
  const slow = setTimeout(() => { bench.dataset.busy = 'true'; bench.setAttribute('aria-busy', 'true'); }, 250);
  let redo = '';
  try {
    while (waiting.length) {
      const first = waiting.shift();
      const reply = await perform(first);
      redo = reply.redo_text || '';
      if (reply.failed) { giveBack(first, waiting.splice(0)); break; }
    }
  } finally {
    running = false;
    clearTimeout(slow);
    delete bench.dataset.busy;
    bench.removeAttribute('aria-busy');
    showUndo();
    focusBox(redo);
  }
};

// What stands in the box goes with the press; what is typed from now on belongs to the sample that comes.
const take = () => { const text = box.value; box.value = ''; return text; };

const hold = (texts) => {
  kept.held = [...new Set([...kept.held, ...texts.filter((text) => text && text.trim())])].slice(-20);
  remember();
};
const giveBack = (failed, dropped) => {
  if (failed.text !== undefined) {
    hold([...dropped.map((job) => job.text), box.value]);
    box.value = failed.text;
    if (shown) keepDraft(shown, failed.text);
  } else hold(dropped.map((job) => job.text));
  showHeld();
  warnTwin();
};

const STAYS = ['flag', 'look', 'repair_preview']; // these leave the box alone
const GO_ON = ['save', 'skip', 'note', 'next']; // after these comes the sample from which one went back, or the next
const ON_SAMPLE = ['skip', 'flag', 'note'];

// What a press means now: it may have waited for others that changed the sample shown.
const request = (job) => {
  const sent = { do: job.do, place: shown ? shown.place : null, ...job.send };
  const target = job.do === 'undo' && did ? did : shown;
  if (target) Object.assign(sent, { id: target.id, revision: job.revision || target.revision, ...job.send });
  if (GO_ON.includes(job.do)) sent.then = kept.trail[kept.cursor + 1] || '';
  if (job.do === 'save') sent.text = job.text;
  if (job.do === 'flag' && shown.flagged) sent.do = 'unflag';
  if (job.do === 'back' && kept.atEnd && kept.cursor >= 0) return { do: 'show', id: kept.trail[kept.cursor] };
  if (job.do === 'back' && kept.cursor > 0) return { do: 'show', id: kept.trail[kept.cursor - 1] };
  return sent;
};

const perform = async (job) => {
  const from = shown;
  if (!from && (job.do === 'save' || ON_SAMPLE.includes(job.do))) { hold([job.text]); return {}; }
  if (job.do === 'save' && !job.text.trim()) {
    if (job.early) return {}; // Enter twice on one sample
    say('Write a phrase first, or skip with Esc.', 'problem');
    return { failed: true };
  }
  if (from && job.text !== undefined) keepDraft(from, job.text);
  const sent = request(job);
  const reply = await ask(sent);
  if (reply.counts) showCounts(reply.counts);
  if (reply.problem) {
    if (reply.screen) {
      if (job.text === from.phrase) job.text = reply.screen.phrase;
      show(reply.screen);
    }
    say(escaped(reply.problem), 'problem');
    return { failed: true };
  }
  if (reply.conflict) { openConflict(reply.conflict, job.text); return { failed: true }; }
  if (job.do === 'save') dropDraft(from.id);
  if (job.do !== 'look' && job.do !== 'repair_preview') did = reply.did || null;
  settle(job, sent, reply);
  return reply;
};

const settle = (job, sent, reply) => {
  if (reply.repair_html) { fill(repairPage, reply.repair_html); repairPage.showModal(); }
  if (reply.repaired) { kept.repaired = reply.repaired; showRepaired(); }
  if (job.forget) { kept.trail = []; kept.cursor = -1; }
  if (job.do !== 'look') say(reply.notice_html || '', reply.did ? 'saved' : 'info');
  if (reply.screen) {
    if (job.do === 'look') box.value = '';
    if (sent.do === 'back') { kept.trail.unshift(reply.screen.id); kept.cursor = 0; }
    show(reply.screen, reply.redo_text);
  } else if (job.text !== undefined) box.value = job.text + box.value;
  if (reply.preload_url) new Image().src = reply.preload_url;
  if (sent.do === 'flag') openNote();
};

// What the keys and buttons do

const save = () => { if (shown || running) press({ do: 'save' }); };
const skip = () => press({ do: 'skip' });
const next = () => press({ do: 'next' });
const flag = () => press({ do: 'flag' });
const back = () => press({ do: 'back' });
const undo = () => press({ do: 'undo' });
const goTo = (id) => press({ do: 'show', send: { id } });
const openQueue = (queue, split) => {
  kept.queue = queue;
  kept.split = split;
  press({ do: 'open', send: { id: '' }, forget: true });
};
const put = (text) => {
  if (!shown) return;
  box.value = text;
  typed();
  focusBox();
};
const typed = () => {
  if (shown && !running) keepDraft(shown, box.value);
  if (part('status').dataset.kind === 'problem') say('');
  warnTwin();
};

function openNote() {
  note.closest('label').hidden = false;
  note.value = '';
  note.focus();
}
function closeNote() { note.closest('label').hidden = true; }
const endNote = (goOn) => {
  const text = note.value.trim();
  closeNote();
  box.focus();
  if (!goOn) return;
  press(text ? { do: 'note', send: { text } } : { do: 'next' });
};

const openConflict = (found, mine) => {
  conflict = { ...found, mine };
  fill(conflictPage, found.html);
  conflictPage.showModal();
};
const choose = (whose) => {
  const { id, revision, mine } = conflict;
  conflict = null;
  conflictPage.close();
  if (whose === 'mine') { box.value = mine; press({ do: 'save', revision }); return; }
  dropDraft(id);
  if (shown) box.value = shown.phrase;
  press({ do: 'next' });
};
conflictPage.addEventListener('close', () => {
  if (conflict === null) return;
  const { id } = conflict;
  conflict = null;
  goTo(id); // as it stands now; the draft comes back into the box
});

const showRepaired = () => {
  const bar = find('.an-repaired') || document.createElement('p');
  bar.className = 'an-repaired';
  bar.innerHTML = `<span>${escaped(kept.repaired.sentence)}</span><button type="button" id="annotate-repair-undo" `
    + 'class="an-button">Undo</button><button type="button" class="an-button" data-dismiss>Dismiss</button>';
  find('.an-bar').after(bar);
};
const forgetRepaired = () => {
  kept.repaired = null;
  remember();
  find('.an-repaired')?.remove();
};

// Zoom to the target box

function zoom(on) {
  const stage = part('figure');
  const figure = stage.querySelector('figure');
  const target = figure && figure.querySelector('[data-kind=target] rect');
  stage.dataset.zoom = String(Boolean(on && target));
  if (!figure) return;
  figure.style.cssText = figure.style.cssText.replace(/(width|transform):[^;]*;/g, '');
  if (!on || !target) return;
  // By its size, not by scaling: so the line around the box stays thin and the picture sharp.
  const size = figure.querySelector('svg').viewBox.baseVal;
  const boxes = [...figure.querySelectorAll('g[data-kind=target] rect:first-of-type')].map((rect) => rect.getBBox());
  const left = Math.min(...boxes.map((b) => b.x)), right = Math.max(...boxes.map((b) => b.x + b.width));
  const top = Math.min(...boxes.map((b) => b.y)), bottom = Math.max(...boxes.map((b) => b.y + b.height));
  const before = figure.clientWidth / size.width; // page pixels to a pixel of the picture
  const fit = Math.min((0.6 * stage.clientWidth) / (right - left), (0.6 * stage.clientHeight) / (bottom - top));
  const after = before * Math.min(12, Math.max(1.4, fit / before));
  figure.style.width = `${size.width * after}px`;
  const [x, y] = [size.width / 2 - (left + right) / 2, size.height / 2 - (top + bottom) / 2];
  figure.style.transform = `translate(${x * after}px, ${y * after}px)`;
}
const turnZoom = () => zoom(part('figure').dataset.zoom !== 'true');

// Boxes of the other phrases, while the pointer is on them

const outline = (boxes) => {
  const drawing = part('figure').querySelector('svg');
  if (!drawing) return;
  for (const old of drawing.querySelectorAll('.an-other')) old.remove();
  for (const [x1, y1, x2, y2] of boxes) {
    const rect = document.createElementNS('http://www.w3.org/2000/svg', 'rect');
    for (const [name, value] of Object.entries({ x: x1, y: y1, width: x2 - x1, height: y2 - y1, class: 'an-other', 'vector-effect': 'non-scaling-stroke' })) rect.setAttribute(name, value);
    drawing.append(rect);
  }
};
const outlineOf = (event) => event.target.closest && event.target.closest('.an-sibling');
for (const [enter, leave] of [['mouseover', 'mouseout'], ['focusin', 'focusout']]) {
  bench.addEventListener(enter, (event) => { const one = outlineOf(event); if (one) outline(JSON.parse(one.dataset.boxes)); });
  bench.addEventListener(leave, (event) => { if (outlineOf(event)) outline([]); });
}

// Events

const visible = () => bench.offsetParent !== null;
const tabNamed = (name) => [...document.querySelectorAll('button[role=tab]')].find((tab) => tab.textContent.trim() === name);
const CLICKS = {
  'annotate-save': save, 'annotate-skip': skip, 'annotate-flag': flag, 'annotate-back': back, 'annotate-undo': undo,
  'annotate-help': () => part('help-page').showModal(),
  'annotate-repair': () => press({ do: 'repair_preview' }),
  'annotate-repair-cancel': () => repairPage.close(),
  'annotate-repair-confirm': () => { repairPage.close(); press({ do: 'repair', forget: true }); },
  'annotate-repair-undo': () => { const { batch } = kept.repaired; forgetRepaired(); press({ do: 'undo_repair', send: { batch }, forget: true }); },
};
bench.addEventListener('click', (event) => {
  const button = event.target.closest('button');
  if (!button) { if (event.target.closest('#annotate-figure')) turnZoom(); return; }
  const { text, go, queue, split, tab, choose: whose } = button.dataset;
  if (CLICKS[button.id]) CLICKS[button.id]();
  else if (text !== undefined) { kept.held = kept.held.filter((one) => one !== text); put(text); }
  else if (go !== undefined) goTo(go);
  else if (queue !== undefined) openQueue(queue, split);
  else if (tab !== undefined) tabNamed(tab)?.click();
  else if (whose !== undefined) choose(whose);
  else if (button.dataset.dismiss !== undefined) { forgetRepaired(); focusBox(); }
});
// A click on a button must not take the caret out of the phrase.
bench.addEventListener('mousedown', (event) => { if (event.target.closest('button, #annotate-figure')) event.preventDefault(); });
bench.addEventListener('change', (event) => {
  if (event.target === queueSelect || event.target === splitSelect) openQueue(queueSelect.value, splitSelect.value);
});
box.addEventListener('input', typed);

const ALT_KEYS = { s: skip, f: flag, z: undo, x: turnZoom, ArrowLeft: back, ArrowRight: next };
const apple = /Mac|iP(hone|ad)/.test(navigator.platform);
const altJob = (event) => {
  if (event.key === 'ArrowLeft' || event.key === 'ArrowRight') {
    // On a Mac these jump by words: that comes first while something is being written.
    return apple && event.target === box && box.value ? null : ALT_KEYS[event.key];
  }
  const digit = /^Digit([1-9])$/.exec(event.code);
  if (digit) {
    const chip = bench.querySelectorAll('.an-chips .an-chip')[digit[1] - 1];
    return chip ? () => put(chip.dataset.text) : () => {};
  }
  // By the letter, or by the place of the key where Alt makes another sign of it.
  return ALT_KEYS[/^[a-z]$/i.test(event.key) ? event.key.toLowerCase() : event.code.replace('Key', '').toLowerCase()];
};
const jobOf = (event) => {
  const elsewhere = event.target !== box && event.target.matches('input, textarea, select');
  if (event.altKey) return altJob(event);
  if (event.target === note) return { Enter: () => endNote(true), Escape: () => endNote(false) }[event.key];
  if (elsewhere) return null;
  if (event.key === 'Enter' && !event.target.closest('button')) return save;
  if (event.key === 'Escape') return skip;
  if (event.key === '?' && !(event.target === box && box.value)) return CLICKS['annotate-help'];
  // Typing after a click somewhere else: the letter goes into the phrase.
  if (event.key.length === 1 && event.target !== box && !event.target.closest('button, a')) box.focus();
  return null;
};
const onKey = (event) => {
  if (!element.isConnected) { document.removeEventListener('keydown', onKey, true); return; }
  if (event.isComposing || event.ctrlKey || event.metaKey || event.getModifierState('AltGraph')) return;
  if (!visible() || document.querySelector('dialog[open]')) return;
  const job = jobOf(event);
  if (!job) return;
  event.preventDefault();
  event.stopPropagation();
  if (!event.repeat) job();
};
document.addEventListener('keydown', onKey, true);
for (const page of [repairPage, part('help-page')]) page.addEventListener('close', () => focusBox());

// Back on this tab, or in this window: what others did meanwhile

const look = () => {
  if (!visible() || running || document.hidden || document.querySelector('dialog[open]')) return;
  const untouched = shown && box.value === shown.phrase;
  if (shown && !untouched) focusBox();
  else if (bench.dataset.state !== 'opening') press(shown ? { do: 'look' } : { do: 'open', send: { id: '' } });
};
new IntersectionObserver((entries) => { if (entries.some((entry) => entry.isIntersecting)) look(); }).observe(bench);
document.addEventListener('visibilitychange', look);

if (kept.repaired) showRepaired();
press({ do: kept.queue ? 'open' : 'start', send: { id: kept.trail[kept.cursor] || '' } });
