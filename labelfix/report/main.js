// The views, chosen by the part of the address behind #, and the keys.

const main = document.getElementById("main");
const { summary } = DATA;
let list = null;

function figure(title, value, ...more) {
  return el("div", { class: "figure" }, el("dt", {}, title), el("dd", { class: "value" }, value), more.map((line) => line && el("dd", { class: "more" }, line)));
}

function estimateFigure(title, estimate, what) {
  if (estimate?.value == null) return figure(title, NONE, "No trusted row tells.");
  return figure(title, percent(estimate.value), what, `${range(estimate.low, estimate.high)} (${coverage}, ${plural(estimate.rows, "trusted row", "trusted rows")})`);
}

function headline() {
  const { estimates } = summary;
  const found = figure("Suspects", count(summary.suspects), `of ${plural(summary.images, "image", "images")} have a more probable label`,
    `${count(summary.actions.review)} to review, ${count(summary.actions.relabel)} to relabel`);
  if (!summary.calibrated) return [
    el("dl", { class: "figures" }, figure("Noise rate", "Not measured", "No label was verified, so nothing here is calibrated. Pass some with --trusted."), found)];
  const figures = el("dl", { class: "figures" }, estimateFigure("Noise rate: given labels that are wrong", estimates.noise_rate, null), found,
    estimateFigure("Precision", estimates.precision, "of the suspects are wrong"), estimateFigure("Recall", estimates.recall, "of the wrong labels are suspects"));
  return [figures];
}

function promise() {
  const g = summary.guarantee;
  if (!g) return null;
  const wanted = `at most ${percent(g.max_fix_error)} of the automatic fixes are wrong`;
  if (g.threshold != null) return note(`Promised: ${wanted} (${percent(g.coverage, 0)} sure). It holds for ${plural(g.fixes, "label", "labels")}, from a confidence of ${percent(g.threshold)} on.`);
  return note(`No promise that ${wanted}` + (g.rows_needed == null ? ": even the best suspects seem wrong too often." : `: verify about ${count(g.rows_needed)} more random rows.`));
}

function confidenceSection() {
  const error = summary.estimates?.calibration_error;
  const lead = error?.value != null
    ? `The confidence is off by ${percent(error.value)} on average (${range(error.low, error.high)}, ${coverage}). Held-out verdicts of trusted rows: a dot on the dashed line is a confidence that holds.`
    : "Whether the confidence holds can only be measured on trusted rows.";
  const plot = DATA.reliability?.length ? [el("h3", {}, "Right, by confidence claimed"), reliabilityChart(DATA.reliability)]
    : [empty(summary.calibrated ? "This run kept no held-out verdicts. Run labelfix clean again to see the plot." : "No trusted rows: there is nothing to draw.")];
  return section("Confidence", lead, ...plot, el("h3", {}, "Unverified images by confidence"), histogramChart(DATA.confidence),
    el("p", { class: "legend" }, el("span", {}, el("span", { class: "swatch s" }), "suspects"), el("span", {}, el("span", { class: "swatch" }), "other images"), el("span", {}, "square-root scale")));
}

function overview() {
  const all = DATA.matrix.classes.length === CLASSES.length;
  const left = summary.calibrated ? "How labels go wrong" : "How labels seem to go wrong (no trusted rows: from the predictions alone)";
  const matrix = section("Noise matrix", `${left}: per cent of the images of a true class (row) that were given a label (column). Choose a cell to see its suspects.`
    + (all ? "" : ` Shown are the ${DATA.matrix.classes.length} of ${CLASSES.length} classes that go wrong most.`), ...heatMap());
  const run = DATA.run;
  const facts = [["Run", run.run_id], ["Made", `${run.created} with labelfix ${run.labelfix}`], ["Source", run.source],
    ...run.files.map((file) => ["Input", `${file.path} (SHA-256 ${file.sha256.slice(0, 16)}…)`]), ["Seed", run.seed], ["Backbone", run.evidence?.backbone],
    ["Images", `${count(summary.images)}, ${plural(summary.label_rows, "label", "labels")}, ${count(summary.quarantined)} could not be read`],
    ["Trusted", `${count(summary.trusted_pairs)} with a given label, ${count(summary.trusted_extra)} more without`],
    ["Time", Object.entries(summary.seconds ?? {}).map(([stage, s]) => `${stage} ${s.toFixed(1)} s`).join(", ")]].filter(([, value]) => value != null);
  const unread = DATA.quarantine.length ? [el("h3", {}, "Images that could not be read"),
    el("dl", { class: "facts" }, DATA.quarantine.flatMap(([image, reason]) => [el("dt", {}, image), el("dd", {}, reason)]))] : [];
  return [
    el("h1", {}, "What the labels are worth"),
    el("p", { class: "lead" }, `${plural(summary.images, "image", "images")} in ${plural(CLASSES.length, "class", "classes")}, ${plural(summary.trusted_pairs, "label", "labels")} verified.`),
    ...headline(), promise(), ...summary.warnings.map(note), ...DATA.notes.map(note),
    matrix, section("Classes", null, classTable()),
    el("div", { class: "columns" }, confidenceSection(), trainingSection()),
    section("Annotators", DATA.annotators?.length ? "How often their labels are right, judged by everything else that is known of the images." : null,
      DATA.annotators?.length ? annotatorTable() : empty("The label table names no annotators, or this run was not audited. Run labelfix audit and write the report again.")),
    section("This run", null, el("dl", { class: "facts" }, facts.flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, String(value))])), ...unread),
  ];
}

