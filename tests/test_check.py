"""Gates: what passes, what fails, what is said of it, and what changed since another run."""

import json
import shutil
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from conftest import TinySet
from typer.testing import CliRunner

import labelfix
from labelfix.check.gates import check_run
from labelfix.check.junit import junit_report
from labelfix.errors import LabelfixError, SettingError
from labelfix.settings import CheckConfig, parse_share
from labelfix_cli import app


def clean(tiny: TinySet, out: str, **options: Any) -> Path:
    settings = {
        "train": "head",
        "image_size": 32,
        "folds": 3,
        "workers": 0,
        "cache_dir": str(tiny.folder / "cache"),
    }
    arguments = {"labels": tiny.labels, "trusted": tiny.trusted} | settings | options
    return labelfix.clean(tiny.images, out=tiny.folder / out, **arguments).out


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[TinySet, Path]:
    tiny = TinySet(tmp_path_factory.mktemp("checked"), rows=150)
    return tiny, clean(tiny, "out")


@pytest.fixture
def noise(done: tuple[TinySet, Path]) -> dict[str, float]:
    return json.loads((done[1] / "run.json").read_text())["summary"]["estimates"]["noise_rate"]


@pytest.mark.parametrize("bound", ["value", "low", "high"])
def test_noise_gate_at_its_edge(done: tuple[TinySet, Path], noise: dict[str, float], bound: str) -> None:
    assert check_run(done[1], max_noise=noise[bound] + 1e-6, bound=bound).passed
    violated = check_run(done[1], max_noise=noise[bound] - 1e-6, bound=bound)
    assert not violated.passed
    (gate,) = violated.gates
    assert gate.value == noise["value"]
    assert gate.rows == 50
    assert f"{noise[bound]:.1%}" in gate.said


def test_per_class(done: tuple[TinySet, Path]) -> None:
    figures = json.loads((done[1] / "run.json").read_text())["summary"]["per_class"]
    values = sorted(figures[name]["noise_rate"]["value"] for name in figures)
    limit = (values[-1] + values[-2]) / 2
    result = check_run(done[1], max_noise=limit, per_class=True)
    assert [g.subject for g in result.gates] == ["all", "c0", "c1", "c2"]
    failed = [g.subject for g in result.gates if not g.passed]
    assert failed == [name for name in figures if figures[name]["noise_rate"]["value"] > limit]


def test_counts(done: tuple[TinySet, Path]) -> None:
    summary = json.loads((done[1] / "run.json").read_text())["summary"]
    share = summary["suspects"] / summary["images"]
    assert check_run(done[1], max_suspects=share, max_quarantined=0.0).passed
    assert not check_run(done[1], max_suspects=share - 1e-9).passed


def test_promises(done: tuple[TinySet, Path], tmp_path: Path) -> None:
    said = check_run(done[1], max_fix_error=0.2).gates[0]
    assert not said.passed
    assert "--max-fix-error 0.2" in said.said
    tiny = TinySet(tmp_path, rows=240, noise=0.4)
    tiny.trusted = tiny.write("half.csv", range(120), tiny.true)
    kept = clean(tiny, "kept", max_fix_error=0.2)
    assert check_run(kept, max_fix_error=0.2).passed
    assert not check_run(kept, max_fix_error=0.1).passed
    lost = clean(tiny, "lost", max_fix_error=0.001)
    assert "nothing could be promised" in check_run(lost, max_fix_error=0.2).gates[0].said


def test_what_is_not_measured_fails(tiny: TinySet) -> None:
    blind = clean(tiny, "blind", trusted=None)
    result = check_run(blind, max_noise=1.0, per_class=True, max_calibration_error=1.0)
    assert [gate.passed for gate in result.gates] == [False, False]
    assert all("for want of trusted rows" in gate.said for gate in result.gates)


def test_classes_without_trusted_rows_are_named(tiny: TinySet) -> None:
    rows = [i for i in tiny.trusted_rows if tiny.given[i] != 1]
    out = clean(tiny, "some", trusted=tiny.write("some.csv", rows, tiny.true))
    result = check_run(out, max_noise=1.0, per_class=True)
    assert result.skipped == ("c1",)
    assert result.passed
    suite = ET.fromstring(junit_report(result, out)).find("testsuite")
    assert suite is not None
    assert suite.get("skipped") == "1"


def test_baseline(tiny: TinySet) -> None:
    before = clean(tiny, "before")
    table = pd.read_parquet(before / "soft_labels.parquet")
    fixed = table[table.is_label_issue & table.trusted_label.isna()]
    assert len(fixed)
    given = pd.read_csv(tiny.labels).set_index("image").label
    given[fixed.image] = fixed.predicted_label.to_numpy()
    removed = table.image[~table.is_label_issue & table.trusted_label.isna()].iloc[:2]
    after_labels = tiny.folder / "after.csv"
    given.drop(removed).reset_index().to_csv(after_labels, index=False)
    after = clean(tiny, "after", labels=after_labels)
    changed = check_run(after, baseline=before, max_increase=0.0).comparison
    assert changed is not None
    assert (changed.added, changed.removed, changed.common) == (0, 2, 58)
    assert changed.relabelled == len(fixed)
    assert changed.resolved_suspects >= len(fixed) - 2
    back = check_run(before, baseline=after)
    assert back.comparison is not None
    assert (back.comparison.added, back.comparison.removed) == (2, 0)
    assert back.comparison.new_suspects == changed.resolved_suspects
    named = pd.DataFrame(back.comparison.worst_new)
    assert len(named) == min(20, back.comparison.new_suspects) > 0
    suspects = pd.read_parquet(before / "suspects.parquet").set_index("image")
    assert named.label_score.is_monotonic_increasing
    assert (named.set_index("image").predicted_label == suspects.predicted_label[named.image]).all()
    said = CliRunner().invoke(app, ["check", str(before), "--baseline", str(after)]).stdout
    assert f"new: {named.image[0]}, given {named.given_label[0]}" in said


