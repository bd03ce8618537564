// See bench.js. The overlays of the menu: changing many at once, the blind check, the model's pass, who did what.

const dialog = part('dialog');
const openDialog = (html, kind) => {
  dialog.dataset.kind = kind;
  delete dialog.dataset.asking;
  fill(dialog, html);
  if (!dialog.open) dialog.showModal();
  const first = dialog.querySelector('[autofocus], select, input');
  if (first) first.focus();
};
const sayInDialog = (text) => {
  const status = dialog.querySelector('.an-dialog-status');
  if (status) status.textContent = text;
};
const menu = part('menu');
const turnMenu = (open) => {
  menu.hidden = !open;
  part('more').setAttribute('aria-expanded', String(open));
  if (open) menu.querySelector('button').focus();
};
document.addEventListener('click', (event) => {
  if (!menu.hidden && !event.target.closest('.an-menu')) turnMenu(false);
});
menu.addEventListener('keydown', (event) => {
  const items = [...menu.querySelectorAll('button')];
  const at = items.indexOf(document.activeElement);
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  if (step) { items[(at + step + items.length) % items.length].focus(); event.preventDefault(); }
  if (event.key === 'Escape') { turnMenu(false); focusBox(); }
  event.stopPropagation();
});
menu.addEventListener('focusout', (event) => {
  if (event.relatedTarget && !event.relatedTarget.closest('.an-menu')) turnMenu(false);
});

// Change many at once: nothing happens before the person has seen what would

const bulkEdit = () => Object.fromEntries(new FormData(dialog.querySelector('form')).entries());
let previewed = null; // the edit and the samples that the preview shows: these, whatever is typed or opened meanwhile
let noPreview = ''; // what stands in its place before there is one
const askPreview = asker(250, (reply, sent) => {
  fill(dialog.querySelector('.an-preview'), reply.preview_html || noPreview);
  sayInDialog(reply.problem || '');
  previewed = reply.preview_html ? sent : null;
  delete dialog.dataset.asking;
});
const previewSoon = () => {
  const edit = bulkEdit();
  const press = dialog.querySelector('[data-bulk]');
  if (press) press.disabled = true;
  sayInDialog('');
  const isEmpty = edit.kind === 'replace' && !edit.find;
  dialog.dataset.asking = String(!isEmpty);
  if (isEmpty) fill(dialog.querySelector('.an-preview'), noPreview);
  askPreview(isEmpty ? null : { ...scopeNow(), do: 'bulk_preview', edit });
};
dialog.addEventListener('input', (event) => {
  if (dialog.dataset.kind !== 'bulk') return;
  const kind = dialog.querySelector('[name=kind]').value;
  for (const field of dialog.querySelectorAll('[data-for]')) field.hidden = !field.dataset.for.split(' ').includes(kind);
  previewSoon();
});

// The model's pass over many samples

let passTimer = 0;
const followPass = async (sent) => {
  clearTimeout(passTimer);
  const reply = await aside(sent);
  if (dialog.open && dialog.dataset.kind === 'listening') fill(dialog.querySelector('.an-pass'), reply.pass_html || escaped(reply.problem || ''));
  if (reply.running && dialog.open) passTimer = setTimeout(() => followPass({ do: 'pass' }), 700);
};

// The blind check: a phrase and a picture without its box

