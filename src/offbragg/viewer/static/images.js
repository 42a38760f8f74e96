// Rotation images: raw or corrected, with predicted Bragg nodes and masked pixels over them.

import { json, numbers } from "./api.js";
import { limitsOf, paint, paintBar, tableOf } from "./colours.js";
import { check, choice, element, field, group, index, input, show, slider, svg } from "./dom.js";
import { Picture } from "./picture.js";
import { saveCsv, savePng, saveSvg } from "./save.js";
import { change, state } from "./state.js";

const readout = document.getElementById("readout");
const MASK_COLOURS = { 1: [230, 120, 0], 2: [210, 0, 140] };
const PAUSE_MS = 60;

export class Images {
  constructor(catalogue, stage, controls) { Object.assign(this, { catalogue, stage, controls }); }

  get series() { return this.catalogue.frames[state.series] ? state.series : 0; }

  async update(current) {
    if (!this.catalogue.frames.length) {
      this.stage.className = "one";
      this.stage.replaceChildren(element("p", {}, "No images: give offbragg view an experiment list beside the maps."));
      this.controls.replaceChildren();
      return;
    }
    const about = this.catalogue.frames[this.series];
    const image = Math.min(about.images - 1, Math.max(0, Math.round(state.image)));
    const panel = Math.min(about.panels.length - 1, Math.max(0, Math.round(state.panel)));
    const which = `image=${image}&panel=${panel}`;
    const base = `frames/${this.series}`;
    const [picture, mask, nodes] = await Promise.all([
      numbers(`${base}/image?kind=${state.kind}&${which}`),
      state.masked ? numbers(`${base}/image?kind=mask&${which}`) : null,
      state.spots ? json(`${base}/nodes.json?${which}`) : [],
    ]);
    if (!current()) return;
    this.which = { image, panel, base };
    this.drawn = picture;
    this.draw(about, picture, mask, nodes);
    this.buildControls(about, image, panel, nodes.length);
  }

  draw(about, { values, about: { shape: [rows, columns], shrinkage } }, mask, nodes) {
    if (!this.panel || !this.stage.contains(this.panel.figure)) this.makePanel();
    // Rows of the file are the picture's lines: u along fast, v along slow, downwards.
    const turned = new Float32Array(rows * columns);
    for (let slow = 0; slow < rows; slow += 1)
      for (let fast = 0; fast < columns; fast += 1) turned[fast * rows + slow] = values[slow * columns + fast];
    const limits = limitsOf(turned, { ...state, about0: false });
    const table = tableOf(state.colours || "gray_r");
    const image = paint(turned, [columns, rows], limits, state.contrast, false, table);
    if (mask) overlay(image, mask.values, [columns, rows]);
    this.shrinkage = shrinkage;
    this.panel.low.textContent = show(limits[0]);
    this.panel.high.textContent = show(limits[1]);
    paintBar(this.panel.bar, table);
    this.panel.title.textContent = `${about.name}, image ${this.which.image + 1} of ${about.images}, ${about.angles[this.which.image].map(index).join("° to ")}°, panel ${about.panels[this.which.panel].name || this.which.panel}`;
    const middle = [(columns - 1) / 2, (rows - 1) / 2];
    this.panel.picture.set({
      title: this.panel.title.textContent, image, shape: [columns, rows], down: true,
      xy: (i, j) => [i - middle[0], middle[1] - j], ij: (x, y) => [x + middle[0], middle[1] - y],
      reach: Math.max(columns, rows) / 2,
      marks: (picture) => nodes.map(([h, k, l, fast, slow]) => {
        const [x, y] = picture.screen(fast / shrinkage - 0.5 - middle[0], middle[1] - (slow / shrinkage - 0.5));
        return svg("circle", { class: "node", cx: x, cy: y, r: 4.5, "data-hkl": `${h} ${k} ${l}` });
      }),
    }, { zoom: state.zoom, x: state.x, y: state.y });
  }

  makePanel() {
    const panel = {};
    panel.picture = new Picture("detector image; arrow keys move the cursor, Page Up and Page Down turn images", {
      readAt: (i, j, isKey) => this.read(i, j, isKey),
      onView: (zoom, x, y) => change({ zoom: Number(zoom.toPrecision(6)), x: Number(x.toPrecision(6)), y: Number(y.toPrecision(6)) }),
    });
    panel.title = element("span", {});
    panel.bar = element("canvas", { "aria-hidden": "true" });
    panel.low = element("span", {});
    panel.high = element("span", {});
    panel.figure = element("figure", {}, element("figcaption", {}, panel.title), panel.picture.box,
      element("div", { className: "bar" }, panel.low, panel.bar, panel.high));
    this.panel = panel;
    this.stage.className = "one";
    this.stage.replaceChildren(panel.figure);
  }

