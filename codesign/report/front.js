// The front, and the two tables of designs. A choice made in any of them goes through `choose`.
const run = JSON.parse($("data").textContent);
const points = run.points;
const baselines = points.filter(p => p.kind === "baseline");
const front = points.filter(p => p.front).sort((a, b) => a.latency_s - b.latency_s);
const reference = baselines.find(p => p.label === run.reference) || points[0];
const total = values => values.reduce((a, b) => a + b, 0);
const titleOf = p => p.label || "trial " + p.trial;
const speedup = p => reference.latency_s / p.latency_s;
const ALL_CHANNELS = total(run.layers.map(l => l.channels));
const colourOf = p => p.kind === "baseline" ? "var(--baseline)" : p.front ? "var(--front)" : "var(--faint)";

const facts = p => [
  `${titleOf(p)}${p.kind === "baseline" ? " (uniform, unpruned)" : ""}`,
  `training time ${quantity(p.latency_s, "s")}, ${speedup(p).toFixed(2)} x as fast as ${titleOf(reference)}`,
  `accuracy ${percent(p.accuracy)} (95 % interval ${percent(p.accuracy_low)} to ${percent(p.accuracy_high)}, ${p.seeds} ${p.seeds === 1 ? "training" : "trainings"})`,
  `mean bits ${p.mean_bits.toFixed(1)}`,
  `channels ${total(p.channels)} of ${ALL_CHANNELS}: ${p.channels.join(", ")}`,
];

let shown = [];  // in the figure, fastest first: the order of the arrow keys
function drawFront() {
  // designs that failed to train would flatten the picture: they are listed in the table, and counted above the figure
  const kept = points.filter(p => p.kind === "baseline" || p.leading);
  const floor = Math.min(...kept.map(p => p.accuracy), Math.max(...points.map(p => p.accuracy)) - 0.05) - 0.02;
  shown = points.filter(p => p.accuracy >= floor).sort((a, b) => a.latency_s - b.latency_s);
  const xs = shown.map(p => p.latency_s);
  const low = Math.min(...kept.map(p => p.accuracy_low), ...shown.map(p => p.accuracy)), high = Math.max(...shown.map(p => p.accuracy_high));
  const pad = Math.max(0.001, (high - low) * 0.05);
  const {svg, X, Y, right, bottom} = frame("front",
    {low: Math.min(...xs) / 1.1, high: Math.max(...xs) * 1.1, log: true, label: "simulated training time (s, log scale)", tick: t => round(t, "s")},
    {low: low - pad, high: high + pad, label: "measured test accuracy (%)", tick: t => String(parseFloat((100 * t).toFixed(2)))});
  const line = front.filter(p => p.leading && shown.includes(p));
  if (line.length > 1) svg.append(el("path", {fill: "none", stroke: "var(--front)", "stroke-width": 1.5,
    d: line.map((p, i) => i ? `H${X(p.latency_s)}V${Y(p.accuracy)}` : `M${X(p.latency_s)},${Y(p.accuracy)}`).join("")}));
  const order = p => p.kind === "baseline" ? 3 : p.leading ? 2 : p.front ? 1 : 0;
  for (const p of [...shown].sort((a, b) => order(a) - order(b))) {
    const x = X(p.latency_s), y = Y(p.accuracy), colour = colourOf(p), plain = p.leading || p.kind === "baseline";
    const g = el("g", {class: "point", role: "radio", tabindex: -1, "aria-checked": "false", "aria-label": facts(p).join("; "), "data-trial": p.trial});
    g.append(el("line", {x1: x, x2: x, y1: Math.min(bottom, Y(p.accuracy_low)), y2: Y(p.accuracy_high), stroke: colour, class: "interval" + (plain ? "" : " quiet")}),
      el("circle", {class: "halo", cx: x, cy: y, r: 10}),
      p.kind === "baseline" ? mark("diamond", x, y, 4.5, {fill: colour})
        : mark("circle", x, y, plain ? 4.5 : 3.5, {fill: p.leading ? colour : "var(--paper)", stroke: colour, "stroke-width": 1.5}));
    hint(g, facts(p).join("\n"));
    g.addEventListener("click", () => choose(p));
    svg.append(g);
  }
  const taken = [];                                        // names of the baselines, moved apart where they would touch
  for (const p of shown.filter(p => p.kind === "baseline")) {
    const width = 7 * titleOf(p).length, left = X(p.latency_s) + 12 + width > right;
    const x = X(p.latency_s) + (left ? -12 : 12), from = Y(p.accuracy) - 8;
    const box = y => left ? [x - width, y - 11, x, y + 3] : [x, y - 11, x + width, y + 3];
    const free = y => y > 12 && y < bottom - 4 && !taken.some(t => { const b = box(y); return b[0] < t[2] && b[2] > t[0] && b[1] < t[3] && b[3] > t[1]; });
    const y = [0, 24, -15, 39, -30, 54, -45, 69].map(d => from + d).find(free) || from;
    taken.push(box(y));
    svg.append(el("text", {x, y, "text-anchor": left ? "end" : "start", class: "name"}, titleOf(p)));
  }
  const hidden = points.length - shown.length;
  $("front-legend").replaceChildren(key("var(--front)", "best measured (filled), within noise of it (hollow)"), key("var(--baseline)", "uniform format, unpruned"),
    key("var(--faint)", "dominated beyond noise"), ...(hidden ? [el("span", {}, `${hidden} less accurate ${hidden === 1 ? "design lies" : "designs lie"} below the axis`)] : []));
}

