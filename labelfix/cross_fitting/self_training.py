"""Classifiers trained on pseudo-labels, cross-fitted: further evidence from the same features and folds.

``given``: a softmax regression on the given labels alone, out of fold. It uses no trusted label, so it serves every
fold.

For every fold f, the trusted rows outside f give a first posterior (from ``given``, a probe on trusted rows, and
the given label). It is the pseudo-label of all rows; trusted rows outside f have the truth instead. Predictions for
fold f use no trusted label of fold f (cross-fitting). (The probe of a trusted row of fold g, in the fit for fold f,
is fitted without the folds f and g.) From the pseudo-labels come

``retrained``: a softmax regression on the pseudo-labels of the rows outside fold f.

``discriminant``: LDA on the pseudo-labels of all other rows (`labelfix.cross_fitting.lda`). The two err
differently: one goes by the rows between the classes, the other by class means, in which wrong labels average out.

``neighbours``: k-NN with pseudo-labels (`labelfix.cross_fitting.knn`).

A second round, on the posterior of all this evidence, gained nothing on average over eleven data sets.

N rows with a given label, E extra trusted rows, P = N + E, M trusted rows, R rows whose pseudo-labels are kept, K
classes, D features, F folds, W fits.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property, partial

import numpy as np
import torch
from torch import Tensor

from labelfix.cross_fitting.knn import neighbour_votes
from labelfix.cross_fitting.lda import LDA
from labelfix.cross_fitting.probes import Probes
from labelfix.cross_fitting.softmax_regression import Design, FitRows, fit_softmax
from labelfix.stacking.conditional_logit import CandidateModel, Posterior, TrustedRows, fit_posterior
from labelfix.stacking.transition_matrix import LOG_FLOOR, label_counts
from labelfix.system.progress import Progress
from labelfix.training.linear_head import LabelledFeatures

__all__ = ["CrossFitter", "self_trained_predictions"]

# The penalty is searched from the first on, upwards and then downwards, while held-out likelihood improves.
PENALTIES = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0)
FIRST_PENALTY = 10.0
SEARCH_STEPS, MORE_STEPS = 6, 8
TEMPERATURES = tuple(2 ** (step / 2) for step in range(13))
SCORES_PER_CHUNK = 1 << 22
# Pseudo-labels are kept for all folds at once, of as many rows as that allows: these train and vote.
PSEUDO_LABEL_BYTES = 4 << 30


def self_trained_predictions(
    data: LabelledFeatures,
    fold: np.ndarray,
    *,
    prior_rows: float | None,
    device: torch.device,
    progress: Progress,
) -> dict[str, np.ndarray]:
    """Return probabilities (N, K) float32 by name: ``given`` and, where there are trusted pairs, the others.

    Parameters
    ----------
    data
        Features of N + E rows and what is known of their labels.
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
    predictions = CrossFitter(ordered, fold[order_N], device).predictions(prior_rows, progress)
    back = np.argsort(order_N, kind="stable")
    return {name: probs_NK[back] for name, probs_NK in predictions.items()}


