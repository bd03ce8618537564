// Compare's pictures: which view shows, zoom and pan of all cards as one, heat, and what is asked for besides.
// `element` holds the answers and is filled anew by the server; what a person has set lives here and is put back.
const root = element.closest('#compare') ?? document;
const host = element.closest('#compare-results') ?? element;
const MOST = 16;
const STEP = 1.35;
const PAN_PX = 48;
const zoom = { by: 1, x: 0, y: 0 }; // the picture's size and its top left corner, in sizes of its frame
const heated = new Set();
const split = { left: '0', right: '1', at: '50' };
const asked = {};
let readOpen = false;
let view = 'side';
let probesShown = false;
let scrolledAt = 0;

const answers = () => element.querySelector('.bw-answers');
const clamp = (value, low, high) => Math.min(high, Math.max(low, value));
const frameOf = (stage) => stage.querySelector('.bw-figure:not([hidden])');

const showZoom = () => {
  const room = zoom.by - 1;
  zoom.x = clamp(zoom.x, -room, 0);
  zoom.y = clamp(zoom.y, -room, 0);
  host.style.setProperty('--bw-zoom', zoom.by);
  host.style.setProperty('--bw-x', zoom.x);
  host.style.setProperty('--bw-y', zoom.y);
  host.toggleAttribute('data-zoomed', zoom.by > 1);
  const label = root.querySelector('.bw-zoom-now');
  if (label) label.textContent = `${Math.round(zoom.by * 100)}%`;
  if (zoom.by > 2) sharpen();
};
// What the page shows at first is at most 1280 px wide; looked at closely, the picture comes as it is.
const sharpen = () => {
  for (const image of element.querySelectorAll('.bw-figure img[src*="?side="]')) {
    if (Math.max(image.width, image.height, image.getAttribute('width')) <= 1280) continue;
    const whole = new Image();
    const source = image.getAttribute('src').split('?')[0];
    whole.onload = () => { if (image.isConnected) image.src = source; };
    whole.src = source;
  }
};
// `x` and `y`: the point of the frame that stays where it is, 0 to 1.
const zoomBy = (factor, x = 0.5, y = 0.5) => {
  const next = clamp(zoom.by * factor, 1, MOST);
  zoom.x = x - (x - zoom.x) * (next / zoom.by);
  zoom.y = y - (y - zoom.y) * (next / zoom.by);
  zoom.by = next;
  showZoom();
};
const whole = () => { Object.assign(zoom, { by: 1, x: 0, y: 0 }); showZoom(); };
const pointIn = (stage, event) => {
  const box = frameOf(stage).getBoundingClientRect();
  return [clamp((event.clientX - box.left) / box.width, 0, 1), clamp((event.clientY - box.top) / box.height, 0, 1), box];
};

document.addEventListener('scroll', () => { scrolledAt = Date.now(); }, { passive: true, capture: true });
element.addEventListener('wheel', (event) => {
  const stage = event.target.closest('.bw-stage');
  if (!stage || event.shiftKey) return;
  // A page that is being scrolled goes on under the pointer, and a whole picture can't get smaller.
  const scrolling = zoom.by === 1 && !event.ctrlKey && Date.now() - scrolledAt < 400;
  if (scrolling || (zoom.by === 1 && event.deltaY > 0)) return;
  event.preventDefault();
  const [x, y] = pointIn(stage, event);
  zoomBy(Math.exp(-clamp(event.deltaY, -120, 120) * (event.ctrlKey ? 0.01 : 0.0025)), x, y);
}, { passive: false });

