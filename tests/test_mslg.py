"""The label gradient against double backward, the steps against each other, the head against both."""

import copy
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch._functorch.config as functorch_config
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch._dynamo.backends.debugging import aot_eager
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel

from labelfix.errors import SettingError
from labelfix.mslg import (
    FAST_LABEL_INTERVAL,
    FAST_TRUSTED_ROWS,
    ForwardModeWarning,
    Schedule,
    head_label_gradient,
    head_training_gradient,
    label_gradient,
    mslg_step,
    training_loss,
    trusted_rows_per_step,
)

B, M, K = 6, 5, 4
ALPHA = 0.7
REDUCTIONS = ["batchmean", "mean"]


def timm_model(name: str, **kwargs: object) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # timm scripts functions with torch.jit on import
        import timm

        return timm.create_model(name, num_classes=K, **kwargs)


def resnet() -> nn.Module:
    return timm_model("resnet18")


def vit(**kwargs: object) -> nn.Module:
    sizes = {"img_size": 32, "patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 2}
    return timm_model("vit_tiny_patch16_224", **sizes, **kwargs)


def convnet(dropout: float = 0.0) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.GroupNorm(2, 8),
        nn.SiLU(),
        nn.Dropout2d(dropout),
        nn.MaxPool2d(4),
        nn.Conv2d(8, 8, 3, padding=1, bias=False),
        nn.BatchNorm2d(8, affine=False),
        nn.Tanh(),
        nn.Flatten(),
        nn.Dropout(dropout),
        nn.Linear(8 * 8 * 8, K),
    )


def batch_norm() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2), nn.BatchNorm2d(8), nn.ReLU(),
        nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.BatchNorm1d(32), nn.Linear(32, K),
    )  # fmt: skip


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "resnet": resnet,
    "vit": vit,
    "convnet": convnet,
    "batch norm": batch_norm,
}

Batch = tuple[Tensor, Tensor, Tensor, Tensor]


def batch(dtype: torch.dtype = torch.float64) -> Batch:
    """Images (B, 3, 32, 32), label logits (B, K), trusted images (M, 3, 32, 32), trusted labels (M,)."""
    rows = torch.randn(B + M, 3, 32, 32, dtype=dtype)
    return rows[:B], 3 * torch.randn(B, K, dtype=dtype), rows[B:], torch.randint(K, (M,))


def network(name: str, *, train: bool = True, dtype: torch.dtype = torch.float64) -> nn.Module:
    """A network whose normalisation is away from its starting point, so that no term vanishes."""
    torch.manual_seed(0)
    model = NETWORKS[name]().to(dtype)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 1.5)
            if module.affine:
                nn.init.normal_(module.weight, 1.0, 0.2)
                nn.init.normal_(module.bias, 0.0, 0.2)
    return model.train(train)


def divergence(f: Tensor, label_logits: Tensor, reduction: str) -> Tensor:
    """`F.kl_div` as is, without its warning that 'mean' counts classes too."""
    total = F.kl_div(label_logits.log_softmax(-1), f, reduction="sum")
    return total / (f.numel() if reduction == "mean" else len(f))


def double_backward(model: nn.Module, images: Batch, *, reduction: str, alpha: float = ALPHA) -> Tensor:
    """dL_meta / dlabel_logits as the paper says it, written without anything of labelfix."""
    images_B, label_logits, trusted_images, trusted_labels = images
    label_logits = label_logits.clone().requires_grad_()
    names, weights = zip(*((n, p) for n, p in model.named_parameters() if p.requires_grad), strict=True)

    def logits(values: tuple[Tensor, ...], inputs: Tensor) -> Tensor:
        buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
        return functional_call(model, {**dict(zip(names, values, strict=True)), **buffers}, (inputs,))

    with sdpa_kernel(SDPBackend.MATH):
        f = logits(weights, images_B).softmax(-1)
        loss = divergence(f, label_logits, reduction)
        slopes = torch.autograd.grad(loss, weights, create_graph=True)
        ahead = tuple(w - alpha * g for w, g in zip(weights, slopes, strict=True))
        meta_loss = F.cross_entropy(logits(ahead, trusted_images), trusted_labels)
        return torch.autograd.grad(meta_loss, label_logits)[0]


