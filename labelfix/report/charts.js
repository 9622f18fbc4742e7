// Charts as SVG, drawn at the width they have so that type keeps its size on a phone.

function chart(height, label, draw) {
  const node = svg("svg", { class: "chart", role: "img", "aria-label": label, height });
  let drawn = 0;
  new ResizeObserver((entries) => {
    const width = Math.round(entries[0].contentRect.width);
    if (width < 40 || width === drawn) return;
    drawn = width;
    node.setAttribute("viewBox", `0 0 ${width} ${height}`);
    node.replaceChildren(...draw(width, height));
  }).observe(node);
  return node;
}

const text = (x, y, content, more = {}) => svg("text", { x, y, ...more }, String(content));
const line = (x1, y1, x2, y2, kind) => svg("line", { x1, y1, x2, y2, class: kind });

function reliabilityChart(bins) {
  const said = bins.map((b) => `claimed ${percent(b.confidence)}, right ${percent(b.value)} of ${b.rows}`).join("; ");
  return chart(320, `Reliability of the confidence: ${said}`, (width, height) => {
    const floor = Math.max(0, Math.floor(Math.min(...bins.map((b) => Math.min(b.low, b.confidence))) * 5) / 5);
    const [left, right, top, bottom] = [46, width - 10, 10, height - 44];
    const x = (v) => left + ((v - floor) / (1 - floor)) * (right - left);
    const y = (v) => bottom - ((v - floor) / (1 - floor)) * (bottom - top);
    const step = 1 - floor > 0.5 ? 0.2 : 0.1;
    const ticks = [...Array(Math.round((1 - floor) / step) + 1).keys()].map((i) => +(1 - i * step).toFixed(2));
    const out = [];
    for (const v of ticks) {
      out.push(line(left, y(v), right, y(v), "grid"), text(left - 8, y(v) + 4, percent(v, 0), { "text-anchor": "end" }));
      out.push(text(x(v), bottom + 18, percent(v, 0), { "text-anchor": v === 1 ? "end" : "middle" }));
    }
    out.push(line(left, bottom, right, bottom, "axis"), line(x(floor), y(floor), x(1), y(1), "ideal"));
    out.push(text((left + right) / 2, height - 6, "confidence claimed", { "text-anchor": "middle" }));
    for (const b of bins) {
      const mark = svg("g", {}, svg("title", {}, `Claimed ${percent(b.confidence)}: right ${percent(b.value)} (${range(b.low, b.high)}) of ${plural(b.rows, "trusted row", "trusted rows")}`));
      mark.append(line(x(b.confidence), y(Math.max(b.low, floor)), x(b.confidence), y(b.high), "span"));
      mark.append(svg("circle", { cx: x(b.confidence), cy: y(b.value), r: 4.5, class: "mark" }));
      out.push(mark);
    }
    return out;
  });
}

function histogramChart(histogram) {
  const total = histogram.suspects.map((n, i) => n + histogram.others[i]);
  const most = Math.max(1, ...total);
  return chart(260, `Unverified images by confidence, ${total.length} bins from 0 to 100 %: ${total.join(", ")}`, (width, height) => {
    const [left, right, top, bottom] = [46, width - 10, 12, height - 24];
    const step = (right - left) / total.length;
    const y = (n) => bottom - Math.sqrt(n / most) * (bottom - top);
    const out = [text(left - 8, top + 4, count(most), { "text-anchor": "end" }), text(left - 8, bottom + 4, "0", { "text-anchor": "end" })];
    out.push(line(left, top, right, top, "grid"));
    total.forEach((n, i) => {
      if (!n) return;
      const [all, some] = [y(n), y(histogram.suspects[i])];
      const bar = svg("g", {}, svg("title", {}, `Confidence ${(100 * i) / total.length} to ${(100 * (i + 1)) / total.length} %: ${count(n)} images, ${count(histogram.suspects[i])} of them suspects`));
      bar.append(svg("rect", { x: left + i * step + 1, width: step - 2, y: all, height: bottom - all, class: "fill-o" }));
      bar.append(svg("rect", { x: left + i * step + 1, width: step - 2, y: some, height: bottom - some, class: "fill-s" }));
      out.push(bar);
    });
    out.push(line(left, bottom, right, bottom, "axis"));
    for (const v of [0, 0.5, 1]) {
      out.push(text(left + v * (right - left), bottom + 18, percent(v, 0), { "text-anchor": v === 1 ? "end" : v ? "middle" : "start" }));
    }
    return out;
  });
}

// One line per fold; `series` is a list of {name, points: [[epoch, value], …]}.
function curveChart(title, series, show) {
  const points = series.flatMap((s) => s.points);
  if (!points.length) return empty("Not measured in this run.");
  const lastEpoch = Math.max(...points.map((p) => p[0]));
  const values = points.map((p) => p[1]);
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const said = `${title}: from ${show(points[0][1])} at epoch ${points[0][0]} to ${show(series[0].points.at(-1)[1])} at epoch ${lastEpoch}`;
  return chart(170, said, (width, height) => {
    const [left, right, top, bottom] = [60, width - 10, 10, height - 26];
    const pad = (high - low) * 0.06 || 0.5;
    const x = (e) => (lastEpoch === 1 ? (left + right) / 2 : left + ((e - 1) / (lastEpoch - 1)) * (right - left));
    const y = (v) => bottom - ((v - low + pad) / (high - low + 2 * pad)) * (bottom - top);
    const out = [low, (low + high) / 2, high].filter((v, i) => i === 0 || high > low).flatMap((v) => [
      line(left, y(v), right, y(v), "grid"), text(left - 8, y(v) + 4, show(v), { "text-anchor": "end" }),
    ]);
    series.forEach((s, i) => {
      const path = s.points.map(([e, v], j) => `${j ? "L" : "M"}${x(e).toFixed(1)} ${y(v).toFixed(1)}`).join("");
      const kind = ["a", "b", "c"][i % 3];
      out.push(svg("path", { d: path, class: `line ${kind}` }));
      for (const [e, v] of s.points) {
        out.push(svg("circle", { cx: x(e), cy: y(v), r: 3, class: `mark ${kind}` }, svg("title", {}, `${s.name}, epoch ${e}: ${show(v)}`)));
      }
    });
    out.push(line(left, bottom, right, bottom, "axis"), text(left, bottom + 18, "epoch 1"));
    if (lastEpoch > 1) out.push(text(right, bottom + 18, count(lastEpoch), { "text-anchor": "end" }));
    return out;
  });
}

// A dot with its interval on a scale from `least` to 1 (or 0 to `most`).
function whisker(estimate, least, most) {
  const at = (v) => 4 + ((Math.min(Math.max(v, least), most) - least) / (most - least || 1)) * 124;
  return svg("svg", { class: "whisker chart", viewBox: "0 0 132 16", "aria-hidden": "true" },
    line(4, 8, 128, 8, "grid"), line(at(estimate.low), 8, at(estimate.high), 8, "span"),
    svg("circle", { cx: at(estimate.value), cy: 8, r: 4, class: "mark" }));
}
