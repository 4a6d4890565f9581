// Tables: sorting by a heading, holes last; rows that hold a text; columns of a kind.
(() => {
  const valueOf = (cell) => {
    const text = cell.dataset.value;
    if (text === undefined || text === "") return null;
    return cell.classList.contains("number") ? Number(text) : text;
  };
  const compare = (a, b) => (typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b)));

  for (const table of document.querySelectorAll("table.sortable")) {
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, place) => {
      head.querySelector("button").addEventListener("click", () => {
        const down = head.getAttribute("aria-sort") === "ascending";
        heads.forEach((other) => other.setAttribute("aria-sort", "none"));
        head.setAttribute("aria-sort", down ? "descending" : "ascending");
        const rows = [...table.tBodies[0].rows].map((row, order) => ({ row, order, value: valueOf(row.cells[place]) }));
        rows.sort((a, b) => {
          if (a.value === null || b.value === null) return (a.value === null) - (b.value === null) || a.order - b.order;
          return (down ? -1 : 1) * compare(a.value, b.value) || a.order - b.order;
        });
        table.tBodies[0].append(...rows.map((each) => each.row));
      });
    });
  }

  for (const box of document.querySelectorAll("[data-filter]")) {
    box.addEventListener("input", () => {
      const wanted = box.value.trim().toLowerCase();
      for (const row of document.getElementById(box.dataset.filter).tBodies[0].rows) {
        row.hidden = !row.cells[0].textContent.toLowerCase().includes(wanted);
      }
    });
  }

  for (const chip of document.querySelectorAll("[data-chip]")) {
    chip.addEventListener("click", () => {
      const on = chip.getAttribute("aria-pressed") !== "true";
      chip.setAttribute("aria-pressed", String(on));
      for (const cell of document.getElementById(chip.dataset.target).querySelectorAll("[data-kind]")) {
        if (cell.dataset.kind === chip.dataset.chip) cell.hidden = !on;
      }
    });
  }
})();
