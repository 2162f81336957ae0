// The stepper: turns a list of steps into one step at a time. Without this script all steps can be
// read in the list.
"use strict";
for (const stepper of document.querySelectorAll("[data-stepper]")) {
  const steps = [...stepper.querySelectorAll(".steps > li")];
  const controls = stepper.querySelector(".controls");
  const [back, forward] = controls.querySelectorAll("button");
  const slider = controls.querySelector("input");
  const caption = controls.querySelector("output");
  let current = 0;

  const show = (number) => {
    current = Math.min(Math.max(number, 0), steps.length - 1);
    steps.forEach((step, i) => { step.hidden = i !== current; });
    slider.value = String(current);
    back.disabled = current === 0;
    forward.disabled = current === steps.length - 1;
    const text = steps[current].querySelector("summary").textContent.trim();
    caption.textContent = text;
    slider.setAttribute("aria-valuetext", text);
  };

  for (const step of steps) step.querySelector("details").open = true;
  // As tall as its tallest step, so that the page does not jump.
  stepper.classList.add("live");
  const tallest = Math.max(...steps.map((step) => step.offsetHeight));
  stepper.querySelector(".steps").style.minHeight = `${tallest}px`;
  slider.max = String(steps.length - 1);
  back.addEventListener("click", () => show(current - 1));
  forward.addEventListener("click", () => show(current + 1));
  slider.addEventListener("input", () => show(Number(slider.value)));
  stepper.addEventListener("keydown", (event) => {
    const to = {
      ArrowLeft: current - 1,
      ArrowRight: current + 1,
      Home: 0,
      End: steps.length - 1,
    }[event.key];
    if (to === undefined || event.altKey || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    show(to);
  });
  controls.hidden = false;
  show(steps.length - 1);
}
