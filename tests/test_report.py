"""The report, as a browser sees it and as the run directory feeds it."""

import json
import os
import shutil
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from conftest import TinySet, write_rows
from PIL import Image
from typer.testing import CliRunner

import labelfix
from labelfix.errors import InputError, OutputError, SettingError
from labelfix.report import write_report
from labelfix.report.contents import reliability_bins
from labelfix.report.page import SCRIPTS, build_page, inert_json
from labelfix.report.thumbnails import make_thumbnails
from labelfix_cli import app

SMALL: dict[str, Any] = {"train": "head", "image_size": 32, "folds": 3, "workers": 0}
EVIL = "<script>alert(1)</script>"
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def make_run(tiny: TinySet, **options: Any) -> Path:
    """Clean the tiny set with one class, and one file, whose names are markup."""
    tiny.classes[0] = EVIL
    wrong = next(i for i in np.flatnonzero(tiny.given != tiny.true) if i not in tiny.trusted_rows)
    odd = "0/<img src=x onerror=alert(2)>.png"
    (tiny.images / tiny.names[wrong]).rename(tiny.images / odd)
    tiny.names[wrong] = odd
    labels = tiny.write("labels.csv", range(len(tiny.names)), tiny.given)
    trusted = tiny.write("trusted.csv", tiny.trusted_rows, tiny.true)
    return labelfix.clean(tiny.images, labels, trusted, tiny.folder / "out", **SMALL, **options).out


