/* The sections of a page as tabs. Without this script they stand below each other. */

class Tabs {
  constructor(panels) {
    this.panels = panels;
    this.list = element("div", { class: "tabs", role: "tablist", "aria-label": "Parts of the report" });
    this.buttons = panels.map((panel) => {
      const button = element("button", { type: "button", role: "tab", id: `tab-${panel.id}`, "aria-controls": panel.id },
        panel.dataset.tab);
      panel.setAttribute("role", "tabpanel");
      panel.setAttribute("aria-labelledby", button.id);
      panel.tabIndex = -1;
      button.addEventListener("click", () => this.open(panel, true));
      return button;
    });
    this.list.append(...this.buttons);
    this.list.addEventListener("keydown", (event) => this._key(event));
    panels[0].before(this.list);
    window.addEventListener("hashchange", () => this._follow());
    if (!this._follow()) this.open(panels[0], false);
  }

  open(panel, remember) {
    this.panels.forEach((other, at) => {
      const chosen = other === panel, button = this.buttons[at];
      other.hidden = !chosen;
      button.setAttribute("aria-selected", String(chosen));
      button.tabIndex = chosen ? 0 : -1;
      if (chosen) button.scrollIntoView({ block: "nearest", inline: "nearest" });
    });
    if (remember) history.replaceState(null, "", `#${panel.id}`);
  }

  /* Open the tab that holds what the address names. */
  _follow() {
    const named = document.getElementById(addressed());
    const panel = named && named.closest("[data-tab]");
    if (!panel) return false;
    this.open(panel, false);
    if (named !== panel) named.scrollIntoView();
    return true;
  }

  _key(event) {
    const at = this.buttons.indexOf(document.activeElement), last = this.buttons.length - 1;
    const to = { ArrowRight: at === last ? 0 : at + 1, ArrowLeft: at === 0 ? last : at - 1, Home: 0, End: last }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    this.open(this.panels[to], true);
    this.buttons[to].focus();
  }
}

/* The id that the address names; an address may hold anything. */
function addressed() {
  const text = location.hash.slice(1);
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

{
  const panels = [...document.querySelectorAll("[data-tab]")];
  if (panels.length > 1) new Tabs(panels);
}
