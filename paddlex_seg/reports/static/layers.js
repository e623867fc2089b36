// Enlarged images: their panels move together, by scrolling or dragging, and zoom with a pinch or Ctrl and the wheel.
"use strict";
(() => {
  for (const figure of document.querySelectorAll(".case")) {
    const views = [...figure.querySelectorAll(".view")];
    const zooms = [...figure.querySelectorAll("input[type=radio]")];
    const zoomNow = () => Number(zooms.find((zoom) => zoom.checked).value);
    let zoom = zoomNow();

    // The point of the image under (x, y), pixels of the view, stays there.
    function apply(x, y) {
      const factor = zoomNow() / zoom;
      zoom = zoomNow();
      for (const view of views) {
        view.scrollTo((view.scrollLeft + x) * factor - x, (view.scrollTop + y) * factor - y);
        if (zoom > 1) view.tabIndex = 0;
        else view.removeAttribute("tabindex");
      }
    }

    function step(direction, x, y) {
      const next = zooms[zooms.findIndex((zoom) => zoom.checked) + direction];
      if (!next) return;
      next.checked = true;
      apply(x, y);
    }

    for (const input of zooms) {
      input.addEventListener("change", () => apply(views[0].clientWidth / 2, views[0].clientHeight / 2));
    }

    for (const view of views) {
      view.addEventListener("scroll", () => {
        for (const other of views) {
          if (other !== view) other.scrollTo(view.scrollLeft, view.scrollTop);
        }
      }, { passive: true });

      let turned = 0; // a pinch gives many small turns
      view.addEventListener("wheel", (event) => {
        if (!event.ctrlKey) return; // the page scrolls
        event.preventDefault();
        turned += event.deltaY;
        if (Math.abs(turned) < 40) return;
        const place = view.getBoundingClientRect();
        step(turned < 0 ? 1 : -1, event.clientX - place.left, event.clientY - place.top);
        turned = 0;
      }, { passive: false });

      view.addEventListener("pointerdown", (event) => {
        if (event.pointerType !== "mouse" || event.button !== 0 || zoom === 1) return;
        event.preventDefault();
        view.focus({ preventScroll: true });
        view.setPointerCapture(event.pointerId);
      });
      view.addEventListener("pointermove", (event) => {
        if (view.hasPointerCapture(event.pointerId)) view.scrollBy(-event.movementX, -event.movementY);
      });
    }
    apply(0, 0);
  }
})();
