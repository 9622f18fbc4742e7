// Pairs of classes that are taken for one another: a list, and a page for each of them.

const PAIR_PICTURES = 6;
const everyone = () => [...Array(COUNT).keys()];

// Rows of the suspects shown by their pair of classes, worst first.
const rowsOfPair = new Map();
for (const i of everyone()) {
  const key = `${S.given[i]}/${S.predicted[i]}`;
  if (!rowsOfPair.has(key)) rowsOfPair.set(key, []);
  rowsOfPair.get(key).push(i);
}
const pairRows = (given, suggested) => rowsOfPair.get(`${given}/${suggested}`) ?? [];

const pairName = (given, suggested) => [el("span", { class: "g-ink" }, nameOf(given)), el("span", { class: "arrow", "aria-hidden": "true" }, " → "), el("span", { class: "s-ink" }, nameOf(suggested))];
const pairPictures = (given, suggested) => {
  const rows = pairRows(given, suggested).slice(0, PAIR_PICTURES);
  return el("span", { class: "strip" }, rows.map((i) => picture(pictureOf.get(S.image[i]), "")));
};
const pairLabel = (p) => `${plural(p.suspects, "suspect", "suspects")} given ${nameOf(p.given)}, suggested ${nameOf(p.suggested)}`;

const pairList = (pairs) => el("ul", { class: "pairs" }, pairs.map((p) => el("li", {},
  el("a", { href: `#pair/${p.given}/${p.suggested}`, "aria-label": pairLabel(p) },
    el("span", { class: "pair" }, pairName(p.given, p.suggested)), el("span", { class: "many" }, count(p.suspects)), pairPictures(p.given, p.suggested)))));

function confusionsView() {
  const columns = [
    { title: "Given → suggested", text: true, ascending: true, value: (p) => `${nameOf(p.given)} → ${nameOf(p.suggested)}`,
      cell: (p) => el("a", { class: "pair", href: `#pair/${p.given}/${p.suggested}`, "aria-label": pairLabel(p) }, pairName(p.given, p.suggested)) },
    { title: "Suspects", value: (p) => p.suspects, cell: (p) => count(p.suspects) },
    { title: "Rate", value: (p) => p.rate.probability, cell: (p) => estimateCell(estimateOf(p.rate)) },
    { title: "Worst of them", cell: (p) => el("a", { href: `#pair/${p.given}/${p.suggested}`, "aria-label": pairLabel(p) }, pairPictures(p.given, p.suggested)) },
  ];
  return [el("h1", {}, "Confusions"), el("p", { class: "lead" }, "Pairs of classes by how many suspects go from one to the other. Each has a page of its own."),
    DATA.pairs.length ? sortableTable(`${plural(DATA.pairs.length, "pair", "pairs")}. Rate: of the images that truly are of the suggested class, the share that was given the other label, with its ${coverage}.`, columns, DATA.pairs, 1)
      : empty("There are no suspects, so no pair of classes is confused.")];
}

const estimateOf = (cell) => (cell ? { ...cell, value: cell.probability } : null);

// Rates of a pair both ways: known for the pairs listed, and for the classes of the noise matrix.
function ratesOf(given, suggested) {
  const pair = DATA.pairs.find((p) => p.given === given && p.suggested === suggested);
  if (pair) return [pair.rate, pair.back].map(estimateOf);
  const [t, g] = [DATA.matrix.classes.indexOf(suggested), DATA.matrix.classes.indexOf(given)];
  if (t < 0 || g < 0) return [null, null];
  const cell = (a, b) => ({ value: DATA.matrix.probability[a][b], low: DATA.matrix.low[a][b], high: DATA.matrix.high[a][b], rows: DATA.matrix.rows[a][b] });
  return [cell(t, g), cell(g, t)];
}

function pairView(given, suggested) {
  if (!(CLASSES[given] != null && CLASSES[suggested] != null)) return [el("h1", {}, "No such pair of classes"), el("p", {}, el("a", { href: "#confusions" }, "All pairs"))];
  const mine = pairRows(given, suggested);
  list = suspectList(mine, { fixed: true });
  const [rate, back] = ratesOf(given, suggested);
  const tell = (title, r) => (r == null ? figure(title, NONE, "Too rare to be listed; see noise_matrix.parquet.")
    : figure(title, percent(r.value), intervalOf(r), plural(r.rows, "such trusted row", "such trusted rows")));
  const total = DATA.pairs.find((p) => p.given === given && p.suggested === suggested)?.suspects ?? mine.length;
  return [
    el("h1", {}, el("span", { class: "g-ink" }, nameOf(given)), " that may be ", el("span", { class: "s-ink" }, nameOf(suggested))),
    el("p", { class: "lead" }, el("a", { href: "#confusions" }, "All pairs"), " · ", el("a", { href: `#pair/${suggested}/${given}` }, `The other way: ${nameOf(suggested)} that may be ${nameOf(given)}`)),
    el("dl", { class: "figures three" }, figure("Suspects", count(total), total > mine.length ? `${count(mine.length)} of them are shown here` : "given one, suggested the other"),
      tell(`True ${nameOf(suggested)}, given ${nameOf(given)}`, rate), tell(`True ${nameOf(given)}, given ${nameOf(suggested)}`, back)),
    ...list.nodes,
  ];
}
