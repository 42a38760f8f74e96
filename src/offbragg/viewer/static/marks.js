// Bragg nodes, resolution rings and axes over a plane.

import { index, svg } from "./dom.js";

const RINGS = [20, 10, 6, 5, 4, 3, 2.5, 2, 1.8, 1.5, 1.2, 1];
const MOST_NODES = 5000;
const LABEL_GAP = 18; // pixels between labelled rings
const ON_NODE = 1e-3;

export function planeMarks(geometry, map, { nodes, rings }, distanceUnit) {
  return (picture) => {
    const found = [];
    if (rings && map.space === "reciprocal") found.push(...resolutionRings(geometry, map, picture));
    if (nodes && map.space === "reciprocal") found.push(...braggNodes(geometry, map, picture));
    found.push(...axisNames(geometry, map, picture, distanceUnit));
    return found;
  };
}

function resolutionRings(geometry, map, picture) {
  const found = [];
  const [x, y] = picture.screen(0, 0);
  let labelled = -LABEL_GAP;
  for (const d of RINGS) {
    if (map.d_min && d < map.d_min * 0.99) continue;
    const square = 1 / (d * d) - geometry.height ** 2;
    const radius = Math.sqrt(square) * picture.scale;
    if (!(square > 0) || radius < 25 || radius > 4000) continue;
    found.push(svg("circle", { class: "ring", cx: x, cy: y, r: radius }));
    if (radius - labelled < LABEL_GAP) continue;
    labelled = radius;
    found.push(svg("text", { class: "label", x: x + radius * 0.7071 + 3, y: y - radius * 0.7071 - 3 }, `${d} Å`));
  }
  return found;
}

// Points of the plane with whole h, k, l: those among whole numbers of steps of two of them.
function braggNodes(geometry, { allowed }, picture) {
  const { origin, u, v, shape } = geometry.plane;
  const { clientWidth, clientHeight } = picture.box;
  const area = (n, m) => u[n] * v[m] - u[m] * v[n];
  const [a, b] = [[0, 1], [0, 2], [1, 2]].sort((p, q) => Math.abs(area(...q)) - Math.abs(area(...p)))[0];
  const third = 3 - a - b;
  const determinant = area(a, b);
  const spans = (corners, n) => [Math.min(...corners.map((c) => c[n])), Math.max(...corners.map((c) => c[n]))];
  const whole = [[0, 0], [shape[0] - 1, 0], [0, shape[1] - 1], [shape[0] - 1, shape[1] - 1]]
    .map(([i, j]) => geometry.coordinates(i, j));
  const seen = [[0, 0], [clientWidth, 0], [0, clientHeight], [clientWidth, clientHeight]]
    .map(([left, top]) => geometry.coordinates(...geometry.ij(...picture.back(left, top))));
  const range = (n) => [Math.ceil(Math.max(spans(whole, n)[0], spans(seen, n)[0]) - ON_NODE),
    Math.floor(Math.min(spans(whole, n)[1], spans(seen, n)[1]) + ON_NODE)];
  const [[a0, a1], [b0, b1]] = [range(a), range(b)];
  // So many could not be told apart: they come when the picture is enlarged.
  if ((a1 - a0 + 1) * (b1 - b0 + 1) > MOST_NODES) return [];
  const period = allowed.length;
  const found = [];
  for (let m = a0; m <= a1; m += 1) {
    for (let n = b0; n <= b1; n += 1) {
      const [da, db] = [m - origin[a], n - origin[b]];
      const i = (da * v[b] - db * v[a]) / determinant;
      const j = (u[a] * db - u[b] * da) / determinant;
      const other = origin[third] + i * u[third] + j * v[third];
      if (Math.abs(other - Math.round(other)) > ON_NODE) continue;
      const node = [];
      [node[a], node[b], node[third]] = [m, n, Math.round(other)];
      const [p, q, r] = node.map((x) => ((x % period) + period) % period);
      if (!allowed[p][q][r] || i < -ON_NODE || j < -ON_NODE || i > shape[0] - 1 + ON_NODE || j > shape[1] - 1 + ON_NODE) continue;
      const [x, y] = picture.screen(...geometry.xy(i, j));
      if (x > 0 && y > 0 && x < clientWidth && y < clientHeight)
        found.push(svg("circle", { class: "node", cx: x, cy: y, r: 3.5, "data-hkl": node.join(" ") }));
    }
  }
  return found;
}

// Names of the directions at the edge of the picture.
function axisNames(geometry, map, picture, unit) {
  const { u, v } = geometry.plane;
  const name = (step) => {
    const used = [0, 1, 2].filter((n) => Math.abs(step[n]) > 1e-9);
    return used.length === 1 ? map.axes[used[0]] : "";
  };
  const found = [];
  const { clientWidth, clientHeight } = picture.box;
  for (const [step, direction] of [[u, geometry.xy(1, 0)], [v, geometry.xy(0, 1)]]) {
    const text = name(step);
    if (!text) continue;
    const zero = geometry.xy(0, 0);
    const toward = [direction[0] - zero[0], direction[1] - zero[1]];
    const size = Math.hypot(...toward);
    const edge = 0.47 * Math.min(clientWidth, clientHeight);
    found.push(svg("text", {
      class: "label", x: clientWidth / 2 + (edge * toward[0]) / size - 4,
      y: clientHeight / 2 - (edge * toward[1]) / size + 4, "font-weight": 600,
    }, `${text} →`));
  }
  // A bar of round length.
  const wanted = 80 / picture.scale;
  const power = 10 ** Math.floor(Math.log10(wanted));
  const nice = [1, 2, 5, 10].map((n) => n * power).filter((n) => n <= wanted * 1.3).pop();
  const [left, top] = [10, clientHeight - 12];
  found.push(svg("path", { class: "ring", d: `M${left} ${top}h${nice * picture.scale}`, style: "stroke-dasharray:none;stroke-width:2" }));
  found.push(svg("text", { class: "label", x: left, y: top - 5 }, `${index(nice)} ${unit}`));
  return found;
}
