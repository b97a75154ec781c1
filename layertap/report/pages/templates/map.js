/* The map itself: what mouse, fingers and keys do. */

const REACH = 12; // pixels around the mouse in which a point is looked for
const STEP = 60; // pixels that an arrow key moves

class FeatureMap {
  constructor(data) {
    document.getElementById("map").hidden = false;
    this.canvas = document.getElementById("points");
    this.over = document.getElementById("over");
    this.status = document.getElementById("status");
    this.points = new Points(data);
    this.painter = new Painter(this.canvas, this.points);
    this.view = new View(this.canvas, this.points.aspect);
    this.thumbnails = new Thumbnails(this.points.sheets);
    this.panel = new SelectionPanel(this.points, this.thumbnails, data.command);
    this.lasso = null; // its corners in pixels of the page, while it is drawn
    this.current = -1; // the point under the mouse, or that the keys have reached
    this.usesLasso = false;
    this.fingers = new Map();
    this._listen();
    this._offerColours();
    this.refresh();
  }

  /* Draw with the next frame. */
  redraw() {
    if (this.waiting) return;
    this.waiting = true;
    requestAnimationFrame(() => {
      this.waiting = false;
      this.painter.resize();
      this.view.fix();
      this.painter.draw(this.view);
      this._drawOver();
    });
  }

  /* After a change of the filters, the search or the selection. */
  refresh() {
    this.points.refresh();
    this.panel.show();
    this.redraw();
  }

  say(text) {
    this.status.textContent = text;
  }

  select(chosen, keep) {
    if (!keep) this.points.selected.clear();
    for (const i of chosen) this.points.selected.add(i);
    this.refresh();
    this.say(`${this.points.selected.size.toLocaleString("en")} images are selected.`);
  }

  _offerColours() {
    const choice = document.getElementById("colour");
    choice.append(...this.points.columns.map((column, at) => element("option", { value: at }, column.name)));
    const colour = () => {
      const column = this.points.columns[Number(choice.value)];
      if (!column) return;
      this.painter.colours = column.colours();
      showLegend(document.getElementById("legend"), column, () => this._filtered());
      this.redraw();
    };
    choice.addEventListener("change", colour);
    colour();
  }

  _filtered() {
    this.refresh();
    const shown = this.points.states.reduce((sum, state) => sum + (state !== HIDDEN), 0);
    this.say(`${shown.toLocaleString("en")} of ${this.points.count.toLocaleString("en")} images are shown.`);
  }

