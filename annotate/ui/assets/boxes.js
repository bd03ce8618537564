// See bench.js. The boxes of the sample shown: drawn, moved, resized and nudged on the picture. Numbers are pixels of the
// original picture: x1, y1, x2, y2.

const stage = part('figure');
const SVG = 'http://www.w3.org/2000/svg';
const LEAST_PX = 2; // a smaller box is a slip of the hand
const HANDLES = [[0, 0], [0.5, 0], [1, 0], [1, 0.5], [1, 1], [0.5, 1], [0, 1], [0, 0.5]];
const drawn = { boxes: [], stood: '[]', size: [1, 1], chosen: 0, adding: false };
const boxesKey = (id) => `boxwright-boxes:${bench.dataset.workspace}:${id}`;
const clone = (boxes) => boxes.map((numbers) => [...numbers]);
const boxesChanged = () => JSON.stringify(drawn.boxes) !== drawn.stood;
const drawing = () => stage.querySelector('svg');

const takeBoxes = (screen) => {
  drawn.stood = JSON.stringify(screen.boxes);
  drawn.size = screen.size_wh;
  drawn.chosen = 0;
  drawn.adding = false;
  held = null; // a drag that is still going on was one of the boxes before
  const draft = stored(localStorage, boxesKey(screen.id));
  drawn.boxes = Array.isArray(draft) ? draft : clone(screen.boxes);
  renderBoxes();
};
const dropBoxes = (id) => stored(localStorage, boxesKey(id), null);
const resetBoxes = () => {
  drawn.boxes = drawn.adding ? [] : JSON.parse(drawn.stood);
  drawn.chosen = 0;
  changedBoxes();
};
const changedBoxes = () => {
  if (shown && !drawn.adding) stored(localStorage, boxesKey(shown.id), boxesChanged() ? drawn.boxes : null);
  renderBoxes();
};

const shape = (name, attributes) => {
  const node = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  return node;
};
const pagePerPx = () => drawing().getBoundingClientRect().width / drawn.size[0] || 1;

function renderBoxes() {
  const svg = drawing();
  if (!svg) return;
  for (const old of svg.querySelectorAll('[data-kind=target], .an-handle')) old.remove();
  drawn.boxes.forEach(([x1, y1, x2, y2], index) => {
    const group = shape('g', { 'data-kind': 'target', 'data-index': index, 'data-chosen': index === drawn.chosen });
    const place = { x: x1, y: y1, width: x2 - x1, height: y2 - y1, fill: 'none', 'vector-effect': 'non-scaling-stroke' };
    group.append(shape('rect', { ...place, class: 'an-halo' }), shape('rect', { ...place, class: 'an-target' }));
    svg.append(group);
  });
  const chosen = drawn.boxes[drawn.chosen];
  if (chosen && (boxesChanged() || drawn.adding || document.activeElement === stage || stage.matches(':hover'))) {
    const [x1, y1, x2, y2] = chosen;
    const radius = 5 / pagePerPx();
    for (const [across, down] of HANDLES) {
      const at = { cx: x1 + across * (x2 - x1), cy: y1 + down * (y2 - y1), r: radius };
      svg.append(shape('circle', { ...at, class: 'an-handle', 'vector-effect': 'non-scaling-stroke' }));
    }
  }
  const words = [];
  if (drawn.adding) words.push('A new phrase on this picture: draw its box, write, Enter. Esc leaves it.');
  else if (shown && shown.placeholder && !drawn.boxes.length && !boxesChanged()) words.push('No box yet: drag one around what you describe, or press Alt+B, N');
  else if (boxesChanged()) words.push(drawn.boxes.length ? `${drawn.boxes.length === 1 ? 'The box is' : 'The boxes are'} changed, not saved` : 'No box: the phrase refers to nothing');
  const bar = part('boxes-changed');
  bar.hidden = !words.length;
  bar.querySelector('span').textContent = words.join(' ');
  bar.querySelector('button').hidden = !drawn.adding && !boxesChanged();
  bar.querySelector('button').textContent = drawn.adding ? 'Leave' : 'Undo';
}

// The pointer

const inPicture = (event) => {
  const matrix = drawing().getScreenCTM();
  const point = new DOMPoint(event.clientX, event.clientY).matrixTransform(matrix.inverse());
  return [point.x, point.y];
};
const clamp = (value, most) => Math.min(most, Math.max(0, value));
const rounded = (numbers) => numbers.map((value) => Math.round(value * 100) / 100);
const grip = ([x, y]) => {
  const slack = 9 / pagePerPx();
  const box = drawn.boxes[drawn.chosen];
  if (box) {
    const [x1, y1, x2, y2] = box;
    const handle = HANDLES.find(([across, down]) => Math.hypot(x - x1 - across * (x2 - x1), y - y1 - down * (y2 - y1)) <= slack);
    if (handle) return { do: 'resize', index: drawn.chosen, handle };
  }
  const inside = drawn.boxes
    .map(([x1, y1, x2, y2], index) => ({ index, area: (x2 - x1) * (y2 - y1), hit: x >= x1 - slack && x <= x2 + slack && y >= y1 - slack && y <= y2 + slack }))
    .filter((one) => one.hit).sort((one, other) => one.area - other.area);
  return inside.length ? { do: 'move', index: inside[0].index } : { do: 'draw' };
};
const CURSORS = { '0,0': 'nwse', '1,1': 'nwse', '1,0': 'nesw', '0,1': 'nesw', '0.5,0': 'ns', '0.5,1': 'ns', '0,0.5': 'ew', '1,0.5': 'ew' };
const cursorOf = (held) => ({ move: 'move', draw: 'crosshair' })[held.do] || `${CURSORS[held.handle.join()]}-resize`;

