// Sections of maps: one, several side by side or blinked, their difference, symmetry mates.

import { json, numbers } from "./api.js";
import { limitsOf, paint, paintBar, tableOf } from "./colours.js";
import { check, choice, element, field, group, index, input, show, slider } from "./dom.js";
import { PlaneGeometry } from "./geometry.js";
import { planeMarks } from "./marks.js";
import { Picture } from "./picture.js";
import { saveCsv, savePng, saveSvg } from "./save.js";
import { change, state } from "./state.js";

const readout = document.getElementById("readout");
const BLINK_MS = 700;
const ALL = 8;
const LARGE = 2e7; // voxels

export class Sections {
  constructor(catalogue, stage, controls) {
    this.catalogue = catalogue;
    this.stage = stage;
    this.controls = controls;
    this.panels = [];
    this.turn = 0;
  }

  // Maps that are chosen; the ΔPDF of one takes the place of all.
  get chosen() {
    if (state.pdf !== "" && this.pdf?.of === state.pdf) return [this.pdf.map];
    const all = this.catalogue.maps;
    const numbers = String(state.maps).split(",").map(Number).filter((n) => all[n]?.space === "reciprocal");
    return numbers.length ? numbers.slice(0, 4) : [0];
  }

  get first() { return this.catalogue.maps[this.chosen[0]]; }

  get array() {
    const map = this.first;
    if (map.space === "real") return "intensity";
    // The mean of shells is that of the whole map: of a large one only where it is asked for.
    if (state.array === "") return map.shape.reduce((a, n) => a * n, 1) > LARGE ? "intensity" : "anisotropic";
    return state.array === "anisotropic" || map.arrays.includes(state.array) ? state.array : "intensity";
  }

  get about0() { return this.array === "anisotropic" || this.first.space === "real"; }

  get normal() {
    const { axes } = this.first;
    const names = { [axes[0] + axes[1]]: 2, [axes[0] + axes[2]]: 1, [axes[1] + axes[2]]: 0 };
    if (state.plane === "free") return null;
    return names[state.plane] ?? 2;
  }

  async prepare() {
    if (this.catalogue.maps[state.pdf]?.space !== "reciprocal") state.pdf = "";
    if (state.pdf === "" || this.pdf?.of === state.pdf) return;
    const made = await json(`maps/${Number(state.pdf)}/delta-pdf.json`);
    this.catalogue.maps[made.map] = made;
    this.pdf = { of: state.pdf, map: made.map };
  }

  // Planes that are drawn: map, what to ask the server for, and a title.
  async wanted() {
    const [head, ...others] = this.chosen;
    const { normal } = this;
    const map = this.catalogue.maps[head];
    const array = `array=${this.array}`;
    const main = normal === null
      ? `maps/${head}/plane?through=${state.through}&along=${state.along}&towards=${state.towards}&${array}`
      : `maps/${head}/section?normal=${map.axes[normal]}&level=${this.level}&${array}`;
    const found = [{ map: head, path: main, title: map.name }];
    const asPlane = (n, plane) => `maps/${n}/plane?origin=${plane.origin}&u=${plane.u}&v=${plane.v}&shape=${plane.shape}&${array}`;
    if (state.mode === "mates" && normal !== null) {
      const list = await json(`maps/${head}/mates.json?normal=${map.axes[normal]}&level=${this.level}`);
      for (const mate of list.slice(1, ALL))
        found.push({ map: head, path: asPlane(head, mate), as: list[0], title: `mate ${directions(mate, map.axes)}` });
      return found;
    }
    if (others.length) {
      const { about } = await numbers(main);
      for (const n of others)
        found.push({ map: n, path: asPlane(n, about), as: about, title: this.catalogue.maps[n].name });
    }
    return found;
  }

  get level() {
    const { normal } = this;
    const map = this.first;
    if (normal === null) return 0;
    const last = map.first[normal] + (map.shape[normal] - 1) * map.step[normal];
    return Math.min(last, Math.max(map.first[normal], state.level));
  }

