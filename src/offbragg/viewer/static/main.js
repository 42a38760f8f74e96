// The page: which view is open, and what keys do.

import { calm, complain, json } from "./api.js";
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
// Where keys are a person's own.
const TYPED = "select, textarea, [role=tab], input:not([type=range], [type=checkbox], [type=radio])";

const views = {};

function showTheme(name) {
  theme.value = name;
  if (name === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = name;
}

function showTabs(names) {
  const busy = document.activeElement?.id;
  tabs.replaceChildren(...names.map((name) => element("button", {
    role: "tab", type: "button", id: `tab-${name}`, "aria-controls": "stage", "aria-selected": String(name === state.view), tabIndex: name === state.view ? 0 : -1,
    onclick: () => change({ view: name, zoom: 1, x: 0, y: 0, low: "", high: "" }),
    onkeydown: (event) => {
      const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (!by) return;
      const next = names[(names.indexOf(name) + by + names.length) % names.length];
      change({ view: next, zoom: 1, x: 0, y: 0, low: "", high: "" });
      document.getElementById(`tab-${next}`).focus();
    },
  }, VIEWS[name][0])));
  if (busy?.startsWith("tab-")) document.getElementById(busy)?.focus();
  stage.setAttribute("aria-labelledby", `tab-${state.view}`);
}

async function start() {
  const kept = localStorage.getItem("theme");
  if (kept === "light" || kept === "dark") showTheme(kept);
  read();
  const [catalogue, colours] = await Promise.all([json("maps.json"), loadColours()]);
  catalogue.colours = colours;
  for (const [name, [, View]] of Object.entries(VIEWS)) views[name] = new View(catalogue, stage, controls);
  const names = Object.keys(VIEWS).filter((name) => (name === "images" ? catalogue.frames.length : catalogue.maps.length));
  document.title = `${[...catalogue.maps, ...catalogue.frames].map((x) => x.name).join(", ")} – offbragg`;
  let turn = 0;
  const update = async () => {
    turn += 1;
    const mine = turn;
    // Whatever comes after something else was asked for, of this view or of another, is not drawn.
    const current = () => mine === turn;
    if (!names.includes(state.view)) [state.view] = names;
    showTabs(names);
    try {
      await views[state.view].update(current);
      if (!current()) return;
      calm();
      stage.dataset.ready = String(Number(stage.dataset.ready ?? 0) + 1);
    } catch (error) {
      if (current()) complain(error);
    }
  };
  onChange(update);
  theme.addEventListener("change", () => {
    showTheme(theme.value);
    localStorage.setItem("theme", theme.value);
    update();
  });
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches(TYPED)) return;
    if (event.key === " " && event.target.matches("button, input")) return;
    if (views[state.view].keys?.(event)) event.preventDefault();
  });
  await update();
}

start().catch(complain);
