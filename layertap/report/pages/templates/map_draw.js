/* Drawing: every point is a disc that is blended into an array of pixels, which takes 100,000 points in some ms. */

class Painter {
  constructor(canvas, points) {
    this.canvas = canvas;
    this.points = points;
    this.context = canvas.getContext("2d", { alpha: false });
    this.colours = new Uint8Array(3 * points.count);
  }

  /* Fit the canvas to its element; whether its size has changed. */
  resize() {
    const scale = Math.min(2, window.devicePixelRatio || 1);
    const width = Math.max(1, Math.round(this.canvas.clientWidth * scale));
    const height = Math.max(1, Math.round(this.canvas.clientHeight * scale));
    if (this.image && width === this.canvas.width && height === this.canvas.height) return false;
    this.canvas.width = width;
    this.canvas.height = height;
    this.scale = scale;
    this.image = this.context.createImageData(width, height);
    this.pixels = new Uint32Array(this.image.data.buffer);
    return true;
  }

  draw(view) {
    const ground = groundColour();
    this.pixels.fill((255 << 24) | (ground[2] << 16) | (ground[1] << 8) | ground[0]);
    const base = 2.2 * Math.sqrt(Math.min(1, 8000 / Math.max(1, this.points.count))) + 1.3;
    const radius = this.scale * Math.min(7, base * Math.sqrt(Math.max(1, view.zoom / 2)));
    const masks = [null, disc(radius * 0.8, 0.22), disc(radius, 0.85), disc(radius * 1.25, 1)];
    for (const state of [DIMMED, SHOWN, SELECTED]) {
      if (this.points.states.includes(state)) this._drawState(view, state, masks[state]);
    }
    this.context.putImageData(this.image, 0, 0);
  }

  _drawState(view, state, mask) {
    const { x, y, states, order } = this.points;
    const { pixels, colours, canvas: { width, height } } = this;
    const { reach, dx, dy, alpha } = mask;
    const steps = dx.map((column, k) => dy[k] * width + column);
    const [left, top, across, down] = [view._left, view._top, view._w, view._h].map((one) => one * this.scale);
    for (let at = 0; at < order.length; at++) {
      const i = order[at];
      if (states[i] !== state) continue;
      const px = (left + x[i] * across + 0.5) | 0, py = (top + y[i] * down + 0.5) | 0;
      if (px < reach || py < reach || px >= width - reach || py >= height - reach) continue;
      const r = colours[3 * i], g = colours[3 * i + 1], b = colours[3 * i + 2];
      const centre = py * width + px;
      for (let k = 0; k < alpha.length; k++) {
        const place = centre + steps[k], under = pixels[place], a = alpha[k], rest = 256 - a;
        pixels[place] = (255 << 24)
          | (((b * a + ((under >> 16) & 255) * rest) >> 8) << 16)
          | (((g * a + ((under >> 8) & 255) * rest) >> 8) << 8)
          | ((r * a + (under & 255) * rest) >> 8);
      }
    }
  }
}

/* The pixels of a disc, with the share of each that it covers. */
function disc(radius, opacity) {
  const reach = Math.ceil(radius + 0.5), dx = [], dy = [], alpha = [];
  for (let row = -reach; row <= reach; row++) {
    for (let column = -reach; column <= reach; column++) {
      const share = Math.max(0, Math.min(1, radius + 0.5 - Math.hypot(row, column)));
      if (share > 0) {
        dx.push(column);
        dy.push(row);
        alpha.push(Math.round(256 * share * opacity));
      }
    }
  }
  return { reach, dx: Int32Array.from(dx), dy: Int32Array.from(dy), alpha: Int32Array.from(alpha) };
}

function groundColour() {
  return window.matchMedia("(prefers-color-scheme: dark)").matches ? [24, 26, 27] : [255, 255, 255];
}

/* The part of the map that is seen. The map is the unit square, drawn in its proportions. */
class View {
  constructor(canvas, aspect) {
    this.canvas = canvas;
    this.aspect = aspect;
    this.showAll();
  }

  showAll() {
    [this.zoom, this.x, this.y] = [1, 0.5, 0.5];
  }

  /* The width of the whole map in pixels of the page. */
  get width() {
    const room = Math.min(this.canvas.clientWidth - 30, (this.canvas.clientHeight - 30) * this.aspect);
    return Math.max(50, room) * this.zoom;
  }

  get height() {
    return this.width / this.aspect;
  }

  /* Compute what the conversions below use: they run for every point. */
  fix() {
    [this._w, this._h] = [this.width, this.height];
    [this._left, this._top] = [this.canvas.clientWidth / 2 - this.x * this._w, this.canvas.clientHeight / 2 - this.y * this._h];
  }

  toScreenX(x) {
    return this._left + x * this._w;
  }

  toScreenY(y) {
    return this._top + y * this._h;
  }

  toMap(x, y) {
    return [(x - this._left) / this._w, (y - this._top) / this._h];
  }

  move(dx, dy) {
    this.x = Math.max(-0.2, Math.min(1.2, this.x - dx / this.width));
    this.y = Math.max(-0.2, Math.min(1.2, this.y - dy / this.height));
    this.fix();
  }

  /* Zoom, while the place at these pixels of the page stays there. */
  zoomAt(factor, px, py) {
    const [x, y] = this.toMap(px, py);
    this.zoom = Math.max(0.5, Math.min(400, this.zoom * factor));
    this.x = x - (px - this.canvas.clientWidth / 2) / this.width;
    this.y = y - (py - this.canvas.clientHeight / 2) / this.height;
    this.fix();
  }
}
