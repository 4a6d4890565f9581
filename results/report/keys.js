// Keyboard: each table, plot and set of tiles is one stop of the Tab key; arrow keys, Home and End move inside it.
(() => {
  const STEPS = { ArrowRight: [0, 1], ArrowLeft: [0, -1], ArrowDown: [1, 0], ArrowUp: [-1, 0] };
  const shown = (element, holder) => {
    for (let each = element; each && each !== holder; each = each.parentElement) if (each.hidden) return false;
    return true;
  };

  function byLine(holder, what) { // elements as rows, by their place on the page
    const lines = [];
    for (const item of holder.querySelectorAll(what)) {
      const top = item.getBoundingClientRect().top, last = lines.at(-1);
      if (last && Math.abs(last.top - top) < 4) last.items.push(item);
      else lines.push({ top, items: [item] });
    }
    return lines.map((line) => line.items);
  }
  const byCell = (table) => [...table.rows].filter((row) => !row.closest(".between"))
    .map((row) => [...row.cells].map((cell) => cell.querySelector("button") || cell));
  const byPlace = (plot) => { // the marks of a plot from left to right
    const at = (mark) => mark.getBoundingClientRect().left;
    return [[...plot.querySelectorAll("[data-tip]")].sort((a, b) => at(a) - at(b))];
  };

  function moved(rows, from, key, far) {
    const row = rows.findIndex((each) => each.includes(from)), place = rows[row].indexOf(from);
    if (key === "Home") return rows[far ? 0 : row][0];
    if (key === "End") return rows[far ? rows.length - 1 : row].at(-1);
    const [down, right] = STEPS[key];
    if (rows.length === 1) return rows[0][place + down + right];
    const next = rows[row + down];
    return next && next[right ? place + right : Math.min(place, next.length - 1)];
  }

  const holders = new Map(); // element to a function that makes its first visible item the stop, if none is
  function rove(holder, rowsOf) {
    const rows = () => rowsOf(holder).map((row) => row.filter((item) => shown(item, holder))).filter((row) => row.length);
    let stop = null;
    const settle = () => {
      if (!stop || !holder.contains(stop) || !shown(stop, holder)) stop = (rows()[0] || [])[0] || null;
      for (const item of rowsOf(holder).flat()) if (item !== stop && item.tabIndex >= 0) item.tabIndex = -1;
      if (stop) stop.tabIndex = 0;
    };
    settle();
    const heard = holder instanceof SVGElement ? holder.parentElement : holder; // a listener would make a drawing a stop
    heard.addEventListener("focusin", (event) => {
      const item = rows().flat().find((each) => each === event.target);
      if (!item || item === stop) return;
      if (stop) stop.tabIndex = -1;
      stop = item;
      stop.tabIndex = 0;
    });
    heard.addEventListener("keydown", (event) => {
      const moves = event.key in STEPS || event.key === "Home" || event.key === "End";
      if (!moves || event.altKey || event.metaKey || !rows().some((row) => row.includes(event.target))) return;
      const target = moved(rows(), event.target, event.key, event.ctrlKey);
      event.preventDefault();
      if (!target) return;
      target.tabIndex = 0; // so that it can take the focus, which makes it the stop
      target.focus();
    });
    holders.set(holder, settle);
  }

  Report.settle = (holder) => holders.get(holder)?.();
  Report.rove = { byLine: (holder, what) => rove(holder, () => byLine(holder, what)), byPlace: (plot) => rove(plot, byPlace) };

  for (const table of document.querySelectorAll("main table")) {
    table.setAttribute("role", "grid");
    table.closest(".scroll")?.removeAttribute("tabindex"); // its cells scroll it
    rove(table, byCell);
  }
  for (const texts of document.querySelectorAll(".passages")) Report.rove.byLine(texts, ".tile");
  for (const plot of document.querySelectorAll("svg.plot")) if (plot.querySelector("[data-tip]")) Report.rove.byPlace(plot);
})();
