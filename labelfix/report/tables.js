// Tables that sort, and heat maps.

// Columns are {title, value(row), cell(row), text, ascending}; rows of a null value always come last.
function sortableTable(caption, columns, rows, first) {
  const body = el("tbody");
  const heads = columns.map((column, number) =>
    el("th", { scope: "col", class: column.text ? "text" : null },
      column.value ? el("button", { type: "button", onclick: () => sortBy(number) }, column.title) : column.title));
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
      const order = typeof a === "string" ? byName(a, b) : a - b;
      return (ascending ? order : -order) || i - j;
    });
    body.replaceChildren(...sorted.map(([, , row]) =>
      el("tr", {}, columns.map((column, i) =>
        el(i ? "td" : "th", { scope: i ? null : "row", class: column.text ? "text name" : null, title: column.text ? column.value(row) : null }, column.cell(row))))));
  }

  sortBy(first);
  return el("div", {}, el("p", { class: "caption" }, caption),
    el("div", { class: "scroll", role: "region", "aria-label": caption, tabindex: "0" },
      el("table", {}, el("thead", {}, el("tr", {}, heads)), body)));
}

const estimateCell = (estimate) =>
  estimate?.value == null ? NONE : [percent(estimate.value), " ", el("span", { class: "range" }, range(estimate.low, estimate.high))];

// A dot with its interval, and the figures.
const whiskerCell = (estimate, least, most) =>
  estimate?.value == null ? NONE : [whisker(estimate, least, most), " ", estimateCell(estimate)];

// `cell(i, j)` says {value, shown, said, href} of true class i and given class j, numbers into `classes`.
// Colours follow the square root of the value, up to the largest one or `least`; the diagonal has none.
function heatMap(label, classes, cell, least, legend) {
  const names = classes.map(nameOf);
  const cells = classes.map((_, i) => classes.map((_, j) => cell(i, j)));
  const most = Math.max(least, ...cells.flatMap((row, i) => row.filter((_, j) => i !== j).map((c) => c.value)));
  const tilted = Math.max(...names.map((name) => name.length)) > 6;
  const body = cells.map((row, i) => el("tr", {}, el("th", { scope: "row", title: names[i] }, names[i]), row.map((c, j) => {
    if (i === j) return el("td", { class: "same" }, el("span", { title: c.said }, c.shown));
    const shade = Math.sqrt(c.value / most);
    const mix = `color-mix(in oklab, var(--heat) ${(100 * shade).toFixed(0)}%, var(--sunken))`;
    const inside = { title: c.said, css: { "background-color": mix } };
    return el("td", { class: shade > 0.55 ? "strong" : null },
      c.href ? el("a", { ...inside, href: c.href, "aria-label": c.said }, c.shown) : el("span", inside, c.shown));
  })));
  return [
    el("div", { class: "scroll", role: "region", "aria-label": label, tabindex: "0" },
      el("table", { class: `heat${tilted ? " tilted" : ""}` },
        el("thead", {}, el("tr", {}, el("th", { scope: "col", class: "quiet" }, "true \\ given"), names.map((name) => el("th", { scope: "col", title: name }, el("span", {}, name))))),
        el("tbody", {}, body))),
    el("p", { class: "legend" }, "0", el("span", { class: "ramp", "aria-hidden": "true" }), legend(most)),
  ];
}
