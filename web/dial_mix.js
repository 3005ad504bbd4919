// Pictures between the ends of dials, mixed in the browser: what is shown while a dial is dragged.
//
// A strip holds pictures of one dial at the values of a grid, all other dials at 0. Changes of h add up, so that several
// dials are shown as the picture at rest plus what each of them changes. This is a preview: where the exact picture of a
// setting is known, the mix is led to it.

/** The frame below a value, and how far the value lies on the way to the next frame (0 to 1). */
export function between(grid, value) {
  const last = grid.length - 2;
  let low = 0;
  while (low < last && grid[low + 1] <= value) low += 1;
  const way = (value - grid[low]) / (grid[low + 1] - grid[low]);
  return [low, Math.min(1, Math.max(0, way))];
}

/** Pixels of a picture, drawn at a size; `from` is the left edge of the part that is taken, in parts of that width. */
export function pixels(image, width, height, parts = 1, from = 0) {
  const canvas = document.createElement("canvas");
  canvas.width = width;
  canvas.height = height;
  const context = canvas.getContext("2d", { willReadFrequently: true });
  const part = image.naturalWidth / parts;
  context.drawImage(image, from * part, 0, part, image.naturalHeight, 0, 0, width, height);
  return context.getImageData(0, 0, width, height).data;
}

export class Mix {
  /**
   * @param {number[]} grid values of the frames of a strip
   * @param {HTMLImageElement[]} strips one for each dial, its frames beside each other
   * @param {{rest: HTMLImageElement, final: HTMLImageElement}} pictures all dials at 0, and the exact one
   * @param {number[]} exact the setting of the exact one
   * @param {number[]} size width and height
   */
  constructor(grid, strips, pictures, exact, [width, height]) {
    this.grid = grid;
    this.width = width;
    this.height = height;
    this.exact = exact;
    this.rest = pixels(pictures.rest, width, height);
    this.frames = strips.map((strip) => grid.map((_, i) => pixels(strip, width, height, grid.length, i)));
    this.total = new Float32Array(this.rest);
    this.values = strips.map(() => 0);
    this.move(exact);
    const final = pixels(pictures.final, width, height);
    this.lead = Float32Array.from(final, (one, k) => one - this.total[k]);
  }

  /** Pixels for a setting of all dials. */
  picture(values) {
    this.move(values);
    const image = new ImageData(this.width, this.height);
    const share = this.shareOfLead(values);
    for (let k = 0; k < image.data.length; k += 1) image.data[k] = this.total[k] + share * this.lead[k];
    return image;
  }

  /** How much of the exact picture's own correction is taken: all of it at its setting, none far from it. */
  shareOfLead(values) {
    const away = values.reduce((sum, value, d) => sum + Math.abs(value - (this.exact[d] ?? 0)), 0);
    const reach = this.exact.reduce((sum, value) => sum + Math.abs(value), 0);
    return Math.max(0, 1 - away / Math.max(reach, 0.5));
  }

  /** Brings the sum of all changes to a setting; only dials that moved are worked out again. */
  move(values) {
    this.frames.forEach((frames, d) => {
      const value = values[d] ?? 0;
      if (value === this.values[d]) return;
      this.add(frames, this.values[d], -1);
      this.add(frames, value, 1);
      this.values[d] = value;
    });
  }

  add(frames, value, sign) {
    if (value === 0) return;
    const [low, way] = between(this.grid, value);
    const [a, b] = [frames[low], frames[low + 1]];
    const { total, rest } = this;
    for (let k = 0; k < total.length; k += 1) total[k] += sign * (a[k] + way * (b[k] - a[k]) - rest[k]);
  }
}
