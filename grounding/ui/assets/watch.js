// One small question every second and a half, while the tab is looked at; events only for what has changed.
const EVERY_MS = 1500;
const NAMES = ['run', 'queue', 'sweeps', 'check'];
const open = () => !document.hidden && document.querySelector('#train')?.offsetParent;
const seen = {};
let live = '';

const put = (html) => {
  const fresh = Object.assign(document.createElement('template'), { innerHTML: html }).content.firstElementChild;
  const now = document.querySelector('#train-run [data-run]');
  if (fresh && now?.dataset.run === fresh.dataset.run) now.replaceChildren(...fresh.childNodes);
};

const look = async () => {
  try {
    if (open()) {
      const run = document.querySelector('#train-run [data-run]')?.dataset.run ?? '';
      const told = await server.changes({ run, live });
      if (told.live !== live) {
        live = told.live;
        if (told.html) put(told.html);
      }
      for (const name of NAMES) {
        if (told.marks[name] !== seen[name]) trigger(name);
        seen[name] = told.marks[name];
      }
    }
  } catch (error) { /* the chip of the header says that the app does not answer */ }
  setTimeout(look, EVERY_MS);
};
setTimeout(look, EVERY_MS);
