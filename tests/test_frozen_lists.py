"""The loop: sample, clean, next, clean: what is promised, of which rows, and that it is delivered as promised."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from conftest import write_rows

import labelfix
from labelfix.check import check_run
from labelfix.errors import InputError, OutputError, SettingError
from labelfix.inputs.answers import AnsweredDraw
from labelfix.inputs.draws import Draw, Purpose, draw_path
from labelfix.runs.summary_text import next_steps, summary_lines
from labelfix.verdicts.promises import promise_of_frozen_fixes

K, ROWS = 4, 4000
NAMES = np.array([f"{n:04d}" for n in range(ROWS)])


class Loop:
    """A matrix of probabilities with 25 % wrong labels, and a person who knows the truth."""

    def __init__(self, folder: Path, seed: int = 0, sharpness: float = 160.0):
        rng = np.random.default_rng(seed)
        self.folder = folder
        self.true = rng.integers(0, K, ROWS)
        noise = rng.random(ROWS) < 0.25
        self.given = np.where(noise, (self.true + rng.integers(1, K, ROWS)) % K, self.true)
        sure = rng.beta(sharpness / 4, 1, ROWS)
        seen = np.where(rng.random(ROWS) < sure, self.true, rng.integers(0, K, ROWS))
        probs = np.full((ROWS, K), 0.0) + ((1 - sure) / K)[:, None]
        probs[np.arange(ROWS), seen] += sure
        self.probs = probs / probs.sum(1, keepdims=True)
        np.save(folder / "probs.npy", self.probs)
        self.labels = write_rows(folder / "labels.csv", zip(NAMES, self.given, strict=True))

    def sample(self, count: int = 400, name: str = "to-verify.csv", **options: object) -> Path:
        labelfix.sample(self.folder / "probs.npy", self.labels, count, self.folder / name, **options)  # type: ignore[arg-type]
        return self.verify(self.folder / name)

    def verify(self, table: Path, rows: int | None = None, wrong: tuple[int, ...] = ()) -> Path:
        """Fill a table in with the truth, from the top; `wrong` rows get another class than is suggested."""
        frame = pd.read_csv(table, dtype=str)
        number = frame.image.astype(int).to_numpy()
        answers = self.true[number].astype(str).astype(object)
        for row in wrong:
            answers[row] = str(self.given[number[row]])
        answers[len(frame) if rows is None else rows :] = None
        frame["trusted_label"] = answers
        frame.to_csv(table, index=False)
        return table

    def clean(self, out: str, *trusted: Path, **options: object) -> labelfix.CleanResult:
        return labelfix.clean(
            self.folder / "probs.npy", self.labels, list(trusted), self.folder / out, report=False, **options
        )  # type: ignore[arg-type]

    def next(self, run: str, count: int = 200, name: str = "next.csv", **options: object) -> Draw:
        return labelfix.open_run(self.folder / run).next(count, self.folder / name, **options).draw  # type: ignore[arg-type]

    def wrong_share(self, result: labelfix.CleanResult, rows: np.ndarray) -> float:
        return float((result.verdict.predicted_label != self.true)[rows].mean())


@pytest.fixture
def loop(tmp_path: Path) -> Loop:
    return Loop(tmp_path)


@pytest.fixture
def hard(tmp_path: Path) -> Loop:
    """A loop of which nine predictions in a hundred are wrong."""
    return Loop(tmp_path, sharpness=40.0)


def unverified(result: labelfix.CleanResult) -> np.ndarray:
    return np.asarray(result.soft_labels["trusted_label"].is_null())


# ------------------------------------------------------------------------------------------------------- fixes


def test_a_promise_of_fixes_comes_from_a_list_and_is_delivered(loop: Loop) -> None:
    first = loop.sample()
    before = loop.clean("first", first, max_fix_error=0.05)
    draw = loop.next("first")
    assert (loop.folder / "first" / "draws" / f"{draw.id}.draw.parquet").exists()
    more = loop.verify(loop.folder / "next.csv")
    after = loop.clean("second", first, more, max_fix_error=0.05)
    (promise,) = after.summary["promises"]
    assert promise["exact"]
    assert (promise["draw"], promise["number"], promise["drawn"]) == (draw.id, 1, promise["looked"])
    actions = np.array(after.soft_labels["action"].to_pylist())
    rows = (actions == "relabel") & unverified(after)
    assert rows.sum() == promise["unverified"] > 200
    listed = dict(zip(draw.table["image"].to_pylist(), draw.table["suggestion"].to_pylist(), strict=True))
    assert set(NAMES[rows]) <= set(listed)
    predicted = after.soft_labels["predicted_label"].to_pylist()
    assert all(predicted[row] == listed[NAMES[row]] for row in np.flatnonzero(rows))
    assert loop.wrong_share(after, rows) <= 0.05
    assert not before.summary["promises"][0]["exact"]
    assert "relabel" not in set(np.array(before.soft_labels["action"].to_pylist())[unverified(before)])
    assert set(after.soft_labels.filter(~rows)["promised"].to_pylist()) == {
        True,
        False,
    }  # verified ones are in it


def test_what_was_frozen_is_delivered_whatever_is_predicted_later(loop: Loop) -> None:
    first = loop.sample()
    loop.clean("first", first)
    draw = loop.next("first")
    more = loop.verify(loop.folder / "next.csv")
    rng = np.random.default_rng(5)
    np.save(loop.folder / "probs.npy", rng.dirichlet(np.ones(K), ROWS))  # a useless classifier
    after = loop.clean("second", first, more, max_fix_error=0.05)
    rows = np.flatnonzero(np.asarray(after.soft_labels["promised"]) & unverified(after))
    assert len(rows) == after.summary["promises"][0]["unverified"] > 200
    suggested = dict(zip(draw.table["image"].to_pylist(), draw.table["suggestion"].to_pylist(), strict=True))
    assert [str(k) for k in after.verdict.predicted_label[rows]] == [suggested[NAMES[row]] for row in rows]
    assert (after.verdict.soft_label.argmax(1) != after.verdict.predicted_label)[rows].any()
    chance = after.verdict.soft_label[rows, after.verdict.predicted_label[rows]]
    np.testing.assert_allclose(after.verdict.confidence[rows], chance)


def test_too_many_wrong_fixes_and_too_few_rows_promise_nothing(loop: Loop) -> None:
    first = loop.sample()
    loop.clean("first", first)
    loop.next("first")
    more = loop.folder / "next.csv"
    loop.verify(more, wrong=tuple(range(0, 200, 8)))
    result = loop.clean("wrong", first, more, max_fix_error=0.05)
    assert not result.summary["promises"][0]["size"]
    assert "none that at most 5.0% of the fixes are wrong" in dict(summary_lines(result.summary))["promise"]
    loop.verify(more, rows=40)
    result = loop.clean("few", first, more, max_fix_error=0.05)
    assert not result.summary["promises"][0]["size"]
    assert "drawn rows are not verified" in dict(summary_lines(result.summary))["promise"]
    loop.verify(more)
    frame = pd.read_csv(more, dtype=str)
    frame.loc[::8, "trusted_label"] = "?"
    frame.to_csv(more, index=False)
    result = loop.clean("unsure", first, more, max_fix_error=0.05)
    assert not result.summary["promises"][0]["size"]
    assert any("25 rows marked '?'" in warning for warning in result.summary["warnings"])
    frame.loc[::8, "trusted_label"] = None  # who skips the hard rows gets no look beyond the first of them
    frame.to_csv(more, index=False)
    result = loop.clean("skipped", first, more, max_fix_error=0.05)
    assert result.summary["promises"][0]["looked"] == 0
    assert result.summary["hand_picked"] == 175


def test_a_promise_may_come_before_the_end_and_lists_have_numbers(loop: Loop) -> None:
    first = loop.sample()
    loop.clean("first", first)
    loop.next("first", 200)
    more = loop.verify(loop.folder / "next.csv", rows=175)
    second = loop.clean("second", first, more, max_fix_error=0.05)
    assert second.summary["promises"][0]["size"]
    assert second.summary["promises"][0]["looked"] < second.summary["promises"][0]["drawn"]
    again = loop.next("second", 150, "third.csv")
    assert again.settings["number"] == 2
    promised = set(NAMES[np.asarray(second.soft_labels["promised"])])
    assert not promised & set(again.table["image"].to_pylist())
    third = loop.clean("third", first, more, loop.verify(loop.folder / "third.csv"), max_fix_error=0.05)
    numbers = [(promise["number"], bool(promise["size"])) for promise in third.summary["promises"]]
    assert numbers[0] == (1, True)
    assert numbers[1][0] == 2
    rows = np.asarray(third.soft_labels["promised"])
    assert rows.sum() == sum(promise["size"] for promise in third.summary["promises"])
    assert (
        loop.next("first", 150, "other.csv", seed=1).settings["number"] == 2
    )  # of the same run: the next list


def test_lists_that_share_rows_are_not_promised_twice(loop: Loop) -> None:
    first = loop.sample()
    loop.clean("first", first)
    loop.next("first", 200, "one.csv")
    loop.next("first", 400, "two.csv", seed=1)
    one, two = (loop.verify(loop.folder / name) for name in ("one.csv", "two.csv"))
    sizes = [p["size"] for p in loop.clean("both", first, one, two, max_fix_error=0.05).summary["promises"]]
    assert sizes[0] > 0 == sizes[1]
    assert loop.clean("last", first, two, max_fix_error=0.05).summary["promises"][0]["size"] > 0


def test_a_list_is_for_the_limit_that_it_was_made_for(loop: Loop) -> None:
    first = loop.sample()
    loop.clean("first", first)
    draw = loop.next("first")
    more = loop.verify(loop.folder / "next.csv")
    with pytest.raises(
        InputError, match=f"--max-fix-error: got 0.1, but the draw {draw.id} was made for 0.05"
    ):
        loop.clean("second", first, more, max_fix_error=0.1)
    with pytest.raises(InputError, match=r"--interval: got 0\.9"):
        loop.clean("second", first, more, max_fix_error=0.05, interval=0.9)
    assert not loop.clean("none", first, more).summary["promises"]
    with pytest.raises(SettingError, match="a run makes one promise"):
        loop.clean("two", first, max_fix_error=0.05, max_label_error=0.05)


def test_rows_that_are_gone_lower_what_a_list_may_hold(loop: Loop) -> None:
    loop.clean("first", loop.sample())
    draw = loop.next("first")
    suggested = np.zeros(len(draw.table), int)
    answer = np.zeros(len(draw.drawn), int)
    answer[::100] = 1  # 2 of 200 wrong

    def promise(row: np.ndarray) -> int:
        return promise_of_frozen_fixes(
            AnsweredDraw(draw=draw, row=row, answer=answer), suggested
        ).promise.size

    every = np.arange(len(draw.table))
    assert promise(every) == len(draw.table)
    gone = np.where(np.isin(every, draw.drawn), every, -1)  # none but the drawn rows is left
    assert promise(gone) == 0
    gone = every.copy()
    gone[draw.drawn[20:40]] = -1  # rows that were drawn and are gone may have been wrong
    assert promise(gone) == 0


# -------------------------------------------------------------------------------------------------- all labels


def test_the_loop_of_all_labels(hard: Loop) -> None:
    first = hard.sample()
    run = hard.clean("first", first, max_label_error=0.02)
    labels, kept = run.summary["promises"]
    assert (labels["kind"], kept["kind"]) == ("labels", "kept")
    assert not labels["exact"]
    assert labels["size"] == ROWS
    open_rows = np.array(run.soft_labels["action"].to_pylist()) == "review"
    assert 0 < open_rows.sum() == labels["to_verify"] < ROWS / 2
    assert not (open_rows & np.asarray(run.soft_labels["promised"])).any()
    line = next(text for name, text in summary_lines(run.summary) if name == "promise")
    out = hard.folder / "first"
    with pytest.raises(
        InputError, match=rf"{labels['to_verify']:,} of its labels are to be verified .*--for label-error"
    ):
        run_export(hard, "first")
    assert not (hard.folder / "export").exists()
    gate = check_run(out, max_label_error=0.02).gates[0]
    assert (gate.passed, "once" in gate.said) == (False, True)
    draw = hard.next("first", name="open.csv", purpose="label-error")
    assert draw.purpose is Purpose.LABELS
    assert set(pd.read_csv(hard.folder / "open.csv", dtype=str).image) == set(NAMES[open_rows])
    confidence = draw.table["confidence"].to_numpy()[draw.drawn]
    assert (np.diff(confidence) >= 0).all()
    half = hard.verify(hard.folder / "open.csv", rows=labels["to_verify"] // 2)
    partly = hard.clean("partly", first, half, max_label_error=0.02)
    left = labels["to_verify"] - labels["to_verify"] // 2
    assert partly.summary["promises"][0]["to_verify"] == left
    with pytest.raises(InputError, match=f"{left:,} of its labels are to be verified"):
        run_export(hard, "partly")
    done = hard.clean("done", first, hard.verify(hard.folder / "open.csv"), max_label_error=0.02)
    (promise,) = done.summary["promises"]
    assert (promise["to_verify"], promise["size"], promise["draw"]) == (0, ROWS, draw.id)
    assert hard.wrong_share(done, np.ones(ROWS, bool)) <= 0.02
    taken = np.asarray(done.soft_labels["promised"]) & unverified(done)
    np.testing.assert_array_equal(taken, np.asarray(run.soft_labels["promised"]) & unverified(run))
    before, after = run.verdict.predicted_label[taken], done.verdict.predicted_label[taken]
    np.testing.assert_array_equal(after, before)
    assert check_run(hard.folder / "done", max_label_error=0.02).passed
    assert not check_run(hard.folder / "done", max_label_error=0.01).passed
    run_export(hard, "done")
    delivered = pd.read_csv(hard.folder / "export" / "labels.csv", dtype=str)
    assert (delivered.label.astype(int).to_numpy() != hard.true).mean() <= 0.02
    certificate = json.loads((hard.folder / "export" / "certificate.json").read_text())
    assert [p["holds"] for p in certificate["promises"]] == [True]
    assert certificate["promises"][0]["statement"] == f"at most 2.0% of all {ROWS:,} labels are wrong"
    assert "simulation" in certificate["assumptions"][-1]
    assert "once" in line


def run_export(loop: Loop, run: str, **options: object) -> dict[str, object]:
    options = {"to": "csv", "force": True, **options}
    return labelfix.export_run(loop.folder / run, loop.folder / "export", **options).summary  # type: ignore[arg-type]


def test_dropping_is_a_promise_of_its_own(tmp_path: Path) -> None:
    loop = Loop(tmp_path, sharpness=12.0)
    first = loop.sample(800)
    run = loop.clean("first", first, max_label_error=0.05)
    labels, kept = run.summary["promises"]
    assert 0 < kept["size"] < ROWS
    rows = np.asarray(run.soft_labels["kept"])
    assert rows.sum() == kept["size"]
    assert loop.wrong_share(run, rows) <= 0.05
    summary = run_export(loop, "first", policy="drop")
    verified = ~unverified(run)
    assert summary["images"] == (rows | verified).sum()
    mix = summary["class_mix"]
    for column in zip(*mix.values(), strict=True):  # type: ignore[attr-defined]
        assert sum(column) == pytest.approx(1)
    certificate = json.loads((loop.folder / "export" / "certificate.json").read_text())
    assert [p["kind"] for p in certificate["promises"]] == ["kept"]
    hopeless = loop.clean("hopeless", loop.folder / "to-verify.csv", max_label_error=0.001)
    assert not hopeless.summary["promises"][0]["size"]
    with pytest.raises(
        InputError, match=r"--policy drop: .* promises nothing of the labels that would be left"
    ):
        run_export(loop, "hopeless", policy="drop")
    with pytest.raises(InputError, match="no promise was made"):
        run_export(loop, "hopeless")
    run_export(loop, "hopeless", policy="review-only")
    with pytest.raises(InputError, match=r"promises nothing of all labels at 0\.1%"):
        loop.next("hopeless", purpose="label-error")
    assert labels["size"]


def test_a_list_of_labels_is_of_the_images_that_it_was_made_of(hard: Loop) -> None:
    first = hard.sample()
    hard.clean("first", first, max_label_error=0.02)
    hard.next("first", name="open.csv", purpose="label-error")
    more = hard.verify(hard.folder / "open.csv")
    np.save(hard.folder / "probs.npy", np.vstack([hard.probs, hard.probs[:1]]))
    names = np.append(NAMES, "9999")
    write_rows(hard.labels, zip(names, np.append(hard.given, 0), strict=True))
    grown = hard.clean("grown", first, more, max_label_error=0.02)
    assert not grown.summary["promises"][0]["size"]
    assert any("was made from other images" in warning for warning in grown.summary["warnings"])


def test_a_sample_of_other_images_promises_nothing_of_all_labels(hard: Loop) -> None:
    first = hard.sample()
    np.save(hard.folder / "probs.npy", np.vstack([hard.probs, hard.probs[:500]]))
    names = [*NAMES, *(f"9{n:04d}" for n in range(500))]
    write_rows(hard.labels, zip(names, np.append(hard.given, np.zeros(500, int)), strict=True))
    run = hard.clean("grown", first, max_label_error=0.05)
    assert not run.summary["promises"][0]["size"]


def test_what_is_not_promised_is_not_certified_and_the_way_to_it_is_named(loop: Loop) -> None:
    run = loop.clean("blind")
    assert not (loop.folder / "blind" / "certificate.json").exists()
    assert "labelfix sample" in next_steps(run.summary)[0]
    assert not check_run(loop.folder / "blind", max_label_error=0.5, max_fix_error=0.5).passed
    first = loop.sample()
    asked = loop.clean("asked", first, max_fix_error=0.001)
    certificate = json.loads((loop.folder / "asked" / "certificate.json").read_text())
    assert [p["holds"] for p in certificate["promises"]] == [False]
    line = dict(summary_lines(asked.summary))["promise"]
    assert "labelfix next" in line
    with pytest.raises(SettingError, match="--for: got 'fame'"):
        loop.next("asked", purpose="fame")
    with pytest.raises(InputError, match="expected a run with --max-label-error"):
        loop.next("asked", purpose="label-error")


def test_a_run_keeps_the_records_that_it_used_and_finds_them_again(loop: Loop) -> None:
    first = loop.sample()
    loop.clean("first", first)
    (kept,) = (loop.folder / "first" / "draws").iterdir()
    assert pq.read_metadata(kept).num_rows == ROWS
    draw_path(first).unlink()
    loop.clean("first", first, force=True)  # from the records of the run that it replaces
    assert kept.exists()
    with pytest.raises(InputError, match="no record of the draw"):
        loop.clean("second", first)
    loop.clean("second", first, draws=[loop.folder / "first" / "draws"])


def test_rows_that_nothing_learned_from_make_an_exact_promise(hard: Loop) -> None:
    first = hard.sample(800)
    options = {"max_label_error": 0.05}
    whole = hard.clean("whole", first, **options)
    split = hard.clean("split", first, calibration_split=0.5, **options)
    assert [promise["exact"] for promise in split.summary["promises"]] == [True, True]
    assert split.summary["promises"][0]["looked"] <= 400
    assert not whole.summary["promises"][0]["exact"]
    rows = [r.summary["estimates"]["noise_rate"]["rows"] for r in (whole, split)]
    assert rows == [800, 400]
    # they are known labels all the same
    trusted = split.soft_labels["trusted_label"]
    assert trusted.equals(whole.soft_labels["trusted_label"])
    verified = ~unverified(split)
    assert verified.sum() == 800
    assert (split.verdict.predicted_label == hard.true)[verified].all()
    certificate = json.loads((hard.folder / "split" / "certificate.json").read_text())
    assert not any("simulation" in sentence for sentence in certificate["assumptions"])
    # nothing is learned from the last rows: other answers there change no prediction of other rows
    frame = pd.read_csv(first, dtype=str)
    frame.loc[400:, "trusted_label"] = np.roll(frame["trusted_label"][400:], 1)
    frame.to_csv(first, index=False)
    other = hard.clean("other", first, calibration_split=0.5, **options)
    np.testing.assert_array_equal(other.verdict.soft_label[~verified], split.verdict.soft_label[~verified])
    assert other.summary["promises"][0]["to_verify"] > split.summary["promises"][0]["to_verify"]


def test_rows_of_a_sample_are_held_back_for_fixes_too(hard: Loop) -> None:
    split = hard.clean("split", hard.sample(800), calibration_split=0.5, max_fix_error=0.3)
    (promise,) = split.summary["promises"]
    assert promise["exact"]
    assert promise["size"] > 0
    fixed = np.asarray(split.soft_labels["promised"]) & unverified(split)
    assert fixed.sum() == promise["unverified"]
    assert hard.wrong_share(split, fixed) <= 0.3
    rows = np.random.default_rng(0).permutation(ROWS)[:800]
    trusted = write_rows(hard.folder / "trusted.csv", ((NAMES[row], hard.true[row]) for row in rows))
    with pytest.raises(InputError, match="--calibration-split: there is no recorded random sample"):
        hard.clean("none", trusted, calibration_split=0.5)
    with pytest.raises(SettingError, match="--calibration-split"):
        hard.clean("none", calibration_split=1.5)


def test_labels_that_are_held_back_are_in_the_outputs_again(hard: Loop) -> None:
    """A sample verified to row 700 of 800, the open rows verified as well: some of them are held back."""
    first = hard.verify(hard.sample(800), rows=700)
    options = {"max_label_error": 0.05, "calibration_split": 0.5}
    hard.clean("first", first, **options)
    hard.next("first", name="open.csv", purpose="label-error")
    done = hard.clean("done", first, hard.verify(hard.folder / "open.csv"), **options)
    assert done.summary["promises"][0]["to_verify"] == 0
    known = {
        *pd.read_csv(first, dtype=str).image[:700],
        *pd.read_csv(hard.folder / "open.csv", dtype=str).image,
    }
    assert set(NAMES[~unverified(done)]) == known


def test_held_back_labels_decide_no_tie_among_annotators(tmp_path: Path) -> None:
    loop = Loop(tmp_path, sharpness=40.0)
    rng = np.random.default_rng(0)
    second = np.where(rng.random(ROWS) < 0.3, rng.integers(0, K, ROWS), loop.true)
    labels = [(name, k, "ann") for name, k in zip(NAMES, loop.given, strict=True)]
    labels += [(name, k, "bo") for name, k in zip(NAMES, second, strict=True)]
    write_rows(loop.labels, labels, ("image", "label", "annotator"))
    np.save(tmp_path / "probs.npy", np.vstack([loop.probs, loop.probs]))
    first = loop.sample(400)
    one = loop.clean("one", first, calibration_split=0.5)
    frame = pd.read_csv(first, dtype=str)
    frame.loc[200:, "trusted_label"] = np.roll(frame["trusted_label"][200:], 1)
    frame.to_csv(first, index=False)
    two = loop.clean("two", first, calibration_split=0.5)
    rest = unverified(one)
    assert one.soft_labels["given_label"].equals(two.soft_labels["given_label"])
    np.testing.assert_array_equal(one.verdict.soft_label[rest], two.verdict.soft_label[rest])


# ---------------------------------------------------------------------------------------- what breaks no promise


def random_table(loop: Loop, count: int, name: str = "random.csv") -> tuple[Path, np.ndarray]:
    rows = np.random.default_rng(7).permutation(ROWS)[:count]
    return write_rows(loop.folder / name, ((NAMES[row], loop.true[row]) for row in rows)), rows


def test_rows_that_nobody_can_tell_count_as_wrong_in_a_table_without_a_record(hard: Loop) -> None:
    table, rows = random_table(hard, 800)
    run = hard.clean("run", table, max_label_error=0.05)
    wrong = run.verdict.held_out.argmax(1) != hard.true[np.sort(rows)]
    doubtful = set(np.sort(rows)[wrong].tolist())
    write_rows(hard.folder / "random.csv", ((NAMES[r], "?" if r in doubtful else hard.true[r]) for r in rows))
    unsure = hard.clean("unsure", table, max_label_error=0.05)
    assert unsure.summary["promises"][0]["looked"] >= 700
    assert unsure.summary["promises"][0]["to_verify"] > 0.5 * run.summary["promises"][0]["to_verify"]
    assert unsure.soft_labels["verified_as"].null_count == unsure.soft_labels["trusted_label"].null_count
    taken = np.asarray(unsure.soft_labels["promised"]) & unverified(unsure)
    assert (unsure.verdict.predicted_label != hard.true)[taken].sum() <= 0.05 * ROWS


def test_an_alarm_leaves_no_promise_but_those_of_recorded_lists(hard: Loop) -> None:
    first = hard.sample()
    hard.clean("first", first, max_label_error=0.05)
    hard.next("first", name="open.csv", purpose="label-error")
    more = hard.verify(hard.folder / "open.csv")
    sure = np.argsort(-hard.probs.max(1))[:800:2]
    chosen = write_rows(hard.folder / "chosen.csv", ((NAMES[row], hard.true[row]) for row in sure))
    alarmed = hard.clean("alarmed", chosen, max_label_error=0.05)
    assert alarmed.summary["sample"]["alarm"]
    assert [p["size"] for p in alarmed.summary["promises"]] == [0, 0]
    split = hard.clean("split", chosen, first, max_label_error=0.05, calibration_split=0.5)
    assert split.summary["sample"]["alarm"]
    assert [p["size"] for p in split.summary["promises"]] == [0, 0]
    frozen = hard.clean("frozen", first, more, chosen, max_label_error=0.05)
    assert "at most 5.0% of all" in dict(summary_lines(frozen.summary))["promise"]
    assert check_run(hard.folder / "frozen", max_label_error=0.05).passed


def test_a_sample_from_what_others_left_needs_the_others(hard: Loop) -> None:
    """The wrong predictions are reviewed first; a sample of the rest says nothing of them."""
    wrong = np.flatnonzero(hard.probs.argmax(1) != hard.true)
    reviewed = write_rows(hard.folder / "reviewed.csv", ((NAMES[row], hard.true[row]) for row in wrong))
    first = hard.sample(800, reviewed=reviewed)
    without = hard.clean("without", first, max_label_error=0.05)
    assert not without.summary["promises"][0]["size"]
    assert any("less those that are verified in another way" in w for w in without.summary["warnings"])
    assert hard.clean("with", first, reviewed=reviewed, max_label_error=0.05).summary["promises"][0]["size"]


def test_numbers_of_lists_and_samples_are_never_used_again(loop: Loop) -> None:
    first = loop.sample()
    loop.clean("first", first)
    loop.next("first", 100, "one.csv")
    one = loop.verify(loop.folder / "one.csv")
    loop.clean("second", first)  # one.csv is left out, but lies beside
    assert loop.next("second", 100, "two.csv").settings["number"] == 2
    for number in (2, 3, 4):
        path = loop.sample(50, "again.csv", force=True)
        assert Draw.read(draw_path(path)).settings["number"] == number
    two = loop.verify(loop.folder / "two.csv")
    branch = loop.next("first", 100, "branch.csv", seed=3)  # the first run knows nothing of the second list
    assert branch.settings["number"] == 2
    other = loop.verify(loop.folder / "branch.csv")
    numbers = [
        p["number"] for p in loop.clean("all", first, one, two, other, max_fix_error=0.05).summary["promises"]
    ]
    assert numbers == [1, 2, 3]


def test_a_larger_sample_that_is_not_verified_takes_no_promise_away(hard: Loop) -> None:
    first = hard.sample(400)
    alone = hard.clean("alone", first, max_label_error=0.05).summary["promises"][0]
    labelfix.sample(hard.folder / "probs.npy", hard.labels, 600, hard.folder / "more.csv", trusted=first)
    both = hard.clean("both", first, hard.folder / "more.csv", max_label_error=0.05).summary["promises"][0]
    assert (both["size"], both["number"]) == (alone["size"], 1)
    assert abs(both["to_verify"] - alone["to_verify"]) < 100


def test_an_open_image_that_nobody_can_tell_is_left_out(hard: Loop) -> None:
    first = hard.sample()
    hard.clean("first", first, max_label_error=0.02)
    hard.next("first", name="open.csv", purpose="label-error")
    more = hard.verify(hard.folder / "open.csv")
    frame = pd.read_csv(more, dtype=str)
    frame.loc[2, "trusted_label"] = "?"
    frame.to_csv(more, index=False)
    done = hard.clean("done", first, more, max_label_error=0.02)
    (promise,) = done.summary["promises"]
    assert (promise["to_verify"], promise["size"]) == (0, ROWS - 1)
    run_export(hard, "done")
    assert len(pd.read_csv(hard.folder / "export" / "labels.csv")) == ROWS - 1
    frame["trusted_label"] = "?"
    frame.to_csv(more, index=False)
    assert not hard.clean("none", first, more, max_label_error=0.02).summary["promises"][0]["size"]


def test_a_part_of_the_rows_carries_no_certificate(hard: Loop) -> None:
    first = hard.sample()
    hard.clean("first", first, max_label_error=0.02)
    hard.next("first", name="open.csv", purpose="label-error")
    hard.clean("done", first, hard.verify(hard.folder / "open.csv"), max_label_error=0.02)
    run_export(hard, "done", rows="suspects")
    assert not (hard.folder / "export" / "certificate.json").exists()
    assert not len(hard.next("done", name="more.csv", purpose="label-error").drawn)
    assert not (hard.folder / "more.csv").exists()


def test_records_are_not_replaced_unasked(loop: Loop) -> None:
    first = loop.sample(100)
    first.rename(loop.folder / "done.csv")
    with pytest.raises(OutputError, match=r"to-verify\.draw\.parquet: already exists"):
        loop.sample(100)
    loop.clean("first", loop.folder / "done.csv")
    shutil.rmtree(loop.folder / "first" / "draws")
    (loop.folder / "first" / "draws").write_text("mine")
    with pytest.raises(OutputError, match="draws: cannot be written"):
        loop.next("first")
    assert not (loop.folder / "next.csv").exists()
    with pytest.raises(InputError, match=r"--draws: .*nowhere: does not exist"):
        loop.clean("second", loop.folder / "done.csv", draws=[loop.folder / "nowhere"])
