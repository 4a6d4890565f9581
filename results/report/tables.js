// Tables: sorting by a heading, holes last; rows that hold a text; which columns are shown; saving as a CSV file.
(() => {
  const groupsOf = (table) => [...table.tBodies].filter((body) => !body.classList.contains("between"));
  const rowsOf = (table) => groupsOf(table).flatMap((body) => [...body.rows]);
  const valueOf = (cell) => {
    const text = cell.dataset.value;
    if (text === undefined || text === "") return null;
    return cell.classList.contains("number") ? Number(text) : text;
  };
  const compare = (a, b) => (typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b)));

  function sorted(rows, place, down) {
    const found = rows.map((row, order) => ({ row, order, value: valueOf(row.cells[place]) }));
    found.sort((a, b) => {
      if (a.value === null || b.value === null) return (a.value === null) - (b.value === null) || a.order - b.order;
      return (down ? -1 : 1) * compare(a.value, b.value) || a.order - b.order;
    });
    return found.map((each) => each.row);
  }

  for (const table of document.querySelectorAll("table.sortable")) {
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, place) => {
      head.querySelector("button").addEventListener("click", () => {
        const down = head.getAttribute("aria-sort") === "ascending";
        heads.forEach((other) => other.setAttribute("aria-sort", "none"));
        head.setAttribute("aria-sort", down ? "descending" : "ascending");
        for (const body of groupsOf(table)) body.append(...sorted([...body.rows], place, down));
      });
    });
  }

  for (const box of document.querySelectorAll("[data-filter]")) {
    const table = document.getElementById(box.dataset.filter);
    box.addEventListener("input", () => {
      const wanted = box.value.trim().toLowerCase();
      for (const row of rowsOf(table)) row.hidden = !row.cells[0].textContent.toLowerCase().includes(wanted);
      for (const body of table.querySelectorAll(".between")) {
        body.hidden = [...body.nextElementSibling.rows].every((row) => row.hidden);
      }
      Report.settle(table);
    });
  }

  // Which columns are shown: on a narrow page the main ones, else all, until the reader or the address says otherwise:
  // page.html#columns=srg,deletion
  const narrow = window.matchMedia("(max-width: 760px)");
  const named = () => {
    const found = location.hash.match(/^#columns=(.+)$/);
    return found ? found[1].split(",").map(decodeURIComponent) : null;
  };

  for (const chooser of document.querySelectorAll("[data-columns]")) {
    const table = document.getElementById(chooser.dataset.columns);
    const boxes = [...chooser.querySelectorAll("[data-column]")];
    const heads = [...table.tHead.rows[0].cells];
    const placeOf = (box) => heads.findIndex((head) => head.dataset.name === box.dataset.column);
    let chosen = false;

    const show = () => {
      for (const box of boxes) {
        const place = placeOf(box);
        for (const row of [table.tHead.rows[0], ...rowsOf(table)]) row.cells[place].hidden = !box.checked;
      }
      for (const group of chooser.querySelectorAll("[data-group]")) {
        const own = [...group.closest("fieldset").querySelectorAll("[data-column]")];
        group.checked = own.every((box) => box.checked);
        group.indeterminate = !group.checked && own.some((box) => box.checked);
      }
      const count = boxes.filter((box) => box.checked).length;
      chooser.querySelector(".count").textContent = ` ${count} of ${boxes.length}`;
      Report.settle(table);
    };
    const pick = (wanted) => { boxes.forEach((box) => (box.checked = wanted(box))); show(); };
    const byWidth = () => pick((box) => !narrow.matches || box.hasAttribute("data-main"));
    const byAddress = () => {
      const names = named();
      const known = names !== null && boxes.some((box) => names.includes(box.dataset.column));
      if (known) { chosen = true; pick((box) => names.includes(box.dataset.column)); }
      return known;
    };
    const tell = () => {
      chosen = true;
      const names = boxes.filter((box) => box.checked).map((box) => encodeURIComponent(box.dataset.column));
      history.replaceState(null, "", `#columns=${names.join(",")}`);
    };

    chooser.addEventListener("change", (event) => {
      if (event.target.hasAttribute("data-group")) {
        const own = event.target.closest("fieldset").querySelectorAll("[data-column]");
        own.forEach((box) => (box.checked = event.target.checked));
      }
      show();
      tell();
    });
    chooser.addEventListener("click", (event) => {
      const preset = event.target.dataset.show;
      if (!preset) return;
      pick((box) => preset === "all" || box.hasAttribute("data-main"));
      tell();
    });
    addEventListener("hashchange", byAddress);
    narrow.addEventListener("change", () => chosen || byWidth());
    addEventListener("beforeprint", () => chosen || pick((box) => box.hasAttribute("data-main"))); // paper does not scroll
    addEventListener("afterprint", () => chosen || byWidth());
    if (!byAddress()) byWidth();
  }

  const isNumber = (text) => text.trim() !== "" && Number.isFinite(Number(text));
  function field(value) { // text that a spreadsheet would take for a formula is marked as text
    const text = value === null || value === undefined ? "" : String(value);
    const safe = /^[=+\-@\t\r]/.test(text) && !isNumber(text) ? `'${text}` : text;
    return /[",\n\r]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
  }
  const partsOf = (cell, count) => {
    const own = cell.dataset.parts ? JSON.parse(cell.dataset.parts) : [];
    return Array.from({ length: count }, (_, place) => own[place]);
  };

  function asCsv(table) { // all rows in their present order, all columns with unrounded numbers, whatever is hidden
    const heads = [...table.tHead.rows[0].cells];
    const further = heads.map((head) => (head.dataset.parts ? JSON.parse(head.dataset.parts) : []));
    const top = heads.flatMap((head, place) =>
      [head.dataset.name, ...further[place].map((part) => `${head.dataset.name} ${part}`)]);
    const lines = rowsOf(table).map((row) => [...row.cells].flatMap((cell, place) =>
      [cell.dataset.value ?? cell.textContent.trim(), ...partsOf(cell, further[place].length)]));
    return [top, ...lines].map((line) => `${line.map(field).join(",")}\r\n`).join("");
  }

  for (const button of document.querySelectorAll("button.csv")) {
    const table = button.closest(".table-box").querySelector("table");
    button.addEventListener("click", () => {
      const address = URL.createObjectURL(new Blob([asCsv(table)], { type: "text/csv;charset=utf-8" }));
      const name = table.getAttribute("aria-label").replace(/[^\p{L}\p{N}]+/gu, "-").replace(/^-|-$/g, "").toLowerCase();
      Report.element("a", { href: address, download: `${name}.csv` }).click();
      setTimeout(() => URL.revokeObjectURL(address), 10000);
    });
  }
})();
