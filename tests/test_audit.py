"""The audit against simulated annotators whose accuracy is known, and next to what people use now."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import TinySet
from scipy.stats import spearmanr
from simulated_annotators import (
    Crowd,
    backbone_features,
    best_opinion,
    digits,
    figures_of,
    majority,
    own_opinion,
    rival_opinions,
    simulate,
)
from typer.testing import CliRunner

from labelfix.audit.annotators import audit_annotators, audit_run
from labelfix.errors import InputError
from labelfix.verdicts.dawid_skene import LabelRows
from labelfix_cli import app


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory) -> Crowd:
    return simulate(tmp_path_factory.mktemp("single"), *digits(), seed=0)


@pytest.fixture(scope="module")
def triple(tmp_path_factory: pytest.TempPathFactory) -> Crowd:
    return simulate(tmp_path_factory.mktemp("triple"), *digits(), seed=0, per_image=3)


# --------------------------------------------------------------------------------------------------- simulation


def test_one_label_per_image(single: Crowd) -> None:
    rank, error, _ = figures_of(single, own_opinion(single))
    assert rank >= 0.9
    assert error < 0.05
    assert single.covered.mean() >= 0.9
    assert np.abs(single.audit.accuracy - best_opinion(single).accuracy).max() < 0.08
    assert (single.audit.high - single.audit.low).mean() < 0.25


def test_no_worse_than_taking_the_soft_labels_as_the_truth(single: Crowd) -> None:
    """A posterior that counts all annotators alike shrinks them to the mean; one that does not is as good."""
    image, who, label = single.rows.T
    naive = np.bincount(who, single.result.verdict.soft_label[image, label]) / np.bincount(who)
    real, own = best_opinion(single).accuracy, single.audit.accuracy
    assert np.abs(own - real).mean() < np.abs(naive - real).mean() + 1e-3
    assert abs(np.polyfit(real, own, 1)[0] - 1) < abs(np.polyfit(real, naive, 1)[0] - 1) + 1e-2


@pytest.mark.filterwarnings("ignore")  # theirs
def test_closer_than_others_with_one_label_per_image(single: Crowd) -> None:
    pytest.importorskip("cleanlab")
    pytest.importorskip("crowdkit")
    rank, error, right = figures_of(single, own_opinion(single))
    others = {name: figures_of(single, opinion) for name, opinion in rival_opinions(single).items()}
    assert "Dawid-Skene" in others
    for name, figures in others.items():
        assert rank > figures[0] + 0.05, name
        assert error < 0.75 * figures[1], name
        assert right > figures[2], name


@pytest.mark.filterwarnings("ignore")  # theirs
def test_closer_than_others_with_three_labels_per_image(triple: Crowd) -> None:
    pytest.importorskip("cleanlab")
    pytest.importorskip("crowdkit")
    rank, error, _ = figures_of(triple, own_opinion(triple))
    others = {name: figures_of(triple, opinion) for name, opinion in rival_opinions(triple).items()}
    assert rank >= 0.95
    assert triple.covered.mean() >= 0.9
    assert {"agreement with majority", "CROWDLAB", "Dawid-Skene"} <= others.keys()
    for name, figures in others.items():
        assert error < figures[1], name
        assert rank >= figures[0] - 0.005, name  # over draws it is higher: examples/simulated_annotators.py


def test_consensus_is_better_than_the_majority(triple: Crowd) -> None:
    consensus = pq.read_table(triple.result.out / "consensus.parquet").to_pandas()
    assert len(consensus) == len(triple.true)
    assert (consensus.labels == 3).all()
    right = consensus.consensus_label.astype(int).to_numpy() == triple.true
    assert right.mean() > (majority(triple.rows, len(triple.true), 10) == triple.true).mean() + 0.02
    assert consensus.confidence.mean() == pytest.approx(right.mean(), abs=0.02)


@pytest.mark.slow
@pytest.mark.parametrize("per_image", [1, 3])
def test_intervals_cover_over_draws_of_real_images(tmp_path: Path, data_folder: Path, per_image: int) -> None:
    """CIFAR-10 as the embedded backbone sees it: the intervals hold over draws, and the ranking too."""
    features, true = backbone_features(data_folder / "cifar10.parquet", 3000, tmp_path)
    crowds = [
        simulate(tmp_path / str(seed), features, true, seed=seed, per_image=per_image) for seed in range(4)
    ]
    assert np.mean([figures_of(crowd, own_opinion(crowd))[0] for crowd in crowds]) >= 0.9
    assert np.mean([crowd.covered for crowd in crowds]) >= 0.9


def test_intervals_cover_over_several_draws_of_digits(tmp_path: Path) -> None:
    crowds = [simulate(tmp_path / str(seed), *digits(), seed=seed) for seed in range(1, 6)]
    assert np.mean([crowd.covered for crowd in crowds]) >= 0.9
    # 90 labels each: with all of them verified it would be .95
    assert np.mean([figures_of(crowd, own_opinion(crowd))[0] for crowd in crowds]) >= 0.9


def test_without_trusted_labels_intervals_are_wider(tmp_path: Path, single: Crowd) -> None:
    blind = simulate(tmp_path, *digits(), seed=0, trusted_share=0.0).audit
    frame = single.audit
    assert ((blind.high - blind.low) > (frame.high - frame.low)).mean() >= 0.9
    assert spearmanr(blind.accuracy, single.accuracy)[0] >= 0.85


# ------------------------------------------------------------------------------------------------------ columns


def test_columns(single: Crowd) -> None:
    frame = single.audit
    image, who, label = single.rows.T
    assert frame.annotator.tolist() == [f"a{a:02d}" for a in range(20)]
    assert (frame.rows == np.bincount(who)).all()
    assert frame.rows.sum() == len(single.rows)
    trusted = np.array(single.result.soft_labels["trusted_label"].is_valid())
    assert (frame.trusted_rows == np.bincount(who, trusted[image])).all()
    right = trusted[image] & (single.true[image] == label)
    assert (frame.trusted_right == np.bincount(who, right)).all()
    assert ((frame.low <= frame.accuracy) & (frame.accuracy <= frame.high)).all()
    assert frame.agreement.isna().all()
    np.testing.assert_allclose(frame.wrong, frame.rows * (1 - frame.accuracy))
    assert ((frame.wrong_low <= frame.wrong) & (frame.wrong <= frame.wrong_high)).all()
    assert frame.excess.sum() == pytest.approx(0, abs=0.02 * frame.wrong.sum())
    assert ((frame.kappa < frame.accuracy) & (frame.chance > 0.05) & (frame.chance < 0.2)).all()
    total = [sum(cell["rows"] for cell in cells) for cells in frame.confusion]
    np.testing.assert_allclose(total, frame.rows, atol=3)


def test_favourite_mistakes_are_named(triple: Crowd) -> None:
    """What an annotator is said to confuse is what the simulation made him confuse."""
    frame = triple.audit
    shares = []
    for number, cells in enumerate(frame.confused):
        off = triple.matrices[number] * (1 - np.eye(10))
        shares += [off[int(c["true_label"]), int(c["given_label"])] * 90 / off.sum() for c in cells[:3]]
        worst = int(frame.worst_class[number])
        assert triple.matrices[number, worst, worst] <= np.quantile(np.diag(triple.matrices[number]), 0.6)
    # Three times as frequent as the annotator's average mistake, which 15 % of all mistakes are.
    assert np.mean(np.array(shares) > 3) > 0.7


def test_agreement_with_others(triple: Crowd) -> None:
    frame, (image, who, label) = triple.audit, triple.rows.T
    mine = who == 4
    same = [
        (label[(image == i) & ~mine] == said).mean() for i, said in zip(image[mine], label[mine], strict=True)
    ]
    assert frame.agreement[4] == pytest.approx(np.mean(same))


def judge(labels_of: dict[str, list[int]], true: list[int], **options: object) -> pd.DataFrame:
    """Audit people who label the first images each; the posterior knows the truth to 99 %."""
    names = tuple(sorted(labels_of))
    soft = np.full((len(true), 2), 0.01, np.float32)
    soft[np.arange(len(true)), true] = 0.99
    rows = [(i, label, names.index(name)) for name in names for i, label in enumerate(labels_of[name])]
    image, label, who = np.array(rows).T
    found = audit_annotators(
        soft,
        np.array(true),
        np.full(len(true), -1),
        LabelRows(image=image, label=label, annotator=who, num_annotators=len(names)),
        annotators=names,
        classes=("no", "yes"),
        images=pa.array([f"i{i}" for i in range(len(true))]),
        coverage=0.95,
        **options,  # type: ignore[arg-type]
    )
    return found.annotators.to_pandas().set_index("annotator")


def test_nobody_is_ranked_on_a_few_rows() -> None:
    true = [i % 2 for i in range(400)]
    flipped = [1 - k if i % 3 == 0 else k for i, k in enumerate(true)]
    frame = judge(
        {"good": true, "poor": flipped, "new": true[:3], "unlucky": [1 - k for k in true[:2]]}, true
    )
    assert frame.loc["good", ["best_rank", "standing"]].tolist() == [1, "better"]
    assert frame.loc["poor", "standing"] == "worse"
    assert frame.loc["poor", "best_rank"] > frame.loc["good", "worst_rank"] - 3
    for name in ("new", "unlucky"):
        assert frame.loc[name, "standing"] == "undecided"
        assert frame.loc[name, "worst_rank"] - frame.loc[name, "best_rank"] >= 2
        assert frame.loc[name, "high"] - frame.loc[name, "low"] > 0.5


def test_somebody_without_rows_is_unknown() -> None:
    true = [i % 2 for i in range(40)]
    frame = judge({"good": true, "gone": []}, true)
    assert np.isnan(frame.loc["gone", "accuracy"])
    assert frame.loc["gone", ["low", "high", "rows"]].tolist() == [0, 1, 0]
    assert pd.isna(frame.loc["gone", "worst_class"])


# -------------------------------------------------------------------------------------------------------- runs


def test_audit_of_a_finished_run_is_that_of_clean(triple: Crowd) -> None:
    again = audit_run(triple.result.out)
    written = pq.read_table(triple.result.out / "annotators.parquet")
    assert again.annotators.equals(written)
    wider = audit_run(triple.result.out, interval=0.999).annotators.to_pandas()
    assert (wider.high - wider.low > written.to_pandas().high - written.to_pandas().low).all()


def test_command(triple: Crowd) -> None:
    shown = CliRunner().invoke(app, ["audit", str(triple.result.out)])
    assert shown.exit_code == 0, shown.output
    assert sum(line.startswith("a0") for line in shown.stdout.splitlines()) == 10
    answer = CliRunner().invoke(app, ["audit", str(triple.result.out), "--json"])
    said = json.loads(answer.stdout)
    assert len(said["annotators"]) == 20
    assert said["images_with_several_labels"] == len(triple.true)
    assert CliRunner().invoke(app, ["audit", str(triple.result.out), "--interval", "2"]).exit_code == 2


def test_runs_without_annotators(tiny: TinySet) -> None:
    import labelfix

    options = {"train": "head", "image_size": 32, "folds": 3, "workers": 0}
    result = labelfix.clean(tiny.images, tiny.labels, tiny.trusted, tiny.folder / "out", **options)  # type: ignore[arg-type]
    assert result.annotators is None
    assert not (result.out / "annotators.parquet").exists()
    with pytest.raises(InputError, match="annotator column"):
        audit_run(result.out)