@pytest.fixture(scope="module")
def evil(tmp_path_factory: pytest.TempPathFactory) -> tuple[TinySet, Path]:
    """A run in which a class and a file have names that are markup; tests only read it."""
    tiny = TinySet(tmp_path_factory.mktemp("evil"))
    return tiny, make_run(tiny)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium on the PATH, or the one that `playwright install chromium` put in place."""
    lacking = pytest.fail if os.environ.get("LABELFIX_BROWSER") == "required" else pytest.skip
    try:
        from playwright.sync_api import Error, sync_playwright
    except ImportError:
        lacking("needs playwright: pip install playwright")
    with sync_playwright() as driver:
        try:
            running = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        except Error as error:
            reason = str(error).splitlines()[0]
            lacking(f"needs Chromium: apt-get install chromium, or playwright install chromium ({reason})")
        yield running
        running.close()


class Watched:
    """A page with everything that it says, asks for, or opens."""

    def __init__(self, browser: Any, path: Path, view: str = "", width: int = 1280, scheme: str = "light"):
        self.page = browser.new_context(
            viewport={"width": width, "height": 844}, color_scheme=scheme
        ).new_page()
        self.faults: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda message: self.faults.append(message.text))
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.on("dialog", lambda dialog: (self.faults.append("alert"), dialog.dismiss()))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.set_default_timeout(10_000)
        self.page.goto(f"{path.as_uri()}{view}")
        assert self.faults == []  # said at once, not after a wait for what a broken script never draws
        self.page.wait_for_selector("h1")

    def check(self, path: Path) -> None:
        assert self.faults == []
        asked = [url for url in self.requests if not url.startswith("data:")]
        assert [url.split("#")[0] for url in asked] == [path.as_uri()] * len(asked)


def test_names_from_the_data_show_as_text(evil: tuple[TinySet, Path], browser: Any) -> None:
    path = evil[1] / "report.html"
    assert EVIL not in path.read_text(encoding="utf-8")
    for view in ("", "#suspects", "#confusions", "#pair/0/1", "#pair/1/0"):
        watched = Watched(browser, path, view)
        assert watched.page.locator("main script, main img[onerror]").count() == 0
        if view == "":
            assert EVIL in watched.page.locator("main").inner_text()
            sandboxed = "try { await fetch('https://example.org'); return 'sent' } catch { return 'refused' }"
            watched.check(path)
            assert watched.page.evaluate(f"(async () => {{ {sandboxed} }})()") == "refused"
            continue
        if view == "#suspects":
            assert "<img src=x onerror=alert(2)>.png" in watched.page.locator("main").inner_text()
            assert watched.page.locator(".suspect img").first.evaluate("image => image.naturalWidth") > 0
        watched.check(path)


def test_filter_sort_and_keys(evil: tuple[TinySet, Path], browser: Any) -> None:
    from playwright.sync_api import expect

    tiny, out = evil
    suspects = pq.read_table(out / "suspects.parquet")
    watched = Watched(browser, out / "report.html", "#suspects")
    page = watched.page
    shown = page.locator(".suspect")

    def in_order() -> list[str]:
        rows = page.evaluate(
            "[...document.querySelectorAll('.suspect')].map("
            "row => [parseFloat(row.style.top), row.querySelector('.file').textContent])"
        )
        return [name for _, name in sorted(rows)]

    assert page.locator(".count").inner_text() == f"{suspects.num_rows} suspects"
    page.select_option("select[name=sort]", "file")
    names = in_order()
    page.select_option("select[name=sort]", "unsure")
    sure = dict(zip(suspects["image"].to_pylist(), suspects["confidence"].to_pylist(), strict=True))
    assert in_order() == sorted(in_order(), key=lambda name: round(sure[name], 6))
    page.select_option("select[name=sort]", "given")
    given = dict(zip(suspects["image"].to_pylist(), suspects["given_label"].to_pylist(), strict=True))
    ranks = [tiny.classes.index(given[name]) for name in in_order()]
    assert ranks == sorted(ranks)
    assert len(set(ranks)) > 1
    page.select_option("select[name=state]", "verified")
    verified = suspects["trusted_label"].is_valid().to_pylist()
    assert shown.count() == sum(verified) > 0
    page.select_option("select[name=state]", "all")
    page.keyboard.press("Escape")
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("/")
    page.keyboard.type(names[2].upper())
    assert in_order() == [names[2]]
    page.fill("input[name=text]", "no such file")
    assert "No suspect matches" in page.locator("main").inner_text()
    page.fill("input[name=text]", "")
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("j")
    page.keyboard.press("ArrowDown")
    assert page.evaluate("document.activeElement.getAttribute('aria-posinset')") == "2"
    page.keyboard.press("Enter")
    assert page.locator("#detail[open]").count() == 1
    page.keyboard.press("ArrowRight")
    assert f"(3 of {suspects.num_rows})" in page.locator("#detail").inner_text()
    page.keyboard.press("Escape")
    # a dialog tells that it has closed only after the key is done with
    expect(page.locator(":focus")).to_have_attribute("aria-posinset", "3")
    page.keyboard.press("1")
    page.wait_for_selector(".heat")
    head = page.locator("th", has_text="Suspects").first
    head.locator("button").click()
    assert head.get_attribute("aria-sort") == "descending"
    column = (
        page.locator("section", has_text="Every class").locator("tbody tr td:nth-child(5)").all_inner_texts()
    )
    assert [int(cell) for cell in column] == sorted(map(int, column), reverse=True)
    watched.check(out / "report.html")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_is_wider_than_the_screen(
    evil: tuple[TinySet, Path], browser: Any, width: int, scheme: str
) -> None:
    path = evil[1] / "report.html"
    for view in ("", "#suspects", "#confusions", "#pair/0/1"):
        watched = Watched(browser, path, view, width=width, scheme=scheme)
        assert watched.page.evaluate("document.documentElement.scrollWidth") == width
        inside = """() => [...document.querySelectorAll('.suspect')].every(row => {
            const edge = row.getBoundingClientRect().right + 1;
            const parts = [...row.querySelectorAll(':scope > *, .near, .near li')];
            return parts.every(part => part.getBoundingClientRect().right <= edge);
        })"""
        assert watched.page.evaluate(inside)
        watched.check(path)


def test_five_thousand_suspects_stay_small_and_few_exist(tmp_path: Path, browser: Any) -> None:
    """Noise compresses worst of all: what fits here fits anywhere."""
    rng = np.random.default_rng(0)
    count = 5000
    images = tmp_path / "images"
    images.mkdir()
    sources = []
    for i in range(50):
        path = images / f"source {i}.jpg"
        Image.fromarray(rng.integers(0, 256, (160, 160, 3), np.uint8)).save(path, quality=80)
        sources.append(path)
    for i in range(count):
        os.link(sources[i % 50], images / f"{i}.jpg")
    true = rng.integers(0, 3, count)
    probs = np.full((count, 3), 0.02)
    probs[np.arange(count), true] = 0.96
    np.save(tmp_path / "probs.npy", probs)
    labels = write_rows(tmp_path / "labels.csv", [(f"{i}.jpg", (t + 1) % 3) for i, t in enumerate(true)])
    trusted = write_rows(tmp_path / "trusted.csv", [(f"{i}.jpg", true[i]) for i in range(60)])
    out = labelfix.clean(tmp_path / "probs.npy", labels, trusted, tmp_path / "out", report=False).out
    assert not (out / "report.html").exists()
    written = write_report(out, images=images)
    assert (written.suspects, written.thumbnails) == (count, count)
    assert written.size < 40_000_000
    watched = Watched(browser, written.path, "#suspects")
    assert 3 < watched.page.locator(".suspect").count() < 40
    watched.page.evaluate("scrollTo(0, document.documentElement.scrollHeight)")
    watched.page.wait_for_selector(f".suspect[aria-posinset='{count}']")
    assert watched.page.locator(".suspect").count() < 40
    watched.check(written.path)


def test_degrades_in_words_without_features_or_trusted_rows(tiny: TinySet) -> None:
    probs = np.full((60, 3), 0.1)
    probs[np.arange(60), tiny.true] = 0.8
    np.save(tiny.folder / "p.npy", probs)
    out = labelfix.clean(tiny.folder / "p.npy", tiny.labels, None, tiny.folder / "out").out
    notes = " ".join(write_report(out).notes)
    assert "no trusted labels" in notes
    assert "not from image files" in notes


def check_neighbours(tiny: TinySet, out: Path) -> None:
    """Every suspect has trusted neighbours, most alike first, of the class that they stand for."""
    true_of = dict(zip(tiny.names, (tiny.classes[k] for k in tiny.true), strict=True))
    suspects = {row["image"]: row for row in pq.read_table(out / "suspects.parquet").to_pylist()}
    rows = pq.read_table(out / "neighbours.parquet").to_pylist()
    assert {row["image"] for row in rows} == suspects.keys()
    for row in rows:
        assert row["near_predicted"]
        for column, label in (("near_given", "given_label"), ("near_predicted", "predicted_label")):
            alike = [cell["similarity"] for cell in row[column]]
            assert alike == sorted(alike, reverse=True)
            for cell in row[column]:
                assert cell["image"] != row["image"]
                assert true_of[cell["image"]] == suspects[row["image"]][label]


def test_nearest_trusted_images_are_of_the_class_they_stand_for(evil: tuple[TinySet, Path]) -> None:
    check_neighbours(*evil)


def test_runs_without_features_compare_images_by_their_probabilities(tiny: TinySet) -> None:
    rng = np.random.default_rng(0)
    probs = rng.dirichlet(np.full(3, 0.3), 60) + 2 * np.eye(3)[tiny.true]
    np.save(tiny.folder / "p.npy", probs / probs.sum(1, keepdims=True))
    out = labelfix.clean(tiny.folder / "p.npy", tiny.labels, tiny.trusted, tiny.folder / "out").out
    check_neighbours(tiny, out)
    assert not any("nearest" in note.lower() for note in write_report(out).notes)


def test_held_out_rows_are_the_trusted_ones(evil: tuple[TinySet, Path]) -> None:
    tiny, out = evil
    table = pq.read_table(out / "held_out.parquet")
    assert set(table["image"].to_pylist()) == {tiny.names[i] for i in tiny.trusted_rows}
    right = np.mean(np.array(table["trusted_label"]) == np.array(table["predicted_label"]))
    accuracy = json.loads((out / "run.json").read_text())["summary"]["estimates"]["accuracy"]["value"]
    assert right == pytest.approx(accuracy)


def test_reliability_bins_hold_every_row_once() -> None:
    confidence = np.linspace(0.5, 1, 100)
    bins = reliability_bins(confidence, confidence > 0.75, 0.95)
    assert sum(b["rows"] for b in bins) == 100
    assert [b["value"] for b in bins][:2] == [0, 0]
    assert bins[-1]["value"] == 1
    assert all(b["low"] <= b["value"] <= b["high"] for b in bins)
    assert reliability_bins(np.empty(0), np.empty(0, bool), 0.95) == []


def test_only_labelfix_reports_are_replaced(evil: tuple[TinySet, Path], tmp_path: Path) -> None:
    tiny, out = evil
    before = (out / "report.html").read_bytes()
    assert write_report(out).path == out / "report.html"
    assert (out / "report.html").read_bytes() == before
    notes = tmp_path / "notes.html"
    notes.write_text("mine")
    with pytest.raises(OutputError, match="--force"):
        write_report(out, notes)
    assert notes.read_text() == "mine"
    with pytest.raises(InputError, match="no finished run"):
        write_report(tiny.images)
    with pytest.raises(SettingError, match="--suspects"):
        write_report(out, suspects=-1)


def test_command(tiny: TinySet) -> None:
    out = make_run(tiny, report=False)
    result = CliRunner().invoke(app, ["report", str(out), "--suspects", "2", "--json"])
    assert result.exit_code == 0, result.output
    said = json.loads(result.stdout)
    assert said["suspects"] == 2
    assert said["bytes"] == (out / "report.html").stat().st_size


def test_budget_of_thumbnails_holds(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    paths: list[str | None] = []
    for i in range(12):
        path = tmp_path / f"{i}.png"
        Image.fromarray(rng.integers(0, 256, (200, 150, 3), np.uint8)).save(path)
        paths.append(str(path))
    drawn = make_thumbnails([*paths, None, str(tmp_path / "gone.png")], budget=9000)
    assert len(drawn.text) <= 9000
    assert drawn.lost == 1
    assert drawn.dropped > 0
    assert len(drawn.ends) == 14


def test_data_cannot_leave_its_element() -> None:
    value = {"</script><!--": "a & b\u2028"}
    assert json.loads(inert_json(value)) == value
    assert not set("<>&\u2028") & set(inert_json(value))
    page = build_page({"x": "{{thumbnails}} \\1"}, "AAAA")
    assert page.count("AAAA") == 1
    assert "{{thumbnails}} \\\\1" in page


def test_parts_are_package_data() -> None:
    for name in (*SCRIPTS, "report.css", "template.html"):
        text = (files("labelfix.report") / name).read_text(encoding="utf-8")
        assert "innerHTML" not in text
        assert "http://" not in text.replace("http://www.w3.org/2000/svg", "")


def named_run(tiny: TinySet) -> Path:
    """Clean the tiny set as labelled by two people, one of whose names is markup."""
    rows = [(tiny.names[i], tiny.classes[k], "ann & co" if i % 2 else EVIL) for i, k in enumerate(tiny.given)]
    labels = write_rows(tiny.folder / "named.csv", rows, ("image", "label", "annotator"))
    return labelfix.clean(tiny.images, labels, tiny.trusted, tiny.folder / "out", **SMALL).out


def test_annotators_have_a_table_and_a_page_each(tiny: TinySet, browser: Any) -> None:
    out = named_run(tiny)
    people = pq.read_table(out / "annotators.parquet").to_pylist()
    watched = Watched(browser, out / "report.html", "#annotators")
    page = watched.page
    assert page.locator("tbody tr").count() == 2
    assert "ann & co" in page.locator("main").inner_text()
    page.locator("a", has_text=EVIL).click()
    page.wait_for_selector(".heat")
    assert page.locator("h1").inner_text() == EVIL
    (bo,) = (person for person in people if person["annotator"] == EVIL)
    assert f"{100 * bo['accuracy']:.1f}" in page.locator(".figures").inner_text()
    label_rows = pq.read_table(out / "label_rows.parquet").to_pylist()
    own = {row["image"] for row in label_rows if row["annotator"] == EVIL}
    suspects = [name for name in pq.read_table(out / "suspects.parquet")["image"].to_pylist() if name in own]
    assert page.locator(".count").inner_text().startswith(f"{len(suspects)} suspect")
    names = page.locator(".suspect .words p:nth-child(2)").all_inner_texts()
    assert set(names) == set(suspects)
    cells = sum(cell["rows"] for cell in bo["confusion"])
    data = json.loads(page.locator("#data").text_content())
    (shown,) = (p["confusion"]["rows"] for p in data["annotators"] if p["annotator"] == EVIL)
    assert np.sum(shown) == pytest.approx(cells, abs=0.5)
    watched.check(out / "report.html")


def test_long_names_without_pictures_fit_a_phone(tiny: TinySet, browser: Any) -> None:
    tiny.classes = [f"a class with quite a long name and a number, {k}" for k in range(3)]
    rows = [
        (f"a/long/path/{'x' * 60} {i}.png", tiny.classes[k], f"person with a long name {i % 3}")
        for i, k in enumerate(tiny.given)
    ]
    labels = write_rows(tiny.folder / "long.csv", rows, ("image", "label", "annotator"))
    trusted = write_rows(
        tiny.folder / "sure.csv", [(rows[i][0], tiny.classes[tiny.true[i]]) for i in range(20)]
    )
    np.save(tiny.folder / "p.npy", 0.1 + 0.7 * np.eye(3)[tiny.true])
    out = labelfix.clean(tiny.folder / "p.npy", labels, trusted, tiny.folder / "out").out
    for view in ("", "#suspects", "#confusions", "#pair/0/1", "#annotators", "#annotator/0"):
        watched = Watched(browser, out / "report.html", view, width=390)
        assert watched.page.evaluate("document.documentElement.scrollWidth") == 390, view
        assert watched.page.locator(".picture:visible").count() == 0
        watched.check(out / "report.html")


def test_who_gave_the_label_is_said(tiny: TinySet, browser: Any) -> None:
    out = named_run(tiny)
    watched = Watched(browser, out / "report.html", "#suspects")
    row = watched.page.locator(".suspect").first
    name = row.locator(".words p").nth(1).inner_text()
    giver = next(
        r["annotator"] for r in pq.read_table(out / "label_rows.parquet").to_pylist() if r["image"] == name
    )
    assert f"by {giver}" in row.inner_text()
    row.click()
    assert f"by {giver}." in watched.page.locator("#detail").inner_text()
    watched.check(out / "report.html")


def test_chosen_rows_are_said_above_the_figures_and_nothing_is_promised(tmp_path: Path, browser: Any) -> None:
    rng = np.random.default_rng(0)
    true = rng.integers(0, 3, 600)
    wrong = rng.random(600) < 0.2
    given = np.where(wrong, (true + 1) % 3, true)
    np.save(tmp_path / "p.npy", 0.1 + 0.7 * np.eye(3)[true])
    labels = write_rows(tmp_path / "labels.csv", enumerate(given))
    chosen = write_rows(tmp_path / "chosen.csv", [(row, true[row]) for row in np.flatnonzero(wrong)[:60]])
    out = labelfix.clean(tmp_path / "p.npy", labels, chosen, tmp_path / "out", max_fix_error=0.5).out
    watched = Watched(browser, out / "report.html", width=390)
    first = watched.page.locator(".note").first
    assert "not a random sample: 60 of 60 trusted rows are among the" in first.inner_text()
    assert first.bounding_box()["y"] < watched.page.locator(".figures").bounding_box()["y"]
    assert "romise that" not in watched.page.locator("main").inner_text()
    watched.check(out / "report.html")
