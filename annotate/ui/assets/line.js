// See bench.js. Every press of a key or button becomes a job; jobs run one after the other, and a failed one stops the
// line and gives back what was typed.

// Ask the app: one request at a time, key presses wait in line

const whoNow = () => {
  const who = document.querySelector('#annotate-who textarea, #annotate-who input');
  return who ? who.value : '';
};
const ask = async (sent) => {
  const all = { ...scopeNow(), token, who: whoNow(), ...sent };
  const timeout = new Promise((resolve) => { setTimeout(resolve, WAIT_MS); });
  const reply = await Promise.race([server.annotate(all), timeout]); // undefined too when the request failed
  return reply || { problem: GONE };
};

const press = async (job) => {
  job.early = running;
  if (job.do === 'save' && drawn.adding) job.do = 'add';
  job.leaves = drawn.adding && job.do !== 'add'; // a new phrase that was begun: its words are not those of the sample shown
  // Boxes changed while a press is on its way would be those of a sample that leaves.
  if (SENDS_BOXES.includes(job.do) && !running && (drawn.adding || boxesChanged())) job.boxes = clone(drawn.boxes);
  if (job.do === 'save') job.taken = taken;
  if (job.do === 'propose') job.seconds = (performance.now() - shownAt) / 1000;
  if (!STAYS.includes(job.do)) job.text = take();
  waiting.push(job);
  if (running) return;
  running = true;
  bench.setAttribute('aria-busy', 'true');
  const slow = setTimeout(() => { bench.dataset.busy = 'true'; }, 250); // only then it is worth showing
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
    if (shown && !drawn.adding && typedAhead()) keepDraft(shown, box.value);
    showUndo();
    focusBox(redo);
  }
};

// What stands in the box goes with the press; what is typed from now on belongs to the sample that comes.
const take = () => {
  if (running && box.value === filled) return ''; // the phrase of a sample that nobody has looked at yet
  const text = box.value;
  box.value = '';
  filled = '';
  return text;
};
const typedAhead = () => (box.value === filled ? '' : box.value);
const putBack = (text) => {
  hold([typedAhead()]);
  box.value = text;
  filled = '';
};

const hold = (texts) => {
  kept.held = [...new Set([...kept.held, ...texts.filter((text) => text && text.trim())])].slice(-20);
  remember();
};
const giveBack = (failed, dropped) => {
  hold(dropped.flatMap((job) => [job.text, job.send?.text]));
  if (failed.leaves && !drawn.adding) hold([failed.text]);
  else if (failed.text || (failed.text === '' && !failed.early)) {
    putBack(failed.text);
    if (shown && !drawn.adding) keepDraft(shown, failed.text);
  }
  if (['note', 'reject'].includes(failed.do)) {
    openNote(failed.do);
    note.value = failed.send.text;
  }
  showHeld();
  warnTwin();
};

const STAYS = ['flag', 'reopen', 'look', 'repair_preview']; // these leave the box alone
const SENDS_BOXES = ['save', 'add', 'propose'];
const GO_ON = ['save', 'propose', 'skip', 'note', 'reject', 'next']; // after these comes the sample from which one went back, or the next
const ON_SAMPLE = ['skip', 'flag', 'note', 'reject', 'reopen', 'revert', 'decide', 'decide_on', 'propose', 'add'];
const WHILE_DECIDING = ['undecided', 'decide_on', 'look', 'flag', 'undo'];
let deciding = false; // going through the samples on which people disagree

// What a press means now: it may have waited for others that changed the sample shown.
const request = (job) => {
  const sent = { do: job.do, place: shown ? shown.place : null, ...job.send };
  const target = job.do === 'undo' && did ? did : shown;
  if (target) Object.assign(sent, { id: target.id, revision: job.revision || target.revision, ...job.send });
  if (GO_ON.includes(job.do)) sent.then = kept.trail[kept.cursor + 1] || '';
  if (SENDS_BOXES.includes(job.do)) sent.text = job.text;
  if (job.boxes) sent.boxes = job.boxes;
  if (job.taken) sent.taken = job.taken;
  if (job.seconds) sent.seconds = job.seconds;
  if (job.do === 'flag' && shown.flagged) sent.do = 'unflag';
  if (job.do === 'back' && kept.atEnd && kept.cursor >= 0) return { do: 'show', id: kept.trail[kept.cursor] };
  if (job.do === 'back' && kept.cursor > 0) return { do: 'show', id: kept.trail[kept.cursor - 1] };
  return sent;
};

