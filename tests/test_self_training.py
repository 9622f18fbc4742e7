"""Evidence by classifiers: no trusted label reaches its own fold, order plays no part, and it helps."""

import numpy as np
import pytest
import torch

import labelfix.cross_fitting.self_training as self_training
from labelfix.cross_fitting.self_training import CrossFitter, self_trained_predictions
from labelfix.cross_fitting.softmax_regression import Design, FitRows, fit_softmax
from labelfix.system.folds import assign_folds, hash_keys
from labelfix.system.progress import SilentProgress
from labelfix.training.linear_head import LabelledFeatures
from labelfix.training.standardisation import FEATURE_LENGTH, Standardisation

CPU = torch.device("cpu")


def planted(rows=600, classes=3, noise=0.4, seed=0, trusted=150, extra=0):
    rng = np.random.default_rng(seed)
    true = rng.integers(0, classes, rows + extra)
    features = 1.2 * np.eye(classes, 12)[true] + rng.normal(size=(rows + extra, 12))
    given = np.where(rng.random(rows) < noise, rng.integers(0, classes, rows), true[:rows])
    known = np.full(rows + extra, -1)
    known[rng.permutation(rows)[:trusted]] = 0
    known[rows:] = 0
    known = np.where(known == 0, true, -1)
    hashes = hash_keys(map(str, range(rows + extra)), seed)
    fold = assign_folds(hashes[:rows], np.where(known >= 0, known, classes)[:rows], 5)
    data = LabelledFeatures(
        features=features.astype(np.float32), given=given, trusted=known, hashes=hashes, num_classes=classes
    )
    return data, fold, true


def altered(data, rows):
    trusted = data.trusted.copy()
    trusted[rows] = (trusted[rows] + 1) % data.num_classes
    return LabelledFeatures(
        features=data.features,
        given=data.given,
        trusted=trusted,
        hashes=data.hashes,
        num_classes=data.num_classes,
    )


@pytest.mark.parametrize("kept", [600, 200])
def test_no_trusted_label_reaches_its_own_fold(monkeypatch, kept):
    monkeypatch.setattr(self_training, "PSEUDO_LABEL_BYTES", kept * 5 * 3 * 4)
    monkeypatch.setattr(self_training, "SCORES_PER_CHUNK", 1)  # chunks of 256 rows
    data, fold, _ = planted(extra=30)
    mine = np.flatnonzero((fold == 2) & (data.trusted[: len(fold)] >= 0))
    before = self_trained_predictions(data, fold, prior_rows=5.0, device=CPU, progress=SilentProgress())
    after = self_trained_predictions(
        altered(data, mine), fold, prior_rows=5.0, device=CPU, progress=SilentProgress()
    )
    inside = fold == 2
    assert np.array_equal(before["given"], after["given"])
    for name in ("retrained", "discriminant", "neighbours"):
        np.testing.assert_allclose(before[name][inside], after[name][inside], atol=1e-6)
        assert np.abs(before[name][~inside] - after[name][~inside]).max() > 0.05


def test_order_plays_no_part(monkeypatch):
    monkeypatch.setattr(self_training, "SCORES_PER_CHUNK", 1)  # chunks of 256 rows
    data, fold, _ = planted(extra=20)
    rng = np.random.default_rng(0)
    order = rng.permutation(600)
    whole = np.concatenate([order, 600 + rng.permutation(20)])
    shuffled = LabelledFeatures(
        features=data.features[whole],
        given=data.given[order],
        trusted=data.trusted[whole],
        hashes=data.hashes[whole],
        num_classes=3,
    )
    one = self_trained_predictions(data, fold, prior_rows=5.0, device=CPU, progress=SilentProgress())
    two = self_trained_predictions(
        shuffled, fold[order], prior_rows=5.0, device=CPU, progress=SilentProgress()
    )
    for name in one:
        assert np.array_equal(one[name][order], two[name])


def test_retraining_helps_and_neighbours_vote_for_more_than_the_given_labels():
    gains = []
    for seed in range(4):
        data, fold, true = planted(noise=0.7, seed=seed)
        rest = data.trusted[:600] < 0
        ordered, order = data.in_hash_order()
        fitter = CrossFitter(ordered, fold[order], CPU)
        found = fitter.predictions(5.0, SilentProgress())
        found["votes"] = fitter.neighbour_votes(np.repeat(fitter.given_targets(), 5, axis=0))
        right = {name: (probs.argmax(1) == true[order])[rest[order]].mean() for name, probs in found.items()}
        gains.append(
            [right[name] - right["given"] for name in ("retrained", "discriminant")]
            + [right["neighbours"] - right["votes"]]
        )
    assert (np.mean(gains, axis=0) > 0.02).all(), gains


