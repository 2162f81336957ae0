// For the keyboard and screen readers: what is wider than the page scrolls; search and code blocks have names.
document$.subscribe(() => {
  for (const wide of document.querySelectorAll("pre > code, .md-typeset__scrollwrap"))
    if (wide.scrollWidth > wide.clientWidth) wide.tabIndex = 0;
  document.querySelectorAll(".md-code__nav").forEach((nav, number) =>
    nav.setAttribute("aria-label", `Code block ${number + 1}`));
  document.querySelector(".md-search")?.setAttribute("aria-label", "Search");
});
