// What is shown of the chosen design: channels and formats, where its speed-up comes from, where its time goes.
const ROLES = ["weight", "activation", "error", "gradient"];
const layersOf = p => run.layers.map((l, i) => ({name: l.name, of: l.channels, channels: p.channels[i], formats: run.formats[p.formats[i]]}));
const bitsOf = f => 1 + f.exponent_bits + f.mantissa_bits;
const MOST_BITS = Math.max(...run.formats.flatMap(f => ROLES.map(r => bitsOf(f[r]))));
const MOST_CHANNELS = Math.max(...run.layers.map(l => l.channels));

function drawLayers(p) {
  const W = Math.max(300, Math.min(960, $("layers").clientWidth || 960)), narrow = W < 640;
  const rows = layersOf(p), row = narrow ? 48 : 26, T = narrow ? 52 : 22, bottom = T + rows.length * row, H = bottom + 38;
  const nameWidth = Math.min(narrow ? 0.45 * W : 0.25 * W, 7 * Math.max(...rows.map(r => r.name.length)) + 12);
  const channels = {x: nameWidth, width: narrow ? W - nameWidth : 0.24 * (W - nameWidth)};
  const start = narrow ? 0 : channels.x + channels.width, each = (W - start) / ROLES.length;
  const text = 46, barOf = width => width - text - 6;
  const svg = el("svg", {viewBox: `0 0 ${W} ${H}`, width: W, height: H});
  const head = (x, y, words) => svg.append(el("text", {x, y, class: "soft"}, words));
  head(narrow ? 0 : channels.x, 13, narrow ? "layer: channels kept of all; below it, bits by role" : "channels kept of all");
  ROLES.forEach((role, j) => head(start + j * each, narrow ? 40 : 13, role));
  rows.forEach((layer, i) => {
    const y = T + i * row, second = narrow ? y + 21 : y, long = Math.floor(nameWidth / 7);
    svg.append(el("text", {x: 0, y: y + 14}, layer.name.length > long ? "…" + layer.name.slice(1 - long) : layer.name));
    const width = n => barOf(channels.width) * n / MOST_CHANNELS;
    svg.append(el("rect", {x: channels.x, y: y + 3, width: width(layer.of), height: 14, fill: "var(--line)"}),
      el("rect", {x: channels.x, y: y + 3, width: width(layer.channels), height: 14, fill: "var(--phase2)"}),
      el("text", {x: channels.x + width(layer.of) + 5, y: y + 14, class: "soft small"}, `${layer.channels}/${layer.of}`));
    ROLES.forEach((role, j) => {
      const f = layer.formats[role], x = start + j * each, bit = barOf(each) / MOST_BITS;
      [[0, 1, "sign"], [1, f.exponent_bits, "exponent"], [1 + f.exponent_bits, f.mantissa_bits, "mantissa"]].forEach(([from, count, colour]) =>
        svg.append(el("rect", {x: x + from * bit, y: second + 3, width: count * bit, height: 14, fill: `var(--${colour})`})));
      svg.append(el("text", {x: x + bitsOf(f) * bit + 4, y: second + 14, class: "soft small"}, `E${f.exponent_bits} M${f.mantissa_bits}`));
    });
  });
  const axis = (x, width, most, label) => {
    svg.append(el("line", {x1: x, x2: x + barOf(width), y1: bottom + 4, y2: bottom + 4, class: "axis"}));
    for (const t of [0, most]) svg.append(el("line", {x1: x + barOf(width) * t / most, x2: x + barOf(width) * t / most, y1: bottom + 4, y2: bottom + 8, class: "axis"}),
      el("text", {x: x + barOf(width) * t / most, y: bottom + 20, class: "soft small", "text-anchor": t ? "middle" : "start"}, t));
    svg.append(el("text", {x, y: bottom + 34, class: "soft small"}, label));
  };
  if (!narrow) axis(channels.x, channels.width, MOST_CHANNELS, "channels");
  ROLES.forEach((_, j) => axis(start + j * each, each, MOST_BITS, "bits"));
  $("layers").replaceChildren(svg);
  $("layers-legend").replaceChildren(key("var(--phase2)", "channels kept"), key("var(--line)", "channels pruned"), key("var(--sign)", "sign"),
    key("var(--exponent)", "exponent bits E"), key("var(--mantissa)", "mantissa bits M"));
  table("layers-table", ["layer", "channels kept", ...ROLES, "accumulator", "optimizer state"],
    rows.map(l => [null, l.name, `${l.channels} of ${l.of}`, ...[...ROLES, "accumulator", "optimizer_state"].map(r => l.formats[r].name)]));
}

