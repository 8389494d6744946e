"use strict";

// Images of a list: photographs, each with two layers over it that meet at a border. A layer is a label map or a heat map.
const PER_PAGE = 12;
const at = (id) => document.getElementById(id);

function element(kind, properties, ...children) {
  const made = Object.assign(document.createElement(kind), properties);
  made.append(...children);
  return made;
}

// Draw into `canvas` the pixels of a label map that lie at a border between labels; background is transparent there.
function outline(image, canvas) {
  const [width, height] = [image.naturalWidth, image.naturalHeight];
  Object.assign(canvas, { width, height });
  const context = canvas.getContext("2d");
  context.drawImage(image, 0, 0);
  const picture = context.getImageData(0, 0, width, height);
  const pixels = new Uint32Array(picture.data.buffer);
  const labels = pixels.slice();
  const far = Math.max(1, Math.round(width / 220)); // thickness in pixels
  for (let y = 0; y < height; y += 1) {
    for (let x = 0; x < width; x += 1) {
      const own = labels[y * width + x];
      const around = [[x - far, y], [x + far, y], [x, y - far], [x, y + far]].filter(([a, b]) => a >= 0 && b >= 0 && a < width && b < height);
      if (around.every(([a, b]) => labels[b * width + a] === own)) pixels[y * width + x] = 0;
    }
  }
  context.putImageData(picture, 0, 0);
}