const everyone = () => [...Array(COUNT).keys()];

function suspectsView(side, k) {
  list = suspectList(everyone(), side === "given" ? { given: k } : side === "suggested" ? { suggested: k } : {});
  const cut = COUNT < summary.suspects ? ` Shown are the worst ${count(COUNT)} of ${count(summary.suspects)}; all of them are in suspects.parquet.` : "";
  return [el("h1", {}, "Suspects"), el("p", { class: "lead" }, `Labels for which another class is more probable. Beside each, the trusted images of both classes that are most like it, with their similarity (1 is alike).${cut}`), ...list.nodes];
}

function confusionsView() {
  const place = new Map(DATA.matrix.classes.map((k, i) => [k, i]));
  const rows = DATA.pairs.map(([given, suggested, suspects]) => {
    const [t, g] = [place.get(suggested), place.get(given)];
    const known = t != null && g != null;
    return { given, suggested, suspects, value: known ? DATA.matrix.probability[t][g] : null, low: known ? DATA.matrix.low[t][g] : null, high: known ? DATA.matrix.high[t][g] : null };
  });
  const columns = [
    { title: "Given", text: true, ascending: true, value: (r) => nameOf(r.given), cell: (r) => el("span", { class: "g-ink" }, nameOf(r.given)) },
    { title: "Suggested", text: true, ascending: true, value: (r) => nameOf(r.suggested), cell: (r) => el("a", { class: "s-ink", href: `#pair/${r.given}/${r.suggested}`, "aria-label": `Suspects given ${nameOf(r.given)}, suggested ${nameOf(r.suggested)}` }, nameOf(r.suggested)) },
    { title: "Suspects", value: (r) => r.suspects, cell: (r) => count(r.suspects) },
    { title: "Rate in the true class", value: (r) => r.value, cell: (r) => estimateCell(r) },
  ];
  return [el("h1", {}, "Confusions"), el("p", { class: "lead" }, "Pairs of classes by how many suspects go from one to the other. Each has a page of its own."),
    rows.length ? sortableTable(`${plural(rows.length, "pair", "pairs")}; the rate is of the true class's images that were given the other label, in per cent with its ${coverage}`, columns, rows, 2)
      : empty("There are no suspects, so no pair of classes is confused.")];
}

