// See bench.js.

// What the keys and buttons do

const save = () => { if (shown || running) press({ do: 'save' }); };
const propose = () => { if (shown && !drawn.adding) press({ do: 'propose' }); };
const skip = () => press({ do: 'skip' });
const next = () => press({ do: 'next' });
const flag = () => { if (!drawn.adding) press({ do: 'flag' }); };
const back = () => press({ do: 'back' });
const undo = () => press({ do: 'undo' });
const toUndecided = () => press({ do: 'undecided' });
const goTo = (id) => press({ do: 'show', send: { id } });
const openQueue = (queue, split) => openScope({ queue, split, category: '', words: '', by: '' });
const put = (text) => {
  if (!shown) return;
  box.value = text;
  typed();
  focusBox();
};
const typed = () => {
  if (shown && !running && !drawn.adding) keepDraft(shown, box.value);
  if (part('status').dataset.kind === 'problem') say('');
  warnTwin();
  reconsider();
};

let noteIsFor = 'note';
function openNote(what = 'note') {
  noteIsFor = what;
  const field = note.closest('label');
  field.hidden = false;
  field.querySelector('span').textContent = what === 'reject' ? 'Reason' : 'Note';
  note.placeholder = what === 'reject' ? 'Why is it of no use? Enter rejects'
    : 'What is wrong? Enter goes on, Esc stays here';
  note.value = '';
  note.focus();
}
function closeNote() { note.closest('label').hidden = true; }
const endNote = (goOn) => {
  const text = note.value.trim();
  closeNote();
  box.focus();
  if (!goOn) return;
  if (noteIsFor === 'reject') press({ do: 'reject', send: { text } });
  else press(text ? { do: 'note', send: { text } } : { do: 'next' });
};
const reject = () => {
  if (!shown || drawn.adding) return;
  if (shown.state === 'rejected') press({ do: 'reopen' }); else openNote('reject');
};

const openConflict = (found, mine) => {
  conflict = { ...found, mine };
  fill(conflictPage, found.html);
  conflictPage.showModal();
  conflictPage.focus(); // on no button: an Enter pressed out of habit must not choose
};
const choose = (whose) => {
  const { id, revision, mine } = conflict;
  conflict = null;
  conflictPage.close();
  if (whose === 'mine') { box.value = mine; press({ do: 'save', revision }); return; }
  dropDraft(id);
  dropBoxes(id);
  if (shown) box.value = shown.phrase;
  press({ do: 'next' });
};
conflictPage.addEventListener('close', () => {
  if (conflict === null) return;
  const { id } = conflict;
  conflict = null;
  goTo(id); // as it stands now; the draft comes back into the box
});

// What was changed for many at once, with its undo; while it goes on behind the page, how far it is

let batchTimer = 0;
const showRepaired = () => {
  const bar = find('.an-repaired') || document.createElement('p');
  const { sentence, going, undoable } = kept.repaired;
  bar.className = 'an-repaired';
  bar.setAttribute('role', 'status');
  bar.innerHTML = `<span>${escaped(sentence)}</span>`
    + (undoable === false ? '' : '<button type="button" id="annotate-repair-undo" class="an-button">Undo</button>')
    + (going ? '' : '<button type="button" class="an-button" data-dismiss>Dismiss</button>');
  find('.an-bar').after(bar);
  clearTimeout(batchTimer);
  if (going) batchTimer = setTimeout(followBatch, 700);
};
const followBatch = async () => {
  const followed = kept.repaired;
  const reply = await aside({ do: 'batch', batch: followed.batch });
  if (kept.repaired !== followed) return; // taken back, or another one came
  if (reply.repaired) kept.repaired = { ...reply.repaired };
  remember();
  if (kept.repaired.undone) forgetRepaired(); else showRepaired();
  if (!kept.repaired || !kept.repaired.going) look(); // what it changed may be shown
  if (!kept.repaired) say(escaped(reply.repaired.sentence));
};
const forgetRepaired = () => {
  clearTimeout(batchTimer);
  kept.repaired = null;
  remember();
  find('.an-repaired')?.remove();
};

// Events