const WORDS = {pruning: "pruning", weight: "weight format", activation: "activation format", error: "error format", gradient: "gradient format",
  accumulator: "accumulator format", optimizer_state: "optimizer state"};
function drawWaterfall(p) {
  let at = reference.latency_s;
  const rows = [[titleOf(reference), quantity(at, "s"), [[0, at, "var(--baseline)"]]]];
  const spoken = [];
  for (const [change, saved] of Object.entries(p.gains_s)) {
    rows.push([WORDS[change], (saved < 0 ? "+" : "−") + quantity(Math.abs(saved), "s"), [[at - saved, at, saved < 0 ? "var(--baseline)" : "var(--phase2)"]]]);
    spoken.push(`${WORDS[change]} ${saved < 0 ? "costs" : "saves"} ${quantity(Math.abs(saved), "s")}`);
    at -= saved;
  }
  rows.push([titleOf(p), quantity(p.latency_s, "s"), [[0, p.latency_s, colourOf(p)]], true]);
  bars("waterfall", rows, {high: Math.max(...rows.flatMap(r => r[2].map(([from, to]) => Math.max(from, to)))), label: "simulated training time (s)", tick: t => round(t, "s")});
  $("waterfall").setAttribute("aria-label", `From ${titleOf(reference)}, ${quantity(reference.latency_s, "s")}, to ${titleOf(p)}, ${quantity(p.latency_s, "s")}: ${spoken.join(", ") || "nothing changes"}.`);
  $("waterfall-note").textContent = `From ${titleOf(reference)} with all channels to the design. What a change saves depends on what was changed before it: each is given its mean over all orders.`;
}

function drawParts(p) {
  const names = Object.keys(p.phases_s), rows = [...new Set([reference, ...baselines, p])];
  bars("parts", rows.map(q => {
    let at = 0;
    return [titleOf(q), quantity(q.latency_s, "s"), names.map((name, j) => { const from = at; at += q.phases_s[name];
      return [from, at, `var(--phase${j})`, `${titleOf(q)}, ${name}: ${quantity(q.phases_s[name], "s")}`]; }).filter(([from, to]) => to > from), q === p];
  }), {high: Math.max(...rows.map(q => q.latency_s)), label: "simulated training time (s)", tick: t => round(t, "s")});
  $("parts-legend").replaceChildren(...names.map((name, j) => key(`var(--phase${j})`, name)));
  $("parts").setAttribute("aria-label", rows.map(q => `${titleOf(q)}: ${names.map(n => `${n} ${quantity(q.phases_s[n], "s")}`).join(", ")}`).join("; "));
}

