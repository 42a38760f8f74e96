// A picture of numbers with marks over it, that can be moved, enlarged and read with mouse or keys.

import { element, svg } from "./dom.js";

const within = (zoom) => Math.min(200, Math.max(0.5, zoom));

export class Picture {
  // readAt(i, j, isKey) is told the nearest point; onView(zoom, x, y) where the view was moved to.
  constructor(label, { readAt, onView }) {
    this.canvas = element("canvas", { "aria-hidden": "true" });
    this.marks = svg("svg", { "aria-hidden": "true" });
    this.box = element("div", {
      className: "picture", tabIndex: 0, role: "application", "aria-label": label,
      onmousemove: (event) => this.#hover(event), onmousedown: (event) => this.#grab(event),
      ondblclick: () => onView(1, 0, 0), onkeydown: (event) => this.#key(event),
    }, this.canvas, this.marks);
    this.box.addEventListener("wheel", (event) => this.#wheel(event), { passive: false });
    this.label = label;
    this.readAt = readAt;
    this.onView = onView;
    this.cursor = null;
    this.content = null;
    new ResizeObserver(() => this.draw()).observe(this.box);
  }

  // content: {title, image: ImageData, shape: [nU, nV], xy(i, j), ij(x, y), reach, matrix, marks(picture)}
  set(content, view) {
    this.content = content;
    this.view = { ...view, zoom: within(view.zoom) };
    this.box.setAttribute("aria-label", `${content.title}: ${this.label}`);
    const whole = new OffscreenCanvas(content.image.width, content.image.height);
    whole.getContext("2d").putImageData(content.image, 0, 0);
    this.whole = whole;
    this.draw();
  }

  get scale() {
    const { clientWidth, clientHeight } = this.box;
    return (0.48 * Math.min(clientWidth, clientHeight) * this.view.zoom) / this.content.reach;
  }

  // From the content's x, y to the screen; y is upwards.
  screen(x, y) {
    const { clientWidth, clientHeight } = this.box;
    return [clientWidth / 2 + this.scale * (x - this.view.x), clientHeight / 2 - this.scale * (y - this.view.y)];
  }

  back(left, top) {
    const { clientWidth, clientHeight } = this.box;
    return [this.view.x + (left - clientWidth / 2) / this.scale, this.view.y - (top - clientHeight / 2) / this.scale];
  }

  draw() {
    if (!this.content || !this.box.clientWidth) return;
    const ratio = window.devicePixelRatio || 1;
    this.canvas.width = this.box.clientWidth * ratio;
    this.canvas.height = this.box.clientHeight * ratio;
    const context = this.canvas.getContext("2d");
    this.paintTo(context, ratio);
    this.marks.replaceChildren(...this.content.marks(this));
    if (this.cursor) {
      const [x, y] = this.screen(...this.content.xy(...this.cursor));
      this.marks.append(svg("circle", { class: "cursor", cx: x, cy: y, r: 6 }));
    }
  }

  paintTo(context, ratio) {
    context.imageSmoothingEnabled = false;
    const [x0, y0] = this.screen(...this.content.xy(0, 0));
    const [x1, y1] = this.screen(...this.content.xy(1, 0));
    const [x2, y2] = this.screen(...this.content.xy(0, 1));
    context.setTransform(
      ratio * (x1 - x0), ratio * (y1 - y0), ratio * (x2 - x0), ratio * (y2 - y0), ratio * x0, ratio * y0);
    // Points are in the middle of their cells.
    context.drawImage(this.whole, -0.5, -0.5);
    context.setTransform(1, 0, 0, 1, 0, 0);
  }

  #nearest(left, top) {
    const [i, j] = this.content.ij(...this.back(left, top)).map(Math.round);
    const [nU, nV] = this.content.shape;
    return i >= 0 && j >= 0 && i < nU && j < nV ? [i, j] : null;
  }

  #hover(event) {
    if (!this.content) return;
    const box = this.box.getBoundingClientRect();
    const point = this.#nearest(event.clientX - box.left, event.clientY - box.top);
    if (point) this.readAt(...point, false);
  }

  #grab(event) {
    if (!this.content || event.button !== 0) return;
    const start = { ...this.view };
    const scale = this.scale;
    const move = (now) => {
      const shift = [now.clientX - event.clientX, now.clientY - event.clientY];
      if (Math.hypot(...shift) > 3) this.onView(start.zoom, start.x - shift[0] / scale, start.y + shift[1] / scale);
    };
    const end = () => {
      window.removeEventListener("mousemove", move);
      window.removeEventListener("mouseup", end);
    };
    window.addEventListener("mousemove", move);
    window.addEventListener("mouseup", end);
  }

  #wheel(event) {
    if (!this.content) return;
    event.preventDefault();
    const box = this.box.getBoundingClientRect();
    const [x, y] = this.back(event.clientX - box.left, event.clientY - box.top);
    const factor = Math.exp(-event.deltaY / 400);
    const zoom = within(this.view.zoom * factor);
    const real = this.view.zoom / zoom;
    // The point under the mouse stays where it is.
    this.onView(zoom, x + (this.view.x - x) * real, y + (this.view.y - y) * real);
  }

  #key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const steps = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };
    const step = steps[event.key];
    if (step && this.content) {
      event.preventDefault();
      const [nU, nV] = this.content.shape;
      const turned = this.content.down ? [step[0], -step[1]] : step;
      const from = this.cursor ?? [Math.floor(nU / 2), Math.floor(nV / 2)];
      const n = event.shiftKey ? 10 : 1;
      this.cursor = [
        Math.min(nU - 1, Math.max(0, from[0] + n * turned[0])),
        Math.min(nV - 1, Math.max(0, from[1] + n * turned[1])),
      ];
      this.draw();
      this.readAt(...this.cursor, true);
    } else if (event.key === "+" || event.key === "=") this.onView(within(this.view.zoom * 1.25), this.view.x, this.view.y);
    else if (event.key === "-") this.onView(within(this.view.zoom / 1.25), this.view.x, this.view.y);
    else if (event.key === "0") this.onView(1, 0, 0);
  }
}