let blind = null;
const showBlind = (reply) => {
  if (reply.problem) {
    if (dialog.open) sayInDialog(reply.problem); else say(escaped(reply.problem), 'problem');
    return;
  }
  openDialog(reply.dialog_html, 'blind');
  blind = reply.blind ? { ...reply.blind, since: performance.now(), answered: false, boxes: [] } : null;
  const picture = dialog.querySelector('.an-blind-picture');
  if (picture) picture.focus();
};
const nextBlind = async () => {
  if (blind && !blind.answered && blind.boxes.length) { answerBlind(blind.boxes); return; }
  const passed = blind && !blind.answered ? blind.id : '';
  showBlind(await aside({ do: 'blind', id: passed }));
};
const answerBlind = async (boxes) => {
  if (!blind || blind.answered) return;
  blind.answered = true;
  const seconds = (performance.now() - blind.since) / 1000;
  const about = blind;
  const reply = await aside({ do: 'point', id: blind.id, revision: blind.revision, boxes, seconds });
  if (about !== blind) return; // the person went on meanwhile
  if (reply.problem) {
    sayInDialog(reply.problem);
    Object.assign(blind, { answered: false, boxes: [] });
    for (const mark of dialog.querySelectorAll('.an-blind-picture .an-target')) mark.remove();
    return;
  }
  sayInDialog('');
  fill(dialog.querySelector('.an-blind-picture'), reply.figure_html);
  fill(dialog.querySelector('.an-blind-verdict'), reply.verdict_html);
  dialog.querySelector('[data-blind-next]').textContent = 'Next';
};
let pointing = null;
const blindPoint = (event) => {
  const svg = dialog.querySelector('.an-blind-picture svg');
  const point = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
  const size = svg.viewBox.baseVal;
  return [clamp(point.x, size.width), clamp(point.y, size.height)];
};
const blindBox = ([fromX, fromY], [x, y]) => [Math.min(fromX, x), Math.min(fromY, y), Math.max(fromX, x), Math.max(fromY, y)];
dialog.addEventListener('pointerdown', (event) => {
  if (dialog.dataset.kind !== 'blind' || !blind || blind.answered || !event.target.closest('.an-blind-picture figure')) return;
  event.preventDefault();
  dialog.querySelector('.an-blind-picture').setPointerCapture(event.pointerId);
  pointing = { from: blindPoint(event), mark: shape('rect', { class: 'an-target', fill: 'none', 'vector-effect': 'non-scaling-stroke' }) };
  dialog.querySelector('.an-blind-picture svg').append(pointing.mark);
});
dialog.addEventListener('pointermove', (event) => {
  if (!pointing) return;
  const [x1, y1, x2, y2] = blindBox(pointing.from, blindPoint(event));
  for (const [name, value] of Object.entries({ x: x1, y: y1, width: x2 - x1, height: y2 - y1 })) pointing.mark.setAttribute(name, value);
});
dialog.addEventListener('pointerup', (event) => {
  if (!pointing) return;
  const found = rounded(blindBox(pointing.from, blindPoint(event)));
  const { mark } = pointing;
  pointing = null;
  if (found[2] - found[0] < LEAST_PX || found[3] - found[1] < LEAST_PX) { mark.remove(); sayInDialog('Drag a box around it.'); return; }
  blind.boxes.push(found);
  sayInDialog('');
  if (event.shiftKey) dialog.querySelector('[data-blind-next]').textContent = `These ${blind.boxes.length}`;
  else answerBlind(blind.boxes);
});
dialog.addEventListener('pointercancel', () => { if (pointing) pointing.mark.remove(); pointing = null; });
dialog.addEventListener('keydown', (event) => {
  if (dialog.dataset.kind !== 'blind') return;
  if (event.repeat) return;
  if (event.key === '0') { event.preventDefault(); answerBlind([]); }
  if (event.key === 'Enter' && !event.target.closest('button')) { event.preventDefault(); nextBlind(); }
});
dialog.addEventListener('close', () => {
  clearTimeout(passTimer);
  askPreview(null);
  const { kind } = dialog.dataset;
  Object.assign(dialog.dataset, { kind: '' });
  blind = null;
  pointing = null;
  if (['blind', 'listening'].includes(kind)) look(); // what was found fills other queues
  focusBox();
});

const OPEN = {
  undecided: () => toUndecided(),
  bulk: async () => {
    const reply = await aside({ do: 'bulk_form' });
    if (reply.problem) { say(escaped(reply.problem), 'problem'); return; }
    openDialog(reply.dialog_html, 'bulk');
    noPreview = dialog.querySelector('.an-preview').innerHTML;
  },
  blind: nextBlind,
  listening: async () => { openDialog(`<h3>Ask the model about all of these</h3><div class="an-pass"></div>`, 'listening'); followPass({ do: 'pass' }); },
  people: async () => {
    const reply = await aside({ do: 'people' });
    if (reply.problem) say(escaped(reply.problem), 'problem'); else openDialog(reply.dialog_html, 'people');
  },
};
dialog.addEventListener('click', (event) => {
  const button = event.target.closest('button');
  if (!button) return;
  const { pass, bulk, blindNext, blindNothing, close } = button.dataset;
  if (close !== undefined) dialog.close();
  else if (pass !== undefined) followPass({ do: pass });
  else if (bulk !== undefined) { const send = { ...previewed, do: 'bulk', as_of: Number(bulk) }; dialog.close(); press({ do: 'bulk', send, forget: true }); }
  else if (blindNothing !== undefined) answerBlind([]);
  else if (blindNext !== undefined) nextBlind();
});