def relative(value: Tensor, truth: Tensor) -> float:
    assert truth.abs().max() > 0, "a reference of zeros would let anything pass"
    return float((value - truth).norm() / truth.norm())


# ------------------------------------------------------------------------------------- the label gradient


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("name", NETWORKS)
def test_label_gradient_equals_double_backward(name: str, train: bool, reduction: str) -> None:
    model, data = network(name, train=train), batch()
    truth = double_backward(model, data, reduction=reduction)
    assert relative(label_gradient(model, *data, alpha=ALPHA, reduction=reduction), truth) < 1e-10
    assert relative(-truth, truth) > 1  # the measure itself sees a sign and a scale
    assert relative(truth / K, truth) > 0.1


def test_dropout_draws_one_mask_for_the_batch() -> None:
    model, data = convnet(dropout=0.5).double().train(), batch()
    torch.manual_seed(3)
    truth = double_backward(model, data, reduction="batchmean")  # draws twice: for the batch, for the trusted
    after = torch.rand(1)
    torch.manual_seed(3)
    gradient = label_gradient(model, *data, alpha=ALPHA)
    assert torch.rand(1) == after, "the random state advances by the two forward passes"
    assert relative(gradient, truth) < 1e-10
    assert relative(label_gradient(model, *data, alpha=ALPHA), truth) > 0.1  # another mask, another gradient


def test_stochastic_depth_draws_one_mask() -> None:
    torch.manual_seed(0)
    model, data = vit(drop_path_rate=0.5, proj_drop_rate=0.3).double().train(), batch()
    torch.manual_seed(3)
    truth = double_backward(model, data, reduction="batchmean")
    torch.manual_seed(3)
    assert relative(label_gradient(model, *data, alpha=ALPHA), truth) < 1e-10


def test_torch_attention_in_eval_mode_has_no_fast_path() -> None:
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(16, 2, 16, dropout=0.0, batch_first=True)
    model = nn.Sequential(nn.Unflatten(2, (4, 8)), nn.Flatten(1, 2), nn.Flatten(2), nn.Linear(256, 16), layer)
    model = nn.Sequential(model, nn.Flatten(), nn.Linear(12 * 16, K)).double().eval()
    data = batch()
    truth = double_backward(model, data, reduction="batchmean")
    assert relative(label_gradient(model, *data, alpha=ALPHA), truth) < 1e-10


def test_only_parameters_that_require_a_gradient_take_part() -> None:
    model, data = network("resnet"), batch()
    full = label_gradient(model, *data, alpha=ALPHA)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.startswith(("layer4", "fc")))
    truth = double_backward(model, data, reduction="batchmean")
    assert relative(label_gradient(model, *data, alpha=ALPHA), truth) < 1e-10
    assert relative(full, truth) > 1e-3


def test_label_gradient_leaves_the_model_alone() -> None:
    model, data = network("resnet"), batch()
    model.layer1.eval()  # mixed modes stay mixed
    before = copy.deepcopy(model.state_dict())
    modes = [module.training for module in model.modules()]
    with torch.no_grad():
        gradient = label_gradient(model, *data, alpha=ALPHA)
    assert not gradient.requires_grad
    torch.testing.assert_close(model.state_dict(), before, rtol=0, atol=0)
    assert all(p.grad is None and p.requires_grad for p in model.parameters())
    assert [module.training for module in model.modules()] == modes


def test_a_label_that_helps_rises() -> None:
    """One row, equal to the trusted row; by hand: f = (.5, .5), v = (-.5, .5), fdot = (-.25, .25)."""
    model = nn.Linear(1, 2, bias=False).double()
    nn.init.zeros_(model.weight)
    one, even = torch.ones(1, 1, dtype=torch.float64), torch.zeros(1, 2, dtype=torch.float64)
    gradient = label_gradient(model, one, even, one, torch.tensor([0]), alpha=2.0)
    torch.testing.assert_close(gradient, torch.tensor([[-0.5, 0.5]], dtype=torch.float64))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    result = mslg_step(model, optimizer, one, even, one, torch.tensor([0]), alpha=2.0, beta=3.0)
    torch.testing.assert_close(result.label_logits, torch.tensor([[1.5, -1.5]], dtype=torch.float64))


