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
  [...table.tHead.rows[0].cells].forEach((heading, column) => heading.addEventListener("click", () => sort(table, column)));
}

// Images: one list at a time, of one class or all, a page at a time; two layers with a border between them that follows the pointer.
const PER_PAGE = 6;

function browse(sheets) {
  const controls = document.getElementById("controls").elements;
  const browser = document.getElementById("browser");
  let page = 0;

  const sheet = () => sheets[controls.sheet.value];
  const chosen = () => sheet().samples.filter((sample) => !controls.class.value || sample.labels.includes(controls.class.value));

  function fill(select, names, wanted) {
    select.replaceChildren(...names.map(([text, value]) => new Option(text, value)));
    select.value = wanted;
  }

  function cut(percent) {
    controls.cut.value = percent;
    browser.style.setProperty("--cut", `${percent}%`);
  }

  function picture(sample, layer, over) {
    const image = new Image();
    image.src = sample.pictures[layer];
    image.alt = `${layer} of ${sample.id}`;
    image.className = `${layer === "image" ? "" : "label"} ${over ? "over" : ""}`;
    return image;
  }

  function figure(sample) {
    const pair = document.createElement("div");
    pair.className = "pair";
    pair.append(picture(sample, controls.left.value, false), picture(sample, controls.right.value, true));
    pair.addEventListener("pointermove", (event) => {
      const box = pair.getBoundingClientRect();
      cut(Math.round((100 * (event.clientX - box.left)) / box.width));
    });
    const caption = document.createElement("figcaption");
    caption.textContent = `${sample.id} (${sample.labels.join(", ")})`;
    const whole = document.createElement("figure");
    whole.append(pair, caption);
    return whole;
  }

  function show() {
    const samples = chosen();
    const pages = Math.max(1, Math.ceil(samples.length / PER_PAGE));
    page = Math.min(Math.max(page, 0), pages - 1);
    controls.page.value = `${page + 1} of ${pages}`;
    controls.back.disabled = page === 0;
    controls.on.disabled = page === pages - 1;
    browser.replaceChildren(...samples.slice(page * PER_PAGE, (page + 1) * PER_PAGE).map(figure));
  }

  function open() {
    const classes = [...new Set(sheet().samples.flatMap((sample) => sample.labels))].sort();
    fill(controls.class, [["all", ""], ...classes.map((name) => [name, name])], "");
    const layers = Object.keys(sheet().samples[0].pictures);
    const names = layers.map((name) => [name, name]);
    fill(controls.left, names, layers[Math.min(2, layers.length - 1)]);
    fill(controls.right, names, layers[layers.length - 1]);
    const keys = sheet().legend.map(([name, colour]) => {
      const key = document.createElement("span");
      const box = document.createElement("i");
      key.className = "key";
      box.style.background = colour;
      key.append(box, name);
      return key;
    });
    document.getElementById("legend").replaceChildren(...keys);
    page = 0;
    show();
  }

  controls.sheet.addEventListener("change", open);
  for (const name of ["class", "left", "right"]) controls[name].addEventListener("change", () => { page = name === "class" ? 0 : page; show(); });
  controls.back.addEventListener("click", () => { page -= 1; show(); });
  controls.on.addEventListener("click", () => { page += 1; show(); });
  controls.cut.addEventListener("input", () => cut(controls.cut.value));
  cut(50);
  open();
}

const data = document.getElementById("sheets");
if (data) browse(JSON.parse(data.textContent));
