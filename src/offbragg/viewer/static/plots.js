// Radial profiles and volumes, drawn by plotly.

import { json, loadPlotly, numbers } from "./api.js";
import { choice, element, field, group, input, show } from "./dom.js";
import { saveCsv } from "./save.js";
import { change, keep, state } from "./state.js";

const chosen = (catalogue) => {
  const list = String(state.maps).split(",").map(Number).filter((n) => catalogue.maps[n]?.space === "reciprocal");
  return list.length ? list : [0];
};

const ink = () => getComputedStyle(document.body).color;
const look = (more) => ({
  paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", font: { color: ink() },
  margin: { l: 70, r: 20, t: 20, b: 60 }, ...more,
});

// Resolutions that are written under an axis of 1/d.
const TICKS = [20, 10, 5, 4, 3, 2.5, 2, 1.7, 1.5, 1.3, 1.1, 1];

export class Profile {
  constructor(catalogue, stage, controls) { Object.assign(this, { catalogue, stage, controls }); }

  async update(current) {
    const Plotly = await loadPlotly();
    const maps = chosen(this.catalogue);
    const tables = await Promise.all(maps.map((n) => json(`maps/${n}/profile.json`)));
    if (!current()) return;
    const box = element("div", { className: "plot", id: "profile", role: "img", "aria-label": "mean intensity against resolution" });
    this.stage.className = "one";
    this.stage.replaceChildren(box);
    const lines = tables.flatMap((table, n) => {
      const { name } = this.catalogue.maps[maps[n]];
      const common = { x: table.inv_d, mode: "lines", hovertemplate: "1/d %{x:.3f} Å⁻¹: %{y:.4g}<extra></extra>" };
      return [{ ...common, y: table.mean, name: `mean, ${name}` },
        { ...common, y: table.spread, name: `spread, ${name}`, line: { dash: "dot" } }];
    });
    const measured = tables.flatMap((table) => table.inv_d.filter((_, n) => table.count[n] > 0));
    // A map may have no measured voxel at all.
    const most = measured.length ? Math.max(...measured) : Math.max(...tables.map((table) => table.inv_d.at(-1)));
    const ticks = TICKS.filter((d) => 1 / d <= most);
    await Plotly.newPlot(box, lines, look({
      xaxis: { title: { text: "d [Å], even in 1/d" }, range: [0, most * 1.02], tickvals: ticks.map((d) => 1 / d), ticktext: ticks.map(String) },
      yaxis: { title: { text: "intensity in shells of 0.01 Å⁻¹" }, type: state.contrast === "log" ? "log" : "linear", rangemode: "tozero" },
      legend: { orientation: "h", y: 1.08 },
    }), { responsive: true, displaylogo: false });
    this.controls.replaceChildren(mapChoice(this.catalogue, true), group("Scale",
      field("Intensity", choice("contrast", [["percentile", "linear"], ["log", "logarithmic"]], state.contrast === "log" ? "log" : "percentile", (contrast) => change({ contrast })))),
    group("Save", element("button", {
      type: "button", id: "save-csv", onclick: () => saveCsv("profile", Object.fromEntries(
        tables.flatMap((table, n) => Object.entries(table).map(([name, column]) => [`${name}_${n}`, column])))),
    }, "CSV")));
  }
}

// Where a person looks from, as numbers in the address: eye, centre and what is up.
const PARTS = ["eye", "center", "up"];
const cameraText = (camera) => PARTS.flatMap((part) => ["x", "y", "z"].map((axis) => Number(camera[part][axis].toFixed(3)))).join(",");

function cameraOf(text) {
  const given = text.split(",").map(Number);
  if (given.length !== 9 || !given.every(Number.isFinite)) return {};
  return Object.fromEntries(PARTS.map((part, n) => [part, { x: given[3 * n], y: given[3 * n + 1], z: given[3 * n + 2] }]));
}