def test_noise_that_rose_since_the_baseline(tiny: TinySet) -> None:
    before = clean(tiny, "before")
    worse = tiny.given.copy()
    rows = tiny.trusted_rows[:10]
    worse[rows] = (tiny.true[rows] + 1) % 3
    after = clean(tiny, "after", labels=tiny.write("worse.csv", range(60), worse))
    result = check_run(after, baseline=before, max_increase=0.05)
    assert not result.passed
    assert result.gates[0].value == pytest.approx(
        result.comparison.noise_after - result.comparison.noise_before  # type: ignore[union-attr, operator]
    )
    assert check_run(before, baseline=after, max_increase=0.05).passed
    change = result.comparison.noise_change  # type: ignore[union-attr]
    assert change is not None
    assert change["low"] < change["value"] < change["high"]
    for bound in ("low", "high"):
        limit = change[bound]
        if 0 <= limit <= 1:
            kept = {"baseline": before, "max_increase": limit + 1e-6, "bound": bound}
            assert check_run(after, **kept).passed
            assert not check_run(after, **kept | {"max_increase": max(limit - 1e-6, 0)}).passed
    ends = [check_run(after, baseline=before, max_increase=0.0, bound=b).passed for b in ("value", "high")]
    assert ends == [False, False]


@pytest.mark.parametrize(("text", "share"), [("3%", 0.03), ("0.03", 0.03), (" 12.5 % ", 0.125), ("0", 0.0)])
def test_shares(text: str, share: float) -> None:
    assert parse_share("--max-noise", text) == pytest.approx(share)


@pytest.mark.parametrize(
    "options", [{"max_noise": 3}, {"max_noise": -0.1}, {"per_class": True}, {"bound": "middle"}]
)
def test_bad_limits(options: dict[str, Any]) -> None:
    with pytest.raises(SettingError):
        CheckConfig(**options)


def test_nothing_to_check(done: tuple[TinySet, Path], tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="no limit"):
        check_run(done[1])
    with pytest.raises(SettingError, match="--baseline"):
        check_run(done[1], max_increase=0.1)
    with pytest.raises(LabelfixError, match="Check the path"):
        check_run(tmp_path, max_noise=0.1)


def test_command(done: tuple[TinySet, Path], tmp_path: Path) -> None:
    tiny, out = done
    runner = CliRunner()
    kept = runner.invoke(app, ["check", str(out), "--max-noise", "90%"])
    assert (kept.exit_code, kept.stdout) == (0, "1 of 1 gates passed\n")
    arguments = ["check", str(out), "--max-noise", "0.1%", "--max-suspects", "0%", "--max-quarantined", "1%"]
    failed = runner.invoke(app, [*arguments, "--quiet"])
    assert failed.exit_code == 1
    assert [line.split(":")[0] for line in failed.stdout.splitlines()] == ["max-noise", "max-suspects"]
    report = tmp_path / "deep" / "report.xml"
    answer = runner.invoke(app, [*arguments, "--json", "--junit", str(report)])
    said = json.loads(answer.stdout)
    assert (answer.exit_code, said["passed"], len(said["gates"])) == (1, False, 3)
    suite = ET.parse(report).getroot().find("testsuite")
    assert suite is not None
    assert (suite.get("tests"), suite.get("failures")) == ("3", "2")
    assert len(suite.findall("testcase/failure")) == 2
    assert all("allowed" in (case.text or "") for case in suite.findall("testcase/system-out"))
    again = runner.invoke(app, [*arguments, "--junit", str(report)])
    assert again.exit_code == 2
    assert "--force" in again.stderr
    assert runner.invoke(app, [*arguments, "--junit", str(report), "--force"]).exit_code == 1
    assert runner.invoke(app, ["check", str(out), "--max-noise", "three"]).exit_code == 2
    assert runner.invoke(app, ["check", str(tiny.images), "--max-noise", "3%"]).exit_code == 2


def test_odd_class_names_in_the_report(done: tuple[TinySet, Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(done[1], out)
    record = json.loads((out / "run.json").read_text())
    per_class = record["summary"]["per_class"]
    record["summary"]["per_class"] = {"<b>&\x07\"'": per_class["c0"]}
    (out / "run.json").write_text(json.dumps(record))
    result = check_run(out, max_noise=0.0001, per_class=True)
    cases = ET.fromstring(junit_report(result, out)).findall("testsuite/testcase")
    assert [case.get("name") for case in cases] == ["all", "<b>&\ufffd\"'"]