const SHAPES = ["circle", "square", "triangle", "diamond"];
function drawRoofline(p) {
  const rows = p.roofline.map(([layer, phase, intensity, rate, peak]) => [layer, phase, intensity, 1e9 * rate, 1e9 * peak]), bandwidth = run.bandwidth_bytes_per_s, peaks = [...new Set(rows.map(r => r[4]))];
  const xs = rows.map(r => r[2]), x0 = Math.min(...xs, Math.min(...peaks) / bandwidth) / 4, x1 = Math.max(...xs, Math.max(...peaks) / bandwidth) * 2;
  const y0 = Math.min(...rows.map(r => r[3])) / 2, y1 = Math.max(...peaks) * 1.6;
  const {svg, X, Y, left, right} = frame("roofline",
    {low: x0, high: x1, log: true, label: "operations per DRAM byte (op/B, log scale)", tick: t => round(t, "").trim()},
    {low: y0, high: y1, log: true, label: "operations per second (op/s, log scale)", tick: t => round(t, "").trim()}, {left: 66});
  const from = Math.max(x0, y0 / bandwidth), most = Math.max(...peaks);
  svg.append(el("line", {x1: X(from), y1: Y(from * bandwidth), x2: X(most / bandwidth), y2: Y(most), stroke: "var(--ink)", "stroke-width": 1.5}));
  for (const peak of peaks) svg.append(el("line", {x1: X(peak / bandwidth), x2: right, y1: Y(peak), y2: Y(peak), stroke: "var(--ink)", "stroke-width": 1.5, "stroke-dasharray": peak === most ? "none" : "5 4"}),
    el("text", {x: X(peak / bandwidth) - 8, y: Y(peak) + 4, "text-anchor": "end", class: "soft small"}, round(peak, "op/s")));
  for (const [layer, phase, intensity, rate, peak] of [...rows].sort((a, b) => a[1] - b[1])) {
    const colour = `var(--phase${phase})`;           // of different sizes and partly hollow: phases often lie on each other
    const node = mark(SHAPES[phase], X(intensity), Y(rate), [6.5, 4.5, 3][phase] || 4, {fill: phase ? colour : "transparent", stroke: phase ? "var(--paper)" : colour, "stroke-width": phase ? 1 : 2});
    hint(node, `${run.layers[layer].name}, ${run.phases[phase]}\n${quantity(rate, "op/s")} of at most ${quantity(Math.min(peak, intensity * bandwidth), "op/s")}\n${quantity(intensity, "op/B")}`);
    svg.append(node);
  }
  const phases = [...new Set(rows.map(r => r[1]))];
  $("roofline-legend").replaceChildren(...phases.map(i => key(`var(--phase${i})`, `${run.phases[i]} (${SHAPES[i]})`)));
  $("roofline-note").textContent = `One step of the design's own network on ${run.accelerator}: slope ${round(bandwidth, "B/s")} of DRAM, tops by the formats in use. ` +
    "An operation is a multiplication or an addition of a convolution or linear layer; norms, activations and the update are left out.";
  table("roofline-table", ["layer", "phase", "op/s", "at most, op/s", "op/B", "bound by"], rows.map(([layer, phase, intensity, rate, peak]) =>
    [null, run.layers[layer].name, run.phases[phase], quantity(rate, "op/s"), quantity(Math.min(peak, intensity * bandwidth), "op/s"), quantity(intensity, "op/B"),
      intensity * bandwidth < peak ? "memory" : "compute"]));
}

let chosen = null;
function choose(p) {
  chosen = p;
  for (const node of document.querySelectorAll(".point")) {
    const same = node.dataset.trial === String(p.trial);
    node.classList.toggle("chosen", same);
    if (node.hasAttribute("aria-checked")) {
      node.setAttribute("aria-checked", same);
      node.setAttribute("tabindex", same ? 0 : -1);
    }
  }
  if (!shown.includes(p)) document.querySelector("#front .point")?.setAttribute("tabindex", 0);
  for (const node of document.querySelectorAll("tr[data-trial]")) node.classList.toggle("chosen", node.dataset.trial === String(p.trial));
  const [title, ...rest] = facts(p);
  $("chosen").textContent = `${title}: ${rest.join("; ")}; energy ${quantity(p.energy_j, "J")}; ${whole(p.parameters)} parameters.`;
  drawLayers(p);
  drawWaterfall(p);
  drawParts(p);
  drawRoofline(p);
}