const visible = () => bench.offsetParent !== null;
const tabs = () => [...document.querySelectorAll('button[role=tab]')];
const tabNamed = (name) => tabs().find((tab) => tab.textContent.trim() === name);
const CLICKS = {
  'annotate-save': save,
  'annotate-skip': skip,
  'annotate-flag': flag,
  'annotate-reject': reject,
  'annotate-add': startAdding,
  'annotate-filter': turnFilters,
  'annotate-more': () => turnMenu(menu.hidden),
  'annotate-take-over': async () => { if (shown) showHolder(await aside({ do: 'take_over', id: shown.id })); },
  'annotate-unfilter': () => { wordsField.value = ''; wordsField.blur(); openScope({ category: '', words: '', by: '' }); },
  'annotate-boxes-reset': () => { if (drawn.adding) stopAdding(); else resetBoxes(); focusBox(); },
  'annotate-back': back,
  'annotate-return': returnThere,
  'annotate-undo': undo,
  'annotate-help': () => part('help-page').showModal(),
  'annotate-repair': () => press({ do: 'repair_preview' }),
  'annotate-repair-cancel': () => repairPage.close(),
  'annotate-repair-confirm': () => {
    const asOf = Number(part('repair-confirm').dataset.asOf);
    repairPage.close();
    press({ do: 'repair', send: { as_of: asOf }, forget: true });
  },
  'annotate-repair-undo': () => {
    const { batch } = kept.repaired;
    forgetRepaired();
    press({ do: 'undo_repair', send: { batch }, forget: true });
  },
};
bench.addEventListener('click', (event) => {
  const button = event.target.closest('button');
  if (!button) return;
  const { text, go, queue, split, tab, choose: whose, revert, decide } = button.dataset;
  if (CLICKS[button.id]) CLICKS[button.id]();
  else if (text !== undefined) {
    kept.held = kept.held.filter((one) => one !== text);
    put(text);
    takeUp(button.dataset.taken === undefined ? null : text);
  }
  else if (go !== undefined) goTo(go);
  else if (queue !== undefined) openQueue(queue, split);
  else if (tab !== undefined) tabNamed(tab)?.click();
  else if (button.dataset.open !== undefined) { turnMenu(false); OPEN[button.dataset.open](); }
  else if (decide !== undefined) press({ do: deciding ? 'decide_on' : 'decide', send: { opinion: Number(decide) } });
  else if (revert !== undefined) press({ do: 'revert', send: { change: Number(revert) } });
  else if (whose !== undefined) choose(whose);
  else if (button.dataset.unfilter !== undefined) CLICKS['annotate-unfilter']();
  else if (button.dataset.again !== undefined) { wordsField.blur(); openScope({}); }
  else if (button.dataset.dismiss !== undefined) { kept.dismissed = kept.repaired.batch; forgetRepaired(); focusBox(); }
});
// A click on a button must not take the caret out of the phrase.
bench.addEventListener('mousedown', (event) => {
  if (event.target.closest('button, #annotate-figure')) event.preventDefault(); // the pointer has its own events
});
box.addEventListener('input', typed);

const ALT_KEYS = { s: skip, f: flag, r: reject, n: startAdding, d: toUndecided, b: toBoxes, c: returnThere, o: turnOthers, z: undo, x: turnZoom, ArrowLeft: back, ArrowRight: next };
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
  if (event.target.closest('[role=menu]')) return null; // it has keys of its own
  if (event.altKey) return altJob(event);
  if (event.target === stage) {
    const job = boxJob(event);
    if (job) return job;
  } else if (event.ctrlKey || event.metaKey) return null;
  if (event.key === 'Escape' && drawn.adding) return stopAdding;
  if (event.target === note) return { Enter: () => endNote(true), Escape: () => endNote(false) }[event.key];
  if (elsewhere) return event.key === 'Escape' && bench.contains(event.target) ? focusBox : null;
  if (event.key === 'Enter' && event.shiftKey && event.target === box) return propose;
  if (event.key === 'Enter' && !event.target.closest('button')) return save;
  if (event.key === 'Escape') return skip;
  if (event.key === '?' && !(event.target === box && typedAhead())) return CLICKS['annotate-help'];
  // Typing after a click somewhere else: the letter goes into the phrase.
  if (event.key.length === 1 && !event.ctrlKey && !event.metaKey && event.target !== box && !event.target.closest('button, a')) box.focus();
  return null;
};
const onKey = (event) => {
  if (!element.isConnected) { document.removeEventListener('keydown', onKey, true); return; }
  if (event.isComposing || event.getModifierState('AltGraph')) return;
  if (!visible() || document.querySelector('dialog[open]')) return;
  const job = jobOf(event);
  if (!job) return;
  event.preventDefault();
  event.stopPropagation();
  if (!event.repeat || event.target === stage) job();
};
document.addEventListener('keydown', onKey, true);
for (const page of [repairPage, part('help-page')]) page.addEventListener('close', () => focusBox());

// Back on this tab, or in this window: what others did meanwhile

const look = () => {
  if (!visible() || running || document.hidden || document.querySelector('dialog[open]')) return;
  const untouched = shown && !drawn.adding && box.value === shown.phrase;
  if (shown && !untouched) focusBox();
  else if (bench.dataset.state !== 'opening') press(shown ? { do: 'look' } : { do: 'open', send: { id: '' } });
};
new IntersectionObserver((entries) => { if (entries.some((entry) => entry.isIntersecting)) look(); }).observe(bench);
document.addEventListener('visibilitychange', look);
// A click on this tab's own name while it is open already: the caret belongs into the phrase.
document.addEventListener('click', (event) => {
  if (event.target.closest && event.target.closest('[role=tab]')) setTimeout(look);
});

if (kept.repaired) showRepaired();
const asked = scopeOfAddress();
if (asked) {
  const { sample, ...scope } = asked;
  // The same queue as before the reload: on where one was.
  const same = SCOPE.every((name) => scope[name] === (kept[name] || ''));
  Object.assign(kept, scope, same ? {} : { trail: [], cursor: -1 });
  if (sample) Object.assign(kept, { trail: [sample], cursor: 0 });
}
press({ do: kept.queue ? 'open' : 'start', send: { id: kept.trail[kept.cursor] || '' } });
