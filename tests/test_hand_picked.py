"""Rows that somebody chose: known in the outputs and in training, in no estimate and no promise."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from conftest import TinySet, write_rows

import labelfix
from labelfix.check import check_run
from labelfix.errors import InputError
from labelfix.inputs import read_label_table
from labelfix.inputs.design_weights import HAND_PICKED, RANDOM_SAMPLE, row_counts
from labelfix.runs.summary_text import summary_lines
from labelfix.settings import TrustedRole, VerdictConfig
from labelfix.system.folds import hash_keys
from labelfix.system.progress import SilentProgress
from labelfix.training.data_split import split_of_one
from labelfix.verdicts import Action
from labelfix.verdicts.random_check import RandomCheck, SampleKind
from labelfix.verdicts.sampling import SamplingDesign, post_stratified

K = 4


class Said(SilentProgress):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


def probabilities(folder: Path, rows: int = 3000, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Write a matrix and its labels, 20 % of them wrong; return true and given classes."""
    rng = np.random.default_rng(seed)
    true = rng.integers(0, K, rows)
    given = np.where(rng.random(rows) < 0.2, (true + rng.integers(1, K, rows)) % K, true)
    sure = rng.beta(6, 1.5, rows)
    probs = np.full((rows, K), 0.0)
    probs[np.arange(rows), np.where(rng.random(rows) < sure, true, rng.integers(0, K, rows))] += sure
    probs += ((1 - sure) / K)[:, None]
    np.save(folder / "probs.npy", probs / probs.sum(1, keepdims=True))
    write_rows(folder / "labels.csv", enumerate(given))
    return true, given


def clean(folder: Path, out: str, **more: object) -> labelfix.CleanResult:
    return labelfix.clean(
        folder / "probs.npy", folder / "labels.csv", folder / "random.csv", folder / out, report=False, **more
    )  # type: ignore[arg-type]


def test_issues_from_the_top_change_no_estimate(tmp_path: Path) -> None:
    true, _ = probabilities(tmp_path)
    rows = np.random.default_rng(1).permutation(3000)[:400]
    write_rows(tmp_path / "random.csv", ((row, true[row]) for row in rows))
    first = clean(tmp_path, "first", max_fix_error=0.1)
    unverified = first.suspects.filter(first.suspects["trusted_label"].is_null())
    worst = [int(name) for name in unverified["image"].to_pylist()[:150]]
    picked = write_rows(tmp_path / "picked.csv", ((row, true[row]) for row in worst))
    second = clean(tmp_path, "second", reviewed=picked, max_fix_error=0.1)
    mixed = clean(tmp_path, "mixed", trusted_weights=None, reviewed=None, max_fix_error=0.1)
    assert mixed.summary["estimates"] == first.summary["estimates"]
    for name in ("noise_rate", "accuracy", "precision", "recall"):
        # folds follow all trusted labels, so a verdict near a tie may turn
        assert abs(second.summary["estimates"][name]["rows"] - first.summary["estimates"][name]["rows"]) <= 3
        assert second.summary["estimates"][name]["value"] == pytest.approx(
            first.summary["estimates"][name]["value"], abs=0.03
        )
    assert second.summary["hand_picked"] == 150
    assert second.summary["sample"]["kind"] == "random"
    assert abs(second.summary["promises"][0]["looked"] - first.summary["promises"][0]["looked"]) <= 3
    table = second.soft_labels.to_pandas().set_index("image")
    known = table.loc[[str(row) for row in worst]]
    assert (known.verified_as == "hand-picked").all()
    assert (known.predicted_label == [str(true[row]) for row in worst]).all()
    assert (known.confidence == 1).all()
    wrong = known[known.given_label != known.predicted_label]
    assert (wrong.action == "relabel").all()
    assert (wrong.label_score == 0).all()
    assert (table.loc[[str(row) for row in rows]].verified_as == "random").all()
    assert table.verified_as.isna().sum() == 3000 - 550
    record = json.loads((tmp_path / "second" / "run.json").read_text())
    assert record["inputs"]["reviewed"] == [str(picked)]
    assert set(pq.read_table(tmp_path / "second" / "held_out.parquet")["image"].to_pylist()) == {
        str(r) for r in rows
    }