  async update(current) {
    let planes;
    try {
      await this.prepare();
      const wanted = await this.wanted();
      planes = await Promise.all(wanted.map(async (one) => ({ ...one, ...(await numbers(one.path)) })));
    } catch (error) {
      // What cannot be shown can be changed.
      if (current()) this.buildControls();
      throw error;
    }
    // Something else was asked for while this came.
    if (!current()) return;
    // Linked maps are drawn where the first one is.
    const drawn = planes.map((one) => ({ ...one, about: one.as ?? one.about, own: one.about }));
    if (state.mode === "difference" && drawn.length > 1) drawn.push(difference(drawn[0], drawn[1]));
    this.planes = drawn;
    this.draw();
    this.buildControls();
  }

  draw() {
    const planes = state.mode === "blink" && this.planes.length > 1
      ? [this.planes[this.turn % this.planes.length]] : this.planes;
    this.layOut(planes.length);
    const shared = this.limitsOf(this.planes[0].values);
    planes.forEach((one, n) => this.drawOne(this.panels[n], one, shared));
    window.clearInterval(this.clock);
    if (state.mode === "blink" && this.planes.length > 1 && !matchMedia("(prefers-reduced-motion: reduce)").matches)
      this.clock = window.setInterval(() => this.blink(), BLINK_MS);
  }

  blink() {
    if (!this.planes || !document.contains(this.stage.firstChild) || state.view !== "sections" || state.mode !== "blink") {
      window.clearInterval(this.clock);
      return;
    }
    this.turn += 1;
    const one = this.planes[this.turn % this.planes.length];
    this.drawOne(this.panels[0], one, this.limitsOf(this.planes[0].values));
  }

  limitsOf(values) { return limitsOf(values, { ...state, about0: this.about0 }); }

  layOut(n) {
    this.stage.className = ["one", "one", "two", "three", "four"][n] ?? "many";
    if (this.panels.length === n && this.stage.contains(this.panels[0]?.figure)) return;
    this.stage.replaceChildren();
    this.panels = Array.from({ length: n }, () => this.makePanel());
    this.stage.append(...this.panels.map((panel) => panel.figure));
  }

  makePanel() {
    const panel = {};
    panel.picture = new Picture("section of a map; arrow keys move the cursor, Page Up and Page Down turn sections", {
      readAt: (i, j, isKey) => this.read(panel, i, j, isKey),
      onView: (zoom, x, y) => change({ zoom: Number(zoom.toPrecision(6)), x: Number(x.toPrecision(6)), y: Number(y.toPrecision(6)) }),
    });
    panel.title = element("span", {});
    panel.cc = element("span", { className: "cc" });
    panel.bar = element("canvas", { "aria-hidden": "true" });
    panel.low = element("span", {});
    panel.high = element("span", {});
    panel.figure = element("figure", {},
      element("figcaption", {}, panel.title, panel.cc), panel.picture.box,
      element("div", { className: "bar" }, panel.low, panel.bar, panel.high));
    return panel;
  }

  drawOne(panel, one, shared) {
    const map = this.catalogue.maps[one.map];
    const table = tableOf(state.colours || (this.about0 || one.isDifference ? "RdBu_r" : "viridis"));
    const about0 = this.about0 || one.isDifference;
    const limits = one.isDifference ? limitsOf(one.values, { contrast: "percentile", percentile: state.percentile, low: "", high: "", about0: true }) : shared;
    const geometry = new PlaneGeometry(one.about);
    panel.one = one;
    // A second map is drawn on the first one's axes, but its distances are those of its own cell.
    panel.geometry = new PlaneGeometry(one.own);
    const where = constant(one.own, map.axes);
    panel.title.textContent = [one.title, where].filter(Boolean).join(", ");
    panel.cc.textContent = one !== this.planes[0] && !one.isDifference
      ? `CC with the first: ${show(correlation(this.planes[0].values, one.values))}` : "";
    panel.low.textContent = show(limits[0]);
    panel.high.textContent = show(limits[1]);
    paintBar(panel.bar, table);
    const first = this.catalogue.maps[this.planes[0].map];
    panel.picture.set({
      title: panel.title.textContent,
      image: paint(one.values, one.about.shape, limits, state.contrast, about0, table),
      shape: one.about.shape, xy: (i, j) => geometry.xy(i, j), ij: (x, y) => geometry.ij(x, y),
      reach: geometry.reach(first.d_min ? 1 / first.d_min : 0),
      marks: planeMarks(geometry, map, state, map.space === "real" ? "Å" : "Å⁻¹"),
    }, { zoom: state.zoom, x: state.x, y: state.y });
  }