  read(i, j, isKey) {
    window.clearTimeout(this.pause);
    if (!this.which) return;
    const { image, panel, base } = this.which;
    const size = this.catalogue.frames[this.series].panels[panel].size;
    const middle = Math.floor(this.shrinkage / 2);
    const [fast, slow] = [i, j].map((x, n) => Math.min(size[n] - 1, x * this.shrinkage + middle));
    this.pause = window.setTimeout(async () => {
      const path = `${base}/pixel.json?image=${image}&panel=${panel}&fast=${fast}&slow=${slow}`;
      this.reading = path;
      const found = await json(path).catch(() => null); // the line of status says why
      if (!found || this.reading !== path || state.view !== "images") return;
      readout.setAttribute("aria-live", isKey ? "polite" : "off");
      readout.textContent = [`fast ${fast} slow ${slow}`, `raw ${show(found.raw)}`,
        found.corrected === null ? "not used" : `corrected ${show(found.corrected)} photons`,
        `h k l = ${found.hkl.map((x) => x.toFixed(2)).join(" ")}`, `d = ${show(found.d)} Å`].join("   ");
    }, PAUSE_MS);
  }

  get name() { return `image_${this.which.image + 1}`; }

  // Pixels as they are drawn: blocks of a large panel by their first pixel.
  saveNumbers() {
    const { values, about: { shape: [, columns], shrinkage } } = this.drawn;
    saveCsv(this.name, {
      fast: Array.from(values, (_, k) => (k % columns) * shrinkage),
      slow: Array.from(values, (_, k) => Math.floor(k / columns) * shrinkage), [state.kind]: values,
    });
  }

  keys(event) {
    if (!this.which) return false;
    if (event.key === "PageUp" || event.key === "]") change({ image: this.which.image + 1 });
    else if (event.key === "PageDown" || event.key === "[") change({ image: Math.max(0, this.which.image - 1) });
    else return false;
    return true;
  }

  buildControls(about, image, panel, nNodes) {
    const { image: turned, zoom, x, y, ...others } = state;
    const built = JSON.stringify([others, panel]);
    const nodesText = state.spots ? `predicted Bragg nodes (${nNodes})` : "predicted Bragg nodes";
    if (built === this.built && this.controls.contains(this.slider)) {
      this.slider.show(image);
      this.nodesText.textContent = nodesText;
      return;
    }
    this.built = built;
    const busy = document.activeElement?.id;
    const box = input("image", "number", image + 1, (x) => change({ image: Number(x) - 1 }), { min: 1, max: about.images });
    this.slider = slider(about.images, "image", (image) => change({ image }), (k) => {
      box.value = k + 1;
      return `image ${k + 1} of ${about.images}`;
    });
    this.slider.show(image);
    this.nodesText = element("span", {}, nodesText);
    const list = (items) => items.map((item, n) => [String(n), item.name || String(n)]);
    this.controls.replaceChildren(
      group("Images", field("Series", choice("series", list(this.catalogue.frames), String(this.series), (x) => change({ series: Number(x), image: 0, panel: 0 }))),
        field("Panel", choice("panel", list(about.panels), String(panel), (x) => change({ panel: Number(x) }))),
        field("Image", box), this.slider,
        element("p", {}, "Page Up, Page Down turn images")),
      group("Values", field("Pixels", choice("kind", [["raw", "as in the file"], ["corrected", "corrected photons"]], state.kind, (kind) => change({ kind, low: "", high: "" })))),
      group("Contrast",
        field("Scale", choice("contrast", [["percentile", "percentiles"], ["linear", "linear"], ["log", "logarithmic"]], state.contrast, (contrast) => change({ contrast }))),
        field("Cut off [%]", input("percentile", "number", state.percentile, (x) => change({ percentile: Number(x) }), { min: 0, max: 49, step: 0.1 })),
        field("Low", input("low", "text", state.low, (low) => change({ low }), { placeholder: "from the data" })),
        field("High", input("high", "text", state.high, (high) => change({ high }), { placeholder: "from the data" })),
        field("Colours", choice("colours", [["", "as fits"], ...this.catalogue.colours.map((x) => [x, x])], state.colours, (colours) => change({ colours })))),
      group("Over it",
        check("spots", this.nodesText, Boolean(state.spots), (spots) => change({ spots })),
        check("masked", "pixels not used: orange on all images, pink on this one", Boolean(state.masked), (masked) => change({ masked }))),
      group("Save",
        element("button", { type: "button", id: "save-png", onclick: () => savePng(this.name, this.panel.picture) }, "PNG"), " ",
        element("button", { type: "button", id: "save-svg", onclick: () => saveSvg(this.name, this.panel.picture) }, "SVG"), " ",
        element("button", { type: "button", id: "save-csv", onclick: () => this.saveNumbers() }, "CSV")));
    if (busy) document.getElementById(busy)?.focus();
  }
}

function overlay(image, mask, [columns, rows]) {
  for (let slow = 0; slow < rows; slow += 1) {
    for (let fast = 0; fast < columns; fast += 1) {
      const colour = MASK_COLOURS[mask[slow * columns + fast]];
      if (colour) image.data.set([...colour, 160], 4 * (slow * columns + fast));
    }
  }
}
