"""The eleven methods: each loss against a formula of its own in float64, each trainer's special step."""

import copy
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from labelfix.benchmark.methods import METHODS, Batch, Method, Task
from labelfix.benchmark.methods.base import first_epoch_of
from labelfix.benchmark.methods.bootstrap import soft_bootstrap
from labelfix.benchmark.methods.co_teaching import keep_rate, small_loss_rows
from labelfix.benchmark.methods.forward import anchor_transition, forward_loss, trusted_transition
from labelfix.benchmark.methods.generalized_ce import generalized_cross_entropy
from labelfix.benchmark.methods.joint_optimization import joint_loss
from labelfix.benchmark.methods.meta_weight_net import weight_gradient
from labelfix.benchmark.methods.mlnt import neighbour_labels
from labelfix.benchmark.methods.pencil import pencil_loss
from labelfix.benchmark.methods.symmetric_ce import symmetric_cross_entropy
from labelfix.errors import SettingError
from labelfix.mslg import mslg_step

B, K, D, N, M = 12, 4, 6, 36, 20


@pytest.fixture
def logits() -> Tensor:
    return 2 * torch.randn(B, K, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def labels() -> Tensor:
    return torch.randint(K, (B,), generator=torch.Generator().manual_seed(1))


def probabilities(logits: Tensor) -> np.ndarray:
    """Softmax once, in numpy."""
    e = np.exp(logits.numpy() - logits.numpy().max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def onehot(labels: Tensor) -> np.ndarray:
    return np.eye(K)[labels.numpy()]


# --------------------------------------------------------------------------------------------------- losses


def test_cross_entropy(logits: Tensor, labels: Tensor) -> None:
    loss = METHODS["cross_entropy"](make_task(), METHODS["cross_entropy"].Settings()).loss(logits, labels)
    expected = -np.log((probabilities(logits) * onehot(labels)).sum(1)).mean()
    assert loss.item() == pytest.approx(expected, rel=1e-12)


def test_symmetric_ce(logits: Tensor, labels: Tensor) -> None:
    p, y = probabilities(logits), onehot(labels)
    log_y = np.where(y == 1, 0.0, -4.0)
    expected = (-0.1 * (y * np.log(p)).sum(1) - 1.5 * (p * log_y).sum(1)).mean()
    loss = symmetric_cross_entropy(logits, labels, a=0.1, b=1.5, log_zero=-4.0)
    assert loss.item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("q", [0.3, 0.7, 1.0])
def test_generalized_ce(logits: Tensor, labels: Tensor, q: float) -> None:
    p_label = (probabilities(logits) * onehot(labels)).sum(1)
    loss = generalized_cross_entropy(logits, labels, q=q)
    assert loss.item() == pytest.approx(((1 - p_label**q) / q).mean(), rel=1e-12)


def test_generalized_ce_becomes_cross_entropy(logits: Tensor, labels: Tensor) -> None:
    loss = generalized_cross_entropy(logits, labels, q=1e-7)
    assert loss.item() == pytest.approx(F.cross_entropy(logits, labels).item(), rel=1e-5)


def test_bootstrap(logits: Tensor, labels: Tensor) -> None:
    p, y = probabilities(logits), onehot(labels)
    expected = -((0.95 * y + 0.05 * p) * np.log(p)).sum(1).mean()
    logits.requires_grad_()
    loss = soft_bootstrap(logits, labels, beta=0.95)
    assert loss.item() == pytest.approx(expected, rel=1e-12)
    loss.backward()
    # through both p: the mixed target is not a constant
    target = torch.from_numpy(0.95 * y + 0.05 * p)
    fixed = torch.autograd.grad(-(target * logits.log_softmax(1)).sum(1).mean(), logits)[0]
    assert not torch.allclose(logits.grad, fixed, atol=1e-4)


def test_forward_loss(logits: Tensor, labels: Tensor) -> None:
    T = np.random.default_rng(0).dirichlet(np.ones(K), K)
    p, y = probabilities(logits), onehot(labels)
    expected = -np.log(((p @ T) * y).sum(1)).mean()
    assert forward_loss(logits, labels, torch.from_numpy(T)).item() == pytest.approx(expected, rel=1e-12)


def test_joint_loss(logits: Tensor, labels: Tensor) -> None:
    p, s = probabilities(logits), np.random.default_rng(0).dirichlet(np.ones(K), B)
    prior = np.array([0.4, 0.3, 0.2, 0.1])
    expected = (s * np.log(s / p)).sum(1).mean()
    expected += 1.2 * (prior * np.log(prior / p.mean(0))).sum() - 0.8 * (p * np.log(p)).sum(1).mean()
    loss = joint_loss(logits, torch.from_numpy(s), torch.from_numpy(prior), alpha=1.2, beta=0.8)
    assert loss.item() == pytest.approx(expected, rel=1e-12)
    hard = joint_loss(logits, F.one_hot(labels, K).double(), torch.from_numpy(prior), alpha=0.0, beta=0.0)
    assert hard.item() == pytest.approx(F.cross_entropy(logits, labels).item(), rel=1e-12)


def test_pencil_loss(logits: Tensor, labels: Tensor) -> None:
    soft = torch.randn(B, K, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    p, y = probabilities(logits), probabilities(soft)
    expected = (p * np.log(p / y)).sum(1).mean() / K - 0.4 * (onehot(labels) * np.log(y)).sum(1).mean()
    expected += -0.1 / K * (p * np.log(p)).sum(1).mean()
    loss = pencil_loss(logits, soft, labels, alpha=0.4, beta=0.1)
    assert loss.item() == pytest.approx(expected, rel=1e-12)


# ---------------------------------------------------------------------------------------------- special steps


def make_network(number: int) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(number)
        return nn.Sequential(nn.Linear(D, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, K))


def make_task(**changes: Any) -> Task:
    generator = torch.Generator().manual_seed(3)
    trusted = torch.randn(M, D, generator=generator)

    def optimizer(parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        return torch.optim.SGD(parameters, lr=0.1)

    task = Task(
        network=make_network,
        optimizer=optimizer,
        labels=torch.randint(K, (N,), generator=generator),
        num_classes=K,
        epochs=10,
        noise_ratio=0.4,
        trusted_labels=torch.arange(M) % K,
        trusted_images=lambda places: trusted[places],
        plain_trusted_images=lambda places: trusted[places],
        generator=generator,
    )
    return replace(task, **changes)


def make(name: str, task: Task | None = None, **options: Any) -> Method:
    kind = METHODS[name]
    return kind(task or make_task(), kind.Settings(**options))


def batch_of(task: Task, epoch: int, first: int = 0) -> Batch:
    images = torch.randn(N, D, generator=torch.Generator().manual_seed(4))
    rows = torch.arange(first, first + B)
    return Batch(rows=rows, images=images[rows], labels=task.labels[rows], epoch=epoch, learning_rate=0.1)


def run_epochs(method: Method, epochs: int, first: int = 0) -> None:
    for epoch in range(first, first + epochs):
        method.start_epoch(epoch)
        for start in range(0, N, B):
            assert method.step(batch_of(method.task, epoch, start)).isfinite()
        method.end_epoch(epoch)


@pytest.mark.parametrize("name", METHODS)
def test_every_method_learns_and_is_repeatable(name: str) -> None:
    states = []
    for _ in range(2):
        method = make(name)
        start = copy.deepcopy(method.predictor().state_dict())
        run_epochs(method, 10)
        assert method.current_labels().shape == (N,)
        assert method.forward(torch.randn(3, D), method.predictor().eval()).shape == (3, K)
        states.append(method.predictor().state_dict())
        assert any(not torch.equal(start[key], states[-1][key]) for key in start)
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


def test_keep_rate_comes_down_over_ten_epochs() -> None:
    rates = [keep_rate(epoch, ramp_epochs=10, forget_rate=0.4) for epoch in (0, 5, 10, 50)]
    assert rates == pytest.approx([1.0, 0.8, 0.6, 0.6])


def test_small_loss_rows() -> None:
    losses = torch.tensor([3.0, 1.0, 2.0, 5.0, 4.0])
    assert set(small_loss_rows(losses, 0.6).tolist()) == {0, 1, 2}
    assert small_loss_rows(losses, 0.01).tolist() == [1]


def test_co_teaching_exchanges_the_rows() -> None:
    """Each network takes exactly the step of cross-entropy on the other's rows of small loss."""
    method = make("co_teaching")
    batch = batch_of(method.task, epoch=30)
    expected = []
    for learner, chooser in ((method.model, method.peer), (method.peer, method.model)):
        chosen = F.cross_entropy(copy.deepcopy(chooser)(batch.images), batch.labels, reduction="none")
        rows = chosen.argsort()[: int(0.6 * B)]
        model = copy.deepcopy(learner)
        losses = F.cross_entropy(model(batch.images), batch.labels, reduction="none")
        own = set(losses.argsort()[: int(0.6 * B)].tolist())
        assert own != set(rows.tolist())  # else exchanging would make no difference
        losses[rows].mean().backward()
        expected.append([p.detach() - 0.1 * p.grad for p in model.parameters()])
    method.step(batch)
    for model, values in zip((method.model, method.peer), expected, strict=True):
        for p, value in zip(model.parameters(), values, strict=True):
            torch.testing.assert_close(p.detach(), value, atol=1e-5, rtol=1e-4)


def test_co_teaching_forgets_what_it_is_told_to() -> None:
    assert make("co_teaching").forget_rate == 0.4
    assert make("co_teaching", forget_rate=0.2).forget_rate == 0.2
    with pytest.raises(SettingError, match="forget_rate"):
        make("co_teaching", make_task(noise_ratio=float("nan")))


def test_forward_estimates_the_transition_and_begins_again() -> None:
    method = make("forward", first_share=0.3)
    run_epochs(method, 3)
    assert method.transition_KK is None
    first = copy.deepcopy(method.model).eval()
    probs = first(method.task.plain_trusted_images(torch.arange(M))).softmax(1)
    method.start_epoch(3)
    expected = torch.stack([probs[method.task.trusted_labels == k].mean(0) for k in range(K)])
    torch.testing.assert_close(method.transition_KK, expected.detach())
    for p, q in zip(method.model.parameters(), make_network(0).parameters(), strict=True):
        assert torch.equal(p, q)


def test_transition_estimates_by_hand() -> None:
    probs = torch.tensor([[0.9, 0.1], [0.5, 0.5], [0.2, 0.8]])
    found = trusted_transition(probs, torch.tensor([0, 0, 0]))
    torch.testing.assert_close(found, torch.tensor([[1.6 / 3, 1.4 / 3], [0.0, 1.0]]))
    torch.testing.assert_close(anchor_transition(probs, 0.97), probs[[0, 2]])
    torch.testing.assert_close(anchor_transition(probs, 0.4), probs[[1, 1]])


def test_joint_optimization_replaces_labels_by_averages_then_begins_again() -> None:
    method = make("joint_optimization", relabel_share=0.2, retrain_share=0.5, averaged_epochs=3)
    given = F.one_hot(method.task.labels, K).float()
    run_epochs(method, 1)
    assert torch.equal(method.soft_NK, given)
    run_epochs(method, 3, first=1)
    assert len(method.predictions) == 3
    torch.testing.assert_close(method.soft_NK, torch.stack(method.predictions).mean(0))
    assert not torch.allclose(method.soft_NK, given, atol=0.1)
    run_epochs(method, 1, first=4)
    fixed = method.soft_NK.clone()
    method.start_epoch(5)
    for p, q in zip(method.model.parameters(), make_network(1).parameters(), strict=True):
        assert torch.equal(p, q)
    run_epochs(method, 2, first=5)
    assert torch.equal(method.soft_NK, fixed)
    assert [method.schedule_position(e) for e in (0, 4, 5, 9)] == [0, 0, 0, 0.8]


def test_joint_optimization_changes_wrong_labels() -> None:
    """Two separate clouds, a third of the labels wrong: the labels go over to the truth."""
    truth = torch.arange(N) % 2
    images = torch.randn(N, D, generator=torch.Generator().manual_seed(4)) + 6 * truth.unsqueeze(1)
    labels = torch.where(torch.arange(N) % 6 < 2, 1 - truth, truth)
    method = make(
        "joint_optimization", make_task(labels=labels, trusted_labels=torch.arange(M) % 2, epochs=40)
    )
    for epoch in range(26):
        method.start_epoch(epoch)
        for rows in torch.arange(N).repeat(5, 1):
            method.step(Batch(rows=rows, images=images, labels=labels, epoch=epoch, learning_rate=0.1))
        method.end_epoch(epoch)
    assert (method.current_labels() == truth).float().mean() > 0.95 > (labels == truth).float().mean()


def test_pencil_moves_labels_down_the_gradient_in_its_second_phase_alone() -> None:
    method = make("pencil", label_rate=300.0)
    assert (method.relabel, method.fixed) == (2, 6)
    assert [method.schedule_position(epoch) for epoch in (0, 5, 6, 8)] == [0, 0, 0, 0.5]
    assert [method.rate_factor(epoch) for epoch in (0, 5, 6, 9)] == pytest.approx([1, 1, 10 / 3, 10 / 3])
    run_epochs(method, 2)
    start = 10.0 * F.one_hot(method.task.labels, K).float()
    assert torch.equal(method.label_logits_NK, start)
    batch = batch_of(method.task, epoch=2)
    logits = copy.deepcopy(method.model)(batch.images).detach()
    ytilde = start[batch.rows].clone().requires_grad_()
    pencil_loss(logits, ytilde, batch.labels, alpha=0.4, beta=0.1).backward()
    method.start_epoch(2)
    method.step(batch)
    torch.testing.assert_close(method.label_logits_NK[:B], (ytilde - 300.0 * ytilde.grad).detach())
    assert not torch.allclose(method.label_logits_NK[:B], start[:B], atol=1e-3)
    assert torch.equal(method.label_logits_NK[B:], start[B:])
    run_epochs(method, 4, first=2)
    kept = method.label_logits_NK.clone()
    run_epochs(method, 2, first=6)
    assert torch.equal(method.label_logits_NK, kept)


def test_mlnt_teacher_is_an_average_of_the_network() -> None:
    method = make("mlnt", gamma=0.9, synthetic_sets=2)
    method.start_epoch(0)
    average = {key: value.clone() for key, value in method.model.state_dict().items()}
    for step in range(5):
        method.step(batch_of(method.task, 0, step))
        for key, value in method.model.state_dict().items():
            if value.is_floating_point():
                average[key] = 0.9 * average[key] + 0.1 * value
    for key, value in method.predictor().state_dict().items():
        if value.is_floating_point():
            torch.testing.assert_close(value, average[key])
    assert method.predictor() is not method.model


def test_mlnt_step_is_that_of_the_two_losses() -> None:
    """With the labels of one's own class around, the synthetic step is known, and so is the whole gradient."""
    method = make("mlnt", synthetic_sets=1, alpha=0.2, weight=0.7)
    method.start_epoch(0)
    batch = replace(batch_of(method.task, 0), labels=torch.zeros(B, dtype=torch.int64))
    model, teacher = copy.deepcopy(method.model), copy.deepcopy(method.teacher)
    loss = F.cross_entropy(model(batch.images), batch.labels)
    slopes = torch.autograd.grad(loss, list(model.parameters()))
    ahead = copy.deepcopy(method.model)
    with torch.no_grad():
        for p, slope in zip(ahead.parameters(), slopes, strict=True):
            p -= 0.2 * slope
    said = teacher(batch.images).softmax(1).detach()
    F.kl_div(ahead(batch.images).log_softmax(1), said, reduction="batchmean").backward()
    expected = [
        p.detach() - 0.1 * (slope + 0.7 * q.grad)
        for p, q, slope in zip(model.parameters(), ahead.parameters(), slopes, strict=True)
    ]
    method.step(batch)
    for p, value in zip(method.model.parameters(), expected, strict=True):
        torch.testing.assert_close(p.detach(), value, atol=1e-6, rtol=1e-4)


def test_neighbour_labels_come_from_neighbours() -> None:
    features = torch.arange(8.0).unsqueeze(1) + 100.0 * (torch.arange(8.0) >= 4).unsqueeze(1)
    labels = torch.arange(8)
    changed = neighbour_labels(
        features, labels, share=1.0, neighbours=3, generator=torch.Generator().manual_seed(0)
    )
    assert (changed != labels).all()  # never one's own
    assert torch.equal(changed // 4, labels // 4)  # the three nearest are those of the same cloud
    half = neighbour_labels(
        features, labels, share=0.5, neighbours=3, generator=torch.Generator().manual_seed(0)
    )
    assert (half != labels).sum() == 4


@pytest.mark.parametrize("training", [True, False])
def test_meta_weight_net_gradient_equals_finite_differences(training: bool) -> None:
    model = make_network(0).double().train(training)
    generator = torch.Generator().manual_seed(5)
    images = torch.randn(B, D, dtype=torch.float64, generator=generator)
    labels = torch.randint(K, (B,), generator=generator)
    trusted = torch.randn(M, D, dtype=torch.float64, generator=generator)
    trusted_labels = torch.arange(M) % K
    weights = torch.rand(B, dtype=torch.float64, generator=generator)
    before = copy.deepcopy(model.state_dict())
    found = weight_gradient(model, images, labels, weights, trusted, trusted_labels, alpha=0.3)
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())

    def trusted_loss(values: Tensor) -> float:
        ahead = copy.deepcopy(model)
        loss = (values * F.cross_entropy(ahead(images), labels, reduction="none")).mean()
        slopes = torch.autograd.grad(loss, list(ahead.parameters()))
        again = copy.deepcopy(model)
        with torch.no_grad():
            for p, slope in zip(again.parameters(), slopes, strict=True):
                p -= 0.3 * slope
        return F.cross_entropy(again(trusted), trusted_labels).item()

    step = 1e-5
    expected = [
        (trusted_loss(weights + step * unit) - trusted_loss(weights - step * unit)) / (2 * step)
        for unit in torch.eye(B, dtype=torch.float64)
    ]
    assert found.abs().max() > 1e-4
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-5, atol=1e-9)


def test_meta_weight_net_normalises_its_weights() -> None:
    """With equal weights the step is that of plain cross-entropy, however small they are."""
    method = make("meta_weight_net", weight_rate=0.0)
    with torch.no_grad():
        method.weigher[2].weight.zero_()
        method.weigher[2].bias.fill_(-5.0)
    plain = make("cross_entropy")
    batch = batch_of(method.task, 0)
    for each in (method, plain):
        each.start_epoch(0)
        each.step(batch)
    for p, q in zip(method.model.parameters(), plain.model.parameters(), strict=True):
        torch.testing.assert_close(p, q)


def test_mslg_is_the_step_of_the_mathematics_module() -> None:
    method = make("mslg", warmup_epochs=1, trusted_batch_size=M)
    run_epochs(method, 1)
    assert torch.equal(method.current_labels(), method.task.labels)
    model = copy.deepcopy(method.model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    batch = batch_of(method.task, 1)
    old = method.label_logits_NK[batch.rows].clone()
    images, labels = method.task.trusted_images(torch.arange(M)), method.task.trusted_labels
    expected = mslg_step(
        model, optimizer, batch.images, old, images, labels, alpha=0.5, beta=4000.0, reduction="mean"
    )
    method.step(batch)
    torch.testing.assert_close(
        method.label_logits_NK[batch.rows], expected.label_logits, atol=1e-3, rtol=1e-3
    )
    assert not torch.allclose(expected.label_logits, old, atol=1e-2)
    for p, q in zip(method.model.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(p, q, atol=1e-4, rtol=1e-3)


def test_every_phase_begins_in_short_runs() -> None:
    assert [first_epoch_of(0.2, epochs) for epochs in (1, 2, 10)] == [1, 1, 2]