export class Volume {
  constructor(catalogue, stage, controls) { Object.assign(this, { catalogue, stage, controls }); }

  async update(current) {
    const Plotly = await loadPlotly();
    const [n] = chosen(this.catalogue);
    const { values, about } = await numbers(`maps/${n}/volume?array=anisotropic`);
    if (!current()) return;
    const finite = values.filter(Number.isFinite);
    const spread = Math.sqrt(finite.reduce((sum, x) => sum + x * x, 0) / Math.max(1, finite.length));
    const { edge, reach } = about;
    const place = Float32Array.from({ length: edge }, (_, i) => reach * ((2 * (i + 0.5)) / edge - 1));
    const [x, y, z] = [0, 1, 2].map(() => new Float32Array(edge ** 3));
    for (let i = 0, k = 0; i < edge; i += 1)
      for (let j = 0; j < edge; j += 1)
        for (let l = 0; l < edge; l += 1, k += 1) { x[k] = place[i]; y[k] = place[j]; z[k] = place[l]; }
    // Surfaces cannot go through what is not measured: it is taken as 0.
    const filled = values.map((v) => (Number.isFinite(v) ? v / (spread || 1) : 0));
    const common = { x, y, z, value: filled, colorscale: "RdBu", cmin: -4, cmax: 4,
      caps: { x: { show: false }, y: { show: false }, z: { show: false } }, colorbar: { title: { text: "I − ⟨I⟩, in its rms" } } };
    const trace = state.surface === "volume"
      ? { ...common, type: "volume", isomin: -state.iso, isomax: state.iso, opacity: 0.15, opacityscale: "extremes", surface: { count: 13 } }
      : { ...common, type: "isosurface", isomin: -state.iso, isomax: state.iso, surface: { count: 2 }, opacity: 0.6 };
    const box = element("div", { className: "plot", id: "volume", role: "img", "aria-label": "surfaces of the anisotropic part in three dimensions" });
    this.stage.className = "one";
    this.stage.replaceChildren(box);
    const axis = (name) => ({ title: { text: `${name} [Å⁻¹]` }, color: ink() });
    await Plotly.newPlot(box, [trace], look({ margin: { l: 0, r: 0, t: 0, b: 0 }, scene: { xaxis: axis("x"), yaxis: axis("y"), zaxis: axis("z"), aspectmode: "cube", camera: cameraOf(state.camera) } }),
      { responsive: true, displaylogo: false });
    box.on("plotly_relayout", (moved) => { if (moved["scene.camera"]) keep({ camera: cameraText(moved["scene.camera"]) }); });
    this.controls.replaceChildren(mapChoice(this.catalogue, false), group("Three dimensions",
      field("Shown as", choice("surface", [["isosurface", "surfaces"], ["volume", "volume"]], state.surface, (surface) => change({ surface }))),
      field("At ± rms", input("iso", "number", state.iso, (iso) => change({ iso: Number(iso) }), { min: 0.2, max: 10, step: 0.1 })),
      element("p", {}, `The anisotropic part, averaged in ${edge}³ cells to ${show(1 / reach)} Å; its rms there is ${show(spread)}. Red above, blue below the mean of the shell.`)));
  }
}

function mapChoice(catalogue, several) {
  const shown = chosen(catalogue);
  const maps = catalogue.maps.map((map, n) => [n, map]).filter(([, map]) => map.space === "reciprocal");
  return group("Maps", ...maps.map(([n, map]) => {
    const box = element("input", {
      type: several ? "checkbox" : "radio", name: "map", id: `map-${n}`,
      checked: several ? shown.includes(n) : shown[0] === n,
      onchange: (event) => {
        if (!several) { change({ maps: String(n) }); return; }
        const now = event.target.checked ? [...shown, n] : shown.filter((m) => m !== n);
        change({ maps: now.sort((a, b) => a - b).join(",") || String(n) });
      },
    });
    return element("label", { className: "check" }, box, map.name);
  }));
}
