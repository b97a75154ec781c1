/* A threshold that one moves, and curves of the class that one chooses. */

/* A chart of the page, into which more can be drawn. */
class Chart {
  constructor(id) {
    this.svg = document.getElementById(id);
    [this.left, this.top, this.right, this.bottom, this.x0, this.x1, this.y0, this.y1] =
      this.svg.dataset.limits.split(" ").map(Number);
  }

  x(value) {
    return this.left + ((this.right - this.left) * (value - this.x0)) / (this.x1 - this.x0);
  }

  y(value) {
    return this.bottom - ((this.bottom - this.top) * (value - this.y0)) / (this.y1 - this.y0);
  }

  mark(value) {
    const marker = this.svg.querySelector(".marker");
    marker.setAttribute("x1", this.x(value));
    marker.setAttribute("x2", this.x(value));
    marker.setAttribute("visibility", "visible");
  }

  /* Draw another line in place of the main one. */
  redraw(points) {
    const text = points.map(([x, y]) => `${this.x(x).toFixed(1)},${this.y(y).toFixed(1)}`).join(" ");
    this.svg.querySelector("polyline.main").setAttribute("points", text);
  }
}

function startThreshold({ answered, right }) {
  const slider = document.getElementById("threshold-value"), said = document.getElementById("threshold-said");
  const charts = [new Chart("chart-right"), new Chart("chart-answered")];
  const count = (number) => number.toLocaleString("en"), share = (part, all) => `${((100 * part) / all).toFixed(1)} %`;
  const show = () => {
    const at = Number(slider.value), threshold = at / (answered.length - 1), all = answered[0];
    const [now, good] = [answered[at], right[at]];
    document.getElementById("threshold-shown").textContent = threshold.toFixed(2);
    charts.forEach((chart) => chart.mark(threshold));
    said.textContent = now
      ? `${count(now)} of ${count(all)} images are answered (${share(now, all)}), and ${share(good, now)} of the answers are ` +
        `right: ${count(now - good)} mistakes instead of ${count(all - right[0])}. ${count(all - now)} images are left to a person.`
      : "Nothing is answered: no prediction is as sure as that.";
  };
  slider.addEventListener("input", show);
  document.getElementById("threshold").hidden = false;
  show();
}

function startCurves(curves) {
  const choice = document.getElementById("curve-of");
  const charts = [new Chart("chart-precision"), new Chart("chart-roc")];
  choice.addEventListener("change", () => {
    const { hits, alarms } = curves[Number(choice.value)], last = hits.length - 1;
    const points = hits.map((hit, i) => [hit / hits[last], hit / Math.max(1, hit + alarms[i])]);
    charts[0].redraw(points.slice(1));
    charts[1].redraw(hits.map((hit, i) => [alarms[i] / Math.max(1, alarms[last]), hit / hits[last]]));
  });
  document.getElementById("curve").hidden = false;
  for (const text of document.querySelectorAll(".curve-shown")) text.hidden = true;
}

{
  const data = pageData("confidence");
  if (data.answered) startThreshold(data);
  if (data.curves.length) startCurves(data.curves);
}
