// Tables that sort, the heat map, and the overview that they make up.

// Columns are {title, value(row), cell(row), text, ascending}; rows of a null value always come last.
function sortableTable(caption, columns, rows, first) {
  const body = el("tbody");
  const heads = columns.map((column, number) =>
    el("th", { scope: "col", class: column.text ? "text" : null },
      el("button", { type: "button", onclick: () => sortBy(number) }, column.title)));
  let current = -1;
  let ascending = false;

  function sortBy(number, direction) {
    ascending = direction ?? (current === number ? !ascending : Boolean(columns[number].ascending));
    current = number;
    heads.forEach((head, i) =>
      i === number ? head.setAttribute("aria-sort", ascending ? "ascending" : "descending") : head.removeAttribute("aria-sort"));
    const value = columns[number].value;
    const sorted = rows.map((row, i) => [value(row), i, row]).sort(([a, i], [b, j]) => {
      if (a == null || b == null) return (a == null) - (b == null) || i - j;
      const order = typeof a === "string" ? a.localeCompare(b, "en", { numeric: true }) : a - b;
      return (ascending ? order : -order) || i - j;
    });
    body.replaceChildren(...sorted.map(([, , row]) =>
      el("tr", {}, columns.map((column, i) =>
        el(i ? "td" : "th", { scope: i ? null : "row", class: column.text ? "text name" : null, title: column.text ? column.value(row) : null }, column.cell(row))))));
  }

  sortBy(first);
  return el("div", { class: "scroll", role: "region", "aria-label": caption, tabindex: "0" },
    el("table", {}, el("caption", {}, caption), el("thead", {}, el("tr", {}, heads)), body));
}

const estimateCell = (estimate, bare) =>
  estimate?.value == null ? NONE : [percent(estimate.value), !bare && el("span", { class: "range" }, range(estimate.low, estimate.high))];

function classTable() {
  const rows = DATA.per_class.map((row, k) => ({ ...row, k }));
  const most = Math.max(0.05, ...rows.map((row) => row.noise_rate?.high ?? 0).filter((v) => v < 1));
  const columns = [
    { title: "Class", text: true, ascending: true, value: (r) => nameOf(r.k), cell: (r) => nameOf(r.k) },
    { title: "Images", value: (r) => r.rows, cell: (r) => count(r.rows) },
    { title: "Trusted", value: (r) => r.trusted, cell: (r) => count(r.trusted) },
    { title: "Suspects", value: (r) => r.suspects,
      cell: (r) => (r.suspects ? el("a", { href: `#suspects/given/${r.k}`, "aria-label": `${count(r.suspects)} suspects given ${nameOf(r.k)}` }, count(r.suspects)) : "0") },
    { title: "Suggested", value: (r) => r.suggested, cell: (r) => count(r.suggested) },
  ];
  if (DATA.summary.calibrated) columns.push(
    { title: "Labels wrong", value: (r) => r.noise_rate?.value ?? null,
      cell: (r) => (r.noise_rate?.value == null ? NONE : [whisker(r.noise_rate, 0, most), " ", estimateCell(r.noise_rate)]) },
    { title: "Suspects wrong", value: (r) => r.precision?.value ?? null, cell: (r) => estimateCell(r.precision) },
    { title: "Wrong found", value: (r) => r.recall?.value ?? null, cell: (r) => estimateCell(r.recall) });
  return sortableTable(`Every class by its given label; shares in per cent with their ${coverage}, from trusted rows`, columns, rows, DATA.summary.calibrated ? 5 : 3);
}

function heatMap() {
  const { classes, probability, low, high, rows } = DATA.matrix;
  const most = Math.max(1e-6, ...probability.flatMap((row, i) => row.filter((_, j) => i !== j)));
  const names = classes.map(nameOf);
  const tilted = Math.max(...names.map((name) => name.length)) > 6;
  const body = classes.map((k, i) => el("tr", {}, el("th", { scope: "row", title: names[i] }, names[i]), classes.map((j, c) => {
    const p = probability[i][c];
    const shade = Math.sqrt(p / most);
    const said = `True ${names[i]}, given ${names[c]}: ${percent(p)} (${range(low[i][c], high[i][c])}), ${plural(rows[i][c], "trusted row", "trusted rows")}`;
    const shown = p >= 0.0995 ? (100 * p).toFixed(0) : p >= 0.0005 ? (100 * p).toFixed(1) : "·";
    if (k === j) return el("td", { class: "same" }, el("span", { title: said }, shown));
    const mix = `color-mix(in oklab, var(--heat) ${(100 * shade).toFixed(0)}%, var(--sunken))`;
    return el("td", { class: shade > 0.55 ? "strong" : null },
      el("a", { href: `#pair/${j}/${k}`, title: said, "aria-label": said, css: { "background-color": mix } }, shown));
  })));
  const table = el("table", { class: `heat${tilted ? " tilted" : ""}` },
    el("thead", {}, el("tr", {}, el("th", { scope: "col", class: "quiet" }, "true \\ given"), names.map((name) => el("th", { scope: "col", title: name }, el("span", {}, name))))),
    el("tbody", {}, body));
  return [
    el("div", { class: "scroll", role: "region", "aria-label": "Noise matrix", tabindex: "0" }, table),
    el("p", { class: "legend" }, "0\u202f%", el("span", { class: "ramp", "aria-hidden": "true" }), `${percent(most)} of the images of a true class; square-root scale, the diagonal uncoloured`),
  ];
}

