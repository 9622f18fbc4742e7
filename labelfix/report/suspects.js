// The list of suspects: only the rows in sight exist, and their images are decoded only then.

const SORTS = {
  worst: ["Worst first", (a, b) => (S.trusted[a] >= 0) - (S.trusted[b] >= 0) || S.score[a] - S.score[b]],
  sure: ["Most confident suggestion", (a, b) => (S.trusted[a] >= 0) - (S.trusted[b] >= 0) || S.confidence[b] - S.confidence[a]],
  unsure: ["Least confident suggestion", (a, b) => S.confidence[a] - S.confidence[b]],
  given: ["Given label", (a, b) => S.given[a] - S.given[b] || S.score[a] - S.score[b]],
  suggested: ["Suggested label", (a, b) => S.predicted[a] - S.predicted[b] || S.score[a] - S.score[b]],
  file: ["File name", (a, b) => byName(S.image[a], S.image[b])],
};
const STATES = {
  all: ["All", () => true],
  open: ["Not verified", (i) => S.trusted[i] < 0],
  review: ["To review", (i) => S.action[i] === "review"],
  relabel: ["To relabel", (i) => S.action[i] === "relabel" && S.trusted[i] < 0],
  verified: ["Verified wrong", (i) => S.trusted[i] >= 0],
};
const SPARE_ROWS = 5;

function near(title, ink, klass, cells) {
  const caption = el("figcaption", { title: `${title} ${nameOf(klass)}` }, `${title} `, el("span", { class: ink }, nameOf(klass)));
  if (!cells.length) return el("figure", { class: "near" }, caption, el("p", {}, "none known"));
  return el("figure", { class: "near" }, caption, el("ul", {}, cells.map(([number, alike]) =>
    el("li", { title: pictured[number] }, picture(number, `Trusted ${nameOf(klass)}: ${pictured[number]}`), likeness(alike), el("span", { class: "name" }, pictured[number].split("/").at(-1))))));
}

// Only a verified label is certain; a model's 1.0 is a rounded number.
const sureOf = (i, value) => percent(S.trusted[i] >= 0 ? value : Math.min(value, 1 - 1e-9));
const giverName = (number) => (number < 0 ? "nobody named" : DATA.givers[number]);

// Who gave the given label, where the label table says so.
function givenBy(i) {
  const names = (S.givers[i] ?? []).filter(([who, said]) => said === S.given[i] && who >= 0).map(([who]) => giverName(who));
  return names.length ? el("p", { class: "file", title: names.join(", ") }, `by ${names.join(", ")}`) : null;
}
const stateOf = (i) => (S.trusted[i] >= 0 ? "verified" : S.action[i]);

function suspectRow(i, place, total, open) {
  const said = `Given ${nameOf(S.given[i])}, suggested ${nameOf(S.predicted[i])}, confidence ${sureOf(i, S.confidence[i])}, ${S.image[i]}`;
  return el("div", { class: "suspect", role: "listitem", tabindex: "-1", "aria-posinset": place + 1, "aria-setsize": total, "aria-label": said, onclick: open },
    picture(pictureOf.get(S.image[i]), S.image[i]),
    el("div", { class: "words" },
      el("p", { class: "verdict" }, el("span", { class: "g-ink struck", title: nameOf(S.given[i]) }, nameOf(S.given[i])), el("span", { class: "arrow", "aria-hidden": "true" }, "→"),
        el("span", { class: "s-ink", title: nameOf(S.predicted[i]) }, nameOf(S.predicted[i]))),
      el("p", { class: "file", title: S.image[i] }, S.image[i]),
      givenBy(i),
      S.trusted[i] >= 0 || S.action[i] !== "review" ? el("span", { class: "tag" }, stateOf(i)) : null),
    el("div", { class: "sure-box" },
      el("p", { class: "sure" }, el("b", {}, sureOf(i, S.confidence[i])), " suggested"),
      el("div", { class: "meter" }, el("i", { css: { width: `${100 * S.confidence[i]}%` } })),
      el("p", { class: "sure second" }, percent(S.score[i]), " given is right"),
      el("div", { class: "meter g" }, el("i", { css: { width: `${100 * S.score[i]}%` } }))),
    el("div", { class: "why" }, near("Trusted", "g-ink", S.given[i], S.near_given[i]), near("Trusted", "s-ink", S.predicted[i], S.near_predicted[i])));
}

