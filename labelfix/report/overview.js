// The first view: what the labels are worth.

function figure(title, value, ...more) {
  return el("div", { class: "figure" }, el("dt", {}, title), el("dd", { class: "value" }, value), el("dd", { class: "more" }, more.filter(Boolean).map((line) => el("p", {}, line))));
}

const intervalOf = (estimate, rows) => `${range(estimate.low, estimate.high)} (${coverage}${rows ? `, ${rows}` : ""})`;

function estimateFigure(title, estimate, what) {
  if (estimate?.value == null) return figure(title, NONE, "No trusted row tells.");
  return figure(title, percent(estimate.value), what, intervalOf(estimate, plural(estimate.rows, "trusted row", "trusted rows")));
}

function headline() {
  const { estimates } = summary;
  const found = figure("Suspects", count(summary.suspects), `of ${plural(summary.images, "image has", "images have")} a more probable label`,
    `${count(summary.actions.review)} to review, ${count(summary.actions.relabel)} to relabel`);
  if (!summary.calibrated) {
    return el("dl", { class: "figures" }, figure("Noise rate", "Unknown", "No label was verified, so nothing here is calibrated. Pass some with --trusted."), found);
  }
  return el("dl", { class: "figures" }, estimateFigure("Noise rate", estimates.noise_rate, "of the given labels are wrong"), found,
    estimateFigure("Precision", estimates.precision, "of the suspects are wrong"), estimateFigure("Recall", estimates.recall, "of the wrong labels are suspects"));
}

function promises() {
  return DATA.promises.map((text) => note(`Promise: ${text}.`));
}

function matrixSection() {
  const { classes, probability, low, high, rows } = DATA.matrix;
  const lead = `${summary.calibrated ? "How labels go wrong" : "How labels seem to go wrong (no trusted rows: from the predictions alone)"}: per cent of the images of a true class (row) that were given a label (column). Choose a cell to see its suspects.`
    + (classes.length === CLASSES.length ? "" : ` Shown are the ${classes.length} of ${CLASSES.length} classes that go wrong most.`);
  const cell = (i, j) => {
    const p = probability[i][j];
    return {
      value: p,
      shown: p >= 0.0995 ? (100 * p).toFixed(0) : p >= 0.0005 ? (100 * p).toFixed(1) : "·",
      said: `True ${nameOf(classes[i])}, given ${nameOf(classes[j])}: ${percent(p)} (${range(low[i][j], high[i][j])}), ${plural(rows[i][j], "trusted row", "trusted rows")}`,
      href: `#pair/${classes[j]}/${classes[i]}`,
    };
  };
  const map = heatMap("Noise matrix", classes, cell, 0.02, (most) => `${percent(most)} of the images of a true class; square-root scale, the diagonal uncoloured`);
  const beside = DATA.pairs.length ? el("div", { class: "beside" }, el("h3", {}, "Most suspects"), pairList(DATA.pairs.slice(0, classes.length > 12 ? 8 : 5)),
    el("p", {}, el("a", { href: "#confusions" }, `All ${plural(DATA.pairs.length, "pair", "pairs")} of classes`))) : null;
  return section("Noise matrix", lead, el("div", { class: classes.length > 12 ? null : "split" }, el("div", {}, map), beside));
}

function classSection() {
  const rows = DATA.per_class.map((row, k) => ({ ...row, k }));
  const most = Math.max(0.05, ...rows.map((row) => row.noise_rate?.high ?? 0).filter((v) => v < 1));
  const of = (name) => (r) => r[name]?.value ?? null;
  const columns = [{ title: "Class", text: true, ascending: true, value: (r) => nameOf(r.k), cell: (r) => nameOf(r.k) }];
  if (summary.calibrated) columns.push(
    { title: "Labels wrong", value: of("noise_rate"), cell: (r) => whiskerCell(r.noise_rate, 0, most) },
    { title: "Precision", value: of("precision"), cell: (r) => estimateCell(r.precision) },
    { title: "Recall", value: of("recall"), cell: (r) => estimateCell(r.recall) });
  columns.push(
    { title: "Suspects", value: (r) => r.suspects,
      cell: (r) => (r.suspects ? el("a", { href: `#suspects/given/${r.k}`, "aria-label": `${count(r.suspects)} suspects given ${nameOf(r.k)}` }, count(r.suspects)) : "0") },
    { title: "Suggested", value: (r) => r.suggested, cell: (r) => count(r.suggested) },
    { title: "Images", value: (r) => r.rows, cell: (r) => count(r.rows) },
    { title: "Trusted", value: (r) => r.trusted, cell: (r) => count(r.trusted) });
  const caption = summary.calibrated ? `Every class by its given label; shares in per cent with their ${coverage}, from trusted rows. Suggested: suspects that would go to this class.`
    : "Every class by its given label. Suggested: suspects that would go to this class.";
  return section("Classes", null, sortableTable(caption, columns, rows, 1));
}

