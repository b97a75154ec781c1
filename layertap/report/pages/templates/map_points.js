/* The points of a map: where they are, what is known of them, and which are shown. */

const HIDDEN = 0, DIMMED = 1, SHOWN = 2, SELECTED = 3;
const CELLS = 256; // of a side of the grid in which the nearest point is looked for
const PALETTE = ["#3f90da", "#ffa90e", "#bd1f01", "#94a4a2", "#832db6", "#a96b59", "#e76300", "#b9ac70", "#717581",
  "#92dadd"]; // Petroff 2021: the colour-blind can tell them apart
const RAMP = [[68, 1, 84], [59, 82, 139], [33, 145, 140], [94, 201, 98], [253, 231, 37]]; // viridis
const UNKNOWN = [150, 150, 150];

class Points {
  constructor(data) {
    const places = unpacked(data.places, Uint16Array);
    this.count = data.ids.length;
    this.ids = data.ids;
    this.x = new Float32Array(this.count);
    this.y = new Float32Array(this.count);
    for (let i = 0; i < this.count; i++) {
      this.x[i] = places[2 * i] / 65535;
      this.y[i] = 1 - places[2 * i + 1] / 65535;
    }
    this.aspect = data.aspect; // the width of the map by its height
    this.columns = data.columns.map((column) => new Column(column));
    this.states = new Uint8Array(this.count).fill(SHOWN);
    this.selected = new Set();
    this.found = null; // what the search has found, as an array of 0 and 1
    this.sheets = data.sheets;
    this.order = shuffled(this.count);
    this._makeGrid();
  }

  /* Recompute which points are hidden, dimmed, shown and selected. */
  refresh() {
    const filters = this.columns.filter((column) => column.filters());
    const dims = this.found !== null || this.selected.size > 0;
    for (let i = 0; i < this.count; i++) {
      let state = dims ? DIMMED : SHOWN;
      if (this.found && this.found[i]) state = SHOWN;
      if (this.selected.has(i)) state = SELECTED;
      for (const column of filters) if (!column.passes(i)) state = HIDDEN;
      this.states[i] = state;
    }
  }

  /* Look for a text in ids and in the names of categories; the number of points found, or null for no text. */
  search(text) {
    const wanted = text.trim().toLowerCase();
    if (!wanted) {
      this.found = null;
      return null;
    }
    this.found = new Uint8Array(this.count);
    const named = this.columns.filter((column) => column.names)
      .map((column) => [column.values, column.names.map((name) => name.toLowerCase().includes(wanted))]);
    let total = 0;
    for (let i = 0; i < this.count; i++) {
      const is = this.ids[i].toLowerCase().includes(wanted) || named.some(([values, match]) => match[values[i]]);
      total += this.found[i] = Number(is);
    }
    return total;
  }

  /* The nearest point that is not hidden, no further than `reach` in units of the map; -1 where there is none. */
  nearest(x, y, reachX, reachY) {
    let best = -1, least = 1;
    const [left, right] = [cell(x - reachX), cell(x + reachX)];
    const [top, bottom] = [cell(y - reachY), cell(y + reachY)];
    for (let row = top; row <= bottom; row++) {
      for (let at = this.starts[row * CELLS + left]; at < this.starts[row * CELLS + right + 1]; at++) {
        const i = this.cells[at];
        if (this.states[i] === HIDDEN) continue;
        const distance = ((this.x[i] - x) / reachX) ** 2 + ((this.y[i] - y) / reachY) ** 2;
        if (distance < least) [best, least] = [i, distance];
      }
    }
    return best;
  }

  /* Points that are not hidden inside a polygon of [x, y] in units of the map. */
  inside(polygon) {
    const found = [];
    for (let i = 0; i < this.count; i++) {
      if (this.states[i] !== HIDDEN && isInside(this.x[i], this.y[i], polygon)) found.push(i);
    }
    return found;
  }