  // The value under the mouse in every panel, with its error and number of pixels in the first.
  async read(panel, i, j, isKey) {
    const { one, geometry } = panel;
    const map = this.catalogue.maps[one.map];
    const where = one.own;
    const at = where.origin.map((x, n) => x + i * where.u[n] + j * where.v[n]);
    const k = i * one.about.shape[1] + j;
    const distance = geometry.distance(i, j);
    const parts = [`${map.axes.join(" ")} = ${at.map(index).join(" ")}`,
      map.space === "real" ? `r = ${show(distance)} Å` : `d = ${distance > 0 ? show(1 / distance) : "∞"} Å`];
    const names = { anisotropic: "I − ⟨I⟩", intensity: map.space === "real" ? "ΔP" : "I", sigma: "σ", count: "n" };
    parts.push(`${names[this.array] ?? this.array} = ${show(one.values[k])}`);
    this.reading = parts;
    readout.textContent = parts.join("   ");
    readout.setAttribute("aria-live", isKey ? "polite" : "off");
    if (one.isDifference || map.space === "real") return;
    const others = ["intensity", "sigma", "count"].filter((name) => name !== this.array && map.arrays.includes(name));
    const found = await Promise.all(others.map((name) => numbers(one.path.replace(`array=${this.array}`, `array=${name}`)))).catch(() => null);
    if (!found || this.reading !== parts || state.view !== "sections") return;
    others.forEach((name, n) => parts.push(`${names[name]} = ${show(found[n].values[k])}`));
    readout.textContent = parts.join("   ");
  }

  step(by) {
    const { normal } = this;
    if (normal !== null) change({ level: Number((this.level + by * this.first.step[normal]).toPrecision(9)) });
  }

  keys(event) {
    if (event.key === "PageUp" || event.key === "]") this.step(1);
    else if (event.key === "PageDown" || event.key === "[") this.step(-1);
    else if (event.key === "Home") change({ level: 0 });
    else if (event.key === "b") change({ mode: state.mode === "blink" ? "side" : "blink" });
    else if (event.key === " " && state.mode === "blink") this.blink();
    else return false;
    return true;
  }

