"""Evidence beside MSLG's, from classifiers on the same features and folds.

``given``: a softmax regression on the given labels alone, out of fold. It knows no trusted label, so it may serve
every fold.

In world f, the trusted rows outside fold f give a first posterior (from ``given``, a probe on trusted rows, and
the given label). It is the target of all rows, with the truth for the trusted ones outside fold f. Nothing in world
f has seen a trusted label of fold f. (The probe speaks for trusted rows of fold g in world f from a fit without the
folds f and g.) From these targets come

``retrained``: a softmax regression fitted to the targets of the rows outside fold f, which speaks for fold f.

``discriminant``: a linear discriminant in its place (`labelfix.discriminant`). The two err differently: one goes by
the rows between the classes, the other by their means, in which wrong labels average out.

``neighbours``: what the targets say of the nearest neighbours of a row of fold f, of `labelfix.votes`.

Training on the second posterior, of all this evidence, gained nothing on average over eleven data sets.

N rows with a given label, E extra trusted rows, P = N + E, M trusted rows, K classes, D features, F folds.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property, partial
from itertools import combinations

import numpy as np
import torch
from torch import Tensor

from labelfix.discriminant import fit_discriminant
from labelfix.evidence import Form, TrustedRows, fit_posterior
from labelfix.head import HeadData
from labelfix.posterior import predict_by_fold
from labelfix.progress import Progress
from labelfix.regression import Design, Rows, fit_softmax
from labelfix.transition import LOG_FLOOR, label_counts
from labelfix.votes import neighbour_votes

__all__ = ["Worlds", "regression_evidence"]

# The penalty is searched from the first on, upwards and then downwards, while held-out likelihood improves.
PENALTIES = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0)
FIRST_PENALTY = 10.0
PROBE_PENALTY = 3.0
SEARCH_STEPS, MORE_STEPS, PROBE_STEPS = 6, 8, 12
TEMPERATURES = tuple(2 ** (step / 2) for step in range(13))
SCORES_PER_CHUNK = 1 << 22
# Targets of all worlds are held at once; beyond this, there are none.
TARGET_BYTES = 4 << 30


def regression_evidence(
    data: HeadData, fold: np.ndarray, *, prior_rows: float, device: torch.device, progress: Progress
) -> dict[str, np.ndarray]:
    """Return probabilities (N, K) float32 by name: ``given`` and, where there are trusted pairs, the others.

    Parameters
    ----------
    data
        As the heads get it.
    fold
        (N,) the fold of each row with a given label, 0 to F - 1.
    prior_rows
        Strength of the transition matrix's prior in the first posterior.
    device
        Where torch computes.
    progress
        Receives how far the fits are.
    """
    ordered, order_N = data.in_hash_order()
    found = Worlds(ordered, fold[order_N], device).evidence(prior_rows, progress)
    back = np.argsort(order_N, kind="stable")
    return {name: probs_NK[back] for name, probs_NK in found.items()}


class Worlds:
    """Regressions cross-fitted over F folds: world f trains on the rows outside fold f and speaks for fold f.

    Rows are taken in the order they come in; `regression_evidence` sorts them by their hashes first.
    """

    def __init__(self, data: HeadData, fold_N: np.ndarray, device: torch.device):
        self.data = data
        self.fold_N = fold_N
        self.num_folds = int(fold_N.max()) + 1
        self.num_given = len(data.given)
        self.device = device
        chunk = max(256, min(8192, SCORES_PER_CHUNK // (self.num_folds * data.num_classes)))
        self.design = Design(data.features, chunk, device)
        fold_P = np.append(fold_N, np.full(len(data.trusted) - self.num_given, -1))  # extra rows have no fold
        self.fold_P = torch.from_numpy(fold_P.astype(np.int64)).to(device)
        self.inside_PF = (self.fold_P.unsqueeze(1) != torch.arange(self.num_folds, device=device)).float()
        self.gram_FDD = self._grams()

    def _grams(self) -> Tensor:
        """X^T X over the rows of each world: all rows but those of its fold."""
        width = self.design.width
        # one more than folds: the last is of the rows that are in none, fold -1
        by_fold_GDD = torch.zeros(self.num_folds + 1, width, width, device=self.device)
        for rows, inputs_BD in self.design.chunks():
            for fold in range(-1, self.num_folds):
                here_BD = inputs_BD[self.fold_P[rows] == fold]
                by_fold_GDD[fold] += here_BD.T @ here_BD
        return by_fold_GDD.sum(0) - by_fold_GDD[:-1]

    def evidence(self, prior_rows: float, progress: Progress) -> dict[str, np.ndarray]:
        """Return what `regression_evidence` returns, for the rows as they are ordered here."""
        with progress.stage("Fitting regressions", 4, "steps") as advance:
            given_NK = self.out_of_fold(self.given_targets())
            found = {"given": given_NK}
            advance(1)
            has_pairs = (self.data.trusted[: self.num_given] >= 0).any()
            if has_pairs and self.num_folds * given_NK.nbytes > TARGET_BYTES:
                size = f"{self.num_folds * given_NK.nbytes / 2**30:,.1f} GiB"
                progress.note(f"no evidence but the given labels and MSLG: the targets would take {size}.")
            elif has_pairs:
                targets_FNK = self.first_posteriors(given_NK, prior_rows)
                found["retrained"] = self.out_of_fold(targets_FNK)
                advance(1)
                found["discriminant"] = self.discriminant(targets_FNK)
                advance(1)
                found["neighbours"] = self.neighbour_votes(targets_FNK)
                advance(1)
        return found

    def given_targets(self) -> np.ndarray:
        """One-hot given labels, (1, N, K): the same in all worlds."""
        return np.eye(self.data.num_classes, dtype=np.float32)[self.data.given][None]

    def neighbour_votes(self, targets_FNK: np.ndarray) -> np.ndarray:
        """What the nearest neighbours of every row are thought to be in its world, (N, K)."""
        # both without the constant
        features = ((rows, inputs_BD[:, :-1]) for rows, inputs_BD in self.design.chunks())
        moments_DD = self.gram_FDD.sum(0)[:-1, :-1]
        return neighbour_votes(features, moments_DD, targets_FNK, self.fold_N)

    # -------------------------------------------------------------------------------------- cross-fitted fits

    def out_of_fold(self, targets_WNK: np.ndarray) -> np.ndarray:
        """Fit a regression in every world; return the probabilities (N, K) of all rows.

        Targets are those of each world, W = F, or the same for all, W = 1. Extra trusted rows take part with their
        truth in the former case alone.
        """
        rows = self._rows(targets_WNK)

        def attempt(penalty: float) -> tuple[np.ndarray, Tensor]:
            penalty_F = torch.full((self.num_folds,), penalty, device=self.device)
            weight_FDK = fit_softmax(rows, penalty=penalty_F, steps=SEARCH_STEPS)
            return self._held_out_losses(weight_FDK, targets_WNK)[0], weight_FDK

        penalty_F, weight_FDK = _search(attempt, self.num_folds)
        weight_FDK = fit_softmax(rows, penalty=penalty_F, steps=MORE_STEPS, start=weight_FDK)
        return self._probs(weight_FDK)

    def discriminant(self, targets_FNK: np.ndarray) -> np.ndarray:
        """Fit a discriminant to the targets of every world; return the probabilities (N, K) of all rows.

        With many features it is far too sure of itself: it speaks at the temperature at which it agrees best with
        the targets of the fold that it speaks for.
        """
        weight_FDK = fit_discriminant(self._rows(targets_FNK))
        losses_TF = self._held_out_losses(weight_FDK, targets_FNK, TEMPERATURES)
        best_F = weight_FDK.new_tensor(np.array(TEMPERATURES)[losses_TF.argmin(0)])
        return self._probs(weight_FDK / best_F.view(-1, 1, 1))

    def _rows(self, targets_WNK: np.ndarray) -> Rows:
        return Rows(
            chunks=lambda: self._chunks(targets_WNK),
            gram=self.gram_FDD,
            num_classes=self.data.num_classes,
        )

    def _chunks(self, targets_WNK: np.ndarray) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        for rows, inputs_BD in self.design.chunks():
            values = torch.from_numpy(targets_WNK[:, rows]).to(self.device).transpose(0, 1)
            inside_BF = self.inside_PF[rows]
            outside = len(inputs_BD) - len(values)  # extra rows in this chunk
            if outside:
                true_E = self.data.trusted[rows][-outside:]
                truth = np.eye(self.data.num_classes, dtype=np.float32)[true_E][:, None]
                truth_EWK = torch.from_numpy(truth).to(self.device).expand(-1, values.shape[1], -1)
                values = torch.cat([values, truth_EWK])
                if len(targets_WNK) == 1:
                    inside_BF = inside_BF.clone()
                    inside_BF[-outside:] = 0
            yield inputs_BD, values, inside_BF

    def _scores(self, weight_FDK: Tensor) -> Iterator[tuple[slice, Tensor]]:
        """Yield scores (B, K) of the rows with a given label, each from its own world."""
        flat_DX = weight_FDK.permute(1, 0, 2).flatten(1)
        for rows, inputs_BD in self.design.chunks():
            rows = slice(rows.start, min(rows.stop, self.num_given))
            count = rows.stop - rows.start
            if count > 0:
                scores_BFK = (inputs_BD[:count] @ flat_DX).view(count, self.num_folds, -1)
                own = self.fold_P[rows]
                yield rows, scores_BFK[torch.arange(count, device=self.device), own]

    def _probs(self, weight_FDK: Tensor) -> np.ndarray:
        """Probabilities (N, K) of the rows with a given label, each from its own world."""
        return np.concatenate(
            [score_BK.softmax(-1).cpu().numpy() for _, score_BK in self._scores(weight_FDK)]
        )

    def _held_out_losses(
        self, weight_FDK: Tensor, targets_WNK: np.ndarray, temperatures: Sequence[float] = (1.0,)
    ) -> np.ndarray:
        """Mean cross-entropy (T, F) of each fold to its targets, which its own trusted labels did not make.

        Scores are divided by each of T temperatures first.
        """
        total_TF = np.zeros((len(temperatures), self.num_folds))
        for rows, score_BK in self._scores(weight_FDK):
            fold_B = self.fold_N[rows]
            world_B = fold_B if len(targets_WNK) > 1 else 0
            target_BK = targets_WNK[world_B, np.arange(rows.start, rows.stop)]
            target_BK = torch.from_numpy(target_BK).to(self.device)
            for total_F, temperature in zip(total_TF, temperatures, strict=True):
                log_BK = (score_BK / temperature).log_softmax(-1)
                agreement_B = (target_BK * log_BK).sum(1, dtype=torch.float64)
                total_F -= np.bincount(fold_B, agreement_B.cpu().numpy(), self.num_folds)
        return total_TF / np.bincount(self.fold_N, minlength=self.num_folds)

    def probe(self) -> np.ndarray:
        """Probabilities (N, K) from a regression on the trusted rows alone, without those of the row's fold."""
        probs_NK = np.empty((self.num_given, self.data.num_classes), np.float32)
        for world in range(self.num_folds):
            inside = self.fold_N == world
            probs_NK[inside] = self._probes.everywhere(world, self.num_given)[inside]
        return probs_NK

    @cached_property
    def _probes(self) -> "_Probes":
        return _Probes(self.design, self.data, self.fold_P, self.num_folds)

    # ---------------------------------------------------------------------------------------- first posteriors

    def first_posteriors(self, given_NK: np.ndarray, prior_rows: float) -> np.ndarray:
        """Targets (F, N, K): in world f, the posterior that the trusted rows outside fold f give."""
        given, pairs = self.data.given, np.flatnonzero(self.data.trusted[: self.num_given] >= 0)
        true, fold = self.data.trusted[pairs].astype(np.int64), self.fold_N[pairs]
        counts = np.ones(len(pairs)) if self.data.trusted_count is None else self.data.trusted_count[pairs]
        soft_counts = label_counts(given_NK, given)
        targets_FNK = np.empty((self.num_folds, *given_NK.shape), np.float32)
        for world in range(self.num_folds):
            others = fold != world
            probe_NK = self._probes.everywhere(world, self.num_given)
            probe_MK = self._probes.nested(world, pairs, fold)
            logs = np.log(np.maximum(np.stack([given_NK[pairs], probe_MK]), LOG_FLOOR))
            trusted = TrustedRows(
                log_probs=logs,
                given=given[pairs].astype(np.int64),
                true=true,
                count=counts,
                fold=fold,
            ).only(others)
            fit = fit_posterior(trusted, soft_counts, Form((0, 1), local=True), prior_rows=prior_rows)
            one_fold = np.zeros(self.num_given, np.int32)
            targets_FNK[world] = predict_by_fold({0: fit}, [given_NK, probe_NK], given, one_fold)
            targets_FNK[world, pairs[others]] = np.eye(given_NK.shape[1], dtype=np.float32)[true[others]]
        return targets_FNK