class CrossFitter:
    """Fits one per fold: fit f uses no trusted label of fold f, and predicts fold f.

    FitRows are taken in the order they come in; `self_trained_predictions` sorts them by their hashes first.
    """

    def __init__(self, data: LabelledFeatures, fold_N: np.ndarray, device: torch.device):
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
        # X^T X of all rows, and for every fit without those of its fold
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

    def predictions(self, prior_rows: float | None, progress: Progress) -> dict[str, np.ndarray]:
        """Return what `self_trained_predictions` returns, for the rows as they are ordered here."""
        has_pairs = (self.data.trusted[: self.num_given] >= 0).any()
        with progress.stage("Fitting classifiers", 5 if has_pairs else 1, "steps") as advance:
            given_NK = self.out_of_fold(self.given_targets())
            predictions = {"given": given_NK}
            advance(1)
            if has_pairs:
                labeller = _PseudoLabeller(self, given_NK, prior_rows)
                pseudo_NK, pseudo_FRK, discriminants = self._pseudo_labels(labeller)
                advance(1)
                predictions["retrained"] = self.out_of_fold(pseudo_FRK)
                advance(1)
                predictions["discriminant"] = self.discriminant(discriminants, pseudo_NK)
                advance(1)
                predictions["neighbours"] = self.neighbour_votes(pseudo_FRK)
                advance(1)
        return predictions

    def given_targets(self) -> np.ndarray:
        """One-hot given labels, (1, N, K): the same for all fits."""
        return np.eye(self.data.num_classes, dtype=np.float32)[self.data.given][None]

    def neighbour_votes(self, pseudo_FRK: np.ndarray) -> np.ndarray:
        """Votes of the nearest neighbours of every row with their pseudo-labels for its fold, (N, K)."""
        # without the constant
        features = ((rows, inputs_BD[:, :-1]) for rows, inputs_BD in self.design.chunks())
        return neighbour_votes(features, self.gram_DD[:-1, :-1], pseudo_FRK, self.fold_N)

    # ------------------------------------------------------------------------------------ fits to pseudo-labels

    def _pseudo_labels(self, labeller: "_PseudoLabeller") -> tuple[np.ndarray, np.ndarray, list[LDA]]:
        """Return pseudo-labels of all rows for their own fold (N, K), of some for all (F, R, K), and LDA fits."""
        num_classes = self.data.num_classes
        kept = min(self.num_given, max(PSEUDO_LABEL_BYTES // (4 * self.num_folds * num_classes), 1))
        pseudo_NK = np.empty((self.num_given, num_classes), np.float32)
        pseudo_FRK = np.empty((self.num_folds, kept, num_classes), np.float32)
        sums_FDK = torch.zeros(self.num_folds, self.design.width, num_classes, dtype=torch.float64)
        for rows, inputs_BD, targets_FBK in labeller.chunks():
            sums_FDK += (inputs_BD.T @ targets_FBK).cpu()
            fold_B = self.fold_N[rows]  # shorter than the chunk where extra rows follow
            given_FBK = targets_FBK[:, : len(fold_B)].cpu().numpy()
            pseudo_NK[rows] = given_FBK[fold_B, np.arange(len(fold_B))]
            kept_FBK = pseudo_FRK[:, rows]
            kept_FBK[:] = given_FBK[:, : kept_FBK.shape[1]]
        discriminants = [LDA.fit(self.gram_DD, sums_DK) for sums_DK in sums_FDK]
        return pseudo_NK, pseudo_FRK, discriminants

    def discriminant(self, discriminants: Sequence[LDA], pseudo_NK: np.ndarray) -> np.ndarray:
        """Return LDA's probabilities (N, K) for every row, without the row's own pseudo-label in `pseudo_NK`.

        With many features LDA is overconfident: its scores are divided by the temperature under which the
        pseudo-labels of the fold that it predicts are likeliest.
        """
        probs_NK = np.empty_like(pseudo_NK)  # scores at first
        for rows, inputs_BD in self.design.chunks():
            for fold, fitted in enumerate(discriminants):
                here_B = torch.nonzero(self.fold_P[rows] == fold).squeeze(1)
                row_B = rows.start + here_B.cpu().numpy()
                target_BK = torch.from_numpy(pseudo_NK[row_B]).to(self.device)
                probs_NK[row_B] = fitted.scores(inputs_BD[here_B, :-1], target_BK).cpu().numpy()
        losses_TF = self._losses(self._in_chunks(probs_NK), pseudo_NK, TEMPERATURES)
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
        """Fit a regression per fold; return the probabilities (N, K) of all rows.

        Targets are of the first R rows: different for each fold, W = F, or the same for all, W = 1. In the former
        case, trusted rows beyond them, and extra ones, take part with their truth.
        """
        num_targets, kept = targets_WRK.shape[:2]
        has_target_P = np.arange(len(self.data.trusted)) < kept
        if num_targets > 1:
            has_target_P |= self.data.trusted >= 0
        inside_PF = self.inside_PF * torch.from_numpy(has_target_P).to(self.device).unsqueeze(1)
        rows = FitRows(
            chunks=lambda: self._chunks(targets_WRK, inside_PF),
            gram=self.gram_FDD,
            num_classes=self.data.num_classes,
        )
        target_RK = targets_WRK[self.fold_N[:kept], np.arange(kept)] if num_targets > 1 else targets_WRK[0]

        def attempt(penalty: float) -> tuple[np.ndarray, Tensor]:
            penalty_F = torch.full((self.num_folds,), penalty, device=self.device)
            weight_FDK = fit_softmax(rows, penalty=penalty_F, steps=SEARCH_STEPS)
            return self._losses(self._scores(weight_FDK), target_RK)[0], weight_FDK

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
        """Yield scores (B, K) of the rows with a given label, each from the fit of its fold."""
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
        """Mean cross-entropy (T, F) of each fold to its targets, which depend on none of its trusted labels.

        Scores are divided by each of T temperatures first. FitRows from R on do not count.
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
        for fold in range(self.num_folds):
            inside = self.fold_N == fold
            probs_NK[inside] = np.concatenate(
                [self.probes.probs(fold, inputs_BD) for _, inputs_BD in self._given_chunks()]
            )[inside]
        return probs_NK

    @cached_property
    def probes(self) -> Probes:
        """Regressions on the trusted rows alone."""
        return Probes(self.design, self.data, self.fold_P, self.num_folds)


class _PseudoLabeller:
    """Pseudo-labels of every row for every fold: a first posterior, or the truth, if trusted outside the fold."""

    def __init__(self, fitter: CrossFitter, given_NK: np.ndarray, prior_rows: float | None):
        self.fitter = fitter
        self.given_NK = given_NK
        soft_counts = label_counts(given_NK, fitter.data.given)
        self.fits = [self._fit(fold, soft_counts, prior_rows) for fold in range(fitter.num_folds)]

    def _fit(self, fold: int, soft_counts: np.ndarray, prior_rows: float | None) -> Posterior:
        """Fit the first posterior on the trusted rows outside a fold."""
        data, fold_N = self.fitter.data, self.fitter.fold_N
        pairs = np.flatnonzero(data.trusted[: len(fold_N)] >= 0)
        probe_MK = self.fitter.probes.nested(fold, pairs, fold_N[pairs])
        trusted = TrustedRows(
            log_probs=_logs(self.given_NK[pairs], probe_MK),
            given=data.given[pairs].astype(np.int64),
            true=data.trusted[pairs].astype(np.int64),
            count=np.ones(len(pairs)) if data.trusted_count is None else data.trusted_count[pairs],
            fold=fold_N[pairs],
        ).only(fold_N[pairs] != fold)
        model = CandidateModel((0, 1), local=True)
        return fit_posterior(trusted, soft_counts, model, prior_rows=prior_rows)

    def chunks(self) -> Iterator[tuple[slice, Tensor, Tensor]]:
        """Yield rows with their inputs (B, D + 1) and pseudo-labels (F, B, K), extra trusted rows included."""
        fitter, data = self.fitter, self.fitter.data
        for rows, inputs_BD in fitter.design.chunks():
            given = data.given[rows].astype(np.int64)  # shorter than the chunk where extra rows follow
            known, fold_B = data.trusted[rows], fitter.fold_P[rows].cpu().numpy()
            targets_FBK = np.zeros((fitter.num_folds, len(inputs_BD), data.num_classes), np.float32)
            for fold, fit in enumerate(self.fits):
                probe_BK = fitter.probes.probs(fold, inputs_BD[: len(given)])
                logs = _logs(self.given_NK[rows], probe_BK)
                targets_FBK[fold, : len(given)] = fit.predict(list(logs), given)
                true = np.flatnonzero((known >= 0) & (fold_B != fold))
                targets_FBK[fold, true] = np.eye(data.num_classes, dtype=np.float32)[known[true]]
            yield rows, inputs_BD, torch.from_numpy(targets_FBK).to(fitter.device)


def _logs(*probs: np.ndarray) -> np.ndarray:
    return np.log(np.maximum(np.stack(probs), LOG_FLOOR))


def _search(attempt: Callable[[float], tuple[np.ndarray, Tensor]], num_folds: int) -> tuple[Tensor, Tensor]:
    """Return each fit's penalty (F,) with the least loss, from the first one up or down, and its weights.

    A fit looks at its own losses alone, so that its choice depends on no trusted label of its fold.
    """
    tried: dict[int, tuple[np.ndarray, Tensor]] = {}

    def loss(fold: int, number: int) -> float:
        if number not in tried:
            tried[number] = attempt(PENALTIES[number])
        return float(tried[number][0][fold])

    chosen = [_least(partial(loss, fold)) for fold in range(num_folds)]
    weight_FDK = torch.stack([tried[number][1][fold] for fold, number in enumerate(chosen)])
    return weight_FDK.new_tensor([PENALTIES[number] for number in chosen]), weight_FDK


def _least(loss: Callable[[int], float]) -> int:
    """Return the number of the penalty at which the loss stops falling, from the first one up, or else down."""
    first = best = PENALTIES.index(FIRST_PENALTY)
    for direction in (1, -1):
        while 0 <= best + direction < len(PENALTIES) and loss(best + direction) < loss(best):
            best += direction
        if best != first:
            break
    return best
