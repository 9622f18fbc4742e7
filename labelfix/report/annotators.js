// Annotators: a table, and a page for each of them.

const PEOPLE = DATA.annotators ?? [];
const accuracyOf = (person) => ({ value: person.accuracy, low: person.low, high: person.high });
const ranks = (person) => (person.best_rank === person.worst_rank ? count(person.best_rank) : `${count(person.best_rank)} to ${count(person.worst_rank)}`);
const signed = (value) => (value == null ? NONE : `${value > 0 ? "+" : value < 0 ? "−" : ""}${count(Math.abs(Math.round(value)))}`);
const mistakes = (person) => person.confused.slice(0, 1).map((c) => `${c.true_label} as ${c.given_label} (${Math.round(c.rows)})`).join("");
const wrongOf = (person) => (person.wrong == null ? NONE : [count(Math.round(person.wrong)), " ", el("span", { class: "range" }, `${count(Math.round(person.wrong_low))}–${count(Math.round(person.wrong_high))}`)]);

function annotatorSummary() {
  const standing = (name) => PEOPLE.filter((person) => person.standing === name).length;
  const told = `${plural(PEOPLE.length, "annotator", "annotators")}: ${count(standing("better"))} better and ${count(standing("worse"))} worse than the others together, ${count(standing("undecided"))} that cannot be told.`;
  return section("Annotators", told, el("p", {}, el("a", { href: "#annotators" }, "Accuracy, mistakes and cost of each")));
}

function annotatorsView() {
  const least = Math.max(0, Math.floor(Math.min(...PEOPLE.map((p) => p.low ?? 1)) * 10) / 10);
  const link = (p) => el("a", { href: `#annotator/${PEOPLE.indexOf(p)}` }, p.annotator);
  const columns = [
    { title: "Annotator", text: true, ascending: true, value: (p) => p.annotator, cell: link },
    { title: "Accuracy", ascending: true, value: (p) => p.accuracy, cell: (p) => whiskerCell(accuracyOf(p), least, 1) },
    { title: "Rank", ascending: true, value: (p) => p.best_rank + p.worst_rank / 1e6, cell: ranks },
    { title: "Next to others", text: true, ascending: true, value: (p) => p.standing, cell: (p) => p.standing },
    { title: "Labels", value: (p) => p.rows, cell: (p) => count(p.rows) },
    { title: "Wrong labels", value: (p) => p.wrong, cell: wrongOf },
    { title: "Excess", value: (p) => p.excess, cell: (p) => signed(p.excess) },
  ];
  if (PEOPLE.some((p) => p.agreement != null)) columns.push({ title: "Agreement", value: (p) => p.agreement, cell: (p) => percent(p.agreement) });
  columns.push({ title: "Most frequent mistake", text: true, ascending: true, value: (p) => mistakes(p), cell: (p) => mistakes(p) || NONE });
  return [el("h1", {}, "Annotators"),
    el("p", { class: "lead" }, "How often their labels are right, judged by everything else that is known of the images. Nobody is put before another on fewer labels than that takes."),
    sortableTable(`Accuracy in per cent with its ${coverage}; ranks that the intervals allow (1 is best); excess: wrong labels beyond an average annotator's.`, columns, PEOPLE, 1)];
}

function annotatorView(number) {
  const person = PEOPLE[number];
  if (!person) return [el("h1", {}, "No such annotator"), el("p", {}, el("a", { href: "#annotators" }, "All annotators"))];
  const mine = everyone().filter((i) => S.givers[i]?.some(([who]) => who === number));
  list = suspectList(mine);
  const { classes, rows } = person.confusion;
  const cell = (i, j) => ({
    value: rows[i][j], shown: rows[i][j] >= 9.95 ? count(Math.round(rows[i][j])) : rows[i][j] >= 0.5 ? rows[i][j].toFixed(1) : "·",
    said: `True ${nameOf(classes[i])}, said ${nameOf(classes[j])}: ${rows[i][j].toFixed(1)} labels`, href: null,
  });
  const others = person.agreement == null ? null : `agrees with others ${percent(person.agreement)} of the time`;
  return [
    el("h1", {}, person.annotator),
    el("p", { class: "lead" }, el("a", { href: "#annotators" }, "All annotators")),
    el("dl", { class: "figures" },
      figure("Accuracy", percent(person.accuracy), person.accuracy == null ? null : intervalOf(accuracyOf(person)), others),
      figure("Wrong labels", person.wrong == null ? NONE : count(Math.round(person.wrong)), `of ${count(person.rows)}`, person.wrong == null ? null : `${count(Math.round(person.wrong_low))} to ${count(Math.round(person.wrong_high))}; ${signed(person.excess)} next to an average annotator`),
      figure("Rank", ranks(person), `of ${count(PEOPLE.length)}`, { better: "better than the others together", worse: "worse than the others together", undecided: "next to the others, it cannot be told" }[person.standing]),
      figure("Beyond chance", percent(person.kappa, 0), `of the way from guessing (${percent(person.chance, 0)}) to perfect`, `${count(person.trusted_right)} of ${count(person.trusted_rows)} verified labels right`)),
    section("What they confuse", `Expected labels of each true class (row) by what was said (column)${classes.length < CLASSES.length ? `, for the ${classes.length} classes that matter most here` : ""}.` + (person.worst_class ? ` Least often right on ${person.worst_class}.` : ""),
      el("div", { class: "split" }, el("div", {}, heatMap("Confusions", classes, cell, 2, (most) => `${count(Math.round(most))} labels; square-root scale, the diagonal uncoloured`)),
        el("div", { class: "beside" }, el("h3", {}, "Most frequent mistakes"), person.confused.length
          ? el("ol", { class: "mistakes" }, person.confused.map((c) => el("li", {}, el("span", {}, el("span", { class: "s-ink" }, c.true_label), " labelled ", el("span", { class: "g-ink" }, c.given_label)), el("span", { class: "many" }, count(Math.round(c.rows))))))
          : empty("None to speak of.")))),
    section("Suspects among their images", null, ...list.nodes),
  ];
}
