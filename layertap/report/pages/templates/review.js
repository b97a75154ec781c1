/* The choices of a review: each changes a row of the table, which is saved as review.csv. */

const review = pageData("review");
const [ACTION, LABEL, SUGGESTED] = ["action", "label", "suggested"].map((name) => review.columns.indexOf(name));
const items = [...document.querySelectorAll(".findings li")];
const find = (id) => document.getElementById(id);
const rowOf = (item) => review.rows[Number(item.dataset.row)];
const SEARCHED = ["id", "label", "given", "suggested", "other", "reason"].map((name) => review.columns.indexOf(name));
const textOf = (item) => SEARCHED.map((column) => rowOf(item)[column]).join("\n").toLowerCase();
let unsaved = false;

function count(number) {
  return number.toLocaleString("en");
}

function tell() {
  const decided = review.rows.filter((row) => row[ACTION]).length;
  const unnamed = review.rows.filter((row) => row[ACTION] === "relabel" && !row[LABEL]).length;
  const shown = items.filter((item) => !item.hidden).length;
  find("status").textContent =
    `${count(decided)} of ${count(review.rows.length)} decided` +
    (unnamed ? `; ${count(unnamed)} without a label` : "") +
    (shown < items.length ? `; ${count(shown)} shown` : "");
}

/* Show what a row holds in the choices of its item. */
function show(item) {
  const [row, select, input] = [rowOf(item), item.querySelector("select"), item.querySelector("input")];
  select.value = row[ACTION];
  input.hidden = row[ACTION] !== "relabel";
  item.classList.toggle("decided", row[ACTION] !== "");
}

function decide(item, action) {
  rowOf(item)[ACTION] = action;
  unsaved = true;
  show(item);
}

function filter() {
  const [words, kind, state] = [find("search").value.toLowerCase().trim(), find("kind").value, find("state").value];
  for (const section of document.querySelectorAll("section")) {
    for (const item of section.querySelectorAll("li")) {
      const fits = state === "" || (state === "decided") === (rowOf(item)[ACTION] !== "");
      item.hidden = !(fits && textOf(item).includes(words) && (kind === "" || section.id === "kind-" + kind));
    }
    section.hidden = !section.querySelector("li:not([hidden])");
  }
  tell();
}

for (const item of items) {
  const [row, input] = [rowOf(item), item.querySelector("input")];
  input.value = row[LABEL] || row[SUGGESTED];
  item.querySelector(".choice").hidden = false;
  item.querySelector("select").addEventListener("change", (event) => {
    if (event.target.value === "relabel") row[LABEL] = input.value.trim();
    decide(item, event.target.value);
    tell();
  });
  input.addEventListener("input", () => {
    row[LABEL] = input.value.trim();
    decide(item, "relabel");
    tell();
  });
  show(item);
}

const accept = find("accept");
if (accept) {
  accept.hidden = false;
  accept.addEventListener("click", () => {
    for (const item of document.querySelectorAll("#kind-label li:not([hidden])")) {
      const row = rowOf(item);
      if (row[ACTION] === "") {
        row[LABEL] = row[SUGGESTED];
        item.querySelector("input").value = row[LABEL];
        decide(item, "relabel");
      }
    }
    tell();
  });
}

for (const id of ["search", "kind", "state"]) {
  find(id).value = "";
  find(id).addEventListener("input", filter);
}
find("save").addEventListener("click", () => {
  saveFile("review.csv", csvText([review.columns, ...review.rows]));
  unsaved = false;
});
window.addEventListener("beforeunload", (event) => unsaved && event.preventDefault());
find("bar").hidden = false;
tell();
