"""Duplicate images: found, kept in one fold, and counted once where whole groups were verified."""

import io
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import TinySet, write_rows
from PIL import Image

import labelfix
from labelfix.cross_fitting.duplicates import contradictions, duplicate_groups
from labelfix.errors import InputError
from labelfix.inputs import read_label_table
from labelfix.settings import TrustedRole
from labelfix.training.data_split import split_of_one
from labelfix.verdicts.sampling import SamplingDesign, one_per_group

K = 5


def blobs(rows: int = 1200, seed: int = 1) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features of five overlapping classes, true labels, and given ones of which 40 % were drawn anew."""
    rng = np.random.default_rng(seed)
    true = rng.integers(0, K, rows)
    x = rng.normal(size=(rows, 64)) + (0.315 * rng.normal(size=(K, 64)))[true]
    given = np.where(rng.random(rows) < 0.4, (true + rng.integers(1, K, rows)) % K, true)
    return x.astype(np.float32), true, given


def clean(
    folder: Path, x: np.ndarray, given: np.ndarray, true: np.ndarray, rows: np.ndarray, **options: object
) -> labelfix.CleanResult:
    np.save(folder / "x.npy", x)
    labels = write_rows(folder / "labels.csv", ((f"i{i}", f"c{k}") for i, k in enumerate(given)))
    trusted = write_rows(folder / "trusted.csv", ((f"i{i}", f"c{true[i]}") for i in rows))
    return labelfix.clean(
        folder / "x.npy",
        labels,
        trusted,
        folder / "out",
        force=True,
        report=False,
        kind="features",
        **options,
    )  # type: ignore[arg-type]


# ---------------------------------------------------------------------------------------------------- finding


def test_equal_rows_are_one_group_wherever_they_are() -> None:
    x = np.random.default_rng(0).normal(size=(60, 8)).astype(np.float16)
    x[41], x[17] = x[5], x[5]
    x[50] = x[30]
    group = duplicate_groups(x, np.empty(0, int))
    assert group[[5, 17, 41]].tolist() == [5, 5, 5]
    assert group[[30, 50]].tolist() == [30, 30]
    others = np.setdiff1d(np.arange(60), [17, 41, 50])
    np.testing.assert_array_equal(group[others], others)


def test_near_duplicates_are_looked_for_around_trusted_rows() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(20_000, 16))
    x[15_000], x[12] = x[3] + 0.02 * rng.normal(size=16), x[7] + 0.02 * rng.normal(size=16)
    x[20] = 1.01 * x[3]
    group = duplicate_groups(
        x + 100, np.array([15_000])
    )  # whatever all features have in common tells nothing
    assert group[[3, 20, 15_000]].tolist() == [3, 3, 3]
    assert group[[7, 12]].tolist() == [7, 12]  # neither of them is trusted


def test_a_large_part_of_the_rows_is_no_group() -> None:
    x = np.random.default_rng(0).normal(size=(100, 8))
    x[:30] = 0
    x[40] = x[50]
    group = duplicate_groups(x, np.arange(5))
    np.testing.assert_array_equal(group[:30], np.arange(30))
    assert group[50] == 40


def test_files_saved_again_are_found(tiny: TinySet) -> None:
    """One file copied, one as a JPEG of good quality; the squares of one colour are no duplicates of each other."""
    rng = np.random.default_rng(0)
    for name in tiny.names:  # pictures that differ
        coarse = Image.fromarray(rng.integers(0, 255, (6, 6, 3), np.uint8))
        coarse.resize((48, 48), Image.Resampling.BICUBIC).save(tiny.images / name)
    copied, again = tiny.names[tiny.trusted_rows[0]], tiny.names[tiny.trusted_rows[1]]
    shutil.copy(tiny.images / copied, tiny.images / "copy.png")
    Image.open(tiny.images / again).save(content := io.BytesIO(), "JPEG", quality=95, subsampling=0)
    (tiny.images / "again.jpg").write_bytes(content.getvalue())
    given = [tiny.classes[k] for k in tiny.given]
    write_rows(tiny.labels, [*zip(tiny.names, given, strict=True), ("copy.png", "c0"), ("again.jpg", "c0")])
    result = labelfix.clean(
        tiny.images, tiny.labels, tiny.trusted, tiny.folder / "out", train="head", image_size=64, report=False
    )
    assert result.summary["duplicates"] == 4


def test_trusted_labels_that_contradict_each_other_are_named(tmp_path: Path) -> None:
    x, true, given = blobs(200)
    x[11], x[80] = x[10], x[81]
    true[11], true[80] = (true[10] + 1) % K, true[81]
    result = clean(tmp_path, x, given, true, np.arange(100))
    (said,) = [warning for warning in result.summary["warnings"] if "duplicate" in warning]
    assert f"1 pair of duplicate images with different trusted labels: 'i10' (c{true[10]}) and 'i11'" in said
    table = read_label_table(tmp_path / "labels.csv", tmp_path / "trusted.csv")
    assert contradictions(table, np.arange(200)) == []


# ------------------------------------------------------------------------------------------------------- folds


def test_twins_share_a_fold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from labelfix.cross_fitting import predictions

    seen = {}
    original = predictions.cross_fit_head

    def spy(data, fold, *args, **options):  # type: ignore[no-untyped-def]
        seen["fold"] = fold
        return original(data, fold, *args, **options)

    monkeypatch.setattr(predictions, "cross_fit_head", spy)
    x, true, given = blobs(300)
    chosen = np.random.default_rng(0).permutation(300)[:60]
    clean(
        tmp_path,
        np.vstack([x, x[chosen]]),
        np.append(given, given[chosen]),
        np.append(true, true[chosen]),
        chosen,
    )
    fold = seen["fold"]
    np.testing.assert_array_equal(fold[300:], fold[chosen])
    assert len(np.unique(fold)) == 5
    assert np.bincount(fold).min() > 50


def test_twins_are_held_out_together() -> None:
    rng = np.random.default_rng(0)
    given, trusted = rng.integers(0, 3, 400), np.full(400, -1)
    trusted[:200] = rng.integers(0, 3, 200)
    group = np.arange(400)
    group[100:200] = np.arange(100)  # 100 pairs, and 200 others
    split = split_of_one(
        given, trusted, rng.integers(2**63, size=400, dtype=np.uint64), hand_picked=np.zeros(400, bool),
        held_out_share=0.3, role=TrustedRole.META, group=group,
    )  # fmt: skip
    held = np.isin(np.arange(400), split.held_out)
    np.testing.assert_array_equal(held[:100], held[100:200])
    assert 40 <= held.sum() <= 80


# ---------------------------------------------------------------------------------------------------- counting


def test_whole_groups_count_once_and_promise_nothing(tmp_path: Path) -> None:
    """Verified rows that all have a twin: without the groups, the interval lies above the truth in every draw."""
    covered = 0
    for seed in range(6):
        x, true, given = blobs(seed=seed)
        rng = np.random.default_rng(seed)
        chosen = rng.permutation(len(x))[:150]
        twin_given = np.where(
            rng.random(150) < 0.4, (true[chosen] + rng.integers(1, K, 150)) % K, true[chosen]
        )
        x, given, true = (
            np.vstack([x, x[chosen]]),
            np.append(given, twin_given),
            np.append(true, true[chosen]),
        )
        rows = np.append(chosen, np.arange(1200, 1350))
        result = clean(tmp_path, x, given, true, rows, max_fix_error=0.05)
        estimate = result.summary["estimates"]["accuracy"]
        assert estimate["rows"] == 150
        rest = np.setdiff1d(np.arange(1350), rows)
        hits = (result.verdict.predicted_label == true)[rest].mean()
        covered += estimate["low"] <= hits <= estimate["high"]
        assert not result.summary["promises"][0]["size"]
        assert result.summary["duplicates"] == 300
        assert result.summary["sample"]["by_group"]
        assert "a group counts once" in result.summary["sample"]["message"]
    assert covered >= 4


def test_random_rows_of_a_data_set_of_twins_count_one_by_one(tmp_path: Path) -> None:
    """Bursts: every image is there twice. A random sample of rows is one, and its promise holds."""
    x, true, given = blobs(800)
    x, given, true = np.repeat(x, 2, 0), np.repeat(given, 2), np.repeat(true, 2)
    rows = np.random.default_rng(0).permutation(1600)[:400]
    result = clean(tmp_path, x, given, true, rows)
    assert result.summary["estimates"]["accuracy"]["rows"] == 400
    assert not result.summary["sample"]["by_group"]
    assert result.summary["duplicates"] == 1600


def test_a_row_of_a_group_stands_for_all_of_it() -> None:
    groups = np.array([0, 0, 0, 3, 3, 5, 6, 7, 7, 9, *range(10, 400)])
    rows = np.array([0, 1, 2, 3, 4, 6, 7, 8])
    design = SamplingDesign(rows, np.ones(8), np.zeros(8, int), np.empty(0, int), np.empty(0, int))
    found = one_per_group(design, groups)
    assert found.sample.tolist() == [1, -1, -1, 1, -1, 1, 1, -1]
    assert found.weight[found.sample == 1].tolist() == [3, 2, 1, 2]
    apart = SamplingDesign(
        rows[[0, 3, 5, 6]], np.ones(4), np.zeros(4, int), np.empty(0, int), np.empty(0, int)
    )
    assert one_per_group(apart, groups) is apart


@pytest.mark.parametrize("groups", [[0, 1], [0.0, 1, 2, 3], [0, 1, 2, 4], [-1, 0, 1, 2]])
def test_groups_that_are_none(groups: list[float]) -> None:
    with pytest.raises(InputError, match="groups: "):
        labelfix.verdict(
            np.full((4, 2), 0.5),
            np.array([0, 1, 1, 0]),
            np.array([1]),
            np.array([0]),
            groups=np.array(groups),
        )