const dragged = (held, [x, y]) => {
  const [width, height] = drawn.size;
  const [fromX, fromY] = held.from;
  if (held.do === 'draw') {
    return [Math.min(fromX, x), Math.min(fromY, y), Math.max(fromX, x), Math.max(fromY, y)]
      .map((value, index) => clamp(value, index % 2 ? height : width));
  }
  const [x1, y1, x2, y2] = held.stood;
  if (held.do === 'move') {
    const byX = Math.min(width - x2, Math.max(-x1, x - fromX));
    const byY = Math.min(height - y2, Math.max(-y1, y - fromY));
    return [x1 + byX, y1 + byY, x2 + byX, y2 + byY];
  }
  const [across, down] = held.handle;
  const sides = [x1, y1, x2, y2];
  if (across !== 0.5) sides[across ? 2 : 0] = clamp(x, width);
  if (down !== 0.5) sides[down ? 3 : 1] = clamp(y, height);
  return [Math.min(sides[0], sides[2]), Math.min(sides[1], sides[3]), Math.max(sides[0], sides[2]), Math.max(sides[1], sides[3])];
};

let held = null;
stage.addEventListener('pointerdown', (event) => {
  if (!shown || running || event.button !== 0 || !event.target.closest('figure')) return;
  const from = inPicture(event);
  held = { ...grip(from), from, before: clone(drawn.boxes), page: [event.clientX, event.clientY], went: false };
  if (held.do !== 'draw') { drawn.chosen = held.index; held.stood = [...drawn.boxes[held.index]]; }
  stage.setPointerCapture(event.pointerId);
  renderBoxes();
});
stage.addEventListener('pointermove', (event) => {
  if (!shown || !drawing()) return;
  if (!held) { stage.style.cursor = event.target.closest('figure') ? cursorOf(grip(inPicture(event))) : ''; return; }
  if (!held.went && Math.hypot(event.clientX - held.page[0], event.clientY - held.page[1]) < 4) return;
  held.went = true;
  const box = dragged(held, inPicture(event));
  drawn.boxes = clone(held.before);
  if (held.do === 'draw') { drawn.boxes.push(box); drawn.chosen = drawn.boxes.length - 1; } else drawn.boxes[held.index] = box;
  renderBoxes();
});
const letGo = (keep) => {
  if (!held) return;
  const went = held.went;
  const box = drawn.boxes[drawn.chosen];
  const slip = went && (!box || box[2] - box[0] < LEAST_PX || box[3] - box[1] < LEAST_PX);
  if (!keep || slip) { drawn.boxes = held.before; drawn.chosen = Math.min(drawn.chosen, Math.max(0, drawn.boxes.length - 1)); }
  else if (went) drawn.boxes[drawn.chosen] = rounded(box);
  held = null;
  changedBoxes();
  if (!went && keep) turnZoom();
  focusBox();
};
stage.addEventListener('pointerup', () => letGo(true));
stage.addEventListener('pointercancel', () => letGo(false));
for (const name of ['pointerenter', 'pointerleave', 'focus', 'blur']) stage.addEventListener(name, () => renderBoxes());

// Keys while the picture has the focus (Alt+B)

const nudge = (byX, byY, resize) => {
  const box = drawn.boxes[drawn.chosen];
  if (!box) return;
  const [width, height] = drawn.size;
  const [x1, y1, x2, y2] = box;
  if (resize) {
    drawn.boxes[drawn.chosen] = rounded([x1, y1, Math.max(x1 + LEAST_PX, clamp(x2 + byX, width)), Math.max(y1 + LEAST_PX, clamp(y2 + byY, height))]);
  } else {
    const [right, low] = [Math.min(width - x2, Math.max(-x1, byX)), Math.min(height - y2, Math.max(-y1, byY))];
    drawn.boxes[drawn.chosen] = rounded([x1 + right, y1 + low, x2 + right, y2 + low]);
  }
  changedBoxes();
};
const addBox = () => {
  const [width, height] = drawn.size;
  drawn.boxes.push(rounded([width * 0.4, height * 0.4, width * 0.6, height * 0.6]));
  drawn.chosen = drawn.boxes.length - 1;
  changedBoxes();
};
const removeBox = () => {
  drawn.boxes.splice(drawn.chosen, 1);
  drawn.chosen = Math.max(0, drawn.chosen - 1);
  changedBoxes();
};
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const boxJob = (event) => {
  const arrow = ARROWS[event.key];
  if (arrow) {
    const step = event.shiftKey ? 10 : 1;
    return () => nudge(arrow[0] * step, arrow[1] * step, event.ctrlKey || event.metaKey);
  }
  return {
    Escape: () => { resetBoxes(); focusBox(); },
    Tab: () => { drawn.chosen = (drawn.chosen + (event.shiftKey ? drawn.boxes.length - 1 : 1)) % (drawn.boxes.length || 1); renderBoxes(); },
    Delete: removeBox,
    Backspace: removeBox,
    n: addBox,
    N: addBox,
    ' ': turnZoom,
  }[event.key];
};
const toBoxes = () => { if (shown) stage.focus({ preventScroll: true }); };

// A new phrase on the same picture

const startAdding = () => {
  if (!shown || running) return;
  keepDraft(shown, box.value);
  drawn.adding = true;
  drawn.boxes = [];
  box.value = '';
  filled = '';
  bench.dataset.adding = 'true';
  renderBoxes();
  reconsider();
  focusBox();
};
const stopAdding = () => {
  delete bench.dataset.adding;
  if (!drawn.adding || !shown) return;
  box.value = stored(localStorage, draftKey(shown.id)) || shown.phrase;
  filled = box.value;
  takeBoxes(shown);
  reconsider();
  focusBox();
};
