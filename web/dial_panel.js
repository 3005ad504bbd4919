// The picture on the node: dragged, turned by keys, compared with the original.
import { Mix, pixels } from "./dial_mix.js";

const STEP = 0.05;
const LEAP = 0.25;
const REACH = 3;
const ACROSS = 4; // how far a dial goes when the picture is dragged over its whole width
const THUMB = 1; // value that the thumbnails of a dial show
const KEYS = { ArrowRight: STEP, ArrowUp: STEP, ArrowLeft: -STEP, ArrowDown: -STEP, PageUp: LEAP, PageDown: -LEAP };

const STYLE = {
  root: "display:flex;flex-direction:column;gap:4px;width:100%;height:100%;min-height:0;box-sizing:border-box;" +
    "font:12px sans-serif;color:var(--input-text,#ddd)",
  canvas: "flex:1 1 0;min-height:0;width:100%;object-fit:contain;touch-action:none;cursor:ew-resize;border-radius:4px",
  // Below the picture: the dials, and behind the last one what is shown; one row less is 24 pixels more of the picture.
  rows: "display:flex;flex-wrap:wrap;gap:4px;align-items:center",
  status: "order:1;flex:1 1 140px;overflow:hidden;text-overflow:ellipsis;white-space:nowrap;text-align:right",
  dials: "display:contents",
  button: "display:flex;align-items:center;gap:3px;padding:1px 4px;border:1px solid var(--border-color,#555);" +
    "border-radius:4px;background:var(--comfy-input-bg,#222);color:inherit;font:inherit;cursor:pointer",
  thumb: "width:24px;height:24px;border-radius:3px;object-fit:cover",
};

function make(kind, style, parent, facts = {}) {
  const element = document.createElement(kind);
  element.style.cssText = style;
  for (const [name, value] of Object.entries(facts)) element.setAttribute(name, value);
  parent?.append(element);
  return element;
}

/** The dial that is turned furthest; the first if none is. */
function largest(values) {
  return values.reduce((best, value, d) => (Math.abs(value) > Math.abs(values[best]) ? d : best), 0);
}

export class Panel {
  /**
   * @param {{values: () => number[], turn: (dial: number, value: number) => void, run: () => void,
   *   zoom: (event: WheelEvent) => void}} host what the panel asks of its node
   */
  constructor(host) {
    this.host = host;
    this.dial = 0;
    this.names = [];
    this.mix = null;
    this.exact = null;
    this.showsOriginal = false;
    this.root = make("div", STYLE.root, null, { class: "hspace-dials" });
    this.canvas = make("canvas", STYLE.canvas, this.root, { role: "img", tabindex: "0" });
    const rows = make("div", STYLE.rows, this.root);
    this.status = make("div", STYLE.status, rows, { "aria-live": "polite" });
    this.compare = make("button", STYLE.button + ";order:1", rows, { type: "button", "aria-pressed": "false" });
    this.compare.textContent = "Original";
    this.compare.title = "Shows the picture without the edit. Space does the same while it is held.";
    this.dials = make("div", STYLE.dials, rows, { role: "group", "aria-label": "Dials" });
    this.say("Run once to see the picture here");
    this.listen();
  }

  /** Shows what a run gave. */
  take(facts, images) {
    const [width, height] = facts.size;
    if (!this.exact) this.dial = largest(facts.values);
    this.names = facts.names;
    this.exact = facts.values;
    this.final = new ImageData(pixels(images.final, width, height), width, height);
    this.original = new ImageData(pixels(images.original, width, height), width, height);
    const strips = images.strips;
    this.mix = strips.length ? new Mix(facts.grid, strips, images, facts.values, facts.size) : null;
    this.dial = Math.min(this.dial, this.names.length - 1);
    this.list(strips, facts.grid);
    this.show();
  }

  /** Whether a picture is there, and it is not the exact one of the sliders. */
  isPreview() {
    if (!this.exact) return false;
    const values = this.host.values();
    return this.exact.some((value, d) => Math.abs(values[d] - value) > 1e-6);
  }