def test_extra_trusted_rows_teach():
    """Two classes that given labels cannot tell apart, and trusted rows aside that can."""
    rng = np.random.default_rng(0)
    true = rng.integers(0, 2, 900)
    features = 1.5 * np.eye(2, 12)[true] + rng.normal(size=(900, 12))
    given = rng.integers(0, 2, 500)
    right = {}
    for extra in (0, 400):
        rows = 500 + extra
        known = np.append(np.where(np.arange(500) < 40, true[:500], -1), true[500:rows])
        data = LabelledFeatures(
            features=features[:rows].astype(np.float32), given=given, trusted=known,
            hashes=hash_keys(map(str, range(rows)), 0), num_classes=2,
        )  # fmt: skip
        found = self_trained_predictions(
            data, np.arange(500) % 5, prior_rows=5.0, device=CPU, progress=SilentProgress()
        )
        right[extra] = {name: (probs.argmax(1) == true[:500])[40:].mean() for name, probs in found.items()}
    for name in ("retrained", "discriminant", "neighbours"):
        assert right[400][name] > right[0][name] + 0.03


def test_the_discriminant_is_not_surer_than_it_is_right(monkeypatch):
    """Nearly as many features as rows: with no temperature but 1, the truth is less likely."""
    loss = []
    for temperatures in (self_training.TEMPERATURES, (1.0,)):
        monkeypatch.setattr(self_training, "TEMPERATURES", temperatures)
        loss.append(0.0)
        for seed in range(3):
            rng = np.random.default_rng(seed)
            true = rng.integers(0, 3, 500)
            features = 1.5 * np.eye(3, 400)[true] + rng.normal(size=(500, 400))
            given = np.where(rng.random(500) < 0.3, rng.integers(0, 3, 500), true)
            data = LabelledFeatures(
                features=features.astype(np.float32), given=given, hashes=hash_keys(map(str, range(500)), 0),
                trusted=np.where(np.arange(500) < 100, true, -1), num_classes=3,
            )  # fmt: skip
            found = self_trained_predictions(
                data, np.arange(500) % 5, prior_rows=5.0, device=CPU, progress=SilentProgress()
            )
            loss[-1] -= np.log(found["discriminant"][np.arange(500), true]).mean() / 3
    assert loss[0] < loss[1] - 0.04
    assert loss[0] < np.log(3)


def test_without_trusted_rows_only_the_given_labels_speak():
    data, fold, _ = planted(trusted=0)
    assert list(
        self_trained_predictions(data, fold, prior_rows=5.0, device=CPU, progress=SilentProgress())
    ) == ["given"]


def test_where_targets_would_take_too_much_fewer_rows_teach(monkeypatch):
    """The discriminant sees all rows as they pass; the regression and the votes make do with some."""
    data, fold, true = planted(noise=0.6, extra=20)
    whole = self_trained_predictions(data, fold, prior_rows=5.0, device=CPU, progress=SilentProgress())
    monkeypatch.setattr(self_training, "PSEUDO_LABEL_BYTES", 200 * 5 * 3 * 4)
    found = self_trained_predictions(data, fold, prior_rows=5.0, device=CPU, progress=SilentProgress())
    np.testing.assert_array_equal(found["discriminant"], whole["discriminant"])
    for name in ("retrained", "neighbours"):
        assert found[name].shape == whole[name].shape
        assert np.abs(found[name] - whole[name]).max() > 0.01
        right = {
            key: (probs[name].argmax(1) == true[:600]).mean()
            for key, probs in (("all", whole), ("some", found))
        }
        assert right["all"] - 0.1 < right["some"] < right["all"] + 0.02


@pytest.mark.parametrize("power", [0.5, 1.0])
def test_features_that_are_never_negative_go_in_as_roots(power):
    """Averages of rectified activations: as roots they are what their squares are without."""
    rng = np.random.default_rng(0)
    values = torch.from_numpy(rng.random((400, 5)) + 0.1)
    signed = torch.cat([values, -values[:, :1]], dim=1)
    standardised = Standardisation.fit(values if power == 0.5 else signed, CPU)
    assert standardised.roots == (power == 0.5)
    expected = values.sqrt() if power == 0.5 else signed
    expected = (expected - expected.mean(0)) / expected.std(0, correction=0)
    expected *= FEATURE_LENGTH / expected.norm(dim=1, keepdim=True)
    found = standardised(values if power == 0.5 else signed)
    torch.testing.assert_close(found, expected.float(), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("penalty", [1.0, 30.0])
def test_fit_softmax_finds_the_optimum(penalty):
    data, _, _ = planted(rows=200)
    design = Design(data.features, 64, CPU)
    inputs = design.rows(slice(None))
    targets = torch.nn.functional.one_hot(torch.from_numpy(data.given), 3).float()
    inside = torch.ones(200, 1)
    inside[:20] = 0

    def chunks():
        for rows, values in design.chunks():
            yield values, targets[rows].unsqueeze(1), inside[rows]

    gram = (inputs.T @ inputs).unsqueeze(0)
    weight = fit_softmax(
        FitRows(chunks=chunks, gram=gram, num_classes=3), penalty=torch.tensor([penalty]), steps=200
    )
    exact = torch.zeros(13, 3, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([exact], max_iter=500, tolerance_grad=1e-10, line_search_fn="strong_wolfe")

    def loss():
        optimizer.zero_grad()
        scores = inputs[20:].double() @ exact
        value = torch.nn.functional.cross_entropy(scores, targets[20:].double(), reduction="sum")
        value = value + 0.5 * penalty * exact.square().sum()
        value.backward()
        return value

    optimizer.step(loss)
    assert torch.allclose(weight[0].double(), exact.detach(), atol=2e-3)