function browse(sheets) {
  const [browser, large, stage, strip] = ["browser", "large", "stage", "strip"].map(at);
  let page = 0;
  let open = -1; // the place of the large image among those chosen
  let heated = ""; // the class whose heat map is shown, where an image has it

  const sheet = () => sheets[at("sheet").value];
  const layer = (side) => sheet().layers[at(side).value]; // undefined: the photograph alone

  function judged(sample) {
    const scored = [at("right").value, at("left").value, ...sheet().layers.keys()].find((place) => sample.scores[place]);
    if (scored === undefined) return null;
    return (sheet().layers[scored].lower ? -1 : 1) * sample.scores[scored][0];
  }

  function apart(sample) {
    const [one, other] = ["left", "right"].map((side) => sample.scores[at(side).value]);
    return one && other ? Math.abs(one[0] - other[0]) : 0;
  }

  const ORDERS = {
    varied: () => 0,
    worst: (a, b) => judged(a) - judged(b),
    best: (a, b) => judged(b) - judged(a),
    apart: (a, b) => apart(b) - apart(a),
  };

  function chosen() {
    const wanted = at("class").value;
    const found = sheet().samples.filter((sample) => !wanted || sample.labels.includes(wanted));
    const ordered = found.filter((sample) => judged(sample) !== null).sort(ORDERS[at("order").value]);
    return [...ordered, ...found.filter((sample) => judged(sample) === null)];
  }

  function told(sample) {
    const places = [...new Set([at("left").value, at("right").value])].filter((place) => sample.scores[place]);
    return places.map((place) => `${sheet().layers[place].title}: ${sheet().layers[place].metric} ${sample.scores[place][1]}`).join("; ");
  }

  function heatOf(sample, place) {
    const maps = sample.pictures[place];
    const name = [heated, at("class").value].find((one) => one in maps) ?? Object.keys(maps)[0];
    return [maps[name], name];
  }

  // One side of a picture: a layer over the photograph, cut off at the border, with its title in a corner.
  function over(sample, side) {
    const place = at(side).value;
    const about = sheet().layers[place];
    if (!about) return element("span", { className: `over ${side}` }, element("span", { className: "tag", textContent: "photograph" }));
    const [source, name] = about.heat ? heatOf(sample, place) : [sample.pictures[place], ""];
    const tag = element("span", { className: "tag", textContent: name ? `${about.title}: ${name}` : about.title });
    const box = element("span", { className: `over ${side}` }, tag);
    if (!source) return box;
    const image = element("img", { src: source, alt: "", className: about.heat ? "fill" : "fill label" });
    box.prepend(image);
    if (!about.heat) {
      const edges = element("canvas", { className: "edges" });
      image.after(edges);
      image.decode().then(() => outline(image, edges));
    }
    return box;
  }

  function picture(sample) {
    const alone = at("left").value === at("right").value;
    const sides = alone ? ["right"] : ["left", "right"];
    const names = sides.map((side) => layer(side)?.title ?? "photograph alone").join(" and ");
    const alt = `${sample.id}, ${sample.labels.join(", ") || "no class"}, with ${names}`;
    const stack = element("span", { className: alone ? "stack alone" : "stack" }, element("img", { src: sample.photograph, alt }));
    stack.append(...sides.map((side) => over(sample, side)));
    stack.style.setProperty("--ratio", sample.size[0] / sample.size[1]);
    stack.addEventListener("pointermove", (event) => {
      const box = stack.getBoundingClientRect();
      cut(Math.round((100 * (event.clientX - box.left)) / box.width));
    });
    return stack;
  }

  function cut(percent) {
    at("cut").value = percent;
    document.body.style.setProperty("--cut", `${percent}%`);
  }

  function card(sample, place) {
    const captions = [`${sample.id} (${sample.labels.join(", ")})`, told(sample)].map((text) => element("span", { className: "caption", textContent: text }));
    const made = element("button", { type: "button", className: "card" }, picture(sample), ...captions);
    made.addEventListener("click", () => enlarge(place));
    return made;
  }

  function show() {
    const samples = chosen();
    const pages = Math.max(1, Math.ceil(samples.length / PER_PAGE));
    page = Math.min(Math.max(page, 0), pages - 1);
    at("page").value = `${page + 1} of ${pages}`;
    at("back").disabled = page === 0;
    at("on").disabled = page === pages - 1;
    const first = page * PER_PAGE;
    browser.replaceChildren(...samples.slice(first, first + PER_PAGE).map((sample, index) => card(sample, first + index)));
    at("legend").replaceChildren(...sheet().legend.map(key), ...scale());
    document.body.classList.toggle("outlined", at("outlines").checked);
    document.body.style.setProperty("--opacity", at("opacity").value / 100);
  }

  function key([name, colour]) {
    const box = element("i", {});
    box.style.background = colour;
    return element("span", { className: "key" }, box, name);
  }

  function scale() {
    if (!layer("left")?.heat && !layer("right")?.heat) return [];
    const bar = element("i", {});
    bar.style.background = `linear-gradient(to right, ${sheet().heat.join(", ")})`;
    return [element("span", { className: "key scale" }, "map: 0", bar, "1")];
  }

  // The large view. The controls of layers move into it while it is open, because the rest of the page cannot be reached then.
  function enlarge(place) {
    open = place;
    at("place").append(at("layers"));
    if (!large.open) large.showModal();
    draw();
    stage.focus();
  }

  function draw() {
    const samples = chosen();
    const sample = samples[open];
    stage.replaceChildren(picture(sample));
    const about = [`${open + 1} of ${samples.length}: ${sample.id} (${sample.labels.join(", ")})`, told(sample)];
    at("caption").textContent = about.filter(Boolean).join(". ");
    at("keys").replaceChildren(...sample.legend.map((index) => key(sheet().legend[index])), ...scale());
    const within = strip.contains(document.activeElement);
    strip.replaceChildren(...thumbnails(sample));
    if (within) (strip.querySelector("[aria-pressed=true]") ?? stage).focus();
  }

  function thumbnails(sample) {
    const all = sheet().layers.flatMap((about, place) => {
      if (!about.heat) return sample.pictures[place] ? [[place, "", about.title]] : [];
      return Object.keys(sample.pictures[place]).map((name) => [place, name, `${about.title}: ${name}`]);
    });
    return [["", "", "photograph"], ...all].map(([place, name, title]) => thumbnail(sample, String(place), name, title));
  }

  function thumbnail(sample, place, name, title) {
    const stack = element("span", { className: "stack alone" }, element("img", { src: sample.photograph, alt: "" }));
    const source = name ? sample.pictures[place][name] : sample.pictures[place];
    if (source) stack.append(element("span", { className: "over" }, element("img", { src: source, alt: "", className: name ? "fill" : "fill label" })));
    const made = element("button", { type: "button" }, stack, title);
    const shown = at("right").value === place && (!name || heatOf(sample, place)[1] === name);
    made.setAttribute("aria-pressed", shown);
    made.addEventListener("click", () => {
      at("right").value = place;
      heated = name || heated;
      draw();
    });
    return made;
  }

  function step(by) {
    open = (open + by + chosen().length) % chosen().length;
    draw();
  }

  function stepLayer(by) {
    const all = [...strip.children];
    const now = all.findIndex((one) => one.getAttribute("aria-pressed") === "true");
    all[(now + by + all.length) % all.length].click();
  }

  const KEYS = {
    ArrowRight: () => step(1),
    ArrowLeft: () => step(-1),
    ArrowDown: () => stepLayer(1),
    ArrowUp: () => stepLayer(-1),
    Home: () => step(-open),
    End: () => step(-open - 1),
  };

  large.addEventListener("keydown", (event) => {
    if (!KEYS[event.key] || event.target.matches("select, input")) return; // there these keys have a meaning of their own
    event.preventDefault();
    KEYS[event.key]();
  });

  large.addEventListener("close", () => {
    browser.before(at("layers"), at("legend"));
    page = Math.floor(open / PER_PAGE);
    show();
    browser.children[open % PER_PAGE].focus();
  });

  function fill(select, names, wanted) {
    select.replaceChildren(...names.map(([text, value]) => new Option(text, value)));
    select.value = wanted;
  }

  function begin() {
    const { layers, samples } = sheet();
    const classes = [...new Set(samples.flatMap((sample) => sample.labels))].sort();
    fill(at("class"), [["all", ""], ...classes.map((name) => [name, name])], "");
    const names = [...layers.map(({ title }, place) => [title, place]), ["photograph", ""]];
    const last = layers.filter((about) => !about.heat).length - 1;
    fill(at("left"), names, 0);
    fill(at("right"), names, last);
    again();
  }

  function again() {
    page = 0;
    show();
  }

  function laid() {
    show();
    if (large.open) draw();
  }

  at("sheet").addEventListener("change", begin);
  for (const id of ["class", "order"]) at(id).addEventListener("change", again);
  for (const id of ["left", "right", "outlines"]) at(id).addEventListener("change", laid);
  at("opacity").addEventListener("input", () => document.body.style.setProperty("--opacity", at("opacity").value / 100));
  at("cut").addEventListener("input", () => cut(at("cut").value));
  at("back").addEventListener("click", () => { page -= 1; show(); });
  at("on").addEventListener("click", () => { page += 1; show(); });
  at("previous").addEventListener("click", () => step(-1));
  at("next").addEventListener("click", () => step(1));
  at("close").addEventListener("click", () => large.close());
  cut(50);
  begin();
}

browse(JSON.parse(at("sheets").textContent));
