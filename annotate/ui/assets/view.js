// See bench.js. Looking closer: zoom to the target box, by the wheel around the pointer, pan with the middle button.

const view = { scale: 1, x: 0, y: 0 };
const MOST_ZOOM = 16;

// By its size, not by scaling: so the lines of the boxes stay thin and the picture sharp.
const applyView = () => {
  const figure = stage.querySelector('figure');
  if (!figure) return;
  figure.style.cssText = figure.style.cssText.replace(/(width|transform):[^;]*;/g, '');
  stage.dataset.zoom = String(view.scale > 1);
  if (view.scale > 1) {
    // The picture is never pushed out of its frame: at most its edge comes to the middle.
    for (const [axis, size] of [['x', figure.clientWidth], ['y', figure.clientHeight]]) {
      const most = (size * view.scale) / 2;
      view[axis] = Math.min(most, Math.max(-most, view[axis]));
    }
    figure.style.width = `${figure.clientWidth * view.scale}px`;
    figure.style.transform = `translate(${view.x}px, ${view.y}px)`;
  }
  renderBoxes();
};
function zoom(on) {
  Object.assign(view, { scale: 1, x: 0, y: 0 });
  applyView();
  const figure = stage.querySelector('figure');
  if (!on || !figure || !drawn.boxes.length) return;
  const [width, height] = drawn.size;
  const edge = (index, pick) => pick(...drawn.boxes.map((numbers) => numbers[index]));
  const [left, top, right, bottom] = [edge(0, Math.min), edge(1, Math.min), edge(2, Math.max), edge(3, Math.max)];
  const before = figure.clientWidth / width; // page pixels to a pixel of the picture
  const fit = Math.min((0.6 * stage.clientWidth) / (right - left), (0.6 * stage.clientHeight) / (bottom - top));
  view.scale = Math.min(MOST_ZOOM, Math.max(1.4, fit / before));
  const after = before * view.scale;
  Object.assign(view, { x: (width / 2 - (left + right) / 2) * after, y: (height / 2 - (top + bottom) / 2) * after });
  applyView();
}
new ResizeObserver(() => { if (view.scale > 1) zoom(false); }).observe(stage);
const turnZoom = () => zoom(view.scale === 1);

stage.addEventListener('wheel', (event) => {
  if (!shown || !stage.querySelector('figure')) return;
  event.preventDefault();
  const frame = stage.getBoundingClientRect();
  const [x, y] = [event.clientX - frame.x - frame.width / 2, event.clientY - frame.y - frame.height / 2];
  const scale = Math.min(MOST_ZOOM, Math.max(1, view.scale * 1.0015 ** -event.deltaY));
  const by = scale / view.scale;
  Object.assign(view, scale === 1 ? { scale, x: 0, y: 0 } : { scale, x: x - (x - view.x) * by, y: y - (y - view.y) * by });
  applyView();
}, { passive: false });
let panning = null;
stage.addEventListener('pointerdown', (event) => {
  if (event.button !== 1 || view.scale === 1) return;
  event.preventDefault();
  panning = { x: event.clientX - view.x, y: event.clientY - view.y };
  stage.setPointerCapture(event.pointerId);
});
stage.addEventListener('pointermove', (event) => {
  if (!panning) return;
  Object.assign(view, { x: event.clientX - panning.x, y: event.clientY - panning.y });
  applyView();
});
for (const name of ['pointerup', 'pointercancel']) stage.addEventListener(name, () => { panning = null; });
