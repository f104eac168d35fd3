"use strict";
// Elements, numbers with units, axes: what every figure of the page is drawn with.
const $ = id => document.getElementById(id);
const SVG = new Set(["svg", "g", "path", "line", "circle", "rect", "text"]);

function el(name, attributes, ...children) {
  const node = SVG.has(name) ? document.createElementNS("http://www.w3.org/2000/svg", name) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes || {})) node.setAttribute(key, value);
  node.append(...children);
  return node;
}

const PREFIXES = [[1e15, "P"], [1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"], [1, ""], [1e-3, "m"], [1e-6, "µ"], [1e-9, "n"], [1e-12, "p"]];
function scaled(x, unit, format) {
  if (x === 0) return "0 " + unit;
  const [factor, prefix] = PREFIXES.find(([f]) => Math.abs(x) >= f) || PREFIXES[PREFIXES.length - 1];
  return `${format(x / factor)} ${prefix}${unit}`.replace("-", "−");
}
const quantity = (x, unit) => scaled(x, unit, v => v.toPrecision(4));
const round = (x, unit) => scaled(x, unit, v => String(parseFloat(v.toPrecision(3))));  // for the ticks of an axis
const percent = (x, digits = 2) => (100 * x).toFixed(digits) + " %";
const whole = x => x.toLocaleString("en");

function niceTicks(low, high, count) {
  const raw = (high - low) / count, power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map(f => f * power).find(s => s >= raw * 0.999);
  const ticks = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9; i++) ticks.push(i * step);
  return ticks;
}
function logTicks(low, high) {
  for (const factors of [[1], [1, 3], [1, 2, 5], [1, 1.5, 2, 3, 4, 5, 7], [1, 1.2, 1.4, 1.6, 1.8, 2, 2.5, 3, 3.5, 4, 5, 6, 7, 8, 9]]) {
    const ticks = [];
    for (let e = Math.floor(Math.log10(low)); e <= Math.ceil(Math.log10(high)); e++)
      for (const f of factors) if (f * 10 ** e >= low && f * 10 ** e <= high) ticks.push(f * 10 ** e);
    if (ticks.length >= 4) return ticks;
  }
  return niceTicks(low, high, 5);
}

// A frame with grid and labels. x, y: {low, high, label, tick: value -> text, log}. Returns the picture and where values lie.
function frame(id, x, y, {ratio = 0.52, left = 58} = {}) {
  const W = Math.max(300, Math.min(960, $(id).clientWidth || 960)), H = Math.round(Math.max(300, W * ratio));
  const R = 18, T = 14, B = 46, right = W - R, bottom = H - B;
  const along = (axis, from, to) => axis.log
    ? v => from + (to - from) * Math.log(v / axis.low) / Math.log(axis.high / axis.low)
    : v => from + (to - from) * (v - axis.low) / (axis.high - axis.low);
  const X = along(x, left, right), Y = along(y, bottom, T);
  const svg = el("svg", {viewBox: `0 0 ${W} ${H}`, width: W, height: H});
  let end = -1e9;
  for (const t of x.log ? logTicks(x.low, x.high) : niceTicks(x.low, x.high, W / 110)) {
    const text = x.tick(t), half = 3.4 * text.length;
    svg.append(el("line", {x1: X(t), x2: X(t), y1: T, y2: bottom, class: "grid"}));
    if (X(t) - half > end + 6 && X(t) + half < W) {
      svg.append(el("text", {x: X(t), y: bottom + 17, "text-anchor": "middle", class: "soft"}, text));
      end = X(t) + half;
    }
  }
  for (const t of y.log ? logTicks(y.low, y.high) : niceTicks(y.low, y.high, 6)) {
    svg.append(el("line", {x1: left, x2: right, y1: Y(t), y2: Y(t), class: "grid"}),
               el("text", {x: left - 6, y: Y(t) + 4, "text-anchor": "end", class: "soft"}, y.tick(t)));
  }
  svg.append(el("text", {x: (left + right) / 2, y: H - 8, "text-anchor": "middle"}, x.label),
             el("text", {transform: `translate(13 ${(T + bottom) / 2}) rotate(-90)`, "text-anchor": "middle"}, y.label));
  $(id).replaceChildren(svg);
  return {svg, X, Y, left, right, top: T, bottom};
}

// Rows of bars over one axis at the bottom. rows: [name, end text, [[from, to, colour, tip], ...], bold]
function bars(id, rows, {high, label, tick}) {
  const W = Math.max(300, Math.min(960, $(id).clientWidth || 960)), row = 26, T = 4;
  const longest = Math.max(...rows.map(r => r[0].length)), L = Math.min(0.36 * W, 7 * longest + 14);
  const R = 7.5 * Math.max(...rows.map(r => r[1].length)) + 20, bottom = T + rows.length * row, H = bottom + 42;
  const X = v => L + (W - L - R) * v / high;
  const svg = el("svg", {viewBox: `0 0 ${W} ${H}`, width: W, height: H});
  let end = -1e9;
  for (const t of niceTicks(0, high, Math.max(2, (W - L - R) / 110))) {
    svg.append(el("line", {x1: X(t), x2: X(t), y1: T, y2: bottom, class: "grid"}));
    const text = tick(t), half = 3.4 * text.length;
    if (X(t) - half > end + 6 && X(t) + half < W) {
      svg.append(el("text", {x: X(t), y: bottom + 15, "text-anchor": "middle", class: "soft"}, text));
      end = X(t) + half;
    }
  }
  rows.forEach(([name, text, parts, bold], i) => {
    const y = T + i * row;
    svg.append(el("text", {x: L - 8, y: y + 16, "text-anchor": "end", "font-weight": bold ? "bold" : "normal"}, name));
    let last = L;
    for (const [from, to, colour, tip] of parts) {
      const rect = el("rect", {x: X(Math.min(from, to)), y: y + 3, width: Math.max(1, X(Math.max(from, to)) - X(Math.min(from, to))), height: row - 8, fill: colour});
      if (tip) hint(rect, tip);
      svg.append(rect);
      last = Math.max(last, X(Math.max(from, to)));
    }
    svg.append(el("text", {x: last + 6, y: y + 16, class: "soft"}, text));
  });
  svg.append(el("text", {x: (L + W - R) / 2, y: H - 6, "text-anchor": "middle"}, label));
  $(id).replaceChildren(svg);
}

// Text that appears beside a mark under the pointer or the focus. Screen readers get the same by its aria-label.
function hint(node, text) {
  const show = () => {
    const tip = $("tip"), box = node.getBoundingClientRect(), room = document.querySelector("main").getBoundingClientRect();
    tip.textContent = text;
    tip.hidden = false;
    tip.style.left = Math.max(4, Math.min(box.right - room.left + 8, room.width - tip.offsetWidth - 8)) + "px";
    tip.style.top = Math.max(4, box.top - room.top - tip.offsetHeight - 8) + "px";
  };
  const hide = () => { $("tip").hidden = true; };
  for (const [event, listener] of [["pointerenter", show], ["focus", show], ["pointerleave", hide], ["blur", hide]]) node.addEventListener(event, listener);
}

function mark(shape, x, y, size, attributes) {
  if (shape === "circle") return el("circle", {cx: x, cy: y, r: size, ...attributes});
  if (shape === "square") return el("rect", {x: x - size, y: y - size, width: 2 * size, height: 2 * size, ...attributes});
  if (shape === "diamond") return el("rect", {x: x - size, y: y - size, width: 2 * size, height: 2 * size, transform: `rotate(45 ${x} ${y})`, ...attributes});
  return el("path", {d: `M${x},${y - size * 1.2}L${x + size * 1.15},${y + size}L${x - size * 1.15},${y + size}Z`, ...attributes});  // triangle
}

const key = (colour, text) => el("span", {}, el("i", {class: "key", style: `background: ${colour}`}), text);

function table(id, heads, rows) {
  $(id).replaceChildren(el("thead", {}, el("tr", {}, ...heads.map(h => el("th", {scope: "col"}, h)))),
    el("tbody", {}, ...rows.map(([trial, ...cells]) => el("tr", trial === null ? {} : {"data-trial": trial},
      ...cells.map((c, i) => i ? el("td", {}, String(c.nodeType ? "" : c), ...(c.nodeType ? [c] : [])) : el("th", {scope: "row"}, c))))));
}