function annotatorTable() {
  const rows = DATA.annotators;
  const has = (name) => rows.some((row) => row[name] != null);
  const least = Math.max(0, Math.floor(Math.min(...rows.map((row) => row.low ?? row.accuracy ?? 1)) * 10) / 10);
  const columns = [
    { title: "Annotator", text: true, ascending: true, value: (r) => r.annotator, cell: (r) => r.annotator },
    { title: "Labels", value: (r) => r.rows, cell: (r) => count(r.rows) },
    { title: "Accuracy", ascending: true, value: (r) => r.accuracy,
      cell: (r) => (r.accuracy == null ? NONE : [whisker({ value: r.accuracy, low: r.low, high: r.high }, least, 1), " ", percent(r.accuracy), el("span", { class: "range" }, range(r.low, r.high))]) },
  ];
  if (has("agreement")) columns.push({ title: "Agreement", value: (r) => r.agreement, cell: (r) => percent(r.agreement) });
  if (has("wrong")) columns.push({ title: "Wrong labels", value: (r) => r.wrong,
    cell: (r) => [count(Math.round(r.wrong)), el("span", { class: "range" }, `${count(Math.round(r.wrong_low))} to ${count(Math.round(r.wrong_high))}`)] });
  if (has("best_rank")) columns.push({ title: "Rank", ascending: true, value: (r) => r.best_rank + r.worst_rank / 1e6,
    cell: (r) => (r.best_rank === r.worst_rank ? count(r.best_rank) : `${count(r.best_rank)} to ${count(r.worst_rank)}`) });
  if (has("worst_class")) columns.push({ title: "Worst class", text: true, ascending: true, value: (r) => r.worst_class, cell: (r) => r.worst_class ?? NONE });
  if (has("confused")) {
    const mistakes = (r) => (r.confused ?? []).slice(0, 2).map((c) => `${c.true_label} as ${c.given_label} (${Math.round(c.rows)})`).join(", ");
    columns.push({ title: "Most frequent mistakes", text: true, ascending: true, value: mistakes, cell: (r) => mistakes(r) || NONE });
  }
  return sortableTable(`Accuracy in per cent with its ${coverage}; ranks that the intervals leave open`, columns, rows, 2);
}

function trainingSection() {
  const history = DATA.history;
  if (history?.epoch?.length) {
    const folds = [...new Set(history.fold)];
    const series = (column) => folds.map((fold) => ({
      name: `network ${fold + 1}`,
      points: history.epoch.map((epoch, i) => [epoch, history[column][i], history.fold[i]])
        .filter(([, value, f]) => f === fold && value != null).map(([epoch, value]) => [epoch, value]),
    })).filter((s) => s.points.length);
    const plain = (v) => v.toFixed(Math.abs(v) < 0.1 ? 4 : 2);
    const charts = [
      ["Training loss", "train_loss", plain], ["Meta-loss on trusted rows", "meta_loss", plain],
      ["Held-out accuracy", "held_out_accuracy", (v) => percent(v)], ["Labels moved in an epoch", "labels_moved", (v) => count(Math.round(v))],
    ];
    return section("Training", `The full network, ${plural(folds.length, "network", "networks")}; losses in nats.`,
      el("div", { class: "multiples" }, charts.map(([title, column, show]) => el("div", {}, el("h3", {}, title), curveChart(title, series(column), show)))));
  }
  const weights = Object.entries(DATA.run.weights ?? {}).filter(([, w]) => w);
  const most = Math.max(...weights.map(([, w]) => Math.abs(w)));
  const kind = DATA.run.evidence?.kind === "probs" ? "The run judged probabilities that came from elsewhere, and trained nothing itself."
    : "Linear heads on frozen features keep no curves per epoch.";
  return section("Training", `${kind} What the verdicts weigh, on average over the folds:`,
    weights.length ? el("dl", { class: "bars" }, weights.flatMap(([name, w]) => [el("dt", {}, name.replaceAll("_", " ")),
      el("dd", {}, el("div", { class: "meter" }, el("i", { css: { width: `${(100 * Math.abs(w)) / most}%` } }))), el("dd", {}, w.toFixed(2))]))
      : empty("Without trusted rows the evidence is not weighed."));
}