  _listen() {
    const on = (id, event, act) => document.getElementById(id).addEventListener(event, act);
    const zoom = (factor) => {
      this.view.zoomAt(factor, this.canvas.clientWidth / 2, this.canvas.clientHeight / 2);
      this.redraw();
    };
    this.zoomBy = zoom;
    on("zoom-in", "click", () => zoom(1.5));
    on("zoom-out", "click", () => zoom(1 / 1.5));
    on("zoom-all", "click", () => this._showAll());
    on("tool-move", "click", () => this._useLasso(false));
    on("tool-lasso", "click", () => this._useLasso(true));
    on("clear", "click", () => this.select([], false));
    on("search", "input", (event) => this._search(event.target.value));
    on("select-found", "click", () => this._selectFound());
    this.canvas.addEventListener("wheel", (event) => this._wheel(event), { passive: false });
    this.canvas.addEventListener("keydown", (event) => this._key(event));
    for (const [name, act] of [["pointerdown", "_down"], ["pointermove", "_move"], ["pointerup", "_up"],
      ["pointercancel", "_up"]]) this.canvas.addEventListener(name, (event) => this[act](event));
    this.canvas.addEventListener("pointerleave", () => this._point(-1));
    new ResizeObserver(() => this.redraw()).observe(this.canvas);
    window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.redraw());
  }

  _showAll() {
    this.view.showAll();
    this.redraw();
  }

  _useLasso(wanted) {
    this.usesLasso = wanted;
    this.canvas.classList.toggle("lasso", wanted);
    document.getElementById("tool-lasso").setAttribute("aria-pressed", String(wanted));
    document.getElementById("tool-move").setAttribute("aria-pressed", String(!wanted));
  }

  _search(text) {
    const total = this.points.search(text);
    document.getElementById("select-found").disabled = !total;
    this.refresh();
    this.say(total === null ? "" : `${total.toLocaleString("en")} images are found.`);
  }

  _selectFound() {
    const { found, states } = this.points;
    const chosen = [];
    found.forEach((is, i) => is && states[i] !== HIDDEN && chosen.push(i));
    this.select(chosen, false);
  }

  _wheel(event) {
    event.preventDefault();
    this.view.zoomAt(Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.0015)), event.offsetX, event.offsetY);
    this.redraw();
  }

  _down(event) {
    this.canvas.setPointerCapture(event.pointerId);
    this.fingers.set(event.pointerId, [event.offsetX, event.offsetY]);
    this.moved = false;
    if (this.fingers.size === 1 && (this.usesLasso || event.shiftKey)) this.lasso = [[event.offsetX, event.offsetY]];
    if (this.fingers.size === 2) this.lasso = null;
  }

  _move(event) {
    const place = [event.offsetX, event.offsetY], before = this.fingers.get(event.pointerId);
    if (!before) return this._hover(...place);
    if (Math.hypot(place[0] - before[0], place[1] - before[1]) > 0) this.moved = true;
    if (this.lasso) {
      this.lasso.push(place);
      this._drawOver();
    } else if (this.fingers.size === 2) {
      this._pinch(event.pointerId, place);
    } else {
      this.view.move(place[0] - before[0], place[1] - before[1]);
      this.redraw();
    }
    this.fingers.set(event.pointerId, place);
  }

  _pinch(finger, place) {
    const [, other] = [...this.fingers].find(([id]) => id !== finger), before = this.fingers.get(finger);
    const apart = (one) => Math.max(10, Math.hypot(one[0] - other[0], one[1] - other[1]));
    this.view.zoomAt(apart(place) / apart(before), other[0], other[1]);
    this.redraw();
  }

  _up(event) {
    this.fingers.delete(event.pointerId);
    if (this.lasso) {
      const corners = this.lasso.map(([x, y]) => this.view.toMap(x, y));
      this.lasso = null;
      this.select(this.points.inside(corners), event.ctrlKey || event.metaKey);
    } else if (!this.moved && this.current >= 0) {
      this._toggle(this.current);
    }
  }

  _toggle(i) {
    if (!this.points.selected.delete(i)) this.points.selected.add(i);
    this.refresh();
    this.say(`${this.points.ids[i]}: ${this.points.selected.has(i) ? "selected" : "not selected"}.`);
  }

  _hover(px, py) {
    const [x, y] = this.view.toMap(px, py);
    this._point(this.points.nearest(x, y, REACH / this.view.width, REACH / this.view.height));
  }

  /* Show what is known of a point beside it; -1 shows none. */
  _point(i) {
    if (i === this.current) return;
    this.current = i;
    const holder = document.getElementById("hover");
    holder.hidden = i < 0;
    if (i >= 0) {
      this.thumbnails.draw(holder.querySelector("canvas"), i);
      const lines = [["", this.points.ids[i]], ...this.points.facts(i)];
      const text = lines.map(([name, value]) => element("div", {}, name ? `${name}: ${value}` : value));
      holder.querySelector("div").replaceChildren(...text);
      const [x, y] = [this.view.toScreenX(this.points.x[i]), this.view.toScreenY(this.points.y[i])];
      holder.style.left = `${x > this.canvas.clientWidth / 2 ? Math.max(4, x - holder.offsetWidth - 14) : x + 14}px`;
      holder.style.top = `${Math.max(4, Math.min(y + 8, this.canvas.clientHeight - holder.offsetHeight - 4))}px`;
    }
    this._drawOver();
  }

  _key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const moves = { ArrowLeft: [STEP, 0], ArrowRight: [-STEP, 0], ArrowUp: [0, STEP], ArrowDown: [0, -STEP] };
    const acts = {
      "+": () => this.zoomBy(1.3), "=": () => this.zoomBy(1.3), "-": () => this.zoomBy(1 / 1.3),
      0: () => this._showAll(), n: () => this._next(1), p: () => this._next(-1),
      " ": () => this.current >= 0 && this._toggle(this.current), Escape: () => this.select([], false),
    };
    if (moves[event.key]) {
      this.view.move(...moves[event.key]);
      this.redraw();
    } else if (acts[event.key]) acts[event.key]();
    else return;
    event.preventDefault();
  }

  /* Go to the next point that is seen, by rows of the table. */
  _next(step) {
    const { states, count, x, y, ids } = this.points;
    for (let k = 1; k <= count; k++) {
      const i = (((this.current < 0 && step < 0 ? 0 : this.current) + step * k) % count + count) % count;
      const [px, py] = [this.view.toScreenX(x[i]), this.view.toScreenY(y[i])];
      if (states[i] === HIDDEN || px < 0 || py < 0 || px > this.canvas.clientWidth || py > this.canvas.clientHeight) continue;
      this._point(i);
      const facts = this.points.facts(i).map(([name, text]) => `${name} ${text}`);
      return this.say([ids[i], ...facts].join(", "));
    }
  }

  /* Draw the lasso, and a ring around the point that is shown. */
  _drawOver() {
    const { over, painter: { scale } } = this, context = over.getContext("2d");
    [over.width, over.height] = [this.canvas.width, this.canvas.height];
    context.scale(scale, scale);
    context.strokeStyle = getComputedStyle(document.body).color;
    context.lineWidth = 1.5;
    if (this.lasso) {
      context.setLineDash([5, 4]);
      context.beginPath();
      for (const [x, y] of this.lasso) context.lineTo(x, y);
      context.closePath();
      context.stroke();
    }
    if (this.current >= 0) {
      context.setLineDash([]);
      context.beginPath();
      context.arc(this.view.toScreenX(this.points.x[this.current]), this.view.toScreenY(this.points.y[this.current]), 8, 0, 7);
      context.stroke();
    }
  }
}

new FeatureMap(pageData("map"));
