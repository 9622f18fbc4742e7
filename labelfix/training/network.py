"""MSLG on one full network: the loop.

    warm-up    cross-entropy on the labels as they were given
    MSLG       `labelfix.mslg.mslg_step`: the labels of the batch move, then the weights

The labels live in one float32 store (P, K), addressed by image number, never by the place in a batch. All
that is random in an epoch follows from the seed, the fold and the epoch; the state that `NetworkTraining`
gives and takes holds the rest, so that a run that was stopped between two steps continues with the same
numbers: bit for bit on the CPU. On a GPU cuDNN is held to deterministic algorithms, but a few operators add in no
fixed order; there every soft label of a resumed run is within `GPU_TOLERANCE` of an undisturbed one.

Shape suffixes: P images, n images that train, B rows of the batch, M trusted rows of a step, K classes.
"""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from labelfix.errors import TrainingError
from labelfix.mslg import mslg_step, trusted_rows_per_step
from labelfix.settings import Reduction
from labelfix.system.hashing import random_seed
from labelfix.training.checkpoints import Stopped
from labelfix.training.epoch_log import EpochRow
from labelfix.training.epoch_metrics import EpochMetrics
from labelfix.training.learning_rate import learning_rate
from labelfix.training.network_task import NetworkTask, logits_of, predict

__all__ = ["GPU_TOLERANCE", "NetworkTraining"]

GPU_TOLERANCE = 0.01
STEPS_PER_CHECK_ON_GPU = 50  # looking at a number there waits for the device


@dataclass(frozen=True)
class _Batch:
    rows: Tensor  # (B,) image numbers that train
    meta: Tensor  # (M,) places among the trusted rows; empty during the warm-up

    def images(self, meta_rows: Tensor) -> Tensor:
        """Numbers of all images of the step, (B + M,)."""
        return torch.cat([self.rows, meta_rows[self.meta]])


