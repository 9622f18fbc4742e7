"""The verdict stage: from predicted probabilities, given labels and trusted labels to a posterior per row.

`labelfix.evidence` holds the model, a conditional logit over kinds of evidence. Here it is cross-fitted: the
posterior of the rows of fold f, trusted or not, comes from a fit (transition matrix and weights) on the
trusted rows outside fold f. So the posteriors of trusted rows are held out, and they stand for the posteriors of
all other rows: both come from the same fits. Whatever a person is shown is measured on them. (As in all stacking,
evidence of the other folds may have seen trusted labels of fold f, and the weights with it; no row's own has.)

Numpy in, numpy out. N rows, K classes, M trusted rows, E kinds of evidence, F folds.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from labelfix.calibration import Estimate, calibration_estimates, share
from labelfix.config import VerdictConfig
from labelfix.errors import InputError
from labelfix.evidence import Posterior, TrustedRows, fit_average
from labelfix.folds import assign_folds
from labelfix.guarantees import Guarantee, find_guarantee
from labelfix.sampling import RANDOM_SAMPLE, row_counts
from labelfix.transition import LOG_FLOOR, NoiseMatrix, Transition, label_counts

__all__ = ["Action", "Estimate", "Guarantee", "NoiseMatrix", "Verdict", "verdict"]

ROWS_PER_CHUNK = 65536
OWN_FOLDS = 5
SAME_WEIGHT = 1e-6
PROBS, VOTES = "probs", "votes"


class Action:
    """What to do with a label: numbers into `Action.NAMES`."""

    NAMES = ("keep", "relabel", "review")
    KEEP, RELABEL, REVIEW = range(3)


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What is known about every row.

    Attributes
    ----------
    soft_label
        (N, K) float32, rows sum to 1: the posterior over the true class.
    predicted_label
        (N,) int32: its most probable class.
    confidence
        (N,) float32: the probability of `predicted_label`.
    label_score
        (N,) float32: the probability that the given label is right; lower is worse.
    is_label_issue
        (N,) bool: predicted_label differs from the given label.
    action
        (N,) int8 into `Action.NAMES`.
    noise_matrix
        The transition matrix with intervals.
    estimates
        ``noise_rate``, ``precision`` and ``recall`` of is_label_issue, ``accuracy`` of predicted_label,
        ``calibration_error``, ``log_loss`` and ``brier`` of the soft labels; each measured on trusted rows
        that did not fit it. Empty without trusted rows.
    per_class
        Class name -> ``noise_rate`` and ``precision`` among the rows that are given this class, ``recall``
        among the wrong labels of rows that truly are of it.
    weights
        What each kind of evidence counts for, averaged over the folds.
    classes
        (K,) class names.
    guarantee
        What is promised of the rows with action ``relabel``; None where no promise was asked for.
    held_out
        (M, K) float32: the posterior of the trusted rows, in the order they came in, under fits without them.
    """

    soft_label: np.ndarray
    predicted_label: np.ndarray
    confidence: np.ndarray
    label_score: np.ndarray
    is_label_issue: np.ndarray
    action: np.ndarray
    noise_matrix: NoiseMatrix
    estimates: dict[str, Estimate]
    per_class: dict[str, dict[str, Estimate]]
    weights: dict[str, float]
    classes: tuple[str, ...]
    guarantee: Guarantee | None = None
    held_out: np.ndarray | None = None


@dataclass(frozen=True)
class _Draws:
    """How rows were drawn: weight and draw (M,) of the trusted ones, frames (N,), and rows known otherwise (X,)."""

    weight: np.ndarray
    sample: np.ndarray
    frames: Mapping[int, np.ndarray]
    known_rows: np.ndarray
    known_sample: np.ndarray

    @property
    def trained(self) -> dict[int, int]:
        """By the number of a chosen draw, how many of its rows are known otherwise."""
        draws, counts = np.unique(self.known_sample, return_counts=True)
        return {d: n for d, n in zip(draws.tolist(), counts.tolist(), strict=True) if d != RANDOM_SAMPLE}

    def framed(self, trusted: np.ndarray, others: np.ndarray) -> dict[int, tuple[np.ndarray, np.ndarray]]:
        """Return which of some rows are in the frame of each draw, as far as any row of it has a trusted label."""
        verified = {*self.sample.tolist(), *self.trained}
        return {d: (frame[trusted], frame[others]) for d, frame in self.frames.items() if d in verified}


