// What is shown, kept in the address so that it can be shared: #view=sections&maps=0,1&level=2

export const DEFAULTS = {
  view: "sections", maps: "0", mode: "side", plane: "", level: 0, array: "",
  through: "0,0,0", along: "1,1,0", towards: "0,0,1", pdf: "", contrast: "percentile",
  low: "", high: "", percentile: 1, colours: "", nodes: 0, rings: 1, zoom: 1, x: 0, y: 0,
  series: 0, image: 0, panel: 0, kind: "raw", spots: 1, masked: 1, iso: 2.5, surface: "isosurface",
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

export function change(patch) {
  Object.assign(state, patch);
  const shown = new URLSearchParams();
  for (const [name, value] of Object.entries(state))
    if (String(value) !== String(DEFAULTS[name])) shown.set(name, value);
  history.replaceState(null, "", `#${shown}`);
  for (const listener of listeners) listener(Object.keys(patch));
}

export function onChange(listener) { listeners.push(listener); }

// An address that is typed or pasted into an open page counts as well.
window.addEventListener("hashchange", () => {
  read();
  for (const listener of listeners) listener(Object.keys(DEFAULTS));
});
