// See bench.js. Asked beside the line of presses: what may be wrong with the phrase, where a model points for it,
// suggestions, who else is here. None of it ever holds up a save, and an answer that comes too late is dropped.

const aside = async (sent) => {
  try {
    const reply = await server.annotate_aside({ ...scopeNow(), token, who: whoNow(), ...sent });
    return reply || { problem: GONE };
  } catch (error) {
    return { problem: GONE };
  }
};
// Waits for a pause in typing, asks, and shows the answer unless another question was asked meanwhile.
const asker = (pauseMs, showAnswer) => {
  let number = 0;
  let timer = 0;
  return (sent) => {
    number += 1;
    clearTimeout(timer);
    if (!sent) return;
    const mine = number;
    timer = setTimeout(async () => {
      const reply = await aside(sent);
      if (mine === number) showAnswer(reply, sent);
    }, pauseMs);
  };
};

const showFindings = (reply) => fill(part('findings'), reply.findings_html || '');
const askFindings = asker(180, showFindings);

// The listeners: their boxes are drawn over the picture, dashed; the box that one of them hits instead, full

const heardPart = find('.an-heard-part');
const clearHeard = () => {
  for (const old of stage.querySelectorAll('.an-heard')) old.remove();
};
const drawHeard = () => {
  clearHeard();
  const svg = drawing();
  if (!svg) return;
  for (const row of heardPart.querySelectorAll('[data-listener]')) {
    const kind = row.dataset.listener;
    for (const numbers of JSON.parse(row.dataset.boxes)) svg.prepend(outlined(numbers, `an-heard an-heard-${kind}`));
    for (const numbers of JSON.parse(row.dataset.rival)) svg.prepend(outlined(numbers, `an-heard an-heard-${kind} an-rival`));
  }
};
const showHeardBy = (reply, sent) => {
  if (reply.problem === GONE) reply = {}; // the press that fails says so
  heardPart.dataset.state = reply.later ? 'later' : reply.problem ? 'problem' : reply.heard_html ? 'ready' : 'idle';
  fill(heardPart.querySelector('.an-listeners'), reply.heard_html || `<p class="an-none">${escaped(reply.later || reply.problem || '')}</p>`);
  drawHeard();
  if (reply.later && shown && sent.id === shown.id) setTimeout(() => listen(), 3000);
};
const askListener = asker(650, showHeardBy);
const listen = () => {
  const words = box.value.trim();
  if (!shown || bench.dataset.listener !== 'true') return;
  if (!words || drawn.adding) {
    askListener(null);
    heardPart.dataset.state = 'idle';
    fill(heardPart.querySelector('.an-listeners'), '');
    clearHeard();
    return;
  }
  heardPart.dataset.state = 'asking';
  askListener({ do: 'listen', id: shown.id, text: words, revision: shown.revision });
};
// After each key: what is there becomes doubtful at once, the answers follow.
const reconsider = () => {
  if (!shown) return;
  const words = box.value.trim();
  askFindings(words ? { do: 'check', id: shown.id, text: words } : null);
  if (!words) showFindings({});
  clearHeard();
  listen();
};

// Suggestions come when the sample is new on the page and has no phrase yet

const askSuggestions = asker(250, (reply) => {
  showSection('suggested', reply.suggested_html || '');
});
const considerSample = () => {
  fill(part('findings'), '');
  showSection('suggested', '');
  showHolder({});
  clearHeard();
  if (!shown) return;
  reconsider();
  askSuggestions({ do: 'suggest', id: shown.id });
};

// Who else has this sample open: told by a heartbeat

const showHolder = (reply) => {
  const holder = part('holder');
  holder.hidden = !reply.holder_html;
  if (reply.holder_html) fill(holder.querySelector('span'), reply.holder_html);
};
const beat = async () => {
  if (!shown || document.hidden || !visible()) return;
  const { id } = shown;
  const reply = await aside({ do: 'beat', id });
  if (shown && shown.id === id) showHolder(reply);
};
setInterval(beat, 15000);
document.addEventListener('visibilitychange', beat); // back in this window: somebody may have taken it over
window.addEventListener('pagehide', () => { aside({ do: 'release' }); });
