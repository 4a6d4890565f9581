// Curves: a panel per explainer with mean and band; a chosen one large, with single samples to point at.
(() => {
  const GAP = 65535;

  function singles(explainer, low, high) {
    const bytes = Uint8Array.from(atob(explainer.single), (letter) => letter.charCodeAt(0));
    const view = new DataView(bytes.buffer), found = [];
    for (let sample = 0; sample * explainer.points * 2 < bytes.length; sample++) {
      found.push(Array.from({ length: explainer.points }, (_, point) => {
        const step = view.getUint16((sample * explainer.points + point) * 2, true);
        return step === GAP ? null : low + (step / (GAP - 1)) * (high - low);
      }));
    }
    return found;
  }

  function ticks(low, high, count) { // round values within the bounds, about so many
    const rough = (high - low) / count, power = 10 ** Math.floor(Math.log10(rough));
    const step = power * [1, 2, 5, 10].reduce((best, factor) =>
      Math.abs(Math.log((power * factor) / rough)) < Math.abs(Math.log((power * best) / rough)) ? factor : best);
    const found = [];
    for (let number = Math.ceil(low / step); number * step <= high; number++) found.push(Number((number * step).toPrecision(12)));
    return found;
  }

  function frame(curves, wide, high, left, bottom, bounds, points) {
    const x = (point) => left + (point / Math.max(1, points - 1)) * (wide - left - 6);
    const y = (value) => 6 + (1 - (value - bounds[0]) / (bounds[1] - bounds[0])) * (high - bottom - 6);
    const drawing = Report.svg("svg", { viewBox: `0 0 ${wide} ${high}`, "aria-hidden": "true" });
    for (const value of ticks(bounds[0], bounds[1], high > 200 ? 5 : 2.5)) {
      drawing.append(Report.svg("line", { x1: left, x2: wide - 6, y1: y(value), y2: y(value), class: "grid" }));
      drawing.append(Report.svg("text", { x: left - 4, y: y(value) + 3.5, "text-anchor": "end" }, Report.number(value)));
    }
    drawing.append(Report.svg("text", { x: left, y: high - 3 }, "0"));
    drawing.append(Report.svg("text", { x: wide - 6, y: high - 3, "text-anchor": "end" }, String(points - 1)));
    return { drawing, x, y };
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

  function means(curves, explainer, place) {
    const control = curves.explainers.find((each) => each.name === curves.control);
    if (control && control.name !== explainer.name) {
      place.drawing.append(Report.svg("path", { d: path(control.mean, place.x, place.y), class: "reference" }));
    }
    place.drawing.append(band(explainer, place.x, place.y));
    place.drawing.append(Report.svg("path", { d: path(explainer.mean, place.x, place.y), class: "line" }));
  }

  function range(curves) {
    const all = curves.explainers.flatMap((each) => each.mean.flatMap((mean, point) =>
      mean === null ? [] : [mean - (each.half[point] || 0), mean + (each.half[point] || 0)]));
    const low = Math.min(...all), high = Math.max(...all);
    return high > low ? [low, high] : [low - 0.5, high + 0.5];
  }

  function pointed(place, explainer, event) {
    const box = place.drawing.getBoundingClientRect(), wide = place.drawing.viewBox.baseVal.width;
    const at = ((event.clientX - box.left) / box.width) * wide;
    const share = (at - place.x(0)) / (place.x(explainer.points - 1) - place.x(0));
    return Math.min(explainer.points - 1, Math.max(0, Math.round(share * (explainer.points - 1))));
  }

  function told(explainer, point) {
    const half = explainer.half[point] === null ? "" : ` ± ${Report.number(explainer.half[point])}`;
    return `${explainer.name}\npoint ${point}: ${Report.number(explainer.mean[point])}${half}\n${explainer.n} samples`;
  }

  function enlarge(holder, curves, explainer) {
    const single = holder.querySelector(".single"), bounds = [curves.low, curves.high];
    const place = frame(curves, 760, 340, 56, 22, bounds, explainer.points);
    const lines = singles(explainer, curves.low, curves.high).map((values, sample) => {
      const line = Report.svg("path", { d: path(values, place.x, place.y), class: "thin" });
      line.addEventListener("click", () => choose(sample));
      place.drawing.append(line);
      return line;
    });
    means(curves, explainer, place);
    const pick = Report.element("select", { "aria-label": "Sample" }, Report.element("option", { value: "" }, "no sample"),
      ...explainer.samples.map((sample, number) => Report.element("option", { value: number }, sample)));
    const says = Report.element("span", { class: "chosen-sample" });
    const choose = (sample) => {
      lines.forEach((line, number) => line.classList.toggle("chosen", number === sample));
      if (sample !== null) place.drawing.append(lines[sample]);
      pick.value = sample === null ? "" : String(sample);
      says.textContent = sample === null ? "" :
        `${explainer.samples[sample]}: ${curves.metric} ${Report.number(explainer.values[sample])}`;
    };
    pick.addEventListener("change", () => choose(pick.value === "" ? null : Number(pick.value)));
    place.drawing.addEventListener("mousemove", (event) => place.drawing.setAttribute("data-tip", told(explainer, pointed(place, explainer, event))));
    const few = explainer.samples.length < explainer.n ? ` The first ${explainer.samples.length} of ${explainer.n} samples.` : "";
    const words = Report.element("p", { class: "fine" }, `Thin: single samples; choose one.${few}`);
    const close = Report.element("button", { type: "button" }, "Close");
    close.addEventListener("click", () => { single.replaceChildren(); mark(holder, null); });
    single.replaceChildren(Report.element("h4", {}, `${explainer.name}: ${curves.axis}`),
      Report.element("div", { class: "tools" }, pick, says, close), place.drawing, words);
  }

  const mark = (holder, chosen) => holder.querySelectorAll(".panel").forEach((panel) =>
    panel.setAttribute("aria-expanded", String(panel === chosen)));

  function draw(holder, curves) {
    const bounds = range(curves), panels = holder.querySelector(".panels");
    holder.querySelector(".single").replaceChildren();
    const legend = [Report.element("span", { class: "key first" }, `${curves.axis}; across: point of the curve`)];
    if (curves.control) legend.push(Report.element("span", { class: "key dashed" }, `${curves.control} (control)`));
    holder.querySelector(".axis-name").replaceChildren(...legend);
    panels.replaceChildren(...curves.explainers.map((explainer) => {
      const place = frame(curves, 220, 132, 38, 14, bounds, explainer.points);
      means(curves, explainer, place);
      const name = explainer.name + (explainer.control ? " (control)" : "");
      const panel = Report.element("button", { type: "button", class: "panel", "aria-expanded": "false", "data-tip": name },
        Report.element("span", { class: "what" }, ...Report.soft(name)), place.drawing);
      panel.addEventListener("mousemove", (event) => {
        panel.dataset.tip = told(explainer, pointed(place, explainer, event));
      });
      panel.addEventListener("click", () => { mark(holder, panel); enlarge(holder, curves, explainer); });
      return panel;
    }));
  }

  for (const holder of document.querySelectorAll(".curves")) {
    const pick = holder.querySelector(".pick-curve");
    const show = () => draw(holder, Report.data.curves[Number(pick.value)]);
    pick.addEventListener("change", show);
    show();
  }
})();
