// From numbers to colours: limits of contrast, and the picture of a plane.

import { json } from "./api.js";

let tables = {};
export async function loadColours() { tables = await json("colours.json"); return Object.keys(tables); }
export const tableOf = (name) => tables[name];

const SAMPLES = 20000;
const GOLDEN = (Math.sqrt(5) - 1) / 2;

// Some of the values, in order, with the least and the greatest of all. One of each stretch of the
// plane, never at the same place of it: whole steps would see every other column alone.
function sorted(values, keep) {
  const step = Math.max(1, values.length / SAMPLES);
  const found = new Float64Array(Math.ceil(values.length / step) + 2);
  let [n, least, greatest] = [0, Infinity, -Infinity];
  for (let i = 0; i < values.length; i += 1) {
    const value = keep(values[i]);
    if (!Number.isFinite(value)) continue;
    if (value < least) least = value;
    if (value > greatest) greatest = value;
  }
  if (least > greatest) return found.subarray(0, 0);
  for (let k = 0; k * step < values.length; k += 1) {
    const place = Math.floor((k + (step > 1 ? (k * GOLDEN) % 1 : 0)) * step);
    const value = place < values.length ? keep(values[place]) : NaN;
    if (Number.isFinite(value)) found[n++] = value;
  }
  if (step > 1 || n === 0) { found[n++] = least; found[n++] = greatest; }
  return found.subarray(0, n).sort();
}

const at = (list, share) => list[Math.min(list.length - 1, Math.max(0, Math.round(share * (list.length - 1))))];

// Limits [low, high] of the colours; about 0 where values are of both signs by nature.
export function limitsOf(values, { contrast, percentile, low, high, about0 }) {
  const cut = contrast === "linear" ? 0 : Math.min(49, Math.max(0, percentile)) / 100;
  let limits;
  if (about0) {
    const top = at(sorted(values, Math.abs), 1 - cut) || 1;
    limits = [-top, top];
  } else {
    const list = sorted(values, (x) => (contrast === "log" && x <= 0 ? NaN : x));
    limits = list.length ? [at(list, cut), at(list, 1 - cut)] : [0, 1];
  }
  if (low !== "" && Number.isFinite(Number(low))) limits[0] = Number(low);
  if (high !== "" && Number.isFinite(Number(high))) limits[1] = Number(high);
  if (contrast === "log" && about0) {
    const top = Math.max(...limits.map(Math.abs)) || 1;
    limits = [-top, top];
  } else if (contrast === "log") {
    if (!(limits[1] > 0)) limits[1] = 1;
    if (!(limits[0] > 0)) limits[0] = limits[1] / 1e4;
  }
  if (!(limits[1] > limits[0])) limits[1] = limits[0] + Math.max(1e-12, Math.abs(limits[0]) * 1e-6);
  return limits;
}

// Positions of values between limits, 0 to 1. Logarithms of values of both signs: by their size.
function positions([low, high], contrast, about0) {
  if (contrast === "log" && about0) {
    const whole = Math.log1p(100);
    return (x) => 0.5 + (0.5 * Math.sign(x) * Math.log1p((100 * Math.abs(x)) / high)) / whole;
  }
  if (contrast === "log") {
    const [bottom, range] = [Math.log(low), Math.log(high) - Math.log(low)];
    return (x) => (Math.log(Math.max(x, 1e-300)) - bottom) / range;
  }
  const factor = 1 / (high - low);
  return (x) => (x - low) * factor;
}

// Picture of values (nU, nV): u to the right, v down; what is not measured is transparent.
export function paint(values, [nU, nV], limits, contrast, about0, table) {
  const picture = new ImageData(nU, nV);
  const pixels = new Uint32Array(picture.data.buffer);
  // Bytes of a pixel are red, green, blue, opacity, the first one lowest.
  const colours = Uint32Array.from({ length: 256 }, (_, n) =>
    (255 << 24) | (table[3 * n + 2] << 16) | (table[3 * n + 1] << 8) | table[3 * n]);
  const position = positions(limits, contrast, about0);
  for (let i = 0, k = 0; i < nU; i += 1) {
    for (let j = 0; j < nV; j += 1, k += 1) {
      const value = values[k];
      if (Number.isNaN(value)) continue;
      pixels[j * nU + i] = colours[Math.min(255, Math.max(0, Math.floor(position(value) * 256)))];
    }
  }
  return picture;
}

export function paintBar(canvas, table) {
  canvas.width = 256;
  canvas.height = 1;
  const row = Float32Array.from({ length: 256 }, (_, i) => i);
  canvas.getContext("2d").putImageData(paint(row, [256, 1], [0, 255.5], "linear", false, table), 0, 0);
}
