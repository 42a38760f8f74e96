// Pictures and numbers as files.

function offer(name, blob) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

const STYLED = ["fill", "stroke", "stroke-width", "stroke-dasharray", "font-size", "font-weight", "font-family", "paint-order"];

// Marks with their colours written out, as a file has no style sheet of the page.
function standalone(picture) {
  const { clientWidth: width, clientHeight: height } = picture.box;
  const copy = picture.marks.cloneNode(true);
  const originals = picture.marks.querySelectorAll("*");
  copy.querySelectorAll("*").forEach((made, n) => {
    const style = getComputedStyle(originals[n]);
    made.removeAttribute("class");
    for (const name of STYLED) made.setAttribute(name, style.getPropertyValue(name));
  });
  copy.setAttribute("xmlns", "http://www.w3.org/2000/svg");
  copy.setAttribute("width", width);
  copy.setAttribute("height", height);
  copy.setAttribute("viewBox", `0 0 ${width} ${height}`);
  copy.removeAttribute("aria-hidden");
  return copy;
}

function bare(picture, ratio) {
  const { clientWidth, clientHeight } = picture.box;
  const canvas = document.createElement("canvas");
  canvas.width = clientWidth * ratio;
  canvas.height = clientHeight * ratio;
  const context = canvas.getContext("2d");
  context.fillStyle = getComputedStyle(picture.box).backgroundColor;
  context.fillRect(0, 0, canvas.width, canvas.height);
  picture.paintTo(context, ratio);
  return canvas;
}

export function saveSvg(name, picture) {
  const file = standalone(picture);
  const image = document.createElementNS("http://www.w3.org/2000/svg", "image");
  image.setAttribute("href", bare(picture, 2).toDataURL("image/png"));
  image.setAttribute("width", picture.box.clientWidth);
  image.setAttribute("height", picture.box.clientHeight);
  file.prepend(image);
  offer(`${name}.svg`, new Blob([new XMLSerializer().serializeToString(file)], { type: "image/svg+xml" }));
}

export async function savePng(name, picture) {
  const ratio = 2;
  const canvas = bare(picture, ratio);
  const text = new XMLSerializer().serializeToString(standalone(picture));
  const image = new Image();
  image.src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(text)}`;
  await image.decode();
  canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
  canvas.toBlob((blob) => offer(`${name}.png`, blob));
}

export function saveCsv(name, columns) {
  const names = Object.keys(columns);
  const lines = [names.join(",")];
  const n = columns[names[0]].length;
  for (let i = 0; i < n; i += 1)
    lines.push(names.map((column) => (Number.isFinite(columns[column][i]) ? columns[column][i] : "")).join(","));
  offer(`${name}.csv`, new Blob([`${lines.join("\n")}\n`], { type: "text/csv" }));
}

