/* Finds and makes elements of a page. */

export function find(id) {
  return document.getElementById(id);
}

export function element(tag, text = "", className = "") {
  const made = document.createElement(tag);
  made.textContent = text;
  made.className = className;
  return made;
}
