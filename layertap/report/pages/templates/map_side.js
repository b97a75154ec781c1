/* Beside the map: legend and filters, thumbnails, the selection. */

const MOST_LEGEND = 300, MOST_ROWS = 200;

/* Thumbnails, which are tiles of a few large pictures; a picture is decoded when one of its tiles is shown. */
class Thumbnails {
  constructor(sheets) {
    this.sheets = sheets;
    this.pictures = new Map();
  }

  async draw(canvas, i) {
    const { urls, side, tiles, tiles_in_a_row: across } = this.sheets;
    canvas.width = canvas.height = side;
    canvas.dataset.shows = i;
    const number = Math.floor(i / tiles), tile = i % tiles;
    if (!urls[number]) return;
    if (!this.pictures.has(number)) {
      const picture = new Image();
      picture.src = urls[number];
      this.pictures.set(number, picture.decode().then(() => picture));
    }
    const picture = await this.pictures.get(number);
    if (canvas.dataset.shows !== String(i)) return; // another one has been asked for since
    const [left, top] = [(tile % across) * side, Math.floor(tile / across) * side];
    canvas.getContext("2d").drawImage(picture, left, top, side, side, 0, 0, side, side);
  }
}

/* The legend of a column: categories that are switched on and off, or a range of numbers. */
function showLegend(holder, column, changed) {
  holder.replaceChildren(...(column.names ? categoryLegend(column, changed) : rangeLegend(column, changed)));
}

function categoryLegend(column, changed) {
  const numbers = [...column.names.keys()].filter((number) => column.counts[number] > 0).slice(0, MOST_LEGEND);
  const buttons = numbers.map((number) => {
    const swatch = element("span", { class: "swatch" });
    swatch.style.background = `rgb(${categoryColour(number).join(",")})`;
    const name = element("span", { class: "name", title: column.names[number] }, column.names[number]);
    const button = element("button", { type: "button", "aria-pressed": String(!column.hidden.has(number)) },
      swatch, name, element("span", {}, column.counts[number].toLocaleString("en")));
    button.addEventListener("click", () => {
      if (!column.hidden.delete(number)) column.hidden.add(number);
      button.setAttribute("aria-pressed", String(!column.hidden.has(number)));
      changed();
    });
    return button;
  });
  const all = element("button", { type: "button" }, "All"), none = element("button", { type: "button" }, "None");
  const set = (hidden) => {
    column.hidden = new Set(hidden);
    buttons.forEach((button, at) => button.setAttribute("aria-pressed", String(!column.hidden.has(numbers[at]))));
    changed();
  };
  all.addEventListener("click", () => set([]));
  none.addEventListener("click", () => set(column.names.keys()));
  const used = column.counts.filter((count) => count > 0).length;
  const rest = used > numbers.length ? [element("p", {}, `and ${used - numbers.length} more`)] : [];
  return [element("div", { class: "all" }, all, none), ...buttons, ...rest];
}

function rangeLegend(column, changed) {
  const ramp = element("div", { class: "ramp" });
  ramp.style.background = `linear-gradient(to right, ${RAMP.map((colour) => `rgb(${colour.join(",")})`).join(",")})`;
  const limit = (name, label) => {
    const input = element("input", { type: "number", step: "any", "aria-label": label });
    input.value = Number(column[name].toPrecision(6));
    input.addEventListener("change", () => {
      const all = name === "from" ? column.low : column.high;
      column[name] = input.value === "" ? all : Number(input.value);
      changed();
    });
    return input;
  };
  const limits = [limit("from", `${column.name} from`), element("span", {}, "to"), limit("to", `${column.name} to`)];
  return [ramp, element("div", { class: "range" }, ...limits)];
}

/* The panel of the selection: its number, a table of the first ones, CSV and a command line. */
class SelectionPanel {
  constructor(points, thumbnails, command) {
    this.points = points;
    this.thumbnails = thumbnails;
    const headings = ["", "id", ...points.columns.map((column) => column.name)];
    const cells = headings.map((name) => element("th", { scope: "col" }, name));
    document.getElementById("selection-head").replaceChildren(element("tr", {}, ...cells));
    if (command) document.getElementById("command").value = command;
    document.getElementById("download").addEventListener("click", () => saveFile("selection.csv", this.csv()));
  }

  get chosen() {
    return [...this.points.selected].sort((a, b) => a - b);
  }

  csv() {
    const { ids, columns } = this.points;
    const rows = this.chosen.map((i) => [ids[i], ...columns.map((column) => column.text(i))]);
    return csvText([["id", ...columns.map((column) => column.name)], ...rows]);
  }

  show() {
    const chosen = this.chosen, count = chosen.length.toLocaleString("en");
    const more = chosen.length > MOST_ROWS ? `; the first ${MOST_ROWS} are listed` : "";
    document.getElementById("selection-count").textContent = chosen.length
      ? `${count} image${chosen.length === 1 ? "" : "s"} selected${more}.`
      : "Nothing is selected: draw a lasso around images, or search.";
    document.getElementById("selection-tools").hidden = !chosen.length;
    document.getElementById("selection-rows").replaceChildren(...chosen.slice(0, MOST_ROWS).map((i) => this._row(i)));
  }

  _row(i) {
    const canvas = element("canvas", { "aria-hidden": "true" });
    this.thumbnails.draw(canvas, i);
    const facts = this.points.facts(i).map(([, text]) => element("td", {}, text));
    return element("tr", {}, element("td", {}, canvas), element("th", { scope: "row" }, this.points.ids[i]), ...facts);
  }
}