def test_without_a_sample_nothing_is_calibrated(tmp_path: Path) -> None:
    true, _ = probabilities(tmp_path, 600)
    picked = write_rows(tmp_path / "picked.csv", ((row, true[row]) for row in range(80)))
    result = labelfix.clean(
        tmp_path / "probs.npy", tmp_path / "labels.csv", out=tmp_path / "out", reviewed=picked, report=False
    )
    assert result.summary["calibrated"] is False
    assert result.summary["estimates"] == {}
    assert result.soft_labels["verified_as"].to_pylist()[:80] == ["hand-picked"] * 80


def test_an_image_of_both_kinds_counts_as_random_and_contradictions_are_faults(tmp_path: Path) -> None:
    labels = write_rows(tmp_path / "labels.csv", [("a", "x"), ("b", "y"), ("c", "x")])
    trusted = write_rows(tmp_path / "trusted.csv", [("a", "x")])
    reviewed = write_rows(tmp_path / "reviewed.csv", [("a", "x"), ("b", "x")])
    for order in ((trusted, reviewed), ([trusted], [reviewed])):
        table = read_label_table(labels, *order)
        assert table.trusted_sample.tolist() == [RANDOM_SAMPLE, HAND_PICKED, 0]
        assert table.is_hand_picked.tolist() == [False, True, False]
    wrong = write_rows(tmp_path / "wrong.csv", [("a", "y")])
    with pytest.raises(InputError, match=r"the trusted label of 'a' is 'y', but 'x' at trusted\.csv"):
        read_label_table(labels, trusted, wrong)


def test_hand_picked_rows_count_for_nothing() -> None:
    sample = np.array([RANDOM_SAMPLE, HAND_PICKED, 1, HAND_PICKED, 1])
    counts = row_counts(np.array([1.0, 1.0, 20.0, 1.0, 20.0]), sample, 40)
    assert counts[[1, 3]].tolist() == [0, 0]
    np.testing.assert_allclose(
        counts[[0, 2, 4]], row_counts(np.array([1.0, 20, 20]), np.array([0, 1, 1]), 40)
    )
    assert row_counts(np.ones(2), np.full(2, HAND_PICKED), 40).tolist() == [0, 0]


def test_one_network_holds_no_hand_picked_row_out() -> None:
    rng = np.random.default_rng(0)
    given, trusted = rng.integers(0, K, 300), np.full(300, -1)
    trusted[:120] = rng.integers(0, K, 120)
    picked = np.arange(300) < 60
    split = split_of_one(
        given, trusted, hash_keys(map(str, range(300)), 0),
        hand_picked=picked, held_out_share=0.3, role=TrustedRole.META,
    )  # fmt: skip
    assert len(split.held_out) == 18
    assert not picked[split.held_out].any()
    assert set(np.flatnonzero(picked)) <= set(split.meta)


def test_heads_learn_from_hand_picked_rows(tiny: TinySet) -> None:
    options = {"train": "head", "image_size": 32, "folds": 3, "workers": 0, "report": False}
    random, picked = tiny.trusted_rows[:12], tiny.trusted_rows[12:]
    trusted = tiny.write("random.csv", random, tiny.true)
    reviewed = tiny.write("picked.csv", picked, tiny.true)
    with_them = labelfix.clean(
        tiny.images,
        tiny.labels,
        trusted,
        tiny.folder / "a",
        reviewed=reviewed,
        **options,  # type: ignore[arg-type]
    )
    without = labelfix.clean(tiny.images, tiny.labels, trusted, tiny.folder / "b", **options)  # type: ignore[arg-type]
    assert with_them.summary["estimates"]["noise_rate"]["rows"] == 12
    others = np.setdiff1d(np.arange(60), tiny.trusted_rows)
    one, two = (np.stack(r.soft_labels["soft_label"].to_pylist())[others] for r in (with_them, without))
    assert np.abs(one - two).max() > 1e-3


def worst_rows(result: labelfix.CleanResult, count: int) -> list[int]:
    unverified = result.suspects.filter(result.suspects["trusted_label"].is_null())
    return [int(name) for name in unverified["image"].to_pylist()[:count]]