function pairView(given, suggested) {
  if (!(CLASSES[given] != null && CLASSES[suggested] != null)) return [el("h1", {}, "No such pair of classes"), el("p", {}, el("a", { href: "#confusions" }, "All pairs"))];
  const mine = everyone().filter((i) => S.given[i] === given && S.predicted[i] === suggested);
  list = suspectList(mine, { fixed: true });
  const [t, g] = [DATA.matrix.classes.indexOf(suggested), DATA.matrix.classes.indexOf(given)];
  const rate = (a, b) => (a < 0 || b < 0 ? null : { value: DATA.matrix.probability[a][b], low: DATA.matrix.low[a][b], high: DATA.matrix.high[a][b], rows: DATA.matrix.rows[a][b] });
  const tell = (title, r) => (r == null ? figure(title, NONE, "Not among the classes of the noise matrix shown.")
    : figure(title, percent(r.value), `${range(r.low, r.high)} (${coverage})`, plural(r.rows, "such trusted row", "such trusted rows")));
  const total = DATA.pairs.find(([a, b]) => a === given && b === suggested)?.[2] ?? mine.length;
  return [
    el("h1", {}, el("span", { class: "g-ink" }, nameOf(given)), " that may be ", el("span", { class: "s-ink" }, nameOf(suggested))),
    el("p", { class: "lead" }, el("a", { href: "#confusions" }, "All pairs"), " · ", el("a", { href: `#pair/${suggested}/${given}` }, `The other way: ${nameOf(suggested)} that may be ${nameOf(given)}`)),
    el("dl", { class: "figures" }, figure("Suspects", count(total), total > mine.length ? `${count(mine.length)} of them are shown here` : "given one, suggested the other"),
      tell(`True ${nameOf(suggested)}, given ${nameOf(given)}`, rate(t, g)), tell(`True ${nameOf(given)}, given ${nameOf(suggested)}`, rate(g, t))),
    ...list.nodes,
  ];
}

const VIEWS = [["overview", "Overview"], ["suspects", `Suspects ${count(summary.suspects)}`], ["confusions", "Confusions"]];

function show(event) {
  const [view, a, b] = location.hash.slice(1).split("/");
  if (view === "main") return;
  list = null;
  const current = VIEWS.some(([name]) => name === view) ? view : view === "pair" ? "confusions" : "overview";
  const nodes = view === "pair" ? pairView(Number(a), Number(b)) : current === "suspects" ? suspectsView(a, b ?? "") : current === "confusions" ? confusionsView() : overview();
  main.replaceChildren(...nodes.filter(Boolean));
  for (const link of document.querySelectorAll("nav a")) {
    link.hash === `#${current}` ? link.setAttribute("aria-current", "page") : link.removeAttribute("aria-current");
  }
  document.title = `${main.querySelector("h1").textContent} · labelfix`;
  scrollTo(0, 0);
  list?.start();
  if (event) main.focus({ preventScroll: true });
}

const THEMES = ["auto", "light", "dark"];
const themeButton = document.getElementById("theme");
function setTheme(theme) {
  theme === "auto" ? document.documentElement.removeAttribute("data-theme") : document.documentElement.setAttribute("data-theme", theme);
  themeButton.textContent = `Theme: ${theme}`;
  themeButton.value = theme;
}
themeButton.addEventListener("click", () => setTheme(THEMES[(THEMES.indexOf(themeButton.value) + 1) % 3]));
setTheme("auto");

const KEYS = [["1 2 3", "Overview, suspects, confusions"], ["/", "Search by file name"], ["j k", "Next, previous suspect"], ["Enter", "Open a suspect"],
  ["← →", "Previous, next suspect while one is open"], ["Home End", "First, last suspect"], ["Esc", "Close"], ["?", "These keys"]];
const keys = document.getElementById("keys");
keys.append(
  el("div", { class: "dialog-head" }, el("h2", { id: "keys-title" }, "Keys"), el("button", { type: "button", onclick: () => keys.close() }, "Close")),
  el("dl", { class: "facts dialog-body" }, KEYS.flatMap(([key, what]) => [el("dt", {}, key.split(" ").flatMap((k) => [el("kbd", {}, k), " "])), el("dd", {}, what)])));
document.getElementById("help").addEventListener("click", () => keys.showModal());

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  if (event.target.closest("input, select, textarea")) {
    if (event.key === "Escape") event.target.blur();
    return;
  }
  if (event.key === "?") keys.showModal();
  else if (["1", "2", "3"].includes(event.key)) location.hash = VIEWS[event.key - 1][0];
  else if (!list?.onKey(event)) return;
  event.preventDefault();
});
document.getElementById("views").append(...VIEWS.map(([name, title]) => el("a", { href: `#${name}` }, title)));
document.getElementById("source").textContent = DATA.run.source ?? "";
document.getElementById("footer").textContent = `Written by labelfix ${DATA.run.labelfix} from run ${DATA.run.run_id}. This page holds all it shows and asks nothing of the network.`;
addEventListener("scroll", () => list?.schedule(), { passive: true });
addEventListener("resize", () => list?.schedule());
addEventListener("hashchange", show);
show();