const fingers = new Map();
let pinched = null;
const lift = (event) => { fingers.delete(event.pointerId); pinched = null; };
element.addEventListener('pointerdown', (event) => {
  const stage = event.target.closest('.bw-stage');
  if (!stage || event.target.closest('.bw-split') || event.button > 0) return;
  fingers.set(event.pointerId, event);
  if (zoom.by > 1 || fingers.size > 1) stage.setPointerCapture(event.pointerId);
  pinched = null;
});
// Two fingers are the picture's; one scrolls the page until the picture is zoomed.
element.addEventListener('touchmove', (event) => {
  if (event.touches.length > 1 && event.cancelable && event.target.closest('.bw-stage')) event.preventDefault();
}, { passive: false });
element.addEventListener('pointermove', (event) => {
  if (!event.buttons) lift(event); // released where nobody could tell
  const before = fingers.get(event.pointerId);
  const stage = event.target.closest('.bw-stage');
  if (!before || !stage) return;
  fingers.set(event.pointerId, event);
  const box = frameOf(stage).getBoundingClientRect();
  if (fingers.size === 2) {
    const [one, two] = [...fingers.values()];
    const apart = Math.max(1, Math.hypot(one.clientX - two.clientX, one.clientY - two.clientY));
    const middle = { clientX: (one.clientX + two.clientX) / 2, clientY: (one.clientY + two.clientY) / 2 };
    if (pinched) {
      zoom.x += (middle.clientX - pinched.clientX) / box.width;
      zoom.y += (middle.clientY - pinched.clientY) / box.height;
      const [x, y] = pointIn(stage, middle);
      zoomBy(apart / pinched.apart, x, y);
    }
    pinched = { ...middle, apart };
  } else if (zoom.by > 1) {
    zoom.x += (event.clientX - before.clientX) / box.width;
    zoom.y += (event.clientY - before.clientY) / box.height;
    showZoom();
  }
});
for (const name of ['pointerup', 'pointercancel', 'lostpointercapture']) element.addEventListener(name, lift);
element.addEventListener('dblclick', (event) => {
  const stage = event.target.closest('.bw-stage');
  if (!stage || event.target.closest('.bw-split')) return;
  const [x, y] = pointIn(stage, event);
  if (zoom.by > 1) whole(); else zoomBy(2.5, x, y);
});
element.addEventListener('keydown', (event) => {
  const stage = event.target.closest('.bw-stage');
  if (!stage || event.target !== stage || event.ctrlKey || event.metaKey || event.altKey) return;
  const box = frameOf(stage).getBoundingClientRect();
  const moves = { ArrowLeft: [1, 0], ArrowRight: [-1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };
  if (event.key === '+' || event.key === '=') zoomBy(STEP);
  else if (event.key === '-') zoomBy(1 / STEP);
  else if (event.key === '0') whole();
  else if (event.key in moves && zoom.by > 1) {
    zoom.x += (moves[event.key][0] * PAN_PX) / box.width;
    zoom.y += (moves[event.key][1] * PAN_PX) / box.height;
    showZoom();
  } else return;
  event.preventDefault();
});

const showView = () => {
  host.dataset.view = view;
  for (const radio of root.querySelectorAll('input[name="bw-view"]')) radio.checked = radio.value === view;
  const layers = element.querySelectorAll('.bw-slider .bw-layer');
  if (!layers.length) return;
  const last = layers.length - 1;
  for (const side of ['left', 'right']) {
    if (Number(split[side]) > last) split[side] = String(side === 'left' ? 0 : last);
    const select = element.querySelector(`.bw-side[data-side="${side}"]`);
    if (select) select.value = split[side];
  }
  for (const layer of layers) {
    layer.dataset.side = layer.dataset.place === split.left ? 'left' : layer.dataset.place === split.right ? 'right' : '';
  }
  const range = element.querySelector('.bw-split');
  range.value = split.at;
  host.style.setProperty('--bw-split', `${split.at}%`);
};
const showHeat = () => {
  for (const card of element.querySelectorAll('.bw-card[data-place]')) {
    const on = heated.has(card.dataset.place);
    card.toggleAttribute('data-heated', on);
    card.querySelector('.bw-heat-switch').setAttribute('aria-pressed', String(on));
  }
  host.toggleAttribute('data-heated', heated.size > 0);
};
// Ask for a part once a question, and once more when a person wants what has failed; it comes with the next filling.
const want = (part, again = false) => {
  const now = answers();
  const state = now?.dataset[part];
  if (!(again && state === 'failed') && (state !== 'no' || asked[part] === now.dataset.question)) return;
  asked[part] = now.dataset.question;
  host.setAttribute(`data-asking-${part}`, '');
  trigger('more', { part });
};
// A further model that loads says how far it is, and then answers.
let late = 0;
const lookForLate = () => {
  late = 0;
  if (!element.isConnected || answers()?.dataset.waiting !== 'true') return;
  trigger('more', { part: 'models' });
  late = setTimeout(lookForLate, 1000);
};
const put = () => {
  const now = answers();
  if (!now) return;
  showView();
  showZoom();
  showHeat();
  for (const part of ['heats', 'probes', 'prompt']) {
    if (now.dataset[part] !== 'no' || asked[part] !== now.dataset.question) {
      host.removeAttribute(`data-asking-${part}`);
    }
  }
  const fold = element.querySelector('.bw-read');
  if (fold) fold.open = readOpen;
  const probes = element.querySelector('.bw-probes');
  if (probes && !probesShown) probes.scrollIntoView({ block: 'nearest', behavior: 'smooth' });
  probesShown = Boolean(probes);
  if (heated.size) want('heats');
  if (readOpen) want('prompt');
  if (now.dataset.waiting === 'true' && !late) late = setTimeout(lookForLate, 700);
};
// gradio changes what stands there into what comes, node by node, and takes away what was set here.
watch('value', put);
new MutationObserver(put).observe(element, { childList: true, subtree: true, characterData: true });

element.addEventListener('click', (event) => {
  const heat = event.target.closest('.bw-heat-switch');
  if (heat) {
    const { place } = heat.closest('.bw-card').dataset;
    if (!heated.delete(place)) heated.add(place);
    showHeat();
    if (heated.size) want('heats', true);
  }
  const ask = event.target.closest('.bw-ask');
  if (ask) want(ask.dataset.part, true);
  const summary = event.target.closest('.bw-read summary');
  if (summary) {
    readOpen = !summary.parentElement.open;
    if (readOpen) want('prompt', true);
  }
});
element.addEventListener('input', (event) => {
  if (event.target.matches('.bw-split')) split.at = event.target.value;
  else if (event.target.matches('.bw-side')) split[event.target.dataset.side] = event.target.value;
  else return;
  showView();
});
// The bar above lies in an element of its own, so that it keeps the focus when answers come.
root.addEventListener('change', (event) => {
  if (event.target.name !== 'bw-view') return;
  view = event.target.value;
  showView();
});
root.addEventListener('click', (event) => {
  const button = event.target.closest('button[data-zoom]');
  if (!button) return;
  if (button.dataset.zoom === 'in') zoomBy(STEP);
  else if (button.dataset.zoom === 'out') zoomBy(1 / STEP);
  else whole();
});
put();