def test_chosen_rows_that_pose_as_a_random_sample_are_found(tmp_path: Path) -> None:
    true, _ = probabilities(tmp_path)
    rows = np.random.default_rng(1).permutation(3000)[:800]
    write_rows(tmp_path / "random.csv", ((row, true[row]) for row in rows))
    honest = clean(tmp_path, "honest", max_fix_error=0.4)
    assert honest.summary["sample"]["kind"] == "random"
    assert honest.summary["promises"][0]["size"]
    assert not any(name == "NOT RANDOM" for name, _ in summary_lines(honest.summary))
    write_rows(
        tmp_path / "random.csv",
        ((row, true[row]) for row in [*rows, *worst_rows(honest, 60)]),
    )
    said = Said()
    chosen = clean(tmp_path, "chosen", max_fix_error=0.4, progress=said)
    assert chosen.summary["sample"]["alarm"]
    assert not chosen.summary["promises"][0]["size"]
    assert "relabel" not in set(
        chosen.soft_labels.filter(chosen.soft_labels["trusted_label"].is_null())["action"].to_pylist()
    )
    assert dict(summary_lines(chosen.summary))["promise"].startswith("none")
    assert any("most suspicious rows" in note and "--reviewed" in note for note in said.notes)
    assert "--reviewed" in dict(summary_lines(chosen.summary))["NOT RANDOM"]
    limits = {"max_noise": 1.0, "max_calibration_error": 1.0, "per_class": True, "max_fix_error": 0.5}
    assert check_run(tmp_path / "honest", **limits).passed
    failed = check_run(tmp_path / "chosen", **limits)
    assert not any(gate.passed for gate in failed.gates)
    assert all("not a random sample" in gate.said for gate in failed.gates[:2] + failed.gates[3:])
    later = check_run(tmp_path / "honest", baseline=tmp_path / "chosen", max_increase=1.0)
    assert not later.passed


def test_a_sample_with_as_many_rows_of_every_class_is_weighted(tmp_path: Path) -> None:
    """Class 0 has 10 times as many rows as each other, and no noise; the others are half noise."""
    rng = np.random.default_rng(3)
    true = rng.choice(K, 4000, p=[10 / 13, 1 / 13, 1 / 13, 1 / 13])
    given = np.where((true > 0) & (rng.random(4000) < 0.5), 1 + (true + rng.integers(0, 2, 4000)) % 3, true)
    noise_rate = (given != true).mean()
    probs = np.full((4000, K), 0.1)
    probs[np.arange(4000), true] = 0.7
    np.save(tmp_path / "probs.npy", probs)
    write_rows(tmp_path / "labels.csv", enumerate(given))
    rows = np.concatenate([rng.permutation(np.flatnonzero(given == k))[:80] for k in range(K)])
    write_rows(tmp_path / "random.csv", ((row, true[row]) for row in rows))
    result = clean(tmp_path, "out")
    assert result.summary["sample"]["kind"] == "stratified"
    assert (given[rows] != true[rows]).mean() > 2 * noise_rate
    estimate = result.summary["estimates"]["noise_rate"]
    assert estimate["low"] <= noise_rate <= estimate["high"]
    assert estimate["value"] == pytest.approx(noise_rate, abs=0.02)
    held_out = labelfix.verdict(probs, given, rows, true[rows]).held_out
    assert held_out is not None
    loss = -np.log(held_out[np.arange(len(rows)), true[rows]].astype(np.float64))
    weight = (np.bincount(given) / 80)[given[rows]]
    estimate = labelfix.verdict(probs, given, rows, true[rows]).estimates["log_loss"]
    assert estimate.value == pytest.approx((weight @ loss) / weight.sum(), rel=1e-6)
    assert estimate.value != pytest.approx(loss.mean(), rel=0.1)


