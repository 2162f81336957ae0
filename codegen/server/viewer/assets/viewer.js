// Optional additions to the viewer's pages: copying, arrow keys between records, filters that
// apply immediately.

{
  const copy = async (button, text) => {
    await navigator.clipboard.writeText(text);
    const before = button.textContent;
    button.textContent = "Copied";
    setTimeout(() => { button.textContent = before; }, 1500);
  };

  for (const button of document.querySelectorAll("[data-copies]")) {
    button.hidden = false;
    const block = button.parentElement.querySelector("pre");
    button.addEventListener("click", () => copy(button, block.dataset.text
      ?? [...block.children].filter((line) => !line.matches(".del, .none"))
        .map((line) => line.textContent).join("\n")));
  }
  for (const button of document.querySelectorAll("[data-copies-link]")) {
    button.hidden = false;
    button.addEventListener("click", () => copy(button, location.href));
  }
  for (const field of document.querySelectorAll("[data-submits]")) {
    field.addEventListener("change", () => field.form.requestSubmit());
  }
  // Empty fields would only lengthen URLs.
  for (const form of document.querySelectorAll("form")) {
    form.addEventListener("submit", () => {
      for (const field of form.elements) if (field.name && !field.value) field.disabled = true;
    });
  }
  addEventListener("pageshow", () => {
    for (const field of document.querySelectorAll("form :disabled")) field.disabled = false;
  });

  const pager = document.querySelector("[data-arrows]");
  addEventListener("keydown", (event) => {
    if (!pager || event.altKey || event.ctrlKey || event.metaKey || event.shiftKey) return;
    if (event.target.closest("input, select, textarea, pre, [data-stepper]")) return;
    const link = { ArrowLeft: "prev", ArrowRight: "next" }[event.key];
    pager.querySelector(`[rel="${link}"]`)?.click();
  });

  for (const field of document.querySelectorAll("[data-finds]")) {
    const list = document.querySelector(field.dataset.finds);
    const said = field.parentElement.querySelector("output");
    field.parentElement.hidden = false;
    field.addEventListener("input", () => {
      const wanted = field.value.trim().toLowerCase();
      let count = 0;
      for (const line of list.rows) {
        line.hidden = !line.textContent.toLowerCase().includes(wanted);
        count += !line.hidden;
      }
      said.textContent = wanted ? `${count} of ${list.rows.length}` : "";
    });
  }
}
