// Small helpers for elements.

export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (name in made && name !== "list") made[name] = value;
    else made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}

export function svg(tag, attributes = {}, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

export const group = (title, ...children) => element("fieldset", {}, element("legend", {}, title), ...children);

export const field = (text, control) => element("label", {}, text, control);

export function choice(id, options, value, onchange) {
  const select = element("select", { id, onchange: () => onchange(select.value) });
  for (const [key, text] of options) select.append(element("option", { value: key, selected: key === value }, text));
  return select;
}

export function check(id, text, on, onchange) {
  const box = element("input", { id, type: "checkbox", checked: on, onchange: () => onchange(box.checked ? 1 : 0) });
  return element("label", { className: "check" }, box, text);
}

export function input(id, type, value, onchange, more = {}) {
  const box = element("input", { id, type, value, ...more, onchange: () => onchange(box.value) });
  return box;
}

// A slider over n steps; tell(k) says what a step is, for those who hear it.
export function slider(n, label, oninput, tell) {
  const made = element("input", { id: "slider", type: "range", min: 0, max: n - 1, step: 1, "aria-label": label,
    oninput: () => oninput(Number(made.value)) });
  made.show = (k) => {
    if (Number(made.value) !== k) made.value = k;
    made.setAttribute("aria-valuetext", tell(k));
  };
  return made;
}

// Four digits, as a person writes a number; a dash where there is none.
export function show(value) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  if (value === 0) return "0";
  const size = Math.abs(value);
  return size >= 1e5 || size < 1e-3 ? value.toExponential(3) : Number(value.toPrecision(4)).toString();
}

export const index = (value) => Number(value.toFixed(3)).toString();
