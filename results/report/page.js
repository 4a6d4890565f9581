// What the whole page shares: theme, hovering, which block is shown, copying. Without scripts all is shown.
"use strict";
const Report = {
  data: JSON.parse(document.getElementById("report-data").textContent),
  svg(name, attributes = {}, text = null) {
    const made = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    if (text !== null) made.textContent = text;
    return made;
  },
  element(name, attributes = {}, ...children) {
    const made = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    made.append(...children);
    return made;
  },
  soft(text) { // may break after underscores, as long names must
    return text.split(/(?<=_)/).flatMap((part) => [part, document.createElement("wbr")]);
  },
  number(value) {
    if (value === null || Number.isNaN(value)) return "–";
    return String(Number(value.toPrecision(3)));
  },
};

(() => {
  const root = document.documentElement, button = document.getElementById("theme");
  const asked = window.matchMedia("(prefers-color-scheme: dark)");
  const dark = () => (root.dataset.theme ? root.dataset.theme === "dark" : asked.matches);
  const say = () => {
    button.textContent = dark() ? "Light" : "Dark";
    button.setAttribute("aria-pressed", String(dark()));
    button.setAttribute("aria-label", `Switch to ${dark() ? "light" : "dark"} colours`);
  };
  const remembered = (value) => {
    try {
      if (value) localStorage.setItem("report-theme", value);
      return localStorage.getItem("report-theme");
    } catch (error) {
      return null; // a page from a file may have no storage
    }
  };
  if (["light", "dark"].includes(remembered())) root.dataset.theme = remembered();
  button.addEventListener("click", () => {
    root.dataset.theme = dark() ? "light" : "dark";
    remembered(root.dataset.theme);
    say();
  });
  asked.addEventListener("change", say);
  say();
})();

(() => {
  const tip = document.getElementById("tip");
  const show = (target) => {
    tip.textContent = target.dataset.tip;
    tip.hidden = false;
    const at = target.getBoundingClientRect(), own = tip.getBoundingClientRect();
    const left = Math.min(Math.max(8, at.left + at.width / 2 - own.width / 2), innerWidth - own.width - 8);
    const above = at.top - own.height - 8;
    tip.style.left = `${Math.max(8, left)}px`;
    tip.style.top = `${above > 4 ? above : at.bottom + 8}px`;
  };
  const over = (event) => {
    const target = event.target.closest && event.target.closest("[data-tip]");
    if (!target) { tip.hidden = true; return; }
    show(target);
    if (event.type === "focusin") target.setAttribute("aria-describedby", "tip");
  };
  for (const kind of ["mouseover", "focusin", "click"]) document.addEventListener(kind, over);
  document.addEventListener("focusout", () => (tip.hidden = true));
  document.addEventListener("scroll", () => { // which a step of the keyboard may cause, whose tip stays
    const focused = document.activeElement?.closest("[data-tip]:focus-visible");
    if (focused && !tip.hidden) show(focused);
    else tip.hidden = true;
  }, { capture: true, passive: true });
  document.addEventListener("keydown", (event) => event.key === "Escape" && (tip.hidden = true));
})();

(() => {
  const pick = document.getElementById("pick-block");
  if (pick) {
    const show = () => {
      for (const part of document.querySelectorAll("[data-block]")) {
        part.hidden = pick.value !== "" && part.dataset.block !== pick.value;
      }
    };
    if (pick.options.length > 4) pick.selectedIndex = 1;
    pick.addEventListener("change", show);
    show();
    addEventListener("beforeprint", () => document.querySelectorAll("[data-block]").forEach((part) => (part.hidden = false)));
    addEventListener("afterprint", show);
  }
  for (const button of document.querySelectorAll(".show-more")) {
    const rows = button.parentElement.querySelectorAll(".extra");
    const show = (shown) => {
      rows.forEach((row) => (row.hidden = !shown));
      button.hidden = shown;
    };
    show(false);
    button.addEventListener("click", () => show(true));
    addEventListener("beforeprint", () => show(true));
  }
  for (const pick of document.querySelectorAll(".pick-pairs")) {
    pick.addEventListener("change", () => {
      for (const option of pick.options) document.getElementById(option.value).hidden = !option.selected;
    });
  }
  for (const button of document.querySelectorAll("[data-copy]")) {
    button.addEventListener("click", async () => {
      const source = document.getElementById(button.dataset.copy);
      try {
        await navigator.clipboard.writeText(source.textContent);
        button.textContent = "Copied";
      } catch (error) {
        getSelection().selectAllChildren(source); // no clipboard for a page from a file: it is marked instead
        button.textContent = "Marked";
      }
    });
  }
})();