// A list over `candidates` (row numbers). `fixed` hides the class filters, for the page of one pair.
function suspectList(candidates, { fixed = false, given = "", suggested = "" } = {}) {
  const state = { text: "", given, suggested, state: "all", least: 0, sort: "worst" };
  let rows = [];
  let active = 0;
  let frame = 0;
  const live = new Map();
  const box = el("div", { class: "window", role: "list", "aria-label": "Suspects" });
  const said = el("p", { class: "count", role: "status", "aria-live": "polite" });

  const options = (pairs, chosen) => pairs.map(([value, title]) => el("option", { value, selected: String(value) === String(chosen) }, title));
  const classes = (column) => [["", "Any"], ...[...new Set(candidates.map((i) => S[column][i]))].sort((a, b) => a - b).map((k) => [k, nameOf(k)])];
  const pick = (label, name, pairs) =>
    el("label", { class: "pick" }, label, el("select", { name, onchange: (event) => set(name, event.target.value) }, options(pairs, state[name])));
  const search = el("input", { type: "search", name: "text", placeholder: "Part of the path", spellcheck: "false", autocomplete: "off", oninput: (event) => set("text", event.target.value.toLowerCase()) });
  const filters = el("form", { class: "filters", role: "search", "aria-label": "Filter suspects", onsubmit: (event) => event.preventDefault() },
    el("label", { class: "wide" }, "File", search),
    !fixed && pick("Given", "given", classes("given")),
    !fixed && pick("Suggested", "suggested", classes("predicted")),
    pick("State", "state", Object.entries(STATES).map(([key, [title]]) => [key, title])),
    pick("Confidence at least", "least", [0, 0.5, 0.7, 0.8, 0.9, 0.95, 0.99].map((v) => [v, v ? percent(v, 0) : "Any"])),
    pick("Sort by", "sort", Object.entries(SORTS).map(([key, [title]]) => [key, title])));

  function set(name, value) {
    state[name] = value;
    active = 0;
    select();
  }

  function select() {
    const keep = STATES[state.state][1];
    rows = candidates.filter((i) => keep(i) && S.confidence[i] >= Number(state.least) &&
      (state.given === "" || S.given[i] === Number(state.given)) && (state.suggested === "" || S.predicted[i] === Number(state.suggested)) &&
      (!state.text || S.image[i].toLowerCase().includes(state.text)));
    const order = SORTS[state.sort][1];
    rows.sort((a, b) => order(a, b) || a - b);
    said.textContent = rows.length === candidates.length ? plural(rows.length, "suspect", "suspects")
      : `${count(rows.length)} of ${plural(candidates.length, "suspect", "suspects")}`;
    for (const node of live.values()) node.remove();
    live.clear();
    box.replaceChildren(...(rows.length ? [] : [empty(candidates.length ? "No suspect matches these filters." : "There are no suspects here: no label is more likely wrong than right.")]));
    draw();
  }

  const height = () => parseFloat(getComputedStyle(document.documentElement).getPropertyValue("--row"));

  function draw() {
    frame = 0;
    if (!box.isConnected) return;
    const row = height();
    box.style.height = rows.length ? `${rows.length * row}px` : "auto";
    const top = -box.getBoundingClientRect().top;
    const from = Math.max(0, Math.floor(top / row) - SPARE_ROWS);
    const to = Math.min(rows.length, Math.ceil((top + innerHeight) / row) + SPARE_ROWS);
    for (const [place, node] of live) {
      if ((place < from || place >= to) && node !== document.activeElement) {
        node.remove();
        live.delete(place);
      }
    }
    for (let place = from; place < to; place++) {
      if (!live.has(place)) {
        const node = suspectRow(rows[place], place, rows.length, () => open(place));
        live.set(place, node);
        box.append(node);
      }
      live.get(place).style.setProperty("top", `${place * row}px`);
    }
    for (const [place, node] of live) node.tabIndex = place === active ? 0 : -1;
    if (!live.has(active) && live.size) live.get(Math.min(...live.keys())).tabIndex = 0;
  }

  const schedule = () => { frame ||= requestAnimationFrame(draw); };

  function focus(place) {
    if (!rows.length) return;
    active = Math.max(0, Math.min(rows.length - 1, place));
    const row = height();
    const bar = document.querySelector("header.bar").offsetHeight + (getComputedStyle(filters).position === "sticky" ? filters.offsetHeight : 0);
    const top = box.getBoundingClientRect().top + active * row;
    if (top < bar) scrollBy(0, top - bar - 4);
    else if (top + row > innerHeight) scrollBy(0, top + row - innerHeight + 4);
    draw();
    live.get(active)?.focus({ preventScroll: true });
  }

  function open(place) {
    active = place;
    showDetail(rows, place, focus);
  }

  function onKey(event) {
    const inList = box.contains(document.activeElement);
    const page = Math.max(1, Math.floor(innerHeight / height()) - 2);
    const here = inList ? active : -1;
    const moves = { j: here + 1, k: here - 1 };
    if (inList) Object.assign(moves, { ArrowDown: here + 1, ArrowUp: here - 1, PageDown: here + page, PageUp: here - page, Home: 0, End: rows.length - 1 });
    if (event.key in moves) focus(moves[event.key]);
    else if (inList && (event.key === "Enter" || event.key === " ")) open(active);
    else if (event.key === "/") search.focus();
    else return false;
    return true;
  }

  box.addEventListener("focusin", (event) => {
    const place = [...live].find(([, node]) => node === event.target)?.[0];
    if (place != null && place !== active) {
      active = place;
      schedule();
    }
  });
  return { nodes: candidates.length ? [filters, said, box] : [box], start: select, schedule, onKey };
}
