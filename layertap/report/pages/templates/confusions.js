/* A cell of the matrix opens its images, and closes them again. */

function openMistakes(opens, label) {
  for (const button of document.querySelectorAll("[data-opens]")) {
    button.setAttribute("aria-pressed", String(button.dataset.opens === opens));
  }
  let count = 0;
  for (const image of document.querySelectorAll("[data-pair]")) {
    image.hidden = opens !== null && image.dataset.pair !== opens;
    count += Number(!image.hidden);
  }
  for (const list of document.querySelectorAll(".mistakes, .gallery")) {
    const images = [...list.querySelectorAll("[data-pair]")];
    if (images.length) list.closest("section").hidden = images.every((image) => image.hidden);
  }
  document.getElementById("mistakes-status").textContent = opens === null ? "" : `${label}; ${count} shown.`;
  document.getElementById("mistakes-all").hidden = opens === null;
  if (opens !== null) document.getElementById("opened").scrollIntoView({ block: "start" });
}

for (const button of document.querySelectorAll("[data-opens]")) {
  button.addEventListener("click", () => {
    const closes = button.getAttribute("aria-pressed") === "true";
    openMistakes(closes ? null : button.dataset.opens, button.getAttribute("aria-label"));
  });
}
{
  const all = document.getElementById("mistakes-all");
  if (all) all.addEventListener("click", () => openMistakes(null, ""));
}
