// Tables with the class "sortable" are sorted by a button in the head of each column.
"use strict";
(() => {
  const collator = new Intl.Collator(undefined, { numeric: true, sensitivity: "base" });

  function compare(column, isNumber, sign) {
    return (a, b) => {
      const [first, second] = [a.cells[column], b.cells[column]];
      if (!isNumber) return sign * collator.compare(first.textContent, second.textContent);
      const [left, right] = [first.dataset.sort, second.dataset.sort];
      if (!left || !right) return Boolean(right) - Boolean(left); // what is unknown stays last
      return sign * (Number(left) - Number(right));
    };
  }

  function sort(table, head) {
    const isNumber = head.classList.contains("n");
    const before = head.getAttribute("aria-sort");
    const next = before === "none" ? (isNumber ? "descending" : "ascending")
      : before === "ascending" ? "descending" : "ascending";
    for (const other of table.tHead.rows[0].cells) other.setAttribute("aria-sort", "none");
    head.setAttribute("aria-sort", next);
    const order = compare(head.cellIndex, isNumber, next === "ascending" ? 1 : -1);
    const body = table.tBodies[0];
    body.append(...[...body.rows].sort(order));
  }

  for (const table of document.querySelectorAll("table.sortable")) {
    for (const head of table.tHead.rows[0].cells) {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      button.addEventListener("click", () => sort(table, head));
      head.append(button);
      head.setAttribute("aria-sort", "none");
    }
  }
})();