  /** Shows the setting that the sliders stand at. */
  show() {
    if (!this.exact) return;
    const values = this.host.values().slice(0, this.names.length);
    const isExact = !this.isPreview();
    const name = `${this.names[this.dial]} ${values[this.dial].toFixed(2)}`;
    if (this.showsOriginal) this.put(this.original);
    else if (isExact) this.put(this.final);
    else if (this.mix) this.put(this.mix.picture(values));
    this.say(this.showsOriginal ? "original" : isExact ? name : `${name} (preview until the exact picture is there)`);
    const all = this.names.map((one, d) => `${one} ${values[d].toFixed(2)}`).join(", ");
    this.canvas.setAttribute("aria-label", this.showsOriginal ? "Original picture" : `Edited picture: ${all}`);
    this.dials.querySelectorAll("button").forEach((button, d) => {
      button.setAttribute("aria-pressed", String(d === this.dial));
      button.style.borderColor = d === this.dial ? "#7aa2f7" : "var(--border-color,#555)";
      button.querySelector("span").textContent = `${this.names[d]} ${values[d].toFixed(2)}`;
    });
  }

  /** Marks the dial that dragging the picture and the keys move. */
  pick(dial) {
    if (dial < this.names.length) this.dial = dial;
  }

  say(text) {
    if (this.status.textContent !== text) this.status.textContent = text;
  }

  put(image) {
    if (this.canvas.width !== image.width) this.canvas.width = image.width;
    if (this.canvas.height !== image.height) this.canvas.height = image.height;
    this.canvas.getContext("2d").putImageData(image, 0, 0);
  }

  /** A button for every dial, between thumbnails of its two ends. */
  list(strips, grid) {
    this.dials.replaceChildren();
    this.names.forEach((name, d) => {
      const button = make("button", STYLE.button, this.dials, { type: "button" });
      button.title = `Drag the picture to turn ${name}`;
      if (strips[d]) this.thumb(button, strips[d], grid, -THUMB);
      make("span", "", button);
      if (strips[d]) this.thumb(button, strips[d], grid, THUMB);
      button.addEventListener("click", () => { this.pick(d); this.show(); });
    });
  }

  thumb(button, strip, grid, value) {
    const near = grid.reduce((best, one, i) => (Math.abs(one - value) < Math.abs(grid[best] - value) ? i : best), 0);
    const canvas = make("canvas", STYLE.thumb, button, { "aria-hidden": "true" });
    const height = Math.min(64, strip.naturalHeight);
    const width = Math.max(1, Math.round((height * strip.naturalWidth) / grid.length / strip.naturalHeight));
    [canvas.width, canvas.height] = [width, height];
    const data = pixels(strip, width, height, grid.length, near);
    canvas.getContext("2d").putImageData(new ImageData(data, width, height), 0, 0);
  }

  turn(value) {
    const rounded = Math.round(Math.max(-REACH, Math.min(REACH, value)) / STEP) * STEP;
    this.host.turn(this.dial, Number(rounded.toFixed(3)));
  }

  compareWith(on) {
    this.showsOriginal = on;
    this.compare.setAttribute("aria-pressed", String(on));
    this.show();
  }

  listen() {
    this.root.addEventListener("wheel", (event) => this.host.zoom(event), { passive: false });
    this.compare.addEventListener("click", () => this.compareWith(!this.showsOriginal));
    // The host moves a node by its pointer events.
    this.root.addEventListener("pointerdown", (event) => event.stopPropagation());
    let start = null;
    this.canvas.addEventListener("pointerdown", (event) => {
      if (!this.exact || event.button) return;
      start = [event.clientX, this.host.values()[this.dial]];
      this.canvas.focus();
      this.canvas.setPointerCapture(event.pointerId);
    });
    this.canvas.addEventListener("pointermove", (event) => {
      if (!start) return;
      event.stopPropagation();
      const width = this.canvas.getBoundingClientRect().width || 1;
      this.turn(start[1] + (ACROSS * (event.clientX - start[0])) / width);
    });
    for (const end of ["pointerup", "pointercancel"]) this.canvas.addEventListener(end, () => { start = null; });
    this.canvas.addEventListener("keydown", (event) => this.key(event));
    this.canvas.addEventListener("keyup", (event) => {
      if (event.key !== " ") return;
      event.preventDefault();
      event.stopPropagation();
      this.compareWith(false);
    });
    this.canvas.addEventListener("blur", () => { if (this.showsOriginal) this.compareWith(false); });
  }

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || !this.exact) return;
    if (event.key === " ") this.compareWith(true);
    else if (event.key === "Enter") this.host.run();
    else if (event.key === "Home") this.turn(0);
    else if (event.key in KEYS) this.turn(this.host.values()[this.dial] + KEYS[event.key]);
    else return;
    event.preventDefault();
    event.stopPropagation();
  }
}