  // Controls stay while sections are turned: a slider that is replaced cannot be dragged.
  buildControls() {
    const map = this.first;
    const { axes } = map;
    const { normal } = this;
    const { level, zoom, x, y, ...others } = state;
    const built = JSON.stringify([others, this.chosen]);
    const at = normal === null ? 0 : Math.round((this.level - map.first[normal]) / map.step[normal]);
    const levelOf = (k) => Number((map.first[normal] + k * map.step[normal]).toPrecision(9));
    if (built === this.built && this.controls.contains(this.slider)) {
      this.slider.show(at);
      return;
    }
    this.built = built;
    this.slider = null;
    const busy = document.activeElement?.id;
    const reciprocal = this.catalogue.maps.map((m, n) => [n, m]).filter(([, m]) => m.space === "reciprocal");
    const selected = new Set(this.chosen);
    const parts = [];
    parts.push(group("Maps", ...reciprocal.map(([n, m]) => check(`map-${n}`, m.name, selected.has(n) && state.pdf === "", (on) => {
      const now = new Set(state.pdf === "" ? this.chosen : []);
      if (on) now.add(n); else now.delete(n);
      change({ maps: [...now].sort((a, b) => a - b).slice(0, 4).join(",") || String(n), pdf: "" });
    })), ...(reciprocal.length > 1 || map.space === "reciprocal" ? [field("Shown", choice("mode", [
      ["side", "side by side"], ["blink", "blinked (b)"], ["difference", "with difference"], ["mates", "symmetry mates"],
    ], state.mode, (mode) => change({ mode })))] : []),
    field("Real space", choice("pdf", [["", "–"], ...reciprocal.map(([n, m]) => [String(n), `ΔPDF of ${m.name}`])], state.pdf,
      (pdf) => change({ pdf, plane: "", level: 0, zoom: 1, x: 0, y: 0, low: "", high: "" })))));
    const planes = [[axes[0] + axes[1]], [axes[0] + axes[2]], [axes[1] + axes[2]]].map(([x]) => [x, x]);
    const here = normal === null ? "free" : planes[2 - normal][0];
    const section = [field("Plane", choice("plane", [...planes, ["free", "any"]], here, (plane) => change({ plane, level: 0, zoom: 1, x: 0, y: 0 })))];
    if (normal === null) {
      for (const [name, text] of [["through", "through"], ["along", "along"], ["towards", "and"]])
        section.push(field(`${text} ${axes.join(" ")}`, input(name, "text", state[name], (value) => change({ [name]: value.replace(/\s+/g, ",") }))));
    } else {
      const box = input("level", "number", "", (text) => change({ level: Number(text) }), { step: "any" });
      this.slider = slider(map.shape[normal], `level ${axes[normal]}`, (k) => change({ level: levelOf(k) }), (k) => {
        box.value = index(levelOf(k));
        return `${axes[normal]} = ${box.value}`;
      });
      this.slider.show(at);
      section.push(field(axes[normal], box), this.slider, element("p", {}, "Page Up, Page Down turn sections; Home: 0"));
    }
    parts.push(group("Section", ...section));
    if (map.space === "reciprocal") parts.push(group("Values", field("Array", choice("array",
      [["anisotropic", "anisotropic part"], ...map.arrays.map((x) => [x, x])], this.array,
      (array) => change({ array, low: "", high: "" })))));
    parts.push(group("Contrast",
      field("Scale", choice("contrast", [["percentile", "percentiles"], ["linear", "linear"], ["log", "logarithmic"]], state.contrast, (contrast) => change({ contrast }))),
      field("Cut off [%]", input("percentile", "number", state.percentile, (x) => change({ percentile: Number(x) }), { min: 0, max: 49, step: 0.1 })),
      field("Low", input("low", "text", state.low, (low) => change({ low }), { placeholder: "from the data" })),
      field("High", input("high", "text", state.high, (high) => change({ high }), { placeholder: "from the data" })),
      field("Colours", choice("colours", [["", "as fits"], ...this.catalogue.colours.map((x) => [x, x])], state.colours, (colours) => change({ colours })))));
    if (map.space === "reciprocal") parts.push(group("Over it",
      check("rings", "resolution rings", Boolean(state.rings), (rings) => change({ rings })),
      check("nodes", "Bragg nodes", Boolean(state.nodes), (nodes) => change({ nodes }))));
    const name = () => `${this.first.name.replace(/\.[^.]*$/, "")}_${here}${normal === null ? "" : `_${index(this.level)}`}`;
    parts.push(group("Save",
      element("button", { type: "button", id: "save-png", onclick: () => savePng(name(), this.panels[0].picture) }, "PNG"), " ",
      element("button", { type: "button", id: "save-svg", onclick: () => saveSvg(name(), this.panels[0].picture) }, "SVG"), " ",
      element("button", { type: "button", id: "save-csv", onclick: () => this.saveNumbers(name()) }, "CSV")));
    if (this.chosen.length > 1) parts.push(this.wholeMaps());
    this.controls.replaceChildren(...parts);
    if (busy) document.getElementById(busy)?.focus();
  }

