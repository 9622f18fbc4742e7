"""The audit against simulated annotators whose accuracy is known, and next to what people use now."""

import io
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from annotators import Crowd, digits, majority, simulate
from conftest import TinySet
from PIL import Image
from scipy.stats import spearmanr
from typer.testing import CliRunner

from labelfix.annotator_model import LabelRows
from labelfix.audit import audit_annotators, audit_run
from labelfix.errors import InputError
from labelfix_cli import app


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory) -> Crowd:
    return simulate(tmp_path_factory.mktemp("single"), *digits(), seed=0)


@pytest.fixture(scope="module")
def triple(tmp_path_factory: pytest.TempPathFactory) -> Crowd:
    return simulate(tmp_path_factory.mktemp("triple"), *digits(), seed=0, per_image=3)


def frame_of(crowd: Crowd) -> pd.DataFrame:
    assert crowd.result.annotators is not None
    return crowd.result.annotators.to_pandas()


def realised(crowd: Crowd) -> np.ndarray:
    """Share of right labels that each annotator gave."""
    image, who, label = crowd.rows.T
    return np.bincount(who, crowd.true[image] == label) / np.bincount(who)


def covered(frame: pd.DataFrame, accuracy: np.ndarray) -> np.ndarray:
    return ((frame.low <= accuracy) & (accuracy <= frame.high)).to_numpy()


# --------------------------------------------------------------------------------------------------- simulation


def test_one_label_per_image(single: Crowd) -> None:
    frame = frame_of(single)
    assert spearmanr(frame.accuracy, single.accuracy)[0] >= 0.9
    assert covered(frame, single.accuracy).mean() >= 0.9
    assert np.abs(frame.accuracy - realised(single)).max() < 0.05
    assert (frame.high - frame.low).mean() < 0.25


def test_no_worse_than_taking_the_soft_labels_as_the_truth(single: Crowd) -> None:
    """A posterior that counts all annotators alike shrinks them to the mean; one that does not is as good."""
    image, who, label = single.rows.T
    naive = np.bincount(who, single.result.verdict.soft_label[image, label]) / np.bincount(who)
    real, own = realised(single), frame_of(single).accuracy
    assert np.abs(own - real).mean() < np.abs(naive - real).mean() + 1e-3
    assert abs(np.polyfit(real, own, 1)[0] - 1) < abs(np.polyfit(real, naive, 1)[0] - 1) + 1e-2