def test_a_sample_with_a_share_of_every_camera_is_weighted_by_camera(tmp_path: Path) -> None:
    """One row in ten is of camera b, which has half of the verified rows; there, three labels in five are wrong."""
    rng = np.random.default_rng(3)
    true, camera = rng.integers(0, K, 4000), rng.choice(["a", "b"], 4000, p=[0.9, 0.1])
    wrong = rng.random(4000) < np.where(camera == "b", 0.6, 0.05)
    given = np.where(wrong, (true + rng.integers(1, K, 4000)) % K, true)
    probs = np.full((4000, K), 0.1)
    probs[np.arange(4000), true] = 0.7
    np.save(tmp_path / "probs.npy", probs)
    write_rows(
        tmp_path / "labels.csv",
        zip(range(4000), given, camera, strict=True),
        ("image", "label", "Camera Name"),
    )
    rows = np.concatenate([rng.permutation(np.flatnonzero(camera == name))[:150] for name in "ab"])
    write_rows(tmp_path / "random.csv", ((row, true[row]) for row in rows))
    assert clean(tmp_path, "unnamed").summary["sample"]["alarm"]
    result = clean(tmp_path, "named", trusted_strata="camera name")
    assert result.summary["sample"]["kind"] == "stratified"
    estimate = result.summary["estimates"]["noise_rate"]
    assert estimate["low"] <= wrong.mean() <= estimate["high"] < wrong[rows].mean()
    with pytest.raises(InputError, match=r"labels\.csv: has no stratum column"):
        clean(tmp_path, "other", trusted_strata="site")


def test_weights_of_a_stratified_sample_are_rows_per_verified_row() -> None:
    labels = np.repeat([0, 1, 2], [100, 50, 10])
    rows = np.array([0, 1, 2, 3, 100, 101, 159])
    design = SamplingDesign(
        rows=rows, weight=np.ones(7), sample=np.array([0, 0, 0, 0, 0, 0, 2]),
        known_rows=np.array([150]), known_sample=np.array([0]),
    )  # fmt: skip
    found = RandomCheck(alarm=False, kind=SampleKind.STRATIFIED, p_value=0.0, worst="", tests=())
    weighted = post_stratified(design, labels, replace(found, inclusion=(0.04, 0.08, 0.1)))
    assert weighted.sample.tolist() == [3, 3, 3, 3, 3, 3, 2]
    assert weighted.known_sample.tolist() == [3]
    assert weighted.weight[4] == pytest.approx(weighted.weight[0] / 2)
    assert weighted.weight[:6].sum() == pytest.approx(160)
    assert weighted.weight[6] == 1
    assert post_stratified(design, labels, replace(found, kind=SampleKind.RANDOM)) is design


def test_rows_drawn_from_what_a_review_left_are_a_random_sample(tmp_path: Path) -> None:
    """Among all rows they are too few in the worst ones, which were reviewed before."""
    true, given = probabilities(tmp_path)
    probs = np.load(tmp_path / "probs.npy")
    worst = np.argsort(probs[np.arange(3000), given])[:300]
    rest = np.random.default_rng(2).permutation(np.setdiff1d(np.arange(3000), worst))[:400]
    write_rows(tmp_path / "random.csv", ((row, true[row]) for row in rest))
    picked = write_rows(tmp_path / "picked.csv", ((row, true[row]) for row in worst))
    assert clean(tmp_path, "without").summary["sample"]["alarm"]
    assert clean(tmp_path, "with", reviewed=picked).summary["sample"]["kind"] == "random"


def test_a_verdict_on_arrays_promises_nothing_on_chosen_rows(tmp_path: Path) -> None:
    true, given = probabilities(tmp_path)
    probs = np.load(tmp_path / "probs.npy")
    config = VerdictConfig(max_fix_error=0.4)
    order = np.argsort(probs[np.arange(3000), given])
    rows = np.random.default_rng(1).permutation(3000)[:800]
    honest = labelfix.verdict(probs, given, rows, true[rows], config=config)
    assert honest.sample is not None
    assert honest.sample.kind == "random"
    assert honest.promises[0].size
    chosen = labelfix.verdict(probs, given, order[:800], true[order[:800]], config=config)
    assert chosen.sample is not None
    assert chosen.sample.alarm
    assert not chosen.promises[0].size
    assert not (chosen.action == Action.RELABEL)[order[800:]].any()
