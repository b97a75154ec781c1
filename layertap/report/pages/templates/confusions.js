/* A cell of the matrix opens its images, and closes them again. */

for (const button of document.querySelectorAll("[data-opens]")) {
  button.addEventListener("click", () => {
    const opens = button.getAttribute("aria-pressed") !== "true" ? button.dataset.opens : null;
    for (const other of document.querySelectorAll("[data-opens]")) {
      other.setAttribute("aria-pressed", String(other.dataset.opens === opens));
    }
    let count = 0;
    for (const image of document.querySelectorAll("[data-pair]")) {
      image.hidden = opens !== null && image.dataset.pair !== opens;
      count += Number(!image.hidden);
    }
    const label = `${button.getAttribute("aria-label")}; ${count} shown.`;
    document.getElementById("mistakes-status").textContent = opens === null ? "" : label;
    if (opens !== null) document.getElementById("mistakes").scrollIntoView({ block: "start" });
  });
}
