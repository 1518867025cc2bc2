"use strict";
(() => {
  // JSON has no infinite numbers: their names stand for them.
  const NAMES = ["Infinity", "-Infinity", "NaN"];
  const data = JSON.parse(document.getElementById("data").textContent,
    (_, value) => (NAMES.includes(value) ? Number(value) : value));
  const byId = (id) => document.getElementById(id);
  const { nodes, edges, parameters } = data;
  const DRAWN = 8; // units of a layer in the picture
  const chosen = { parameter: 0, index: [0, 0], row: 0 };

  // ---- Elements and numbers

  function element(tag, attributes = {}, ...children) {
    const svg = ["svg", "g", "path", "circle", "text", "title"].includes(tag);
    const made = svg ? document.createElementNS("http://www.w3.org/2000/svg", tag)
      : document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (value !== null && value !== undefined && value !== false) made.setAttribute(name, value);
    }
    made.append(...children.flat());
    return made;
  }

  function format(x, digits = 4, low = 1e-4, high = 1e6) {
    if (x === 0) return "0";
    if (!Number.isFinite(x)) return Number.isNaN(x) ? "NaN" : x > 0 ? "∞" : "−∞";
    const size = Math.abs(x);
    const text = size >= low && size < high ? String(Number(x.toPrecision(digits)))
      : Number(x.toPrecision(digits)).toExponential();
    return text.replace(/-/g, "−");
  }

  const sign = (x) => (x > 0 ? "up" : x < 0 ? "down" : "");
  const number = (x, digits) => element("span", { class: `num ${sign(x)}` }, format(x, digits));
  const many = (n) => (n > 2 ** 53 ? `about ${n.toExponential(1)}` : n.toLocaleString("en"));
  const count = (n, noun) => `${many(n)} ${noun}${n === 1 ? "" : "s"}`;
  // Sums that cancel out have the rounding errors of what they are made of.
  const unlessRounding = (x, magnitude) => (Math.abs(x) <= 1e-14 * magnitude ? 0 : x);

  function symbol(node, row, unit) {
    const [, letter, level] = /^(\D+)(\d*)$/.exec(node.name);
    const where = (data.rows > 1 ? [row, unit] : [unit]).join(",");
    const made = element("span", { class: "math" }, letter);
    if (level) made.append(element("sup", {}, level));
    made.append(element("sub", {}, where));
    return made;
  }

  // Arrays of three dimensions are shown as matrices, their first two as one.
  const rowName = ({ shape }, i) => (
    shape.length === 3 ? `${Math.floor(i / shape[1])},${i % shape[1]}` : `${i}`);
  const elementName = (parameter, index) => `${parameter.name}[${
    index.length > 1 ? `${rowName(parameter, index[0])},` : ""}${index.at(-1)}]`;
  const fraction = (over, under) => element("span", { class: "fraction" },
    element("span", {}, "∂", over), element("span", {}, "∂", under));

  // ---- Paths

  const position = (list, unit) => list.indexOf(unit);

  function at(parameter, key, index) {
    const [i, j] = index.length > 1 ? index : [0, index[0]];
    const row = index.length > 1 ? position(parameter.shown[0], i) : 0;
    return parameter[key][row][position(parameter.shown[parameter.shown.length - 1], j)];
  }

  function entries(parameter, index) {
    if (parameter.read !== null) {
      const [i, j] = index;
      const read = nodes[parameter.read];
      return read.value.map((row, r) => [r, j, row[position(read.shown, i)]]);
    }
    return at(parameter, "entries", index);
  }

  function hops(node, row, unit, slot) {
    const found = [];
    for (;;) {
      const [product, edge, r, u, s, factor] = data.ways[node][`${row},${unit}`].paths[slot];
      if (edge === undefined) {
        found.unshift({ node, row, unit, factor: product, edge: null });
        return found;
      }
      found.unshift({ node, row, unit, factor, edge });
      [node, row, unit, slot] = [edges[edge].write, r, u, s];
    }
  }

  function gradientOf(parameter, index) {
    const found = [];
    let total = 0, magnitude = 0, n = 0, nonzero = 0;
    for (const [row, unit, factor] of entries(parameter, index)) {
      const ways = data.ways[parameter.node][`${row},${unit}`];
      total += ways.gradient * factor;
      magnitude += ways.magnitude * Math.abs(factor);
      n += ways.count;
      if (factor !== 0) nonzero += ways.nonzero;
      ways.paths.forEach((path, slot) => {
        found.push({ product: path[0] * factor, row, unit, slot, factor });
      });
    }
    found.sort((a, b) => Math.abs(b.product) - Math.abs(a.product));
    const paths = found.slice(0, data.listed).map((each) => ({
      ...each, hops: hops(parameter.node, each.row, each.unit, each.slot),
    }));
    const listed = paths.reduce((sum, path) => sum + path.product, 0);
    return { paths, total, n, zero: n - nonzero, magnitude,
      rest: paths.length === n ? 0 : total - listed };
  }

  // ---- The graph

  function depths() {
    const found = nodes.map(() => 0);
    for (const edge of [...edges].reverse()) { // in the order of the forward pass
      found[edge.write] = Math.max(found[edge.write], found[edge.read] + 1);
    }
    return found;
  }

  function drawnUnits(paths) {
    const needed = nodes.map(() => new Set());
    const parameter = parameters[chosen.parameter];
    if (parameter.read !== null) needed[parameter.read].add(chosen.index[0]);
    for (const path of paths.slice(0, 1)) {
      for (const hop of path.hops) needed[hop.node].add(hop.unit);
    }
    const groups = new Map(); // of nodes whose units correspond, the same are drawn
    nodes.forEach((node, n) => {
      if (!groups.has(node.like)) groups.set(node.like, { units: new Set(), sizes: new Map() });
      const { units, sizes } = groups.get(node.like);
      needed[n].forEach((unit) => units.add(unit));
      const own = node.shown.map((_, place) => (
        node.gradient.reduce((sum, row) => sum + Math.abs(row[place]), 0)));
      const most = Math.max(...own) || 1;
      node.shown.forEach((unit, place) => {
        sizes.set(unit, (sizes.get(unit) ?? 0) + own[place] / most);
      });
    });
    return nodes.map((node) => {
      const { units, sizes } = groups.get(node.like);
      const ranked = [...node.shown].sort((a, b) => sizes.get(b) - sizes.get(a));
      const first = ranked.filter((unit) => units.has(unit));
      const rest = ranked.filter((unit) => !units.has(unit));
      return [...first, ...rest].slice(0, DRAWN).sort((a, b) => a - b);
    });
  }

  function curve([x1, y1], [x2, y2], skips) {
    if (!skips) {
      const bend = (x2 - x1) / 3;
      return `M${x1},${y1}C${x1 + bend},${y1} ${x2 - bend},${y2} ${x2},${y2}`;
    }
    const up = Math.min(y1, y2) - 34 - 6 * skips;
    return `M${x1},${y1}C${x1 + 40},${up} ${x2 - 40},${up} ${x2},${y2}`;
  }

  const brief = (x, digits) => format(x, digits, 1e-3, 1e4).replace("e+", "e");

  // A number in a circle, in a smaller font where it is too long.
  function inside(x, y, value, digits) {
    const text = brief(value, digits);
    return element("text", { x, y: y + 3.5, class: "value",
      style: text.length > 5 ? `font-size:${(10.5 * 5 / text.length).toFixed(1)}px` : null }, text);
  }

  function drawGraph(result) {
    const depth = depths(), drawn = drawnUnits(result.paths);
    const step = 50, radius = 19, top = 64;
    const heights = [], first = nodes.map(() => 0);
    nodes.forEach((node, n) => {
      first[n] = heights[depth[n]] ?? 0;
      heights[depth[n]] = first[n] + drawn[n].length + (node.n > drawn[n].length ? 0.6 : 0) + 0.9;
    });
    const tallest = Math.max(...heights) - 0.9;
    const room = byId("graph").clientWidth / (heights.length + 1);
    const columnWidth = Math.min(Math.max(room, 104), 170);
    const width = (heights.length + 1) * columnWidth, height = top + tallest * step + 26;
    const place = (n, unit) => {
      const shift = (tallest - (heights[depth[n]] - 0.9)) / 2;
      return [columnWidth * (depth[n] + 0.5),
        top + step * (first[n] + shift + drawn[n].indexOf(unit) + 0.45)];
    };
    const end = [width - columnWidth / 2, top + tallest * step / 2];
    const lines = element("g"), marks = element("g"), hits = element("g"), circles = element("g");
    const path = result.paths[0]?.hops.filter((hop) => drawn[hop.node].includes(hop.unit)) ?? [];
    const onPath = new Set(path.map((hop) => `${hop.node},${hop.unit}`));
    const current = parameters[chosen.parameter];

    for (const edge of edges) {
      const p = parameters.findIndex((each) => each.read === edge.read && each.node === edge.write);
      const skips = depth[edge.write] - depth[edge.read] - 1;
      if (p >= 0) {
        const parameter = parameters[p];
        const most = parameter.largest || 1;
        for (const i of drawn[edge.read]) {
          for (const j of drawn[edge.write]) {
            if (!parameter.shown[0].includes(i) || !parameter.shown[1].includes(j)) continue;
            const gradient = at(parameter, "gradient", [i, j]);
            const d = curve(place(edge.read, i), place(edge.write, j), skips);
            lines.append(element("path", { d, class: `weight ${sign(gradient)}`,
              "stroke-width": 0.7 + 4 * Math.abs(gradient) / most }));
            hits.append(element("path", { d, class: "hit", "data-weight": `${p},${i},${j}` },
              element("title", {}, `${elementName(parameter, [i, j])} = ${
                format(at(parameter, "before", [i, j]))}, gradient ${format(gradient)}`)));
          }
        }
        continue;
      }
      for (const [from, to] of edge.pairs) {
        if (!drawn[edge.read].includes(from) || !drawn[edge.write].includes(to)) continue;
        lines.append(element("path", { d: curve(place(edge.read, from), place(edge.write, to), skips),
          "stroke-width": 1.2 }));
      }
    }
    const output = data.output;
    for (const unit of drawn[output]) {
      lines.append(element("path", { d: curve(place(output, unit), end, 0), "stroke-width": 1.2 }));
    }
    const stops = path.map((hop) => [place(hop.node, hop.unit), depth[hop.node]]);
    if (stops.length) {
      stops.unshift([end, stops[0][1] + 1]);
      const last = path[path.length - 1];
      if (current.read !== null && current.node === last.node
          && drawn[current.read].includes(chosen.index[0])) {
        stops.push([place(current.read, chosen.index[0]), depth[current.read]]);
        onPath.add(`${current.read},${chosen.index[0]}`);
      }
      for (let i = 1; i < stops.length; i++) {
        const skips = stops[i - 1][1] - stops[i][1] - 1;
        marks.append(element("path", { d: curve(stops[i][0], stops[i - 1][0], skips), class: "chosen" }));
      }
    }
    nodes.forEach((node, n) => {
      const x = columnWidth * (depth[n] + 0.5);
      const y = place(n, drawn[n][0])[1] - 34;
      const [, letter, level] = /^(\D+)(\d*)$/.exec(node.name);
      circles.append(element("text", { x, y: y - 12, class: "title" }, letter + superscript(level)));
      circles.append(element("text", { x, y: y + 2, class: "layer" },
        `${node.where} ${node.layer}`.trim()));
      drawn[n].forEach((unit) => {
        const [cx, cy] = place(n, unit);
        const where = position(node.shown, unit);
        const value = node.value[chosen.row][where], gradient = node.gradient[chosen.row][where];
        circles.append(
          element("circle", { cx, cy, r: radius, class: onPath.has(`${n},${unit}`) ? "on" : null },
            element("title", {}, `${node.name}[${unit}] = ${format(value, 6)}, gradient ${
              format(gradient, 6)}`)),
          element("text", { x: cx - radius - 3, y: cy - radius + 9, class: "index" }, `${unit}`),
          inside(cx, cy, value, 2),
          element("text", { x: cx, y: cy + radius + 9, class: "gradient" },
            brief(gradient, 2)));
      });
      if (node.n > drawn[n].length) {
        const [cx, cy] = place(n, drawn[n][drawn[n].length - 1]);
        circles.append(element("text", { x: cx, y: cy + 46, class: "more" },
          `and ${(node.n - drawn[n].length).toLocaleString("en")} more`));
      }
    });
    circles.append(element("circle", { cx: end[0], cy: end[1], r: radius + 3 }),
      inside(end[0], end[1], data.before, 3),
      element("text", { x: end[0], y: end[1] - 32, class: "title" }, "L"));
    const svg = element("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "img",
      "aria-label": `The network's units and weights; the same numbers are in the tables below. ${
        data.network}` }, lines, marks, hits, circles);
    byId("graph").replaceChildren(svg);
  }

  const superscript = (digits) => [...digits].map((digit) => "⁰¹²³⁴⁵⁶⁷⁸⁹"[digit]).join("");

  // ---- The chosen parameter

  function showWeight(result) {
    const parameter = parameters[chosen.parameter], name = elementName(parameter, chosen.index);
    const engine = at(parameter, "gradient", chosen.index);
    const own = () => element("span", { class: "num" }, name);
    const between = (hops) => {
      const units = hops.map((hop) => [hop.node, hop.row, hop.unit]);
      const text = (unit) => symbol(nodes[unit[0]], unit[1], unit[2]);
      const parts = [fraction(element("span", { class: "math" }, "L"), text(units[0]))];
      for (let i = 1; i < units.length; i++) parts.push(fraction(text(units[i - 1]), text(units[i])));
      parts.push(fraction(text(units[units.length - 1]), own()));
      return parts.flatMap((part, i) => (i ? ["·", part] : [part]));
    };
    const heading = element("h2", { id: "h-weight" }, "The gradient with respect to ", own());
    const content = [heading, element("p", { class: "hint" },
      `${parameter.layer}, ${name} = ${format(at(parameter, "before", chosen.index), 6)}. ${
        result.n === 1 ? "One path leads" : `${count(result.n, "path")} lead`} from the loss to it${
        result.zero ? `, ${many(result.zero)} of them with a factor of 0` : ""}.${
        data.rows > 1 ? " Indices of units are row, unit." : ""}`)];
    if (result.paths.length) {
      content.push(element("div", { class: "equation" },
        fraction(element("span", { class: "math" }, "L"), own()), "=",
        ...between(result.paths[0].hops), result.n > 1 ? "+ …" : ""));
    }
    const list = element("ol", { class: "paths" });
    for (const path of result.paths) {
      const factors = [...path.hops.map((hop) => hop.factor), path.factor];
      const by = [element("span", { class: "math" }, "L")];
      for (const hop of path.hops) by.push(" ← ", symbol(nodes[hop.node], hop.row, hop.unit));
      list.append(element("li", {},
        element("div", { class: "product" }, number(path.product, 6)),
        element("div", {}, "= ", factors.flatMap((factor, i) => (
          i ? [" · ", number(factor)] : [number(factor)]))),
        element("div"), element("div", { class: "by" }, "by ", by)));
    }
    const others = result.n - result.paths.length;
    if (others > 0) {
      list.append(element("li", { class: "rest" },
        element("div", { class: "product" }, number(unlessRounding(result.rest, result.magnitude), 6)),
        element("div", {}, `the sum of ${count(others, "other path")}`)));
    }
    const sum = format(unlessRounding(result.total, result.magnitude), 6);
    const computed = format(unlessRounding(engine, result.magnitude), 6);
    list.append(
      element("li", { class: "sum" },
        element("div", { class: "product" }, element("span", { class: "num", id: "sum" }, sum)),
        element("div", {}, "the sum of all paths")),
      element("li", { class: "engine" },
        element("div", { class: "product" },
          element("span", { class: "num", id: "engine" }, computed)),
        element("div", {}, "the gradient that the compiled engine computed ",
          sum === computed ? element("span", { class: "equal" }, "✓ equal")
            : element("span", { class: "unequal" }, "not equal"))));
    content.push(list);
    if (result.paths.length) content.push(...alongPath(result.paths[0], own));
    byId("weight").replaceChildren(...content);
  }

  // What a factor is, in words.
  function meaning(hop, before) {
    if (hop.edge === null) return ["derivative of the loss"];
    const edge = edges[hop.edge], { layer } = nodes[edge.write];
    if (edge.kind === "moves") return ["passed on"];
    if (edge.kind === "derivative") return [`derivative of ${layer}`];
    const parameter = parameters.find((each) => each.read === edge.read && each.node === edge.write);
    return edge.kind === "weight" && parameter
      ? ["weight ", element("span", { class: "num" }, elementName(parameter, [hop.unit, before.unit]))]
      : [`entry of the Jacobian of ${layer}`];
  }

  function alongPath(path, own) {
    let product = 1;
    const parameter = parameters[chosen.parameter];
    const rows = path.hops.map((hop, i) => [symbol(nodes[hop.node], hop.row, hop.unit), hop.factor,
      meaning(hop, path.hops[i - 1])]);
    rows.push([own(), path.factor, parameter.read === null ? ["derivative by the parameter"]
      : ["input ", symbol(nodes[parameter.read], path.row, chosen.index[0])]]);
    const products = rows.map(([, factor]) => (product *= factor));
    const width = logarithmic(products);
    return [element("h3", {}, "Along the largest path"), element("div", { class: "scroll" },
      element("table", { class: "wide" },
        element("thead", {}, element("tr", {}, ["to", "factor", "", "product so far", ""].map(
          (text, i) => element("th", { scope: "col", class: i < 2 ? "left" : null }, text)))),
        element("tbody", {}, rows.map(([name, factor, what], i) => element("tr", {},
          element("th", { scope: "row" }, name), element("td", { class: "left" }, what),
          element("td", {}, number(factor)), element("td", {}, number(products[i])),
          meter(width(products[i])))))))];
  }

  const meter = (width) => element("td", { class: "meter", "aria-hidden": "true" },
    element("span", { style: `width:${width}%` }));

  // Widths of bars: two powers of ten at least, so that small differences look small.
  function logarithmic(values) {
    const logs = values.map((x) => Math.log10(Math.abs(x))).filter(Number.isFinite);
    if (!logs.length) return () => 0;
    const high = Math.max(...logs), low = Math.min(Math.min(...logs), high - 2);
    return (x) => (x === 0 ? 0 : 8 + 92 * (Math.log10(Math.abs(x)) - low) / (high - low));
  }

  // ---- All gradients of one array

  function drawMap() {
    const parameter = parameters[chosen.parameter];
    const matrix = parameter.shown.length > 1;
    const rows = matrix ? parameter.shown[0] : [null], columns = parameter.shown.at(-1);
    const folded = parameter.shape.reduce((all, n) => all * n, 1) > rows.length * columns.length;
    byId("h-map").textContent = `All gradients of ${parameter.name}, ${parameter.shape.join(" × ")}${
      folded ? `: the largest, ${rows.length} × ${columns.length}` : ""}`;
    byId("axes").textContent = parameter.read === null ? "" : " Rows are inputs, columns units.";
    const most = parameter.largest || 1;
    const table = element("table", {
      class: `map ${columns.length > 24 ? "many" : ""}`, "aria-label": `Gradients of ${parameter.name}`,
    });
    table.append(element("thead", {}, element("tr", {}, element("th"),
      columns.map((j) => element("th", { scope: "col" }, columns.length > 24 && j % 8 ? "" : `${j}`)))));
    const body = element("tbody");
    rows.forEach((i, r) => {
      const line = element("tr", {}, element("th", { scope: "row" }, i === null ? "" : rowName(parameter, i)));
      columns.forEach((j, c) => {
        const gradient = parameter.gradient[r][c];
        const tone = gradient < 0 ? "negative" : "positive";
        const index = matrix ? [i, j] : [j];
        line.append(element("td", {}, element("button", {
          type: "button", tabindex: "-1", "data-index": index.join(","), "data-place": `${r},${c}`,
          "aria-label": `${elementName(parameter, index)}, gradient ${format(gradient)}`,
          style: `--c:rgb(var(--${tone}-rgb) / ${
            (0.06 + 0.94 * Math.sqrt(Math.abs(gradient) / most)).toFixed(3)})`,
        })));
      });
      body.append(line);
    });
    table.append(body);
    byId("map").replaceChildren(table);
  }

  function markMap() {
    for (const before of byId("map").querySelectorAll("[aria-pressed=true]")) {
      before.removeAttribute("aria-pressed");
      before.tabIndex = -1;
    }
    const now = byId("map").querySelector(`[data-index="${chosen.index.join(",")}"]`);
    now.setAttribute("aria-pressed", "true");
    now.tabIndex = 0;
  }

  // ---- What does not depend on the choice

  function showFlow() {
    const width = logarithmic(data.flow.map((step) => step.size));
    byId("flow").replaceChildren(element("table", { class: "wide" },
      element("thead", {}, element("tr", {}, ["", "layer", "∂L/∂unit", "ratio", ""].map((text, i) => (
        element("th", { scope: "col", class: i < 2 ? "left" : null }, text))))),
      element("tbody", {}, data.flow.map((step) => element("tr", {},
        element("th", { scope: "row", class: "math" }, nodes[step.node].name),
        element("td", { class: "left" }, `${nodes[step.node].where} ${nodes[step.node].layer}`),
        element("td", {}, element("span", { class: "num" }, format(step.size))),
        element("td", {}, step.ratio === null ? "" : element("span", { class: "num" },
          `× ${format(step.ratio, 3)}`)), meter(width(step.size)))))));
    byId("verdict").textContent = data.verdict;
  }

  function showStep() {
    const parameter = parameters[chosen.parameter], name = elementName(parameter, chosen.index);
    const before = at(parameter, "before", chosen.index);
    const gradient = at(parameter, "gradient", chosen.index);
    const losses = [data.before, data.after].map(Math.abs);
    const most = Math.max(...losses.filter(Number.isFinite)) || 1;
    const bar = (loss) => element("i", {
      style: `width:${Number.isFinite(loss) ? 100 * Math.abs(loss) / most : 100}%`,
      "aria-hidden": "true" });
    const update = (label, w, g, after) => element("tr", {}, element("th", { scope: "row" }, label),
      element("td", {}, number(w, 6)), element("td", {}, number(g, 6)),
      element("td", {}, number(after, 6)));
    byId("step").replaceChildren(
      element("p", { class: "hint" }, "Every parameter moves against its gradient: ",
        element("span", { class: "math" }, "w ← w − η ∂L/∂w"),
        `, with learning rate η = ${format(data.learningRate)}. Then the loss of the same rows is `
        + `${data.after < data.before ? "smaller" : "not smaller"}.`),
      element("div", { class: "loss" },
        "L before", element("span", { class: "num" }, format(data.before, 6)), bar(data.before),
        "L after", element("span", { class: "num" }, format(data.after, 6)), bar(data.after)),
      element("div", { class: "scroll" }, element("table", {},
        element("thead", {}, element("tr", {}, ["", "w before", "∂L/∂w", "w after"].map((text) => (
          element("th", { scope: "col" }, text))))),
        element("tbody", {}, update(name, before, gradient, before - data.learningRate * gradient)))));
  }

  function showAll() {
    const table = (caption, head, rows) => element("details", {}, element("summary", {}, caption),
      element("div", { class: "scroll" }, element("table", {},
        element("thead", {}, element("tr", {}, ["", ...head].map((text) => (
          element("th", { scope: "col" }, text))))),
        element("tbody", {}, rows.map(([name, ...numbers]) => element("tr", {},
          element("th", { scope: "row", class: "num" }, name),
          numbers.map((x) => element("td", {}, number(x, 6)))))))));
    const folded = (n, shown) => (n > shown ? `, the ${shown} largest of ${n.toLocaleString("en")}` : "");
    byId("all").replaceChildren(
      element("h3", {}, "Values and their gradients"),
      ...nodes.map((node) => table(
        `${node.name} and ∂L/∂${node.name}: ${`${node.where} ${node.layer}`.trim()}${
          folded(node.n, node.shown.length)}`,
        node.shown.map(String), node.value.flatMap((values, r) => {
          const row = data.rows > 1 ? `[${r}]` : "";
          return [[node.name + row, ...values], [`∂L/∂${node.name}${row}`, ...node.gradient[r]]];
        }))),
      element("h3", {}, "Parameters and their gradients"),
      ...parameters.map((parameter) => table(
        `${parameter.name} and ∂L/∂${parameter.name}: ${parameter.layer}, ${
          parameter.shape.join(" × ")}`,
        parameter.shown.at(-1).map(String), parameter.before.flatMap((row, r) => {
          const i = parameter.shown.length > 1 ? `[${rowName(parameter, parameter.shown[0][r])}]` : "";
          return [[parameter.name + i, ...row], [`∂L/∂${parameter.name}${i}`, ...parameter.gradient[r]]];
        }))));
  }

  // ---- Choosing

  function options(select, values, value) {
    select.replaceChildren(...values.map((each) => element("option", { value: each[0] }, each[1])));
    select.value = value;
  }

  function choose(parameter, index) {
    const other = parameter !== chosen.parameter || !byId("map").firstChild;
    Object.assign(chosen, { parameter, index });
    const { shown } = parameters[parameter];
    byId("parameter").value = String(parameter);
    byId("from-label").hidden = shown.length < 2;
    byId("from-text").textContent = parameters[parameter].read === null ? "from index" : "from input";
    const rows = shown.length > 1 ? shown[0] : [];
    options(byId("from"), rows.map((i) => [i, rowName(parameters[parameter], i)]), index[0]);
    options(byId("to"), shown.at(-1).map((j) => [j, j]), index.at(-1));
    const result = gradientOf(parameters[parameter], index);
    showWeight(result);
    drawGraph(result);
    if (other) drawMap();
    markMap();
    showStep();
  }

  function listen() {
    byId("parameter").addEventListener("change", (event) => {
      const parameter = Number(event.target.value);
      choose(parameter, parameters[parameter].start);
    });
    for (const id of ["from", "to"]) {
      byId(id).addEventListener("change", () => choose(chosen.parameter, [
        ...(chosen.index.length > 1 ? [Number(byId("from").value)] : []), Number(byId("to").value)]));
    }
    byId("choice").addEventListener("submit", (event) => event.preventDefault());
    byId("largest").addEventListener("click", () => (
      choose(chosen.parameter, parameters[chosen.parameter].start)));
    byId("row").addEventListener("change", (event) => {
      chosen.row = Number(event.target.value);
      choose(chosen.parameter, chosen.index);
    });
    byId("graph").addEventListener("click", (event) => {
      const weight = event.target.closest?.("[data-weight]");
      if (!weight) return;
      const [p, i, j] = weight.dataset.weight.split(",").map(Number);
      choose(p, [i, j]);
    });
    byId("map").addEventListener("click", (event) => {
      const cell = event.target.closest("[data-index]");
      if (cell) choose(chosen.parameter, cell.dataset.index.split(",").map(Number));
    });
    const moves = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
    byId("map").addEventListener("keydown", (event) => {
      const cell = event.target.closest("[data-place]"), move = moves[event.key];
      if (!cell || !move) return;
      const [r, c] = cell.dataset.place.split(",").map(Number);
      const next = byId("map").querySelector(`[data-place="${r + move[0]},${c + move[1]}"]`);
      if (next) next.focus();
      event.preventDefault();
    });
  }

  byId("facts").textContent = `${count(data.rows, "row")}, ${data.loss}, L = ${format(data.before)}${
    data.dropout ? ", dropout off" : ""}`;
  byId("footer").textContent = `Computed in float64. All sums of paths equal the gradients of the `
    + `compiled engine, to at most ${format(data.error, 1)} of the paths' magnitudes. fastbp ${data.version}.`;
  options(byId("parameter"), parameters.map((each, p) => [p, `${each.name} (${each.layer}, ${
    each.shape.join(" × ")})`]), 0);
  byId("row-label").hidden = data.rows < 2;
  options(byId("row"), nodes[0].value.map((_, r) => [r, r]), 0);
  byId("app").hidden = false;
  listen();
  showFlow();
  showAll();
  choose(data.start, parameters[data.start].start);
})();