def rivals(crowd: Crowd) -> dict[str, np.ndarray]:
    """Accuracies (A,) as others estimate them from the same labels and features."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import cross_val_predict

    multiannotator = pytest.importorskip("cleanlab.multiannotator")
    aggregation = pytest.importorskip("crowdkit.aggregation")
    image, who, label = crowd.rows.T
    most = majority(crowd.rows, len(crowd.true), 10)
    agreement = np.bincount(who, most[image] == label) / np.bincount(who)
    model = LogisticRegression(C=0.01, max_iter=500)
    scaled = (crowd.features - crowd.features.mean(0)) / (crowd.features.std(0) + 1e-6)
    probs = cross_val_predict(model, scaled, most, cv=5, method="predict_proba")
    wide = np.full((len(crowd.true), 20), np.nan)
    wide[image, who] = label
    crowdlab = multiannotator.get_label_quality_multiannotator(
        pd.DataFrame(wide), probs, verbose=False, return_detailed_quality=False
    )
    quality = crowdlab["annotator_stats"].sort_index().annotator_quality.to_numpy()
    found = aggregation.DawidSkene(n_iter=100).fit_predict(
        pd.DataFrame({"task": image, "worker": who, "label": label})
    )
    best = found.sort_index().to_numpy()
    skene = np.bincount(who, best[image] == label) / np.bincount(who)
    return {"majority": agreement, "CROWDLAB": quality, "Dawid-Skene": skene}


@pytest.mark.filterwarnings("ignore")  # theirs
def test_closer_than_others_with_three_labels_per_image(triple: Crowd) -> None:
    frame = frame_of(triple)
    own = np.abs(frame.accuracy - triple.accuracy).mean()
    rank = spearmanr(frame.accuracy, triple.accuracy)[0]
    assert rank >= 0.95
    assert covered(frame, triple.accuracy).mean() >= 0.9
    for name, accuracy in rivals(triple).items():
        assert own < np.abs(accuracy - triple.accuracy).mean(), name
        assert rank >= spearmanr(accuracy, triple.accuracy)[0] - 0.005, name


def test_consensus_is_better_than_the_majority(triple: Crowd) -> None:
    consensus = pq.read_table(triple.result.out / "consensus.parquet").to_pandas()
    assert len(consensus) == len(triple.true)
    assert (consensus.labels == 3).all()
    right = consensus.consensus_label.astype(int).to_numpy() == triple.true
    assert right.mean() > (majority(triple.rows, len(triple.true), 10) == triple.true).mean() + 0.02
    assert consensus.confidence.mean() == pytest.approx(right.mean(), abs=0.02)


@pytest.mark.slow
@pytest.mark.parametrize("per_image", [1, 3])
def test_intervals_cover_over_many_draws(tmp_path: Path, data_folder: Path, per_image: int) -> None:
    """Fashion-MNIST pixels: the intervals hold over draws, and the ranking too."""
    table = pq.read_table(data_folder / "fashion_mnist.parquet").slice(0, 6000)
    pixels = np.stack([np.asarray(Image.open(io.BytesIO(b))).reshape(-1) for b in table["image"].to_pylist()])
    from sklearn.decomposition import PCA

    features = PCA(64, random_state=0).fit_transform(pixels / 255.0)
    inside, ranks = [], []
    for seed in range(6):
        crowd = simulate(
            tmp_path / str(seed), features, table["label"].to_numpy(), seed=seed, per_image=per_image
        )
        inside.append(covered(frame_of(crowd), crowd.accuracy))
        ranks.append(spearmanr(frame_of(crowd).accuracy, crowd.accuracy)[0])
    assert min(ranks) >= 0.9
    assert np.mean(inside) >= 0.9


def test_intervals_cover_over_several_draws_of_digits(tmp_path: Path) -> None:
    inside, ranks = [], []
    for seed in range(1, 6):
        crowd = simulate(tmp_path / str(seed), *digits(), seed=seed)
        inside.append(covered(frame_of(crowd), crowd.accuracy))
        ranks.append(spearmanr(frame_of(crowd).accuracy, crowd.accuracy)[0])
    assert np.mean(inside) >= 0.9
    assert np.mean(ranks) >= 0.9  # 90 labels each: the shares of right labels themselves reach .95


def test_without_trusted_labels_intervals_are_wider(tmp_path: Path, single: Crowd) -> None:
    blind = frame_of(simulate(tmp_path, *digits(), seed=0, trusted_share=0.0))
    frame = frame_of(single)
    assert ((blind.high - blind.low) > (frame.high - frame.low)).mean() >= 0.9
    assert spearmanr(blind.accuracy, single.accuracy)[0] >= 0.85


# ------------------------------------------------------------------------------------------------------ columns


def test_columns(single: Crowd) -> None:
    frame = frame_of(single)
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
    frame = frame_of(triple)
    shares = []
    for number, cells in enumerate(frame.confused):
        off = triple.matrices[number] * (1 - np.eye(10))
        shares += [off[int(c["true_label"]), int(c["given_label"])] * 90 / off.sum() for c in cells[:3]]
        worst = int(frame.worst_class[number])
        assert triple.matrices[number, worst, worst] <= np.quantile(np.diag(triple.matrices[number]), 0.6)
    # Three times as frequent as the annotator's average mistake, which 15 % of all mistakes are.
    assert np.mean(np.array(shares) > 3) > 0.7


def test_agreement_with_others(triple: Crowd) -> None:
    frame, (image, who, label) = frame_of(triple), triple.rows.T
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
