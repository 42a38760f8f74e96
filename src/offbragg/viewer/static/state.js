// What is shown, kept in the address so that it can be shared: #view=sections&maps=0,1&level=2

export const DEFAULTS = {
  view: "sections", maps: "0", mode: "side", plane: "", level: 0, array: "",
  through: "0,0,0", along: "1,1,0", towards: "0,0,1", pdf: "", contrast: "percentile",
  low: "", high: "", percentile: 1, colours: "", nodes: 0, rings: 1, zoom: 1, x: 0, y: 0,
  series: 0, image: 0, panel: 0, kind: "raw", spots: 1, masked: 1, iso: 2.5, surface: "isosurface", camera: "",
};

const listeners = [];
export const state = { ...DEFAULTS };

export function read() {
  const given = new URLSearchParams(location.hash.slice(1));
  for (const [name, value] of Object.entries(DEFAULTS)) {
    const text = given.get(name);
    if (text === null) state[name] = value;
    else if (typeof value !== "number") state[name] = text;
    else state[name] = Number.isFinite(Number(text)) ? Number(text) : value;
  }
}

// Browsers refuse an address that changes often: some at 100 times in 30 s.
const WRITE_MS = 400;
let written = -WRITE_MS;
let waiting = null;

function write() {
  waiting = null;
  written = performance.now();
  const shown = new URLSearchParams();
  for (const [name, value] of Object.entries(state))
    if (String(value) !== String(DEFAULTS[name])) shown.set(name, value);
  history.replaceState(null, "", `#${shown}`);
}

// Into the address alone, where the page shows it already.
export function keep(patch) {
  Object.assign(state, patch);
  if (waiting !== null) return;
  const left = written + WRITE_MS - performance.now();
  if (left <= 0) write(); else waiting = window.setTimeout(write, left);
}

export function change(patch) {
  keep(patch);
  for (const listener of listeners) listener();
}

export function onChange(listener) { listeners.push(listener); }

// An address that is typed or pasted into an open page counts as well.
window.addEventListener("hashchange", () => {
  window.clearTimeout(waiting);
  waiting = null;
  read();
  for (const listener of listeners) listener();
});
