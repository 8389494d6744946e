"use strict";

// Tables: a press on a heading sorts by it, a second press turns the order round. Cells sort by their leading number if they have one.
function value(row, column) {
  const text = row.cells[column].textContent.trim();
  const number = parseFloat(text);
  return Number.isNaN(number) ? text : number;
}

function sort(table, column) {
  const heading = table.tHead.rows[0].cells[column];
  const rising = heading.getAttribute("aria-sort") !== "ascending";
  for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
  heading.setAttribute("aria-sort", rising ? "ascending" : "descending");
  const rows = [...table.tBodies[0].rows];
  rows.sort((a, b) => {
    const [first, second] = [value(a, column), value(b, column)];
    const order = typeof first === "number" && typeof second === "number" ? first - second : String(first).localeCompare(String(second));
    return rising ? order : -order;
  });
  table.tBodies[0].append(...rows);
}

for (const table of document.querySelectorAll("table.sortable")) {
  [...table.tHead.rows[0].cells].forEach((heading, column) => {
    const press = document.createElement("button"); // a keyboard reaches it
    press.type = "button";
    press.append(...heading.childNodes);
    press.addEventListener("click", () => sort(table, column));
    heading.append(press);
  });
}
