/* The choices of a review: each changes a row of the table, which is saved as review.csv. */

const review = pageData("review");
const [ACTION, LABEL] = ["action", "label"].map((name) => review.columns.indexOf(name));
const items = [...document.querySelectorAll(".findings li")];

function show() {
  const decided = review.rows.filter((row) => row[ACTION]).length;
  const unnamed = review.rows.filter((row) => row[ACTION] === "relabel" && !row[LABEL]).length;
  document.getElementById("status").textContent =
    `${decided.toLocaleString("en")} of ${review.rows.length.toLocaleString("en")} decided` +
    (unnamed ? `; ${unnamed} without a label` : "");
}

function decide(item, action) {
  const row = review.rows[Number(item.dataset.row)];
  const [select, input] = [item.querySelector("select"), item.querySelector("input")];
  select.value = row[ACTION] = action;
  input.hidden = action !== "relabel";
  if (action === "relabel") row[LABEL] = input.value.trim();
  item.classList.toggle("decided", action !== "");
}

for (const item of items) {
  item.querySelector(".choice").hidden = false;
  item.querySelector("select").addEventListener("change", (event) => {
    decide(item, event.target.value);
    show();
  });
  item.querySelector("input").addEventListener("input", () => {
    decide(item, "relabel");
    show();
  });
}

const accept = document.getElementById("accept");
if (accept) {
  accept.hidden = false;
  accept.addEventListener("click", () => {
    for (const item of document.querySelectorAll("#kind-label li")) decide(item, "relabel");
    show();
  });
}

document.getElementById("save").addEventListener("click", () => {
  saveFile("review.csv", csvText([review.columns, ...review.rows]));
});
document.getElementById("bar").hidden = false;
show();
