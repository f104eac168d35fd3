// Other machines, where the search was told to price its designs on some: area against the time of the fastest design.
function drawMachines() {
  const rows = run.hardware || [], can = rows.filter(r => r.trial !== null);
  $("machines-section").hidden = !rows.length;
  if (!rows.length) return;
  const keys = Object.keys(rows[0]).slice(0, Object.keys(rows[0]).indexOf("area_um2")), rival = Object.keys(rows[0]).find(k => k.startsWith("latency_s of "));
  $("machines-note").textContent = `For each of ${rows.length} machines the fastest design that was measured to reach the accuracy asked for, within the limits. ` +
    `Accuracy does not depend on the machine. ${rows.length - can.length ? `${rows.length - can.length} have none. ` : ""}Expected: a design that was not trained and that the model of the search takes to be accurate enough.`;
  const setting = x => typeof x === "number" && x >= 1e4 ? quantity(x, "").trim() : String(x);
  const settings = r => keys.map(k => `${k} = ${setting(r[k])}`);
  const mm2 = r => r.area_um2 / 1e6;
  if (can.length) {
    const xs = can.map(mm2), ys = can.map(r => r.latency_s);
    const {svg, X, Y} = frame("machines", {low: Math.min(...xs) / 1.15, high: Math.max(...xs) * 1.15, log: true, label: "area of the accelerator (mm², log scale)", tick: t => String(parseFloat(t.toPrecision(3)))},
      {low: Math.min(...ys) / 1.2, high: Math.max(...ys) * 1.2, log: true, label: "training time (s, log scale)", tick: t => round(t, "s")}, {left: 66});
    const leading = can.filter(r => r.leading).sort((a, b) => mm2(a) - mm2(b));
    if (leading.length > 1) svg.append(el("path", {fill: "none", stroke: "var(--front)", "stroke-width": 1.5, d: leading.map((r, i) => i ? `H${X(mm2(r))}V${Y(r.latency_s)}` : `M${X(mm2(r))},${Y(r.latency_s)}`).join("")}));
    for (const r of can) {
      const node = mark("circle", X(mm2(r)), Y(r.latency_s), 4.5, {fill: r.leading ? "var(--front)" : "var(--paper)", stroke: r.leading ? "var(--front)" : "var(--faint)", "stroke-width": 1.5});
      hint(node, [...settings(r), `${mm2(r).toPrecision(3)} mm²`, `trial ${r.trial}: ${quantity(r.latency_s, "s")}, ${percent(r.accuracy)}`].join("\n"));
      svg.append(node);
    }
  }
  const value = (x, unit) => x === null ? "" : quantity(x, unit);
  table("machines-table", [...keys, "area, mm²", "design", "training time", `${rival.slice("latency_s of ".length)}`, "energy", "accuracy", "expected time", "expected accuracy"], rows.map(r =>
    [r.trial, ...keys.map(k => setting(r[k])), mm2(r).toPrecision(4), r.trial === null ? "none" : pick(points.find(p => p.trial === r.trial)), value(r.latency_s, "s"), quantity(r[rival], "s"),
      value(r.energy_j, "J"), r.accuracy === null ? "" : percent(r.accuracy), value(r.expected_latency_s, "s"), r.expected_accuracy === null ? "" : percent(r.expected_accuracy)]));
}