def verdict(
    probs: np.ndarray,
    labels: np.ndarray,
    trusted_rows: np.ndarray,
    trusted_labels: np.ndarray,
    *,
    classes: Sequence[str] | None = None,
    folds: np.ndarray | None = None,
    evidence: Mapping[str, np.ndarray] | None = None,
    votes: np.ndarray | None = None,
    trusted_weights: np.ndarray | None = None,
    trusted_samples: np.ndarray | None = None,
    trusted_frames: Mapping[int, np.ndarray] | None = None,
    known_rows: np.ndarray | None = None,
    known_samples: np.ndarray | None = None,
    config: VerdictConfig | None = None,
) -> Verdict:
    """Judge every label from out-of-fold probabilities and a few trusted labels.

    Parameters
    ----------
    probs
        (N, K) out-of-fold class probabilities; rows sum to 1.
    labels
        (N,) given labels, integers from 0 to K - 1.
    trusted_rows
        (M,) row numbers whose true class is known; may be empty.
    trusted_labels
        (M,) their true classes.
    classes
        (K,) class names; None takes the numbers.
    folds
        (N,) folds: the posterior of a row is fitted on the trusted rows of the other folds. None draws five
        from the content of the rows, so that their order does not matter.
    evidence
        More probabilities (N, K) by name. A trusted row's own trusted label must have had no part in its
        probabilities; nor may that of another row of its fold, for exact estimates.
    votes
        (N, K) how likely all labels of a row are under each true class, where several annotators gave some:
        `labelfix.annotators.vote_likelihood`. It takes the place of the transition matrix where it fits better.
    trusted_weights
        (M,) above 0: 1 / probability of having been chosen for verification, or in proportion to that where there
        is one draw; None says that the trusted rows are a random sample.
    trusted_samples
        (M,) integers: which draw each trusted row comes from, where there were several; 0 is a random sample.
        None takes all for one draw, chosen by the weights if there are any.
    trusted_frames
        Draw number -> (N,) bool: the rows that the draw was from, all with the same chance, as far as they had no
        trusted label then. Whether a row is inside must not depend on its truth, which a held-out confidence does
        not, but the confidence of a trusted row does. A promise may then be about the fixes inside one or more of
        the frames alone. Where every draw but the random sample has one, a promise assumes nothing about the
        errors. They need `trusted_weights`, which are equal inside a frame.
    known_rows
        (X,) row numbers, other than the trusted rows, whose truth is known but had a part in `probs`: nothing is
        measured on them, and no promise counts them as fixes.
    known_samples
        (X,) integers: which draw each of them comes from; None takes the random sample.
    config
        Smoothing and coverage of the intervals.

    Raises
    ------
    InputError
        When shapes disagree, a label is out of range, or a row of `probs` is not a distribution.
    """
    config = config or VerdictConfig()
    labels = _check_labels(probs, labels)
    sources = {PROBS: _check_probs(PROBS, probs, probs.shape)}
    sources |= {name: _check_probs(name, value, probs.shape) for name, value in (evidence or {}).items()}
    if votes is not None:
        sources[VOTES] = _check_probs(VOTES, votes, probs.shape)
    rows, true = _check_trusted(trusted_rows, trusted_labels, probs.shape)
    weight, sample, frames = _check_weights(
        trusted_weights, trusted_samples, trusted_frames, rows, len(labels)
    )
    known, known_sample = _check_known(known_rows, known_samples, rows, len(labels))
    draws = _Draws(weight, sample, frames, known, known_sample)
    names = tuple(str(c) for c in classes) if classes is not None else tuple(map(str, range(probs.shape[1])))
    if len(names) != probs.shape[1]:
        raise InputError(f"classes: names {len(names)} classes; probs has {probs.shape[1]} columns.")
    fold = _folds(sources[PROBS], labels, rows, true, folds)
    count = row_counts(weight, sample, len(labels))
    trusted = _gather(list(sources.values()), labels, rows, true, count, fold, VOTES in sources)
    soft_counts = label_counts(sources[PROBS], labels)
    fits = fit_by_fold(trusted, soft_counts, np.unique(fold), config.prior_rows)
    posterior = predict_by_fold(fits, list(sources.values()), labels, fold)
    held_out = posterior[rows]
    posterior[rows] = np.eye(probs.shape[1], dtype=np.float32)[true]
    return _finish(
        posterior, held_out, labels, trusted, rows, draws, fits, soft_counts, tuple(sources), names, config
    )


