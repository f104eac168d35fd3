// How the search went: its model against the trainings, what each training added; then everything is drawn.
function drawPredicted() {
  const pairs = points.filter(p => p.predicted_accuracy !== null), found = run.agreement;
  if (!found) {
    $("predicted-note").textContent = `Method ${run.method}: too few designs were proposed with a prediction for a rank correlation.`;
    return;
  }
  const verdict = found.weak ? "the model ranks badly." : found.attainable < 0.3 ? "the noise of one training hides how these designs rank." : "the model ranks as well as the noise lets one see.";
  $("predicted-note").textContent = `Spearman's rank correlation over the latest ${found.designs} designs that the model proposed: ${found.rank_correlation.toFixed(2)}. ` +
    `Given the noise of the trainings, a perfect model would exceed ${found.attainable.toFixed(2)} in 19 cases of 20: ${verdict} ` +
    `Measured - predicted: mean ${(100 * found.bias).toFixed(2)}, root mean square ${(100 * found.rms).toFixed(2)} points. Bars are 95 % intervals.`;
  const xs = pairs.map(p => p.predicted_accuracy), lows = pairs.map(p => p.accuracy_low), highs = pairs.map(p => p.accuracy_high);
  const pad = (a, b) => Math.max(0.002, (b - a) * 0.06);
  const spread = (low, high) => ({low: low - pad(low, high), high: high + pad(low, high), tick: t => String(parseFloat((100 * t).toFixed(2)))});
  const {svg, X, Y, left, right, top, bottom} = frame("predicted", {...spread(Math.min(...xs), Math.max(...xs)), label: "predicted accuracy (%)"},
    {...spread(Math.min(...lows), Math.max(...highs)), label: "measured accuracy (%)"});
  const box = [Math.min(...xs, ...lows) - 1, Math.max(...xs, ...highs) + 1];
  svg.append(el("path", {d: `M${left},${top}H${right}V${bottom}H${left}Z`, fill: "none"}));
  const ends = box.map(v => [X(v), Y(v)]), cut = clip(ends, left, top, right, bottom);
  if (cut) svg.append(el("line", {x1: cut[0][0], y1: cut[0][1], x2: cut[1][0], y2: cut[1][1], class: "axis", "stroke-dasharray": "4 4"}));
  for (const p of pairs) {
    const x = X(p.predicted_accuracy), g = el("g", {class: "point", "data-trial": p.trial});
    g.append(el("line", {x1: x, x2: x, y1: Y(p.accuracy_low), y2: Y(p.accuracy_high), stroke: colourOf(p), class: "interval"}), el("circle", {class: "halo", cx: x, cy: Y(p.accuracy), r: 10}),
      mark("circle", x, Y(p.accuracy), 4, {fill: colourOf(p)}));
    hint(g, `${titleOf(p)}\npredicted ${percent(p.predicted_accuracy)}\nmeasured ${percent(p.accuracy)} (${percent(p.accuracy_low)} to ${percent(p.accuracy_high)})`);
    g.addEventListener("click", () => choose(p));
    svg.append(g);
  }
}

// The part of a line inside a box, or null (Liang & Barsky 1984).
function clip([[x0, y0], [x1, y1]], left, top, right, bottom) {
  let from = 0, to = 1;
  for (const [step, room] of [[x0 - x1, x0 - left], [x1 - x0, right - x0], [y0 - y1, y0 - top], [y1 - y0, bottom - y0]]) {
    if (step === 0 && room < 0) return null;
    if (step < 0) from = Math.max(from, room / step);
    if (step > 0) to = Math.min(to, room / step);
  }
  return from < to ? [from, to].map(t => [x0 + t * (x1 - x0), y0 + t * (y1 - y0)]) : null;
}

function drawProgress() {
  const {latency_s, accuracy, steps} = run.progress, area = latency_s * (1 - accuracy);
  const last = steps[steps.length - 1], share = step => step.hypervolume / area;
  $("progress-note").textContent = `Area between the measured designs and ${quantity(latency_s, "s")} at ${percent(accuracy)} (time of ${titleOf(reference)}, ten points below the most accurate baseline), ` +
    `in % of the area up to 0 s at 100 %. After ${parseFloat(last.trainings.toFixed(2))} trainings (${quantity(last.training_cpu_s, "s")} of CPU time): ${percent(share(last))}.`;
  const {svg, X, Y} = frame("progress", {low: 0, high: last.trainings, label: "trainings spent (full trainings)", tick: t => String(parseFloat(t.toPrecision(6)))},
    {low: 0, high: Math.max(...steps.map(share)) * 1.1 || 1, label: "hypervolume (%)", tick: t => String(parseFloat((100 * t).toPrecision(4)))});
  svg.append(el("path", {fill: "none", stroke: "var(--front)", "stroke-width": 2, d: `M${X(0)},${Y(0)}` + steps.map(s => `H${X(s.trainings)}V${Y(share(s))}`).join("")}));
  $("progress").setAttribute("aria-label", steps.filter((_, i) => i % Math.ceil(steps.length / 8) === 0 || i === steps.length - 1)
    .map(s => `${parseFloat(s.trainings.toFixed(2))} trainings ${percent(share(s))}`).join(", "));
}

function draw() {
  drawFront();
  drawMachines();
  drawPredicted();
  drawProgress();
  choose(chosen);
}

$("subtitle").textContent = `${run.network} on ${run.data}, trained on the simulated accelerator ${run.accelerator}; ${run.trainings} trainings, method ${run.method}` +
  (run.failed.length ? `, ${run.failed.length} failed.` : ".");
$("headline").textContent = run.headline;
$("notes").append(...run.notes.map(note => el("li", {}, note)));
$("provenance").append(...Object.entries(run.provenance).flatMap(([k, v]) => [el("dt", {}, k), el("dd", {}, typeof v === "object" ? JSON.stringify(v) : String(v))]));
chosen = points.find(p => p.trial === run.chosen) || front[0] || points[0];
drawTables();
draw();
let width = innerWidth;
addEventListener("resize", () => { if (innerWidth !== width) { width = innerWidth; draw(); } });