// A phrase that refers to nothing is saved when it is asked for twice: it may be a box forgotten.
let fromNothing = '';
const leavesNoBox = (job, from) => {
  if (!SENDS_BOXES.includes(job.do) || fromNothing === from.id) return false;
  const boxes = job.boxes || (job.do === 'add' ? [] : from.boxes);
  return !boxes.length && (job.do === 'add' || from.placeholder || from.boxes.length > 0);
};

const perform = async (job) => {
  const from = shown;
  if (!from && (job.do === 'save' || ON_SAMPLE.includes(job.do))) { hold([job.text]); return {}; }
  if (job.do === 'undo' && !from && !did) return {};
  if (SENDS_BOXES.includes(job.do) && !job.text.trim()) {
    if (job.early) return {}; // Enter twice on one sample
    say('Write a phrase first, or skip with Esc.', 'problem');
    return { failed: true };
  }
  if (job.do === 'add' && !drawn.adding) { // typed while the one before was on its way
    job.leaves = true;
    say('Not added: no box was drawn for it. What you typed is among the phrases below; press New for another one.', 'problem');
    return { failed: true };
  }
  if (leavesNoBox(job, from)) {
    say('No box: this phrase would refer to nothing in the picture. Enter again saves it so; or draw a box.', 'problem');
    fromNothing = from.id;
    return { failed: true };
  }
  // A press that waited says nothing about the box of the sample that came meanwhile, unless something was typed.
  if (from && job.do !== 'add' && !job.leaves && (job.text || (job.text === '' && !job.early))) keepDraft(from, job.text);
  const sent = request(job);
  const reply = await ask(sent);
  if (reply.counts) showCounts(reply.counts);
  const many = reply.repaired || (kept.repaired || (reply.broken || {}).batch === kept.dismissed ? null : reply.broken);
  if (many) { kept.repaired = many; remember(); showRepaired(); }
  if (reply.problem) {
    if (reply.screen) {
      if (from && job.text === from.phrase) job.text = reply.screen.phrase;
      show(reply.screen);
    }
    if (job.do === 'open' && reply.problem !== GONE) refuseScope();
    if (bench.dataset.state === 'opening') showNotOpened(reply.problem);
    say(escaped(reply.problem), 'problem');
    return { failed: true };
  }
  if (reply.conflict) { openConflict(reply.conflict, job.text); return { failed: true }; }
  if (job.do === 'save' || job.do === 'propose') { dropDraft(from.id); dropBoxes(from.id); }
  fromNothing = '';
  if (job.leaves) hold([job.text]);
  deciding = job.do === 'undecided' || (deciding && WHILE_DECIDING.includes(job.do));
  if (job.do !== 'look' && job.do !== 'repair_preview') did = reply.did || null;
  settle(job, sent, reply);
  return reply;
};

const settle = (job, sent, reply) => {
  if (reply.repair_html) { fill(repairPage, reply.repair_html); repairPage.showModal(); }
  if (job.forget) { kept.trail = []; kept.cursor = -1; }
  if (job.do !== 'look') say(reply.notice_html || '', reply.did ? 'saved' : 'info');
  if (reply.screen) {
    if (sent.do === 'back') { kept.trail.unshift(reply.screen.id); kept.cursor = 0; }
    show(reply.screen, reply.redo_text);
  } else if (job.text) putBack(job.text);
  if (reply.preload_url) new Image().src = reply.preload_url;
  if (sent.do === 'flag') openNote();
  if (!waiting.length) writeAddress();
};