class NetworkTraining:
    """One network in training, its labels, and how far it is.

    Parameters
    ----------
    model
        On the device of the task; maps (B, 3, S, S) to (B, K).
    task
        See there.
    """

    def __init__(self, model: nn.Module, task: NetworkTask):
        self.model = model
        self.task = task
        split, device, loop = task.split, task.device, task.loop
        self.rows_n = torch.from_numpy(split.train.astype(np.int64))
        self.meta_rows = torch.from_numpy(split.meta.astype(np.int64))
        self.meta_labels = torch.from_numpy(split.meta_labels.astype(np.int64)).to(device)
        start_n = torch.from_numpy(split.labels.astype(np.int64))
        self.start_P = torch.zeros(task.num_images, dtype=torch.int64)
        self.start_P[self.rows_n] = start_n
        self.start_P = self.start_P.to(device)
        self.fixed_P = torch.zeros(task.num_images, dtype=torch.bool, device=device)
        self.fixed_P[self.rows_n.to(device)] = torch.from_numpy(split.fixed.astype(bool)).to(device)
        self.label_logits_PK = loop.init_scale * F.one_hot(self.start_P, task.num_classes).float()
        self.optimizer = torch.optim.SGD(
            [p for p in model.parameters() if p.requires_grad],
            lr=loop.learning_rate,
            momentum=loop.momentum,
            weight_decay=loop.weight_decay,
        )
        num_rows = len(self.rows_n)
        # the last batch is no smaller than any may be
        self.steps_per_epoch = min(math.ceil(num_rows / loop.batch_size), num_rows // loop.least_batch)
        self.epoch = 0
        self.step = 0  # within the epoch
        self.history: list[EpochRow] = []
        self.learning_rate = 0.0  # of the last step
        self._metrics = EpochMetrics.start(self._most_probable())
        self._random_state: dict[str, Tensor] | None = None  # to go back to before the first step

    # ----------------------------------------------------------------------------------------------- the loop

    def run(
        self,
        *,
        save: Callable[[dict[str, Any]], None] = lambda state: None,
        stopping: Callable[[], bool] = lambda: False,
        watch: Callable[[EpochRow], None] = lambda row: None,
        count: Callable[[int, int, int], None] = lambda epoch, done, total: None,
        last_checkpoint: str = "",
    ) -> None:
        """Train to the end, from wherever the state is.

        Parameters
        ----------
        save
            Receives the state after every epoch, and before a stop.
        stopping
            Whether to stop; asked after every step.
        watch
            Receives every finished epoch, after it was saved.
        count
            Receives, after every step, the epoch from 1, how many of its steps are done, and of how many.
        last_checkpoint
            Where the last good state is, for the message when training fails.

        Raises
        ------
        TrainingError
            When the loss or the label logits are not finite numbers.
        Stopped
            When `stopping` said so; the state has been saved.
        """
        cuda = [self.task.device] if self.task.device.type == "cuda" else []
        with torch.random.fork_rng(cuda), _deterministic_convolutions():
            while self.epoch < self.task.loop.epochs:
                if self.step == 0:
                    self._start_epoch()
                else:
                    self._restore_random_state()
                began = time.perf_counter()
                batches = self._draw_epoch()[self.step :]
                first = self.step
                images = self.task.pixels.batches([batch.images(self.meta_rows) for batch in batches])
                for batch, pixels in zip(batches, images, strict=True):
                    self._take_step(batch, pixels)
                    self.step += 1
                    count(self.epoch + 1, self.step, self.steps_per_epoch)
                    if self.step % self._steps_per_check == 0:
                        self._check_finite(last_checkpoint, weights=False)
                    if stopping() and self.step < self.steps_per_epoch:
                        self._check_finite(last_checkpoint)
                        save(self.state())
                        raise Stopped
                self._check_finite(last_checkpoint)
                self._end_epoch(began, len(batches), first)
                save(self.state())
                watch(self.history[-1])
                if stopping():
                    raise Stopped

    def _take_step(self, batch: _Batch, pixels: Tensor) -> None:
        """One step on the batch: cross-entropy while warming up, then MSLG."""
        loop, rows_B = self.task.loop, batch.rows.to(self.task.device)
        self.learning_rate = learning_rate(
            self.epoch * self.steps_per_epoch + self.step,
            loop.epochs * self.steps_per_epoch,
            loop.learning_rate,
            self.task.full.learning_rate_schedule,
        )
        warm_up = self.epoch < loop.warmup_epochs
        steeper = 1.0 if warm_up or loop.reduction is Reduction.MEAN else loop.init_scale  # see NetworkConfig
        self.learning_rate /= steeper
        for group in self.optimizer.param_groups:
            group["lr"], group["weight_decay"] = self.learning_rate, loop.weight_decay * steeper
        self.model.train()
        images = self.task.augmentation(pixels)
        if warm_up:
            train_loss = self._cross_entropy_step(images, self.start_P[rows_B])
            self._metrics.add(self.step, train_loss, rows=len(rows_B), meta_loss=None, labels=None)
            return
        result = mslg_step(
            self.model,
            self.optimizer,
            images[: len(rows_B)],
            self.label_logits_PK[rows_B],
            images[len(rows_B) :],
            self.meta_labels[batch.meta.to(self.task.device)],
            fixed=self.fixed_P[rows_B],
            alpha=loop.alpha,
            beta=loop.beta,
            gamma=loop.gamma,
            reduction=loop.reduction,
            schedule=self.task.full.schedule,
            epoch=self.epoch - loop.warmup_epochs,
            autocast_dtype=self.task.autocast_dtype,
        )
        self.label_logits_PK[rows_B] = result.label_logits
        self._metrics.add(
            self.step,
            result.train_loss,
            rows=len(rows_B),
            meta_loss=result.meta_loss,
            labels=result.label_logits,
        )

    def _cross_entropy_step(self, images: Tensor, labels_B: Tensor) -> Tensor:
        logits_BK = logits_of(self.model, images, self.task.autocast_dtype)
        loss = F.cross_entropy(logits_BK, labels_B)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss.detach()

    def _draw_epoch(self) -> list[_Batch]:
        """Shuffle the training rows into nearly equal batches, and choose the trusted rows of every step."""
        task = self.task
        generator = torch.Generator().manual_seed(random_seed(task.seed, task.fold, self.epoch, "order"))
        shuffled = self.rows_n[torch.randperm(len(self.rows_n), generator=generator)]
        epoch = self.epoch - task.loop.warmup_epochs
        at_most = min(task.loop.trusted_batch_size, len(self.meta_rows)) if epoch >= 0 else 0
        count = trusted_rows_per_step(task.full.schedule, epoch, at_most)
        return [
            _Batch(rows, torch.randperm(len(self.meta_rows), generator=generator)[:count])
            for rows in shuffled.tensor_split(self.steps_per_epoch)
        ]

    # ------------------------------------------------------------------------------------------------- epochs

    def _start_epoch(self) -> None:
        torch.manual_seed(random_seed(self.task.seed, self.task.fold, self.epoch, "masks and shifts"))
        self._metrics = EpochMetrics.start(self._most_probable())

    def _end_epoch(self, began: float, steps: int, first: int) -> None:
        task = self.task
        train_loss, meta_loss = self._metrics.losses
        seconds = time.perf_counter() - began
        probable_n = self._most_probable()
        given_n = self.start_P[self.rows_n.to(task.device)]
        row = EpochRow(
            fold=task.fold,
            epoch=self.epoch + 1,
            phase="warm-up" if self.epoch < task.loop.warmup_epochs else "mslg",
            learning_rate=self.learning_rate,
            train_loss=train_loss,
            meta_loss=meta_loss,
            labels_moved=int((probable_n != self._metrics.labels_before).sum()),
            agreement=float((probable_n == given_n).float().mean()),
            held_out_accuracy=self._held_out_accuracy(),
            images_per_second=len(self.rows_n) * steps / (steps + first) / max(seconds, 1e-9),
            seconds=time.perf_counter() - began,
        )
        self.history.append(row)
        self.epoch, self.step = self.epoch + 1, 0

    def _most_probable(self) -> Tensor:
        return self.label_logits_PK[self.rows_n.to(self.task.device)].argmax(1)

    def _held_out_accuracy(self) -> float:
        split = self.task.split
        if not len(split.held_out):
            return math.nan
        rows = torch.from_numpy(split.held_out.astype(np.int64))
        chunks = rows.split(self.task.loop.batch_size)
        probs = torch.cat([p.cpu() for p in predict(self.model, self.task, chunks)])
        return float((probs.argmax(1).numpy() == split.held_out_labels).mean())

    @property
    def _steps_per_check(self) -> int:
        return 1 if self.task.device.type == "cpu" else STEPS_PER_CHECK_ON_GPU

    def _check_finite(self, last_checkpoint: str, *, weights: bool = True) -> None:
        bad_step = int(self._metrics.bad_step)
        if bad_step < 0 and weights and not all(bool(p.isfinite().all()) for p in self.model.parameters()):
            bad_step = self.step - 1
        if bad_step < 0:
            return
        kept = f"after epoch {self.epoch} in {last_checkpoint}" if self.epoch and last_checkpoint else "none"
        raise TrainingError(
            f"training the network, fold {self.task.fold + 1}, epoch {self.epoch + 1}, step {bad_step + 1}: the "
            f"loss, the label logits or the weights are not finite numbers. Last good checkpoint: {kept}. Lower "
            "--learning-rate, --alpha or --beta and start over with --force."
        )

    # -------------------------------------------------------------------------------------------------- state

    def state(self) -> dict[str, Any]:
        """Return everything that a later `restore` needs, as tensors and plain values."""
        random_state = {"cpu": torch.get_rng_state()}
        if self.task.device.type == "cuda":
            random_state["cuda"] = torch.cuda.get_rng_state(self.task.device)
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "label_logits": self.label_logits_PK,
            "epoch": self.epoch,
            "step": self.step,
            "metrics": self._metrics.state(),
            "history": [asdict(row) for row in self.history],
            "random_state": random_state,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go back to a `state`."""
        device = self.task.device
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.label_logits_PK = state["label_logits"].to(device)
        self.epoch, self.step = state["epoch"], state["step"]
        self.history = [EpochRow(**row) for row in state["history"]]
        self._metrics = EpochMetrics.restore(state["metrics"], device)
        self._random_state = state["random_state"]

    def _restore_random_state(self) -> None:
        assert self._random_state is not None
        torch.set_rng_state(self._random_state["cpu"])
        if "cuda" in self._random_state and self.task.device.type == "cuda":
            torch.cuda.set_rng_state(self._random_state["cuda"], self.task.device)


@contextmanager
def _deterministic_convolutions() -> Iterator[None]:
    before = torch.backends.cudnn.deterministic
    torch.backends.cudnn.deterministic = True
    try:
        yield
    finally:
        torch.backends.cudnn.deterministic = before
