// The keyboard scrolls what is wider than the page; each code block's buttons have a name of their own.
document$.subscribe(() => {
  for (const wide of document.querySelectorAll("pre > code, .md-typeset__scrollwrap"))
    if (wide.scrollWidth > wide.clientWidth) wide.tabIndex = 0;
  document.querySelectorAll(".md-code__nav").forEach((nav, number) =>
    nav.setAttribute("aria-label", `Code block ${number + 1}`));
});