# ------------------------------------------------------------------------------------- finite differences


class _Identity(torch.autograd.Function):
    @staticmethod
    def forward(ctx: object, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: object, *slopes: Tensor) -> Tensor:
        return slopes[0]


class Opaque(nn.Module):
    """A network through an operator that has no forward mode."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Flatten(), nn.Linear(3 * 32 * 32, 16), nn.BatchNorm1d(16), nn.Tanh(), nn.Dropout(0.3)
        )
        self.last = nn.Linear(16, K)

    def forward(self, images: Tensor) -> Tensor:
        return self.last(_Identity.apply(self.body(images)))


def test_finite_difference_replaces_a_missing_forward_mode_and_says_so_once() -> None:
    torch.manual_seed(0)
    model, data = Opaque().double(), batch()
    torch.manual_seed(1)  # for the masks of dropout
    truth = double_backward(model, data, reduction="batchmean")
    torch.manual_seed(1)
    with pytest.warns(ForwardModeWarning, match="Opaque: .*finite differences"):
        gradient = label_gradient(model, *data, alpha=ALPHA)
    assert 0 < relative(gradient, truth) < 1e-7
    single = Opaque().float()
    single.load_state_dict(model.state_dict())
    torch.manual_seed(1)
    gradient = label_gradient(single, *(t.float() if t.is_floating_point() else t for t in data), alpha=ALPHA)
    assert relative(gradient.double(), truth) < 2e-2  # and no second warning: warnings are errors here


def test_other_faults_of_the_network_are_not_hidden() -> None:
    class Broken(nn.Linear):
        def forward(self, input: Tensor) -> Tensor:
            raise NotImplementedError("no such thing")

    with pytest.raises(NotImplementedError, match="no such thing"):
        label_gradient(
            Broken(4, K),
            torch.ones(B, 4),
            torch.zeros(B, K),
            torch.ones(M, 4),
            torch.zeros(M).long(),
            alpha=1,
        )


def test_fast_gradient_is_the_exact_one_for_a_short_look_ahead() -> None:
    data, optimizer_of = batch(), lambda model: torch.optim.SGD(model.parameters(), lr=0.0)
    labels = {}
    for schedule in (Schedule.EXACT, Schedule.FAST):
        model = network("convnet")
        step = mslg_step(model, optimizer_of(model), *data, alpha=1e-5, beta=1e5, schedule=schedule)
        labels[schedule] = step.label_logits - data[1]
    assert relative(labels[Schedule.FAST] / FAST_LABEL_INTERVAL, labels[Schedule.EXACT]) < 1e-3


# -------------------------------------------------------------------------------------------- whole steps


def take_steps(
    schedule: Schedule, name: str, *, steps: int = 3, reduction: str = "mean"
) -> tuple[nn.Module, Tensor, list[Tensor]]:
    model = network(name)
    images, label_logits, trusted_images, trusted_labels = batch()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-3)
    losses = []
    for _ in range(steps):
        result = mslg_step(
            model,
            optimizer,
            images,
            label_logits,
            trusted_images,
            trusted_labels,
            alpha=ALPHA,
            beta=50.0,
            gamma=0.3,
            reduction=reduction,
            schedule=schedule,
        )
        label_logits = result.label_logits
        assert result.meta_loss is not None
        losses += [result.train_loss, result.meta_loss]
    return model, label_logits, losses


@pytest.mark.parametrize("name", ["convnet", "vit"])
def test_reference_steps_equal_exact_steps(name: str) -> None:
    model, label_logits, losses = take_steps(Schedule.EXACT, name)
    truth, true_logits, true_losses = take_steps(Schedule.REFERENCE, name)
    assert relative(label_logits, true_logits) < 1e-10
    torch.testing.assert_close(losses, true_losses, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(model.state_dict(), truth.state_dict(), rtol=1e-9, atol=1e-11)


def test_steps_move_weights_and_labels_as_the_paper_says() -> None:
    data = batch()
    model, alone = network("convnet"), network("convnet")
    kwargs = {"alpha": ALPHA, "beta": 40.0, "gamma": 0.3, "reduction": "mean"}
    result = mslg_step(model, torch.optim.SGD(model.parameters(), lr=0.1), *data, **kwargs)

    new_logits = data[1] - 40.0 * double_backward(alone, data, reduction="mean")
    f = alone(data[0]).softmax(-1)
    loss = divergence(f, new_logits, "mean") - 0.3 * (f * f.log()).mean()
    loss.backward()
    torch.testing.assert_close(result.label_logits, new_logits, rtol=1e-9, atol=1e-10)
    torch.testing.assert_close(result.train_loss, loss.detach())
    for moved, parameter in zip(model.parameters(), alone.parameters(), strict=True):
        torch.testing.assert_close(moved.data, parameter.data - 0.1 * parameter.grad)


@pytest.mark.parametrize("schedule", Schedule)
def test_running_statistics_move_once_per_step(schedule: Schedule) -> None:
    images, label_logits, trusted_images, trusted_labels = batch()
    model, alone = network("convnet"), network("convnet")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    mslg_step(
        model,
        optimizer,
        images,
        label_logits,
        trusted_images,
        trusted_labels,
        alpha=1.0,
        beta=1.0,
        schedule=schedule,
    )
    alone(images)
    torch.testing.assert_close(dict(model.named_buffers()), dict(alone.named_buffers()), rtol=0, atol=0)
    assert int(model[6].num_batches_tracked) == 1


def test_fast_labels_rest_between_intervals() -> None:
    model, data = network("convnet"), batch()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    moved = []
    for epoch in range(2 * FAST_LABEL_INTERVAL):
        result = mslg_step(
            model, optimizer, *data, alpha=1.0, beta=100.0, schedule=Schedule.FAST, epoch=epoch
        )
        moved.append(not torch.equal(result.label_logits, data[1]))
        assert (result.meta_loss is not None) == moved[-1]
    assert moved == [epoch % FAST_LABEL_INTERVAL == 0 for epoch in range(2 * FAST_LABEL_INTERVAL)]


def test_fast_asks_for_fewer_trusted_rows() -> None:
    epochs = range(2 * FAST_LABEL_INTERVAL)
    for at_most, fast in ((0, 0), (32, 32), (128, FAST_TRUSTED_ROWS)):
        for schedule in (Schedule.EXACT, Schedule.REFERENCE):
            assert {trusted_rows_per_step(schedule, epoch, at_most) for epoch in epochs} == {at_most}
        asked = [trusted_rows_per_step(Schedule.FAST, epoch, at_most) for epoch in epochs]
        assert asked == [fast, 0] * FAST_LABEL_INTERVAL


def test_no_trusted_rows_are_needed_where_labels_rest() -> None:
    model, data = network("convnet"), batch()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    images, label_logits, trusted_images, trusted_labels = data
    result = mslg_step(
        model, optimizer, images, label_logits, trusted_images[:0], trusted_labels[:0],
        alpha=1.0, beta=100.0, schedule=Schedule.FAST, epoch=1,
    )  # fmt: skip
    assert result.meta_loss is None
    torch.testing.assert_close(result.label_logits, label_logits)


@pytest.mark.parametrize("name", ["mobilenetv3_small_050", "vit"])
def test_exact_trains_networks_that_double_backward_cannot(name: str) -> None:
    """MobileNetV3 has hardsigmoid, the ViT fused attention."""
    torch.manual_seed(0)
    model = vit(attn_drop_rate=0.1) if name == "vit" else timm_model(name)
    images, label_logits, trusted_images, trusted_labels = batch(torch.float32)
    start, losses = label_logits, []
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    for _ in range(4):
        result = mslg_step(
            model, optimizer, images, label_logits, trusted_images, trusted_labels, alpha=0.01, beta=1.0
        )
        label_logits = result.label_logits
        losses.append(result.train_loss)
    assert torch.stack(losses).isfinite().all()
    assert label_logits.isfinite().all()
    assert (label_logits != start).all()


def test_the_reference_says_that_a_network_has_no_double_backward() -> None:
    model = timm_model("mobilenetv3_small_050")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(SettingError, match=r"no double backward .*hardsigmoid.* Use exact"):
        mslg_step(model, optimizer, *batch(torch.float32), alpha=0.1, beta=1.0, schedule=Schedule.REFERENCE)


@pytest.mark.parametrize(
    ("schedule", "name"),
    [
        (Schedule.EXACT, "convnet"),
        (Schedule.EXACT, "batch norm"),
        (Schedule.EXACT, "vit"),
        (Schedule.FAST, "vit"),
    ],
)
def test_autocast_keeps_labels_in_float32_and_the_direction(schedule: Schedule, name: str) -> None:
    data, moves = batch(torch.float32), []
    for dtype in (None, torch.bfloat16):
        model = network(name, dtype=torch.float32)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
        result = mslg_step(
            model, optimizer, *data, alpha=0.1, beta=100.0, schedule=schedule, autocast_dtype=dtype
        )
        assert result.label_logits.dtype == result.train_loss.dtype == torch.float32
        moves.append((result.label_logits - data[1]).flatten())
    assert F.cosine_similarity(moves[0], moves[1], dim=0) > 0.97
    assert 0.9 < moves[0].norm() / moves[1].norm() < 1.1


@functorch_config.patch(donated_buffer=False)
def test_a_compiled_model_takes_its_own_forward_pass() -> None:
    images, *_ = data = batch()
    labels, calls = [], []

    def counted(graph: Any, inputs: Any) -> Any:
        calls.append(graph)
        return aot_eager(graph, inputs)

    for wrap in (lambda model: model, lambda model: torch.compile(model, backend=counted)):
        eager = network("convnet")
        model = wrap(eager)
        model(images).sum().backward()  # compiled with a plain backward pass, as in a warm-up
        optimizer = torch.optim.SGD(eager.parameters(), lr=0.1)
        labels.append(mslg_step(model, optimizer, *data, alpha=0.1, beta=9.0).label_logits)
    torch.testing.assert_close(labels[0], labels[1])
    assert len(calls) == 1


# ------------------------------------------------------------------------------------------ training loss


@pytest.mark.parametrize("gamma", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_training_loss(gamma: float, reduction: str) -> None:
    logits, label_logits = torch.randn(2, B, K, dtype=torch.float64) * 3
    f = logits.softmax(-1)
    entropy = -(f * f.log()).sum() / (B * K if reduction == "mean" else B)
    truth = divergence(f, label_logits, reduction) + gamma * entropy
    value = training_loss(logits, label_logits, gamma=gamma, reduction=reduction)
    torch.testing.assert_close(value, truth)


# ------------------------------------------------------------------------------------------------ the head


def heads(num_heads: int = 3, dim: int = 7) -> dict[str, Tensor]:
    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, dtype=torch.float64)

    return {
        "weight": normal(num_heads, dim, K),
        "bias": normal(num_heads, K),
        "features": normal(B, dim),
        "label_logits": 3 * normal(num_heads, B, K),
        "trusted_features": normal(M, dim),
        "trusted_labels": torch.randint(K, (M,)),
    }


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_head_equals_label_gradient_equals_double_backward(reduction: str) -> None:
    torch.manual_seed(0)
    parts = heads()
    gradient = head_label_gradient(**parts, alpha=ALPHA, reduction=reduction)
    for head in range(3):
        data = [parts["features"], parts["label_logits"][head]]
        data += [parts["trusted_features"], parts["trusted_labels"]]
        linear = nn.Linear(parts["features"].shape[1], K).double()
        linear.weight.data, linear.bias.data = parts["weight"][head].T, parts["bias"][head]
        truth = double_backward(linear, tuple(data), reduction=reduction)
        assert relative(label_gradient(linear, *data, alpha=ALPHA, reduction=reduction), truth) < 1e-10
        assert relative(gradient[head], truth) < 1e-10


@given(seed=st.integers(0, 10_000), reduction=st.sampled_from(REDUCTIONS))
def test_head_weight_zero_leaves_a_row_out(seed: int, reduction: str) -> None:
    torch.manual_seed(seed)
    parts = heads(num_heads=2)
    kwargs = {"alpha": ALPHA, "reduction": reduction}
    row_weights = torch.full((2, B), 2.0, dtype=torch.float64)
    trusted_weights = torch.full((2, M), 0.5, dtype=torch.float64)
    row_weights[:, 2], trusted_weights[:, -1] = 0.0, 0.0
    gradient = head_label_gradient(
        **parts, **kwargs, row_weights=row_weights, trusted_weights=trusted_weights
    )
    kept = [row for row in range(B) if row != 2]
    fewer = {"features": parts["features"][kept], "label_logits": parts["label_logits"][:, kept]}
    fewer |= {name: value[:-1] for name, value in parts.items() if name.startswith("trusted")}
    torch.testing.assert_close(gradient[:, kept], head_label_gradient(**{**parts, **fewer}, **kwargs))
    assert (gradient[:, 2] == 0).all()
    torch.testing.assert_close(gradient.sum(-1), torch.zeros(2, B, dtype=torch.float64), atol=1e-12, rtol=0)


def test_head_with_no_weight_at_all_stays_put() -> None:
    parts = heads(num_heads=2)
    trusted_weights = torch.tensor([[0.0] * M, [1.0] * M], dtype=torch.float64)
    gradient = head_label_gradient(**parts, alpha=ALPHA, trusted_weights=trusted_weights)
    assert (gradient[0] == 0).all()
    assert gradient[1].abs().min() > 0


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_head_training_gradient(reduction: str) -> None:
    torch.manual_seed(0)
    logits = torch.randn(2, B, K, dtype=torch.float64, requires_grad=True)
    label_logits = 3 * torch.randn(2, B, K, dtype=torch.float64)
    loss = sum(
        training_loss(logits[head], label_logits[head], gamma=0.3, reduction=reduction) for head in range(2)
    )
    (truth,) = torch.autograd.grad(loss, logits)
    gradient = head_training_gradient(logits.detach(), label_logits, gamma=0.3, reduction=reduction)
    assert relative(gradient, truth) < 1e-12


# ------------------------------------------------------------------------------------------------- faults


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"label_logits": torch.zeros(B + 1, K)}, "expected .B, K. with B = 6"),
        ({"label_logits": torch.zeros(B, K, dtype=torch.bfloat16)}, "float32 or wider"),
        ({"trusted_labels": torch.zeros(M)}, "expected int64"),
        ({"trusted_labels": torch.zeros(M, K).long()}, "one class per trusted image"),
        ({"reduction": "sum"}, "'batchmean' or 'mean'"),
    ],
)
def test_inputs_that_do_not_fit(change: dict[str, object], message: str) -> None:
    names = ("images", "label_logits", "trusted_images", "trusted_labels")
    arguments = dict(zip(names, batch(torch.float32), strict=True)) | {"alpha": 1.0} | change
    with pytest.raises(SettingError, match=message):
        label_gradient(convnet(), **arguments)


def test_a_frozen_model_is_a_fault() -> None:
    with pytest.raises(SettingError, match="no parameter requires a gradient"):
        label_gradient(convnet().requires_grad_(False), *batch(torch.float32), alpha=1.0)


def test_a_step_inside_autocast_is_a_fault() -> None:
    model = convnet()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with torch.autocast("cpu", torch.bfloat16), pytest.raises(SettingError, match="autocast_dtype"):
        mslg_step(model, optimizer, *batch(torch.float32), alpha=1.0, beta=1.0)
