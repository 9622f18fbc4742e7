// The views, chosen by the part of the address behind #, and the keys.

const main = document.getElementById("main");
let list = null;

// What images are compared by.
const LIKENESS = DATA.history || DATA.run.evidence?.kind === "probs" ? "the classifier's probabilities" : "their features";

function suspectsView(side, k) {
  list = suspectList(everyone(), side === "given" ? { given: k } : side === "suggested" ? { suggested: k } : {});
  const cut = COUNT < summary.suspects ? ` Shown are the worst ${count(COUNT)} of ${count(summary.suspects)}; all of them are in suspects.parquet.` : "";
  return [el("h1", {}, "Suspects"), el("p", { class: "lead" }, `Labels for which another class is more probable. With each, the trusted images of both classes that are most like it by ${LIKENESS}, with their similarity (1 is alike).${cut}`), ...list.nodes];
}

const VIEWS = {
  overview: ["Overview", overview],
  suspects: [["Suspects", el("span", { class: "many" }, ` ${count(summary.suspects)}`)], (side, k) => suspectsView(side, k ?? "")],
  confusions: ["Confusions", confusionsView],
  ...(PEOPLE.length ? { annotators: ["Annotators", annotatorsView] } : {}),
};
// Pages of one thing, and the view that each belongs to.
const PAGES = {
  pair: ["confusions", (given, suggested) => pairView(Number(given), Number(suggested))],
  annotator: ["annotators", (number) => annotatorView(Number(number))],
};

function show(event) {
  const [view, a, b] = location.hash.slice(1).split("/");
  if (view === "main") return;
  list = null;
  const page = Object.hasOwn(PAGES, view) ? PAGES[view] : null;
  const current = page ? page[0] : Object.hasOwn(VIEWS, view) ? view : "overview";
  const nodes = (page ?? VIEWS[current])[1](a, b);
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

const KEYS = [
  [Object.keys(VIEWS).map((_, i) => i + 1).join(" "), Object.keys(VIEWS).join(", ")], ["/", "Search by file name"], ["j k", "Next, previous suspect"], ["Enter", "Open a suspect"],
  ["← →", "Previous, next suspect while one is open"], ["Home End", "First, last suspect"], ["Esc", "Close"], ["?", "These keys"],
];
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
  else if (Object.keys(VIEWS)[event.key - 1]) location.hash = Object.keys(VIEWS)[event.key - 1];
  else if (!list?.onKey(event)) return;
  event.preventDefault();
});
document.getElementById("views").append(...Object.entries(VIEWS).map(([name, [title]]) => el("a", { href: `#${name}` }, title)));
const source = document.getElementById("source");
source.textContent = (DATA.run.source ?? "").split("/").filter(Boolean).slice(-2).join("/");
source.title = DATA.run.source ?? "";
document.getElementById("footer").textContent = `Written by labelfix ${DATA.run.labelfix} from run ${DATA.run.run_id}. This page holds all it shows and makes no request to the network.`;
addEventListener("scroll", () => list?.schedule(), { passive: true });
addEventListener("resize", () => list?.schedule());
addEventListener("hashchange", show);
show();
