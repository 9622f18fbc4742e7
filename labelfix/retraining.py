"""Evidence beside MSLG's, from classifiers on the same features and folds.

``given``: a softmax regression on the given labels alone, out of fold. It knows no trusted label, so it may serve
every fold.

In world f, the trusted rows outside fold f give a first posterior (from ``given``, a probe on trusted rows, and
the given label). It is the target of all rows, with the truth for the trusted ones outside fold f. Nothing in world
f has seen a trusted label of fold f, and world f speaks for fold f. (The probe speaks for trusted rows of fold g in
world f from a fit without the folds f and g.) From these targets come

``retrained``: a softmax regression on the targets of the rows outside fold f.

``discriminant``: a linear discriminant on the targets of all other rows (`labelfix.discriminant`). The two err
differently: one goes by the rows between the classes, the other by their means, in which wrong labels average out.

``neighbours``: what the targets say of a row's nearest neighbours (`labelfix.votes`).

Training on the second posterior, of all this evidence, gained nothing on average over eleven data sets.

N rows with a given label, E extra trusted rows, P = N + E, M trusted rows, R rows of which the targets are kept, K
classes, D features, F folds.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property, partial
from itertools import combinations

import numpy as np
import torch
from torch import Tensor

from labelfix.discriminant import Discriminant
from labelfix.evidence import Form, Posterior, TrustedRows, fit_posterior
from labelfix.head import HeadData
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
# Targets are kept for all worlds at once, of as many rows as that allows: those are retrained on, and vote.
TARGET_BYTES = 4 << 30


def regression_evidence(
    data: HeadData, fold: np.ndarray, *, prior_rows: float | None, device: torch.device, progress: Progress
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
    """F worlds, one per fold: world f knows no trusted label of fold f, and speaks for fold f.

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
        # X^T X of all rows, and in every world without those of its fold
        self.gram_DD, self.gram_FDD = self._grams()

    def _grams(self) -> tuple[Tensor, Tensor]:
        width = self.design.width
        # one more than folds: the last is of the rows that are in none, fold -1
        by_fold_GDD = torch.zeros(self.num_folds + 1, width, width, device=self.device)
        for rows, inputs_BD in self.design.chunks():
            for fold in range(-1, self.num_folds):
                here_BD = inputs_BD[self.fold_P[rows] == fold]
                by_fold_GDD[fold] += here_BD.T @ here_BD
        gram_DD = by_fold_GDD.sum(0)
        return gram_DD, gram_DD - by_fold_GDD[:-1]

    def evidence(self, prior_rows: float | None, progress: Progress) -> dict[str, np.ndarray]:
        """Return what `regression_evidence` returns, for the rows as they are ordered here."""
        has_pairs = (self.data.trusted[: self.num_given] >= 0).any()
        with progress.stage("Fitting classifiers", 5 if has_pairs else 1, "steps") as advance:
            given_NK = self.out_of_fold(self.given_targets())
            found = {"given": given_NK}
            advance(1)
            if has_pairs:
                own_NK, kept_FRK, discriminants = self._repair(_Targets(self, given_NK, prior_rows))
                advance(1)
                found["retrained"] = self.out_of_fold(kept_FRK)
                advance(1)
                found["discriminant"] = self.discriminant(discriminants, own_NK)
                advance(1)
                found["neighbours"] = self.neighbour_votes(kept_FRK)
                advance(1)
        return found

    def given_targets(self) -> np.ndarray:
        """One-hot given labels, (1, N, K): the same in all worlds."""
        return np.eye(self.data.num_classes, dtype=np.float32)[self.data.given][None]

    def neighbour_votes(self, kept_FRK: np.ndarray) -> np.ndarray:
        """What the nearest neighbours of every row are thought to be in its world, (N, K), of the targets kept."""
        # without the constant
        features = ((rows, inputs_BD[:, :-1]) for rows, inputs_BD in self.design.chunks())
        return neighbour_votes(features, self.gram_DD[:-1, :-1], kept_FRK, self.fold_N)

    # ---------------------------------------------------------------------------------- fits to repaired labels

    def _repair(self, targets: "_Targets") -> tuple[np.ndarray, np.ndarray, list[Discriminant]]:
        """Return targets of all rows in their own worlds (N, K) and of some in all (F, R, K), and discriminants."""
        num_classes = self.data.num_classes
        kept = min(self.num_given, max(TARGET_BYTES // (4 * self.num_folds * num_classes), 1))
        own_NK = np.empty((self.num_given, num_classes), np.float32)
        kept_FRK = np.empty((self.num_folds, kept, num_classes), np.float32)
        sums_FDK = torch.zeros(self.num_folds, self.design.width, num_classes, dtype=torch.float64)
        for rows, inputs_BD, targets_FBK in targets.chunks():
            sums_FDK += (inputs_BD.T @ targets_FBK).cpu()
            fold_B = self.fold_N[rows]  # shorter than the chunk where extra rows follow
            given_FBK = targets_FBK[:, : len(fold_B)].cpu().numpy()
            own_NK[rows] = given_FBK[fold_B, np.arange(len(fold_B))]
            kept_FBK = kept_FRK[:, rows]
            kept_FBK[:] = given_FBK[:, : kept_FBK.shape[1]]
        discriminants = [Discriminant.fit(self.gram_DD, sums_DK) for sums_DK in sums_FDK]
        return own_NK, kept_FRK, discriminants

    def discriminant(self, discriminants: Sequence[Discriminant], own_NK: np.ndarray) -> np.ndarray:
        """Return the probabilities (N, K) that each row's discriminant gives it, without its own target `own_NK`.

        With many features it is far too sure of itself: it speaks at the temperature at which it agrees best with
        the targets of the fold that it speaks for.
        """
        probs_NK = np.empty_like(own_NK)  # scores at first
        for rows, inputs_BD in self.design.chunks():
            for fold, fitted in enumerate(discriminants):
                here_B = torch.nonzero(self.fold_P[rows] == fold).squeeze(1)
                row_B = rows.start + here_B.cpu().numpy()
                target_BK = torch.from_numpy(own_NK[row_B]).to(self.device)
                probs_NK[row_B] = fitted.scores(inputs_BD[here_B, :-1], target_BK).cpu().numpy()
        losses_TF = self._losses(self._in_chunks(probs_NK), own_NK, TEMPERATURES)
        temperature_F = np.array(TEMPERATURES, np.float32)[losses_TF.argmin(0)]
        for rows, score_BK in self._in_chunks(probs_NK):
            temperature_B1 = torch.from_numpy(temperature_F[self.fold_N[rows]]).to(self.device).unsqueeze(1)
            probs_NK[rows] = (score_BK / temperature_B1).softmax(-1).cpu().numpy()
        return probs_NK

    def _in_chunks(self, values_NK: np.ndarray) -> Iterator[tuple[slice, Tensor]]:
        for start in range(0, self.num_given, self.design.chunk):
            rows = slice(start, start + self.design.chunk)
            yield rows, torch.from_numpy(values_NK[rows]).to(self.device)

    # -------------------------------------------------------------------------------------- cross-fitted fits

    def out_of_fold(self, targets_WRK: np.ndarray) -> np.ndarray:
        """Fit a regression in every world; return the probabilities (N, K) of all rows.

        Targets are of the first R rows; those of each world, W = F, or the same for all, W = 1. In the former case,
        trusted rows beyond them, and extra ones, take part with their truth.
        """
        num_worlds, kept = targets_WRK.shape[:2]
        has_target_P = np.arange(len(self.data.trusted)) < kept
        if num_worlds > 1:
            has_target_P |= self.data.trusted >= 0
        inside_PF = self.inside_PF * torch.from_numpy(has_target_P).to(self.device).unsqueeze(1)
        rows = Rows(
            chunks=lambda: self._chunks(targets_WRK, inside_PF),
            gram=self.gram_FDD,
            num_classes=self.data.num_classes,
        )
        own_RK = targets_WRK[self.fold_N[:kept], np.arange(kept)] if num_worlds > 1 else targets_WRK[0]

        def attempt(penalty: float) -> tuple[np.ndarray, Tensor]:
            penalty_F = torch.full((self.num_folds,), penalty, device=self.device)
            weight_FDK = fit_softmax(rows, penalty=penalty_F, steps=SEARCH_STEPS)
            return self._losses(self._scores(weight_FDK), own_RK)[0], weight_FDK

        penalty_F, weight_FDK = _search(attempt, self.num_folds)
        weight_FDK = fit_softmax(rows, penalty=penalty_F, steps=MORE_STEPS, start=weight_FDK)
        return np.concatenate(
            [score_BK.softmax(-1).cpu().numpy() for _, score_BK in self._scores(weight_FDK)]
        )

    def _given_chunks(self) -> Iterator[tuple[slice, Tensor]]:
        """Yield the inputs (B, D + 1) of the rows with a given label."""
        for rows, inputs_BD in self.design.chunks():
            rows = slice(rows.start, min(rows.stop, self.num_given))
            if rows.stop > rows.start:
                yield rows, inputs_BD[: rows.stop - rows.start]

    def _chunks(self, targets_WRK: np.ndarray, inside_PF: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        for rows, inputs_BD in self.design.chunks():
            values = torch.from_numpy(targets_WRK[:, rows]).transpose(0, 1)
            beyond = self.data.trusted[rows][len(values) :]
            if len(beyond):  # the truth, where it is known; the others are outside
                truth = torch.from_numpy(np.eye(values.shape[2], dtype=np.float32)[beyond])
                values = torch.cat([values, truth.unsqueeze(1).expand(-1, values.shape[1], -1)])
            yield inputs_BD, values.to(self.device), inside_PF[rows]

    def _scores(self, weight_FDK: Tensor) -> Iterator[tuple[slice, Tensor]]:
        """Yield scores (B, K) of the rows with a given label, each from its own world."""
        flat_DX = weight_FDK.permute(1, 0, 2).flatten(1)
        for rows, inputs_BD in self._given_chunks():
            scores_BFK = (inputs_BD @ flat_DX).view(len(inputs_BD), self.num_folds, -1)
            yield rows, scores_BFK[torch.arange(len(inputs_BD), device=self.device), self.fold_P[rows]]

    def _losses(
        self,
        scores: Iterable[tuple[slice, Tensor]],
        targets_RK: np.ndarray,
        temperatures: Sequence[float] = (1.0,),
    ) -> np.ndarray:
        """Mean cross-entropy (T, F) of each fold to its targets, which its own trusted labels did not make.

        Scores are divided by each of T temperatures first. Rows from R on do not count.
        """
        total_TF = np.zeros((len(temperatures), self.num_folds))
        for rows, score_BK in scores:
            target_BK = torch.from_numpy(targets_RK[rows]).to(self.device)
            fold_B = self.fold_N[rows][: len(target_BK)]
            for total_F, temperature in zip(total_TF, temperatures, strict=True):
                log_BK = (score_BK[: len(target_BK)] / temperature).log_softmax(-1)
                agreement_B = (target_BK * log_BK).sum(1, dtype=torch.float64)
                total_F -= np.bincount(fold_B, agreement_B.cpu().numpy(), self.num_folds)
        return total_TF / np.maximum(np.bincount(self.fold_N[: len(targets_RK)], minlength=self.num_folds), 1)

    def probe(self) -> np.ndarray:
        """Probabilities (N, K) from a regression on the trusted rows alone, without those of the row's fold."""
        probs_NK = np.empty((self.num_given, self.data.num_classes), np.float32)
        for world in range(self.num_folds):
            inside = self.fold_N == world
            probs_NK[inside] = np.concatenate(
                [self.probes.probs(world, inputs_BD) for _, inputs_BD in self._given_chunks()]
            )[inside]
        return probs_NK

    @cached_property
    def probes(self) -> "_Probes":
        """Regressions on the trusted rows alone."""
        return _Probes(self.design, self.data, self.fold_P, self.num_folds)


class _Targets:
    """What every row is thought to be in every world: a first posterior, or the truth where that is known there."""

    def __init__(self, worlds: Worlds, given_NK: np.ndarray, prior_rows: float | None):
        self.worlds = worlds
        self.given_NK = given_NK
        soft_counts = label_counts(given_NK, worlds.data.given)
        self.fits = [self._fit(world, soft_counts, prior_rows) for world in range(worlds.num_folds)]

    def _fit(self, world: int, soft_counts: np.ndarray, prior_rows: float | None) -> Posterior:
        """Fit the first posterior on the trusted rows outside a fold."""
        data, fold_N = self.worlds.data, self.worlds.fold_N
        pairs = np.flatnonzero(data.trusted[: len(fold_N)] >= 0)
        probe_MK = self.worlds.probes.nested(world, pairs, fold_N[pairs])
        trusted = TrustedRows(
            log_probs=_logs(self.given_NK[pairs], probe_MK),
            given=data.given[pairs].astype(np.int64),
            true=data.trusted[pairs].astype(np.int64),
            count=np.ones(len(pairs)) if data.trusted_count is None else data.trusted_count[pairs],
            fold=fold_N[pairs],
        ).only(fold_N[pairs] != world)
        return fit_posterior(trusted, soft_counts, Form((0, 1), local=True), prior_rows=prior_rows)

    def chunks(self) -> Iterator[tuple[slice, Tensor, Tensor]]:
        """Yield rows with their inputs (B, D + 1) and targets (F, B, K), extra trusted rows included."""
        worlds, data = self.worlds, self.worlds.data
        for rows, inputs_BD in worlds.design.chunks():
            given = data.given[rows].astype(np.int64)  # shorter than the chunk where extra rows follow
            known, fold_B = data.trusted[rows], worlds.fold_P[rows].cpu().numpy()
            targets_FBK = np.zeros((worlds.num_folds, len(inputs_BD), data.num_classes), np.float32)
            for world, fit in enumerate(self.fits):
                probe_BK = worlds.probes.probs(world, inputs_BD[: len(given)])
                logs = _logs(self.given_NK[rows], probe_BK)
                targets_FBK[world, : len(given)] = fit.predict(list(logs), given)
                told = np.flatnonzero((known >= 0) & (fold_B != world))
                targets_FBK[world, told] = np.eye(data.num_classes, dtype=np.float32)[known[told]]
            yield rows, inputs_BD, torch.from_numpy(targets_FBK).to(worlds.device)


def _logs(*probs: np.ndarray) -> np.ndarray:
    return np.log(np.maximum(np.stack(probs), LOG_FLOOR))


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

    def probs(self, world: int, inputs_BD: Tensor) -> np.ndarray:
        """Probabilities (B, K) from the probe without fold `world`."""
        return (inputs_BD @ self.weight_WDK[world]).softmax(-1).cpu().numpy()

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
