// Gallery: a tile opens what the explainer says of the sample and how far to trust it.
(() => {
  const dialog = document.getElementById("detail"), body = document.getElementById("detail-body");
  document.addEventListener("click", (event) => {
    const tile = event.target.closest("[data-tile]");
    if (!tile) return;
    const words = Report.data.tiles[tile.dataset.tile];
    const row = tile.closest("tr"), pictures = Report.element("div", { class: "pictures" });
    const shown = [row && row.querySelector("th img, th svg"), tile.querySelector("img, svg, .tokens")];
    for (const picture of shown) if (picture) pictures.append(picture.cloneNode(true));
    body.className = "detail";
    body.replaceChildren(Report.element("h4", {}, words.title), pictures,
      Report.element("p", { class: "says" }, words.says), Report.element("p", { class: "trust" }, words.trust));
    dialog.showModal();
  });
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
})();
