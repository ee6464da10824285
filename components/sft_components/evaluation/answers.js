(() => {
  const filter = document.querySelector(".filter");
  const buttons = [...filter.querySelectorAll("button")];
  const search = filter.querySelector("input");
  const status = document.getElementById("shown");
  const rows = [...document.querySelectorAll(".answer")].map((element) => ({
    element,
    kind: element.dataset.kind,
    text: [...element.querySelectorAll("dd")].map((dd) => dd.textContent).join("\n").toLowerCase(),
  }));
  let kind = "";
  const show = () => {
    const wanted = search.value.trim().toLowerCase();
    let count = 0;
    for (const row of rows) {
      const shown = (!kind || row.kind === kind) && row.text.includes(wanted);
      row.element.hidden = !shown;
      count += shown;
    }
    status.textContent = `${count} of ${rows.length} rows`;
  };
  for (const button of buttons) {
    button.addEventListener("click", () => {
      kind = button.dataset.kind;
      for (const other of buttons) other.setAttribute("aria-pressed", String(other === button));
      show();
    });
  }
  search.addEventListener("input", show);
  filter.hidden = false;
  show();
})();