  /* What is known of a point, as [name, text] pairs. */
  facts(i) {
    return this.columns.map((column) => [column.name, column.text(i)]);
  }

  _makeGrid() {
    this.starts = new Uint32Array(CELLS * CELLS + 1);
    const place = (i) => cell(this.y[i]) * CELLS + cell(this.x[i]);
    for (let i = 0; i < this.count; i++) this.starts[place(i) + 1]++;
    for (let at = 0; at < CELLS * CELLS; at++) this.starts[at + 1] += this.starts[at];
    const next = this.starts.slice();
    this.cells = new Uint32Array(this.count);
    for (let i = 0; i < this.count; i++) this.cells[next[place(i)]++] = i;
  }
}

/* A column of values: categories by number, or numbers. */
class Column {
  constructor(data) {
    this.name = data.name;
    this.names = data.names || null;
    this.values = unpacked(data.values, data.names ? Uint16Array : Float32Array);
    if (this.names) {
      this.hidden = new Set();
      this.counts = new Uint32Array(this.names.length);
      for (const value of this.values) this.counts[value]++;
    } else {
      this.low = Infinity;
      this.high = -Infinity;
      for (const value of this.values) {
        if (value < this.low) this.low = value;
        if (value > this.high) this.high = value;
      }
      [this.from, this.to] = [this.low, this.high];
    }
  }

  filters() {
    return this.names ? this.hidden.size > 0 : this.from > this.low || this.to < this.high;
  }

  passes(i) {
    const value = this.values[i];
    return this.names ? !this.hidden.has(value) : value >= this.from && value <= this.to;
  }

  text(i) {
    const value = this.values[i];
    if (this.names) return this.names[value];
    return Number.isNaN(value) ? "" : String(Number(value.toPrecision(5)));
  }

  /* The colour of each point as three bytes. */
  colours() {
    const out = new Uint8Array(3 * this.values.length);
    const ofName = this.names && this.names.map((_, number) => categoryColour(number));
    this.values.forEach((value, i) => out.set(ofName ? ofName[value] : this.rampColour(value), 3 * i));
    return out;
  }

  rampColour(value) {
    if (Number.isNaN(value)) return UNKNOWN;
    const place = (RAMP.length - 1) * (this.high > this.low ? (value - this.low) / (this.high - this.low) : 0);
    const first = Math.min(RAMP.length - 2, Math.floor(place));
    return RAMP[first].map((part, at) => part + (RAMP[first + 1][at] - part) * (place - first));
  }
}

function categoryColour(number) {
  if (number < PALETTE.length) return [1, 3, 5].map((at) => parseInt(PALETTE[number].slice(at, at + 2), 16));
  const hue = (number * 137.508) % 360, chroma = 110, light = number % 2 ? 70 : 105;
  const part = (shift) => {
    const at = (shift + hue / 30) % 12;
    return light + chroma / 2 * Math.max(-1, Math.min(at - 3, 9 - at, 1)) * -1;
  };
  return [part(0), part(8), part(4)];
}

function cell(position) {
  return Math.max(0, Math.min(CELLS - 1, Math.floor(position * CELLS)));
}

function isInside(x, y, polygon) {
  let inside = false;
  for (let i = 0, j = polygon.length - 1; i < polygon.length; j = i++) {
    const [ax, ay] = polygon[i], [bx, by] = polygon[j];
    if (ay > y !== by > y && x < ((bx - ax) * (y - ay)) / (by - ay) + ax) inside = !inside;
  }
  return inside;
}

/* All numbers below `count` in an order that is always the same, so that no class lies on top of all others. */
function shuffled(count) {
  const order = Uint32Array.from({ length: count }, (_, i) => i);
  let seed = 1;
  for (let i = count - 1; i > 0; i--) {
    seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0;
    const other = seed % (i + 1);
    [order[i], order[other]] = [order[other], order[i]];
  }
  return order;
}