$("front").addEventListener("keydown", event => {
  const step = {ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1}[event.key];
  const place = shown.findIndex(p => String(p.trial) === event.target.dataset.trial);
  if (place < 0 || !(step || event.key === "Home" || event.key === "End" || event.key === " " || event.key === "Enter")) return;
  event.preventDefault();
  const next = event.key === "Home" ? 0 : event.key === "End" ? shown.length - 1 : (place + (step || 0) + shown.length) % shown.length;
  choose(shown[next]);
  document.querySelector(`#front .point[data-trial="${shown[next].trial}"]`).focus();
});

function pick(p) {
  const button = el("button", {type: "button"}, titleOf(p));
  button.addEventListener("click", () => choose(p));
  return button;
}
function drawTables() {
  const top = baselines.reduce((a, b) => b.accuracy > a.accuracy ? b : a, reference);
  $("within-note").textContent = `Against ${titleOf(top)}, the most accurate baseline (${percent(top.accuracy)}); speed-up over ${titleOf(reference)}.`;
  table("within", ["give up at most", "design", "accuracy", "95 % interval", "training time", "speed-up", "energy", "parameters"],
    [0, 0.005, 0.01, 0.02].map(loss => {
      const fast = front.find(p => p.accuracy >= top.accuracy - loss);
      const head = `${(100 * loss).toFixed(1)} points`;
      return fast ? [fast.trial, head, pick(fast), percent(fast.accuracy), `${percent(fast.accuracy_low)} to ${percent(fast.accuracy_high)}`,
        quantity(fast.latency_s, "s"), speedup(fast).toFixed(2) + " x", quantity(fast.energy_j, "J"), whole(fast.parameters)] : [null, head, "none"];
    }));
  table("all", ["design", "rank", "training time", "speed-up", "accuracy", "± (95 %)", "predicted", "trainings", "energy", "parameters", "mean bits"],
    [...points].sort((a, b) => a.latency_s - b.latency_s).map(p => [p.trial, pick(p),
      p.kind === "baseline" ? "baseline" : p.leading ? "best" : p.front ? "within noise" : "dominated", quantity(p.latency_s, "s"), speedup(p).toFixed(2) + " x",
      percent(p.accuracy), (50 * (p.accuracy_high - p.accuracy_low)).toFixed(2), p.predicted_accuracy === null ? "" : percent(p.predicted_accuracy), p.seeds, quantity(p.energy_j, "J"), whole(p.parameters), p.mean_bits.toFixed(1)]));
}
