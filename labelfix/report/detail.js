// One suspect in full, over the page.

const detail = document.getElementById("detail");
let turn = null;

// All labels of an image, by those who gave them.
function labelsSaid(i) {
  const givers = S.givers[i] ?? [];
  if (!givers.some(([who]) => who >= 0)) return null;
  return el("p", {}, "Labelled ", givers.map(([who, said], n) => [n ? ", " : "", el("span", { class: said === S.given[i] ? "g-ink" : said === S.predicted[i] ? "s-ink" : null }, nameOf(said)), ` by ${giverName(who)}`]), ".");
}

function showDetail(rows, place, back) {
  const show = (to) => {
    place = Math.max(0, Math.min(rows.length - 1, to));
    draw(rows[place]);
    if (detail.open) detail.focus();
  };
  const draw = (i) => {
    const step = (title, by, key) => el("button", { type: "button", disabled: place + by < 0 || place + by >= rows.length, "aria-keyshortcuts": key, onclick: () => show(place + by) }, title);
    const shares = [];
    for (let n = 0; n < S.soft[i].length; n += 2) shares.push([S.soft[i][n], S.soft[i][n + 1]]);
    const nearest = (cells) => (cells.length ? cells[0][1] : null);
    const [mine, theirs] = [nearest(S.near_given[i]), nearest(S.near_predicted[i])];
    const reason = mine == null || theirs == null ? null
      : `The nearest trusted ${nameOf(S.predicted[i])} has a similarity of ${likeness(theirs)}, the nearest trusted ${nameOf(S.given[i])} ${likeness(mine)} (1 is alike, −1 the opposite).`;
    const verified = S.trusted[i] >= 0;
    detail.replaceChildren(
      el("div", { class: "dialog-head" },
        el("h2", { id: "detail-title" }, el("span", { class: "g-ink" }, nameOf(S.given[i])), " → ", el("span", { class: "s-ink" }, nameOf(S.predicted[i]))),
        el("div", {}, step("Previous", -1, "ArrowLeft"), step("Next", 1, "ArrowRight"), el("button", { type: "button", "aria-keyshortcuts": "Escape", onclick: () => detail.close() }, "Close"))),
      el("div", { class: "dialog-body" },
        el("div", { class: "big" }, picture(pictureOf.get(S.image[i]), S.image[i]),
          el("div", {},
            el("p", { class: "path" }, S.image[i], ` (${count(place + 1)} of ${count(rows.length)})`),
            el("p", {}, verified ? `Verified: the trusted label is ${nameOf(S.trusted[i])}.`
              : `${sureOf(i, S.confidence[i])} for ${nameOf(S.predicted[i])}, ${percent(S.score[i])} for the given ${nameOf(S.given[i])}. Action: ${S.action[i]}.`),
            el("h3", {}, "Soft label, most probable classes"),
            el("dl", { class: "bars" }, shares.flatMap(([k, p]) => [el("dt", { title: nameOf(k) }, nameOf(k)),
              el("dd", {}, el("div", { class: k === S.given[i] ? "meter g" : "meter" }, el("i", { css: { width: `${100 * p}%` } }))), el("dd", {}, sureOf(i, p))])),
            labelsSaid(i),
            reason && el("p", { class: "quiet" }, reason))),
        el("div", { class: "likenesses" },
          near("Trusted images of the given class", "g-ink", S.given[i], S.near_given[i]),
          near("Trusted images of the suggested class", "s-ink", S.predicted[i], S.near_predicted[i]))));
  };
  turn = (by) => show(place + by);
  show(place);
  detail.addEventListener("close", () => back(place), { once: true });
  detail.showModal();
  detail.focus();
}

detail.addEventListener("keydown", (event) => {
  const by = { ArrowRight: 1, ArrowDown: 1, j: 1, ArrowLeft: -1, ArrowUp: -1, k: -1 }[event.key];
  if (!by || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  turn(by);
});
detail.tabIndex = -1;
detail.addEventListener("click", (event) => event.target === detail && detail.close());