  // CC of whole maps is worked out when a person asks: it reads both.
  wholeMaps() {
    const out = element("p", { id: "whole-cc" });
    const [a, b] = this.chosen;
    return group("Whole maps", element("button", {
      type: "button", id: "compare", onclick: async () => {
        const table = await json(`compare.json?a=${a}&b=${b}`).catch(() => null);
        if (table) out.textContent = `CC of the anisotropic parts ${show(table.overall.cc)}, R ${show(table.overall.r)}, over ${table.overall.n} voxels`;
      },
    }, "CC of the first two"), out);
  }

  async saveNumbers(name) {
    const [one] = this.planes;
    const map = this.catalogue.maps[one.map];
    const [nU, nV] = one.about.shape;
    const geometry = new PlaneGeometry(one.about);
    const columns = Object.fromEntries([...map.axes.map((axis) => [axis, []]), [this.array, []]]);
    const more = map.space === "real" ? [] : ["intensity", "sigma", "count"].filter((x) => x !== this.array && map.arrays.includes(x));
    const found = await Promise.all(more.map((x) => numbers(one.path.replace(`array=${this.array}`, `array=${x}`))));
    for (const x of more) columns[x] = [];
    for (let i = 0; i < nU; i += 1) {
      for (let j = 0; j < nV; j += 1) {
        const k = i * nV + j;
        if (!Number.isFinite(one.values[k])) continue;
        geometry.coordinates(i, j).forEach((x, n) => columns[map.axes[n]].push(Number(x.toPrecision(9))));
        columns[this.array].push(one.values[k]);
        more.forEach((x, n) => columns[x].push(found[n].values[k]));
      }
    }
    saveCsv(name, columns);
  }
}

// Sums over points that both planes have.
function common(a, b) {
  const sums = { n: 0, a: 0, b: 0, aa: 0, bb: 0, ab: 0 };
  for (let k = 0; k < a.length; k += 1) {
    if (!Number.isFinite(a[k]) || !Number.isFinite(b[k])) continue;
    sums.n += 1;
    sums.a += a[k]; sums.b += b[k];
    sums.aa += a[k] * a[k]; sums.bb += b[k] * b[k]; sums.ab += a[k] * b[k];
  }
  return sums;
}

export function correlation(a, b) {
  const { n, ...s } = common(a, b);
  const top = s.ab - (s.a * s.b) / n;
  return top / Math.sqrt((s.aa - (s.a * s.a) / n) * (s.bb - (s.b * s.b) / n));
}

// First plane less the second, the second on the scale that fits best.
function difference(a, b) {
  const sums = common(a.values, b.values);
  const scale = sums.bb > 0 ? sums.ab / sums.bb : 1;
  const values = a.values.map((x, k) => x - scale * b.values[k]);
  return { ...a, values, isDifference: true, title: `first − ${show(scale)} × second` };
}

// The coordinate that is the same all over a plane, if there is one.
function constant({ origin, u, v }, axes) {
  const n = [0, 1, 2].find((m) => Math.abs(u[m]) < 1e-9 && Math.abs(v[m]) < 1e-9);
  return n === undefined ? "" : `${axes[n]} = ${index(origin[n])}`;
}

function directions(plane, axes) {
  const name = (step) => {
    const size = Math.max(...step.map(Math.abs));
    return step.map((x, n) => [x / size, axes[n]]).filter(([x]) => Math.abs(x) > 1e-6)
      .map(([x, axis]) => `${x < 0 ? "−" : ""}${Math.abs(Math.abs(x) - 1) < 1e-6 ? "" : index(Math.abs(x))}${axis}`).join(" ");
  };
  return `${name(plane.u)}, ${name(plane.v)}`;
}