class _Probes:
    """Softmax regressions on the trusted rows without one fold, or without two."""

    def __init__(self, design: Design, data: HeadData, fold_P: Tensor, num_folds: int):
        self.design = design
        self.rows = np.flatnonzero(data.trusted >= 0)
        self.left_out = [(f, f) for f in range(num_folds)] + list(combinations(range(num_folds), 2))
        inputs_MD = design.rows(torch.from_numpy(self.rows))
        fold_M = fold_P[torch.from_numpy(self.rows).to(fold_P.device)]
        inside_MW = torch.stack([(fold_M != f) & (fold_M != g) for f, g in self.left_out], dim=1).float()
        true_M = torch.from_numpy(data.trusted[self.rows].astype(np.int64)).to(design.device)
        targets_M1K = torch.nn.functional.one_hot(true_M, data.num_classes).float().unsqueeze(1)
        gram_WDD = torch.stack(
            [(inputs_MD * inside_MW[:, [w]]).T @ inputs_MD for w in range(len(self.left_out))]
        )
        rows = Rows(
            chunks=lambda: iter([(inputs_MD, targets_M1K, inside_MW)]),
            gram=gram_WDD,
            num_classes=data.num_classes,
        )
        penalty_W = torch.full((len(self.left_out),), PROBE_PENALTY, device=design.device)
        self.weight_WDK = fit_softmax(rows, penalty=penalty_W, steps=PROBE_STEPS)

    def everywhere(self, world: int, num_given: int) -> np.ndarray:
        """Probabilities (N, K) from the probe without fold `world`."""
        chunks = [
            (inputs_BD @ self.weight_WDK[world]).softmax(-1).cpu().numpy()
            for _, inputs_BD in self.design.chunks()
        ]
        return np.concatenate(chunks)[:num_given]

    def nested(self, world: int, rows: np.ndarray, fold: np.ndarray) -> np.ndarray:
        """Probabilities (M, K) of trusted rows, each from the probe without fold `world` and its own."""
        inputs_MD = self.design.rows(torch.from_numpy(rows))
        probs_MK = np.empty((len(rows), self.weight_WDK.shape[2]), np.float32)
        for own in np.unique(fold).tolist():
            here = torch.from_numpy(np.flatnonzero(fold == own)).to(inputs_MD.device)
            number = self.left_out.index((min(own, world), max(own, world)))
            scores_MK = inputs_MD[here] @ self.weight_WDK[number]
            probs_MK[fold == own] = scores_MK.softmax(-1).cpu().numpy()
        return probs_MK


def _search(attempt: Callable[[float], tuple[np.ndarray, Tensor]], num_worlds: int) -> tuple[Tensor, Tensor]:
    """Return each world's penalty (W,) with the least loss, from the first one up or down, and its weights.

    A world looks at its own losses alone, so that its choice knows nothing of what other worlds have seen.
    """
    tried: dict[int, tuple[np.ndarray, Tensor]] = {}

    def loss(world: int, number: int) -> float:
        if number not in tried:
            tried[number] = attempt(PENALTIES[number])
        return float(tried[number][0][world])

    chosen = [_least(partial(loss, world)) for world in range(num_worlds)]
    weight_WDK = torch.stack([tried[number][1][world] for world, number in enumerate(chosen)])
    return weight_WDK.new_tensor([PENALTIES[number] for number in chosen]), weight_WDK


def _least(loss: Callable[[int], float]) -> int:
    """Return the number of the penalty at which the loss stops falling, from the first one up, or else down."""
    first = best = PENALTIES.index(FIRST_PENALTY)
    for direction in (1, -1):
        while 0 <= best + direction < len(PENALTIES) and loss(best + direction) < loss(best):
            best += direction
        if best != first:
            break
    return best
