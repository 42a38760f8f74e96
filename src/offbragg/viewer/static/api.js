// Questions to the server. Numbers come as plain float32, and in a header what they are.

const status = document.getElementById("status");
const kept = new Map();
const KEEP = 48;
let waiting = 0;

export function complain(error) {
  status.textContent = error.message;
  status.className = "error";
}

// What was wrong before is so no longer.
export function calm() {
  if (waiting === 0) status.textContent = "";
}

// The page is busy until the last number of an answer is there.
async function ask(path, take) {
  waiting += 1;
  document.body.ariaBusy = "true";
  status.textContent = "working…";
  status.className = "";
  try {
    const answer = await fetch(path);
    if (!answer.ok) {
      const text = await answer.text();
      let reason = text;
      try { reason = JSON.parse(text).error; } catch { /* plain text */ }
      throw new Error(reason);
    }
    return await take(answer);
  } catch (error) {
    status.dataset.failed = "1";
    complain(error);
    throw error;
  } finally {
    waiting -= 1;
    if (waiting === 0 && !status.dataset.failed) status.textContent = "";
    if (waiting === 0) {
      delete status.dataset.failed;
      document.body.ariaBusy = "false";
    }
  }
}

// Answers are kept: turning back shows a section at once.
function remember(path, make) {
  if (!kept.has(path)) {
    kept.set(path, make().catch((error) => { kept.delete(path); throw error; }));
    if (kept.size > KEEP) kept.delete(kept.keys().next().value);
  }
  return kept.get(path);
}

export const json = (path) => remember(path, () => ask(path, (answer) => answer.json()));

export const numbers = (path) => remember(path, () => ask(path, async (answer) => ({
  values: new Float32Array(await answer.arrayBuffer()),
  about: JSON.parse(answer.headers.get("x-about")),
})));

let plotly = null;
export function loadPlotly() {
  plotly ??= new Promise((done, fail) => {
    const script = document.createElement("script");
    script.src = "plotly.min.js";
    script.onload = () => done(window.Plotly);
    script.onerror = () => { plotly = null; fail(new Error("plotly.min.js cannot be loaded")); };
    document.head.append(script);
  });
  return plotly;
}