# ----------------------------------------------------------------------------------------------------- checks


def _check_labels(probs: np.ndarray, labels: np.ndarray) -> np.ndarray:
    probs, labels = np.asarray(probs), np.asarray(labels)
    if probs.ndim != 2 or probs.shape[1] < 2:
        raise InputError(f"probs: has shape {probs.shape}; expected (N, K) with at least two classes.")
    if labels.shape != probs.shape[:1]:
        raise InputError(f"labels: has shape {labels.shape}; expected ({len(probs)},), one per row of probs.")
    if not np.issubdtype(labels.dtype, np.integer):
        raise InputError(
            f"labels: are of type {labels.dtype}; expected integers from 0 to {probs.shape[1] - 1}."
        )
    wrong = np.flatnonzero((labels < 0) | (labels >= probs.shape[1]))
    if len(wrong):
        raise InputError(
            [
                f"labels, row {i + 1}: got {labels[i]}; expected 0 to {probs.shape[1] - 1}."
                for i in wrong[:10]
            ],
            len(wrong),
        )
    return labels.astype(np.int64)


def _check_probs(name: str, probs: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    probs = np.asarray(probs)
    if probs.shape != shape:
        raise InputError(f"{name}: has shape {probs.shape}; expected {shape}, as probs has.")
    for start in range(0, len(probs), ROWS_PER_CHUNK):
        chunk = probs[start : start + ROWS_PER_CHUNK]
        totals = chunk.sum(1, dtype=np.float64)
        wrong = np.flatnonzero(~(np.abs(totals - 1) < 1e-2) | ~(chunk.min(1) >= 0))
        if len(wrong):
            raise InputError(
                [
                    f"{name}, row {start + i + 1}: sums to {totals[i]:g}, least value {chunk[i].min():g}; expected "
                    "probabilities that sum to 1. Apply a softmax to logits first."
                    for i in wrong[:10]
                ],
                len(wrong),
            )
    return probs


def _check_trusted(
    rows: np.ndarray, labels: np.ndarray, shape: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """Return trusted rows and labels, both (M,)."""
    rows, labels = np.asarray(rows, np.int64).reshape(-1), np.asarray(labels, np.int64).reshape(-1)
    if len(rows) != len(labels):
        raise InputError(
            f"trusted_labels: {len(labels)} labels for {len(rows)} trusted rows; expected one each."
        )
    if len(np.unique(rows)) != len(rows):
        raise InputError("trusted_rows: a row is named twice; expected every row once.")
    for name, values, limit in (("trusted_rows", rows, shape[0]), ("trusted_labels", labels, shape[1])):
        if len(values) and not (values.min() >= 0 and values.max() < limit):
            raise InputError(
                f"{name}: values from {values.min()} to {values.max()}; expected 0 to {limit - 1}."
            )
    return rows, labels


def _check_weights(
    weights: Any, samples: Any, frames: Any, rows: np.ndarray, num_rows: int
) -> tuple[np.ndarray, np.ndarray, dict[int, np.ndarray]]:
    """Return weight and draw of each trusted row, both (M,), and the frames, (num_rows,) bool by draw."""
    count = len(rows)
    if weights is None:
        for name, value in (("trusted_samples", samples), ("trusted_frames", frames)):
            if value is not None:
                raise InputError(f"{name}: came without trusted_weights; expected both, or none of them.")
        return np.ones(count), np.full(count, RANDOM_SAMPLE), {}
    weight = _array("trusted_weights", weights)
    if (
        weight.shape != (count,)
        or weight.dtype.kind not in "iuf"
        or not (np.isfinite(weight) & (weight > 0)).all()
    ):
        raise InputError(
            f"trusted_weights: shape {weight.shape}, type {weight.dtype}, for {count} trusted rows; expected one "
            "finite number above 0 each. Leave them out for a random sample."
        )
    sample = np.full(count, RANDOM_SAMPLE + 1) if samples is None else _array("trusted_samples", samples)
    if sample.shape != (count,) or not np.issubdtype(sample.dtype, np.integer):
        raise InputError(
            f"trusted_samples: shape {sample.shape}, type {sample.dtype}, for {count} trusted rows; expected "
            "one integer each. Leave them out where all come from one draw."
        )
    plain = weight[sample == RANDOM_SAMPLE]
    if len(plain) and np.ptp(plain) > 0:
        raise InputError(
            f"trusted_samples: draw {RANDOM_SAMPLE} is a simple random sample, but its weights run from "
            f"{plain.min():g} to {plain.max():g}. Number draws that go by weights from {RANDOM_SAMPLE + 1} on."
        )
    checked = _check_frames({} if frames is None else frames, num_rows)
    for draw, frame in checked.items():
        inside = weight[(sample == draw) & frame[rows]]
        if len(inside) and np.ptp(inside) > SAME_WEIGHT * inside.max():
            raise InputError(
                f"trusted_frames: inside the frame of draw {draw}, weights run from {inside.min():g} to "
                f"{inside.max():g}; expected one for all, because all had the same chance. Give other draws "
                "another number, or leave the frame out."
            )
    return weight.astype(np.float64), sample, checked


def _check_frames(frames: Any, num_rows: int) -> dict[int, np.ndarray]:
    if not isinstance(frames, Mapping):
        raise InputError(
            f"trusted_frames: is a {type(frames).__name__}; expected a mapping from draws to rows."
        )
    checked = {}
    for draw, rows in frames.items():
        frame = _array(f"trusted_frames[{draw!r}]", rows)
        if isinstance(draw, bool) or not isinstance(draw, (int, np.integer)) or draw == RANDOM_SAMPLE:
            raise InputError(
                f"trusted_frames: there is a frame of draw {draw!r}; expected integers other than {RANDOM_SAMPLE}, "
                "the random sample, which is from all rows."
            )
        if frame.shape != (num_rows,) or frame.dtype != np.bool_:
            raise InputError(
                f"trusted_frames: that of draw {draw} has shape {frame.shape}, type {frame.dtype}; expected bool "
                f"of shape ({num_rows},)."
            )
        checked[int(draw)] = frame
    return checked


def _array(name: str, value: Any) -> np.ndarray:
    try:
        return np.asarray(value)
    except (TypeError, ValueError) as error:
        raise InputError(f"{name}: is no array ({error}); expected one.") from None


def _check_known(
    known: np.ndarray | None, samples: np.ndarray | None, trusted_rows: np.ndarray, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows that are known otherwise, and the draw of each, both (X,)."""
    known = np.asarray([] if known is None else known, np.int64).reshape(-1)
    if len(known) and not (known.min() >= 0 and known.max() < count):
        raise InputError(
            f"known_rows: values from {known.min()} to {known.max()}; expected 0 to {count - 1}."
        )
    if np.isin(known, trusted_rows).any():
        raise InputError("known_rows: a row is among the trusted rows too; expected it in one of the two.")
    sample = np.full(len(known), RANDOM_SAMPLE) if samples is None else np.asarray(samples).reshape(-1)
    if len(sample) != len(known) or not np.issubdtype(sample.dtype, np.integer):
        raise InputError(
            f"known_samples: {len(sample)} values of type {sample.dtype} for {len(known)} known rows; expected one "
            "integer each."
        )
    return known, sample


# ------------------------------------------------------------------------------------------------ cross-fitting


def _folds(
    probs: np.ndarray, labels: np.ndarray, rows: np.ndarray, true: np.ndarray, folds: np.ndarray | None
) -> np.ndarray:
    """Return the fold (N,) of every row; without trusted rows all are in one."""
    if not len(rows):
        return np.zeros(len(labels), np.int32)
    if folds is not None and len(np.unique(np.asarray(folds)[rows])) > 1:
        return np.asarray(folds)
    strata = np.full(len(labels), -1)
    strata[rows] = true
    return assign_folds(_content_hashes(probs, labels), strata, OWN_FOLDS)


def _content_hashes(probs: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return a 64-bit hash (N,) of the content of every row, in float32."""
    factors = np.random.default_rng(0).integers(2**63, size=probs.shape[1], dtype=np.uint64) | np.uint64(1)
    hashes = np.empty(len(labels), np.uint64)
    for start in range(0, len(labels), ROWS_PER_CHUNK):
        chunk = np.ascontiguousarray(probs[start : start + ROWS_PER_CHUNK], np.float32)
        mixed = (chunk.view(np.uint32) * factors).sum(1, dtype=np.uint64)
        mixed += labels[start : start + ROWS_PER_CHUNK].astype(np.uint64)
        for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):  # splitmix64
            mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
        hashes[start : start + ROWS_PER_CHUNK] = mixed ^ (mixed >> np.uint64(31))
    return hashes


def _log(probs: np.ndarray) -> np.ndarray:
    return np.log(np.maximum(probs, LOG_FLOOR, dtype=np.float32))


def _gather(
    sources: Sequence[np.ndarray],
    labels: np.ndarray,
    rows: np.ndarray,
    true: np.ndarray,
    count: np.ndarray,
    fold: np.ndarray,
    votes: bool,
) -> TrustedRows:
    return TrustedRows(
        log_probs=np.stack([_log(probs[rows]) for probs in sources]),
        given=labels[rows],
        true=true,
        count=count,
        fold=fold[rows],
        votes=votes,
    )


def fit_by_fold(
    trusted: TrustedRows, soft_counts: np.ndarray, folds: np.ndarray, prior_rows: float | None
) -> dict[int, Posterior]:
    """Return one fit per fold, on the trusted rows outside it."""
    fits = {}
    for fold in folds.tolist():
        others = trusted.only(trusted.fold != fold)
        fits[fold] = fit_average(others, soft_counts, prior_rows=prior_rows)
    return fits


def predict_by_fold(
    fits: Mapping[int, Posterior], sources: Sequence[np.ndarray], labels: np.ndarray, fold: np.ndarray
) -> np.ndarray:
    """Return the posterior (N, K) float32 of every row under the fit of its fold, in chunks of rows."""
    posterior = np.empty(sources[0].shape, np.float32)
    for start in range(0, len(labels), ROWS_PER_CHUNK):
        chunk = slice(start, start + ROWS_PER_CHUNK)
        for number, fit in fits.items():
            rows = start + np.flatnonzero(fold[chunk] == number)
            used = [_log(probs[rows]) if fit.uses(e) else None for e, probs in enumerate(sources)]
            posterior[rows] = fit.predict(used, labels[rows])
    return posterior


# ----------------------------------------------------------------------------------------------- what is shown


def _estimates(trusted: TrustedRows, held_out: np.ndarray, coverage: float) -> dict[str, Estimate]:
    if not len(trusted):
        return {}
    predicted = held_out.argmax(1)
    wrong, flagged = trusted.given != trusted.true, predicted != trusted.given
    everything = np.ones(len(trusted), bool)
    return {
        "noise_rate": _share(wrong, everything, trusted, coverage),
        "precision": _share(wrong, flagged, trusted, coverage),
        "recall": _share(flagged, wrong, trusted, coverage),
        "accuracy": _share(predicted == trusted.true, everything, trusted, coverage),
        **calibration_estimates(held_out, trusted.true, trusted.count, coverage),
    }


def _share(hits: np.ndarray, among: np.ndarray, trusted: TrustedRows, coverage: float) -> Estimate:
    """Estimate the share of `hits` (M,) bool in the set that `among` (M,) bool marks."""
    return share(hits[among], trusted.count[among], coverage)


def _per_class(
    trusted: TrustedRows, held_out: np.ndarray, classes: tuple[str, ...], coverage: float
) -> dict[str, dict[str, Estimate]]:
    found: dict[str, dict[str, Estimate]] = {}
    wrong, flagged = trusted.given != trusted.true, held_out.argmax(1) != trusted.given
    for k, name in enumerate(classes if len(trusted) else ()):
        given = trusted.given == k
        found[name] = {
            "noise_rate": _share(wrong, given, trusted, coverage),
            "precision": _share(wrong, given & flagged, trusted, coverage),
            "recall": _share(flagged, wrong & (trusted.true == k), trusted, coverage),
        }
    return found


def _noise_matrix(trusted: TrustedRows, soft_counts: np.ndarray, config: VerdictConfig) -> NoiseMatrix:
    counts = np.zeros(soft_counts.shape, np.int64)
    np.add.at(counts, (trusted.true, trusted.given), 1)
    whole = Transition.fit(trusted.true, trusted.given, trusted.count, soft_counts, config.prior_rows)
    return whole.with_intervals(config.interval, counts)


def _mean_weights(fits: Mapping[int, Posterior], names: Sequence[str]) -> dict[str, float]:
    mean = np.mean([fit.weights for fit in fits.values()], axis=0)
    titles = [*names, "transition", "given_label", "given_label_score", "best_score"]
    return {title: round(float(value), 6) for title, value in zip(titles, mean, strict=False)}


def _finish(
    posterior: np.ndarray,
    held_out: np.ndarray,
    labels: np.ndarray,
    trusted: TrustedRows,
    trusted_rows: np.ndarray,
    draws: _Draws,
    fits: Mapping[int, Posterior],
    soft_counts: np.ndarray,
    sources: tuple[str, ...],
    classes: tuple[str, ...],
    config: VerdictConfig,
) -> Verdict:
    rows = np.arange(len(labels))
    predicted = posterior.argmax(1).astype(np.int32)
    issue = predicted != labels
    confidence = posterior[rows, predicted]
    action = np.where(issue, Action.REVIEW, Action.KEEP).astype(np.int8)
    guarantee = _guarantee(trusted, held_out, confidence, issue, trusted_rows, draws, config)
    if guarantee is not None and guarantee.threshold is not None:
        fixed = issue & (confidence >= guarantee.threshold)
        for draw in guarantee.frames:
            fixed &= draws.frames[draw]
        action[fixed] = Action.RELABEL
    action[trusted_rows[issue[trusted_rows]]] = Action.RELABEL
    return Verdict(
        soft_label=posterior,
        predicted_label=predicted,
        confidence=confidence,
        label_score=posterior[rows, labels],
        is_label_issue=issue,
        action=action,
        noise_matrix=_noise_matrix(trusted, soft_counts, config),
        estimates=_estimates(trusted, held_out, config.interval),
        per_class=_per_class(trusted, held_out, classes, config.interval),
        weights=_mean_weights(fits, sources),
        classes=classes,
        guarantee=guarantee,
        held_out=held_out,
    )


def _guarantee(
    trusted: TrustedRows,
    held_out: np.ndarray,
    confidence: np.ndarray,
    issue: np.ndarray,
    trusted_rows: np.ndarray,
    draws: _Draws,
    config: VerdictConfig,
) -> Guarantee | None:
    """Return what can be promised; `confidence` and `issue` (N,) are of all rows, `held_out` (M, K)."""
    if config.max_fix_error is None:
        return None
    predicted = held_out.argmax(1)
    flagged = predicted != trusted.given
    others = issue.copy()
    others[trusted_rows] = others[draws.known_rows] = False
    known = len(draws.known_rows)
    return find_guarantee(
        held_out.max(1)[flagged],
        (predicted != trusted.true)[flagged],
        draws.weight[flagged],
        draws.sample[flagged],
        confidence[others],
        frames=draws.framed(trusted_rows[flagged], others),
        trained=draws.trained,
        trusted=int((draws.sample == RANDOM_SAMPLE).sum()),
        kept_share=len(trusted) / (len(trusted) + known) if known else 1.0,
        rows=len(issue) - len(trusted) - known,
        max_fix_error=config.max_fix_error,
        coverage=config.interval,
    )