function confidenceSection() {
  const error = summary.estimates?.calibration_error;
  const lead = error?.value != null
    ? `The confidence is off by ${percent(error.value)} on average (${range(error.low, error.high)}, ${coverage}). Held-out verdicts of trusted rows: a dot on the dashed line is a confidence that holds.`
    : "Whether the confidence holds can only be measured on trusted rows.";
  const plot = DATA.reliability?.length ? reliabilityChart(DATA.reliability)
    : empty(summary.calibrated ? "This run kept no held-out verdicts. Run labelfix clean again to see the plot." : "No trusted rows: there is nothing to draw.");
  return section("Confidence", lead, el("div", { class: "multiples" },
    el("div", {}, el("h3", {}, "Right, by confidence claimed"), plot),
    el("div", {}, el("h3", {}, "Unverified images by confidence"), histogramChart(DATA.confidence),
      el("p", { class: "legend" }, el("span", {}, el("span", { class: "swatch s" }), "suspects"), el("span", {}, el("span", { class: "swatch" }), "other images"), el("span", {}, "square-root scale")))));
}

function trainingSection() {
  const history = DATA.history;
  if (!history?.epoch?.length) return null;
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
  return section("Training", `The full network, ${plural(folds.length, "network", "networks")}${folds.length > 1 ? ", a line each" : ""}; losses in nats.`,
    el("div", { class: "multiples" }, charts.map(([title, column, show]) => el("div", {}, el("h3", {}, title), curveChart(title, series(column), show)))));
}

// What the verdicts' weights stand for; the first kind of evidence depends on the run.
const EVIDENCE = {
  retrained: "softmax regression on pseudo-labels", discriminant: "LDA on pseudo-labels",
  neighbours: "k-NN votes with pseudo-labels", mslg: "MSLG head", votes: "labels, by their annotators' records",
  transition: "how the given label goes wrong", given_label: "the given label itself",
};

function firstEvidence() {
  if (DATA.history) return ["network trained with MSLG", ""];
  if (DATA.run.evidence?.kind === "probs") return ["probabilities that came in", "The run judged probabilities that came from elsewhere, and trained nothing itself. "];
  return ["classifier on given labels", "Linear heads on frozen features keep no curves per epoch. "];
}

function evidenceSection() {
  const [first, training] = firstEvidence();
  const weights = Object.entries(DATA.run.weights ?? {}).filter(([, w]) => w);
  const most = Math.max(...weights.map(([, w]) => Math.abs(w)));
  const row = ([name, w]) => [
    el("dt", {}, name === "probs" ? first : EVIDENCE[name] ?? name.replaceAll("_", " ")),
    el("dd", {}, el("div", { class: w < 0 ? "meter g" : "meter" }, el("i", { css: { width: `${(100 * Math.abs(w)) / most}%` } }))),
    el("dd", {}, w.toFixed(2).replace("-", "−"))];
  return section("Evidence", `${training}What the verdicts weigh, on average over the folds; orange counts against. By Bayes' rule the classifiers would have 1 together, and the labels 1.`,
    weights.length ? el("dl", { class: "bars weights" }, weights.flatMap(row)) : empty("Without trusted rows the evidence is not weighed."));
}

function runSection() {
  const run = DATA.run;
  const facts = [["Run", run.run_id], ["Made", `${run.created} with labelfix ${run.labelfix}`], ["Source", run.source],
    ...run.files.map((file) => ["Input", `${file.path} (SHA-256 ${file.sha256.slice(0, 16)}…)`]), ["Seed", run.seed], ["Backbone", run.evidence?.backbone],
    ["Images", `${count(summary.images)}, ${plural(summary.label_rows, "label", "labels")}, ${count(summary.quarantined)} could not be read`],
    ["Trusted", `${count(summary.trusted_pairs)} with a given label, ${count(summary.trusted_extra)} more without`],
    ["Time", Object.entries(summary.seconds ?? {}).map(([stage, s]) => `${stage} ${s.toFixed(1)} s`).join(", ")]].filter(([, value]) => value != null);
  const unread = DATA.quarantine.length ? [el("h3", {}, "Images that could not be read"),
    el("dl", { class: "facts" }, DATA.quarantine.flatMap(([image, reason]) => [el("dt", {}, image), el("dd", {}, reason)]))] : [];
  return section("This run", null, el("dl", { class: "facts" }, facts.flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, String(value))])), ...unread);
}

function overview() {
  const people = DATA.annotators?.length ? annotatorSummary() : null;
  return [
    el("h1", {}, "What the labels are worth"),
    el("p", { class: "lead" }, `${plural(summary.images, "image", "images")} in ${plural(CLASSES.length, "class", "classes")}, ${plural(summary.trusted_pairs, "label", "labels")} verified.`),
    summary.sample?.alarm ? note(summary.sample.message) : null, headline(), ...promises(), ...summary.warnings.map(note), ...DATA.notes.map(note),
    matrixSection(), classSection(), people, confidenceSection(), trainingSection(), evidenceSection(), runSection(),
  ];
}
