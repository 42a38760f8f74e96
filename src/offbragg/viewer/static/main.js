// The page: which view is open, and what keys do.

import { json } from "./api.js";
import { loadColours } from "./colours.js";
import { element } from "./dom.js";
import { Images } from "./images.js";
import { Profile, Volume } from "./plots.js";
import { Sections } from "./sections.js";
import { change, onChange, read, state } from "./state.js";

const stage = document.getElementById("stage");
const controls = document.getElementById("controls");
const theme = document.getElementById("theme");
const tabs = document.getElementById("tabs");

const VIEWS = { sections: ["Sections", Sections], volume: ["3D", Volume], profile: ["Profile", Profile], images: ["Images", Images] };

controls.addEventListener("submit", (event) => event.preventDefault());
theme.addEventListener("change", () => {
  if (theme.value === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme.value;
  localStorage.setItem("theme", theme.value);
  views[state.view]?.update();
});

const views = {};

function showTabs(catalogue) {
  const names = Object.keys(VIEWS).filter((name) => (name === "images" ? catalogue.frames.length : catalogue.maps.length));
  tabs.replaceChildren(...names.map((name) => element("button", {
    role: "tab", id: `tab-${name}`, "aria-selected": String(name === state.view), tabIndex: name === state.view ? 0 : -1,
    onclick: () => change({ view: name, zoom: 1, x: 0, y: 0, low: "", high: "" }),
    onkeydown: (event) => {
      const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (!by) return;
      const next = names[(names.indexOf(name) + by + names.length) % names.length];
      change({ view: next, zoom: 1, x: 0, y: 0, low: "", high: "" });
      document.getElementById(`tab-${next}`).focus();
    },
  }, VIEWS[name][0])));
}

async function start() {
  const kept = localStorage.getItem("theme");
  if (kept === "light" || kept === "dark") {
    theme.value = kept;
    document.documentElement.dataset.theme = kept;
  }
  read();
  const [catalogue, colours] = await Promise.all([json("maps.json"), loadColours()]);
  catalogue.colours = colours;
  for (const [name, [, View]] of Object.entries(VIEWS)) views[name] = new View(catalogue, stage, controls);
  if (!catalogue.maps.length && state.view !== "images") state.view = "images";
  document.title = `${[...catalogue.maps, ...catalogue.frames].map((x) => x.name).join(", ")} – offbragg`;
  const update = async () => {
    const { view } = state;
    showTabs(catalogue);
    try {
      await views[view]?.update();
      stage.dataset.ready = String(Number(stage.dataset.ready ?? 0) + 1);
    } catch (error) {
      // What the server says is in the line of status already.
      console.warn(error.message);
    }
  };
  onChange(update);
  document.addEventListener("keydown", (event) => {
    const typing = event.target.matches("input, select, textarea, [role=tab]") && event.target.type !== "range";
    if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
    if (views[state.view]?.keys?.(event)) event.preventDefault();
  });
  await update();
}

start();
