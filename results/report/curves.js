// Curves: a panel per explainer with mean and band; a chosen one large, with single samples to point at. Drawings are as
// wide as their place on the page, so that their letters have the page's size.
(() => {
  const GAP = 65535, LETTER = 6.3; // pixels of a letter of 11 px, about

  function singles(explainer, low, high) {
    const bytes = Uint8Array.from(atob(explainer.single), (letter) => letter.charCodeAt(0));
    const view = new DataView(bytes.buffer), found = [], points = explainer.places.length;
    for (let sample = 0; sample * points * 2 < bytes.length; sample++) {
      found.push(Array.from({ length: points }, (_, point) => {
        const step = view.getUint16((sample * points + point) * 2, true);
        return step === GAP ? null : low + (step / (GAP - 1)) * (high - low);
      }));
    }
    return found;
  }

  function ticks(low, high, count, least = 0) { // round values within the bounds, about so many, ``least`` apart
    const rough = (high - low) / count, power = 10 ** Math.floor(Math.log10(rough));
    const step = Math.max(least, power * [1, 2, 5, 10].reduce((best, factor) =>
      Math.abs(Math.log((power * factor) / rough)) < Math.abs(Math.log((power * best) / rough)) ? factor : best));
    const found = [];
    for (let number = Math.ceil(low / step - 1e-9); number * step <= high + step * 1e-9; number++) {
      found.push(Number((number * step).toPrecision(12)));
    }
    return found;
  }

  function frame(bounds, places, wide, high, name = "") {
    const up = ticks(...bounds, high > 200 ? 5 : 2.5), whole = places.every(Number.isInteger) ? 1 : 0;
    const left = 8 + LETTER * Math.max(...up.map((value) => Report.number(value).length)), right = wide - 10, bottom = high - 18;
    const first = places[0], last = places.at(-1);
    const x = (place) => left + (last > first ? (place - first) / (last - first) : 0) * (right - left);
    const y = (value) => 8 + (1 - (value - bounds[0]) / (bounds[1] - bounds[0])) * (bottom - 8);
    const drawing = Report.svg("svg", { viewBox: `0 0 ${wide} ${high}`, "aria-hidden": "true" });
    for (const value of up) {
      drawing.append(Report.svg("line", { x1: left, x2: right, y1: y(value), y2: y(value), class: "grid" }));
      drawing.append(Report.svg("text", { x: left - 5, y: y(value) + 4, "text-anchor": "end" }, Report.number(value)));
    }
    drawing.append(Report.svg("line", { x1: left, x2: right, y1: bottom, y2: bottom, class: "axis" }));
    const fits = name && right - left > LETTER * (name.length + 8); // else the legend alone names the axis
    const across = fits ? [first, last] : ticks(first, last, Math.max(2, Math.min(10, (right - left) / 60)), whole);
    for (const value of last > first ? across : [first]) {
      drawing.append(Report.svg("line", { x1: x(value), x2: x(value), y1: bottom, y2: bottom + 4, class: "axis" }));
      drawing.append(Report.svg("text", { x: x(value), y: high - 3, "text-anchor": "middle" }, Report.number(value)));
    }
    if (fits) drawing.append(Report.svg("text", { x: (left + right) / 2, y: high - 3, "text-anchor": "middle" }, name));
    return { drawing, x: (point) => x(places[point]), y };
  }

  function path(values, x, y) {
    let steps = "", open = false;
    values.forEach((value, point) => {
      if (value === null) { open = false; return; }
      steps += `${open ? "L" : "M"}${x(point).toFixed(1)} ${y(value).toFixed(1)}`;
      open = true;
    });
    return steps;
  }

  function band(explainer, x, y) {
    const known = explainer.mean.map((mean, point) => [mean, explainer.half[point], point]).filter((each) => each[1] !== null);
    const upper = known.map(([mean, half, point]) => `${x(point).toFixed(1)},${y(mean + half).toFixed(1)}`);
    const lower = known.reverse().map(([mean, half, point]) => `${x(point).toFixed(1)},${y(mean - half).toFixed(1)}`);
    return Report.svg("polygon", { points: [...upper, ...lower].join(" "), class: "band" });
  }

  const controlOf = (curves) => curves.explainers.find((each) => each.name === curves.control);

  function means(curves, explainer, place) {
    const control = controlOf(curves);
    if (control && control.name !== explainer.name && control.places.length === explainer.places.length) {
      place.drawing.append(Report.svg("path", { d: path(control.mean, place.x, place.y), class: "reference" }));
    }
    place.drawing.append(band(explainer, place.x, place.y));
    place.drawing.append(Report.svg("path", { d: path(explainer.mean, place.x, place.y), class: "line" }));
  }

  function range(explainers, single = []) { // the least and the largest height of bands and single curves
    const all = explainers.flatMap((each) => each.mean.flatMap((mean, point) =>
      mean === null ? [] : [mean - (each.half[point] || 0), mean + (each.half[point] || 0)]));
    all.push(...single.flat().filter((value) => value !== null));
    const low = Math.min(...all), high = Math.max(...all);
    return high > low ? [low, high] : [low - 0.5, high + 0.5];
  }

  function pointed(place, explainer, event) {
    const box = place.drawing.getBoundingClientRect(), wide = place.drawing.viewBox.baseVal.width;
    const at = ((event.clientX - box.left) / box.width) * wide;
    const away = explainer.places.map((_, point) => Math.abs(place.x(point) - at));
    return away.indexOf(Math.min(...away));
  }

  function told(curves, explainer, point) {
    const half = explainer.half[point] === null ? "" : ` ± ${Report.number(explainer.half[point])}`;
    const where = `${curves.across}: ${Report.number(explainer.places[point])}`;
    return `${explainer.name}\n${where}\n${curves.height}: ${Report.number(explainer.mean[point])}${half}\n${explainer.n} samples`;
  }

  const titled = (arrow, name) => Report.element("p", { class: "axis-title" }, `${arrow} ${name}`);

  function enlarge(holder, curves, explainer) {
    const single = holder.querySelector(".single"), wide = Math.min(900, holder.clientWidth);
    const own = singles(explainer, curves.low, curves.high), shown = [explainer, controlOf(curves) || explainer];
    const place = frame(range(shown, own), explainer.places, wide, wide < 500 ? 260 : 340);
    const lines = own.map((values, sample) => {
      const line = Report.svg("path", { d: path(values, place.x, place.y), class: "thin" });
      line.addEventListener("click", () => choose(sample));
      place.drawing.append(line);
      return line;
    });
    means(curves, explainer, place);
    place.drawing.setAttribute("aria-hidden", "false");
    explainer.mean.forEach((mean, point) => {
      const tip = told(curves, explainer, point), at = { cx: place.x(point), cy: place.y(mean), r: 3.5, class: "point" };
      if (mean !== null) place.drawing.append(Report.svg("circle", { ...at, role: "img", "data-tip": tip, "aria-label": tip }));
    });
    const pick = Report.element("select", { "aria-label": "Sample" }, Report.element("option", { value: "" }, "no sample"),
      ...explainer.samples.map((sample, number) => Report.element("option", { value: number }, sample)));
    const says = Report.element("span", { class: "chosen-sample" });
    const choose = (sample) => {
      lines.forEach((line, number) => line.classList.toggle("chosen", number === sample));
      if (sample !== null) lines.at(-1).after(lines[sample]);
      pick.value = sample === null ? "" : String(sample);
      says.textContent = sample === null ? "" :
        `${explainer.samples[sample]}: ${curves.metric} ${Report.number(explainer.values[sample])}`;
    };
    pick.addEventListener("change", () => choose(pick.value === "" ? null : Number(pick.value)));
    place.drawing.addEventListener("mousemove", (event) =>
      place.drawing.setAttribute("data-tip", told(curves, explainer, pointed(place, explainer, event))));
    const few = explainer.samples.length < explainer.n ? ` The first ${explainer.samples.length} of ${explainer.n} samples.` : "";
    const words = Report.element("p", { class: "fine" }, `Thin: single samples; choose one.${few}`);
    const close = Report.element("button", { type: "button" }, "Close");
    close.addEventListener("click", () => { single.replaceChildren(); mark(holder, null)?.focus(); });
    single.replaceChildren(Report.element("h4", {}, `${explainer.name}: ${curves.metric}`),
      Report.element("div", { class: "tools" }, pick, says, close),
      titled("↑", curves.height), place.drawing, titled("→", curves.across), words);
    Report.rove.byPlace(place.drawing);
  }

  function mark(holder, chosen) { // the panel that was chosen before
    const before = holder.querySelector('.panel[aria-expanded="true"]');
    holder.querySelectorAll(".panel").forEach((panel) => panel.setAttribute("aria-expanded", String(panel === chosen)));
    return before;
  }

  function legend(curves) {
    const control = curves.control ? [Report.element("span", { class: "key dashed" }, `${curves.control} (control)`)] : [];
    return [
      Report.element("span", { class: "key first" }, "mean over samples"),
      Report.element("span", { class: "key band-key" }, "its 95 % interval"), ...control,
      Report.element("span", { class: "axes" }, `↑ ${curves.height}`), Report.element("span", { class: "axes" }, `→ ${curves.across}`),
    ];
  }

  function panelOf(holder, curves, explainer) {
    const name = explainer.name + (explainer.control ? " (control)" : "");
    const panel = Report.element("button", { type: "button", class: "panel", "aria-expanded": "false", "data-tip": name },
      Report.element("span", { class: explainer.control ? "what of-control" : "what" }, ...Report.soft(name)));
    panel.addEventListener("click", () => { mark(holder, panel); enlarge(holder, curves, explainer); });
    return panel;
  }

  function draw(holder, curves) {
    const bounds = range(curves.explainers), panels = holder.querySelector(".panels");
    const opened = [...panels.children].findIndex((panel) => panel.getAttribute("aria-expanded") === "true");
    const same = Number(holder.dataset.shown) === curves.number && opened >= 0;
    holder.dataset.shown = curves.number;
    holder.querySelector(".single").replaceChildren();
    holder.querySelector(".axis-name").replaceChildren(...legend(curves));
    panels.replaceChildren(...curves.explainers.map((explainer) => panelOf(holder, curves, explainer)));
    const wide = panels.firstElementChild.clientWidth - 12;
    curves.explainers.forEach((explainer, number) => {
      const panel = panels.children[number], place = frame(bounds, explainer.places, wide, Math.round(wide * 0.62), curves.across);
      means(curves, explainer, place);
      panel.append(place.drawing);
      panel.addEventListener("mousemove", (event) => {
        panel.dataset.tip = told(curves, explainer, pointed(place, explainer, event));
      });
    });
    Report.settle(panels);
    if (same) panels.children[opened].click();
  }

  Report.data.curves.forEach((curves, number) => (curves.number = number));
  for (const holder of document.querySelectorAll(".curves")) {
    const pick = holder.querySelector(".pick-curve");
    const show = () => draw(holder, Report.data.curves[Number(pick.value)]);
    let wide = 0;
    Report.rove.byLine(holder.querySelector(".panels"), ".panel");
    new ResizeObserver(() => {
      if (!holder.clientWidth || holder.clientWidth === wide) return;
      wide = holder.clientWidth;
      show();
    }).observe(holder);
    pick.addEventListener("change", show);
  }
})();
