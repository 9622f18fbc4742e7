"""The verdict stage: from predicted probabilities, given labels and trusted labels to a posterior per row.

The model is a conditional logit over kinds of evidence (`labelfix.stacking`). It is cross-fitted
(`labelfix.verdicts.posterior`): the posterior of a row of fold f, trusted or not, comes from a fit (transition
matrix and weights) on the trusted rows outside fold f. So the posteriors of trusted rows are held out, and they
have the same distribution as all others, because both come from the same fits. All estimates are measured on them.
As in all stacking, the evidence of other folds, and so the weights, may depend on trusted labels of fold f; the
evidence of a row never depends on its own.

Numpy in, numpy out. N rows, K classes, M trusted rows, E kinds of evidence, F folds.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum

import numpy as np

from labelfix.errors import InputError
from labelfix.inputs.design_weights import HAND_PICKED, RANDOM_SAMPLE, row_counts
from labelfix.inputs.random_draw import RandomDraw
from labelfix.risk_control.promise import Promise
from labelfix.settings import VerdictConfig
from labelfix.stacking.conditional_logit import Posterior, TrustedRows
from labelfix.stacking.transition_matrix import NoiseMatrix, Transition, label_counts
from labelfix.verdicts.calibration import calibration_estimates
from labelfix.verdicts.checks import (
    check_draw,
    check_groups,
    check_known,
    check_labels,
    check_probs,
    check_trusted,
    check_weights,
)
from labelfix.verdicts.estimates import Estimate, Population, estimates_per_class, rate_estimates
from labelfix.verdicts.posterior import (
    content_hashes,
    fit_by_fold,
    predict_by_fold,
    trusted_rows_of,
    verdict_folds,
)
from labelfix.verdicts.promises import PromisedRows, promise_of_fixes, promises_of_labels
from labelfix.verdicts.random_check import RandomCheck, SampleKind
from labelfix.verdicts.sampling import SamplingDesign, check_sample, one_per_group, post_stratified

__all__ = ["Action", "Estimate", "NoiseMatrix", "Promise", "RandomDraw", "Verdict", "verdict"]

PROBS, VOTES = "probs", "votes"
GIVEN = "given"  # the classifier on given labels alone, where the first one has seen trusted labels


class Action(IntEnum):
    """What to do with a label."""

    KEEP = 0
    RELABEL = 1
    REVIEW = 2


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The verdict on every row, and estimates of how well it holds.

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
        (N,) int8: an `Action` each.
    noise_matrix
        The transition matrix with intervals.
    estimates
        ``noise_rate``, ``precision`` and ``recall`` of is_label_issue, ``accuracy`` of predicted_label,
        ``calibration_gap`` (mean confidence minus accuracy), ``calibration_error``, ``log_loss`` and ``brier`` of
        the soft labels; each measured on trusted rows that did not fit it, with out-of-fold predictions of all
        others (`labelfix.verdicts.estimates`). Empty without trusted rows.
    per_class
        Class name -> ``noise_rate`` and ``precision`` among the rows that are given this class, ``recall``
        among the wrong labels of rows that truly are of it.
    weights
        The weight of each kind of evidence, averaged over the folds.
    classes
        (K,) class names.
    promises
        What is promised, a promise for each list; empty where none was asked for.
    promised, kept
        (N,) bool: rows whose predicted label may be taken unseen, by a promise of fixes or of all labels; and,
        where the latter was asked for, the rows to keep if all others are dropped.
    held_out
        (M, K) float32: the held-out posterior of the trusted rows, in their order.
    sample
        Whether the random sample looks like one; None without such rows. After an alarm, estimates are of the
        verified rows, and nothing is promised.
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
    promised: np.ndarray
    kept: np.ndarray
    promises: tuple[Promise, ...] = ()
    held_out: np.ndarray | None = None
    sample: RandomCheck | None = None


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
    trusted_draw: RandomDraw | None = None,
    known_rows: np.ndarray | None = None,
    known_samples: np.ndarray | None = None,
    groups: np.ndarray | None = None,
    strata: np.ndarray | None = None,
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
        (N,) folds: the posterior of a row is fitted on the trusted rows of the other folds. None assigns five folds
        by the content of the rows, whatever their order.
    evidence
        More probabilities (N, K) by name. They must not depend on a row's own trusted label; for exact estimates,
        on no trusted label of its fold.
    votes
        (N, K) likelihood of all labels of a row under each true class, where there are several annotators:
        `labelfix.verdicts.annotator_votes.vote_likelihood`. It replaces the transition matrix where it fits better.
    trusted_weights
        (M,) above 0: design weights, 1 / inclusion probability, or in proportion to that where there is one draw.
        None says that the trusted rows are a simple random sample.
    trusted_samples
        (M,) integers: the number of the sample of each trusted row; 0 is a simple random sample. None takes all
        rows for one sample: with the weights if there are any, else a random one.
    trusted_draw
        The random sample that promises rest on, in the order in which it was drawn. None takes the trusted rows of
        the random sample for one that was verified to its end. Those of its rows that are not trusted
        must not have had a part in `probs`.
    known_rows
        (X,) numbers of other rows that were verified, but whose truth had a part in `probs`. Nothing is measured on
        them, and no promise counts them as fixes.
    known_samples
        (X,) integers: the number of the draw of each of them, -1 for hand-picked ones; None takes the random
        sample.
    groups
        (N,) integers from 0 to N - 1: rows with the same number are duplicates of each other. Where whole groups
        were verified, a group counts once, and nothing is promised. `folds` should keep them together.
    strata
        (N,) integers from 0 on: strata that the trusted rows may have been drawn from, with a share of each; None
        takes the given labels. Where the counts go with such a sample, each row is weighted for its stratum.
    config
        Smoothing and coverage of the intervals.

    Raises
    ------
    InputError
        When shapes disagree, a label is out of range, or a row of `probs` is not a distribution.
    """
    config = config or VerdictConfig()
    labels = check_labels(probs, labels)
    sources = {PROBS: check_probs(PROBS, probs, probs.shape)}
    sources |= {name: check_probs(name, value, probs.shape) for name, value in (evidence or {}).items()}
    if votes is not None:
        sources[VOTES] = check_probs(VOTES, votes, probs.shape)
    rows, true = check_trusted(trusted_rows, trusted_labels, probs.shape)
    weight, sample = check_weights(trusted_weights, trusted_samples, rows)
    known, known_sample = check_known(known_rows, known_samples, rows, len(labels))
    names = tuple(str(c) for c in classes) if classes is not None else tuple(map(str, range(probs.shape[1])))
    if len(names) != probs.shape[1]:
        raise InputError(f"classes: names {len(names)} classes; probs has {probs.shape[1]} columns.")
    design = SamplingDesign(rows, weight, sample, known, known_sample)
    groups, strata = check_groups("groups", groups, len(labels)), check_groups("strata", strata, len(labels))
    found = check_sample(design, sources.get(GIVEN, sources[PROBS]), labels, names, groups, strata)
    by_group = design if groups is None else one_per_group(design, groups)
    if found is not None and by_group is not design:
        found = replace(found, by_group=True)
    simple = found is not None and found.kind is SampleKind.RANDOM and not found.by_group
    design = post_stratified(by_group, labels if strata is None else strata, found)
    fold = verdict_folds(sources[PROBS], labels, rows, true, folds)
    count = row_counts(design.weight, design.sample, len(labels))
    trusted = trusted_rows_of(list(sources.values()), labels, rows, true, count, fold, VOTES in sources)
    soft_counts = label_counts(sources[PROBS], labels)
    fits = fit_by_fold(trusted, soft_counts, np.unique(fold), config.prior_rows)
    posterior = predict_by_fold(fits, list(sources.values()), labels, fold)
    held_out = posterior[rows]
    # hand-picked rows are part of the data set; predictions of rows that trained are not like those of others
    trained = np.isin(np.arange(len(labels)), known[known_sample != HAND_PICKED])
    view = _population(posterior, labels, rows, true, count)
    counted = count > 0  # rows that represent none are known, and nothing is measured on them
    measured = replace(view, rows=rows[counted], true=true[counted], count=count[counted]).only(~trained)
    draw = _all_at_once(posterior, labels, rows, true, sample) if trusted_draw is None else trusted_draw
    if not simple:
        draw = draw.only(np.zeros(len(draw.rows), bool))
    draw = check_draw(draw, probs.shape)
    promised = _promised(view, known, trained, draw, config)
    posterior[rows] = np.eye(probs.shape[1], dtype=np.float32)[true]
    return _finish(
        posterior, held_out, labels, trusted, rows, fits, soft_counts, tuple(sources), names, config,
        measured, promised, found,
    )  # fmt: skip


def _all_at_once(
    posterior: np.ndarray, labels: np.ndarray, rows: np.ndarray, true: np.ndarray, sample: np.ndarray
) -> RandomDraw:
    """Return the random sample as one draw, in an order that follows from the content of its rows."""
    chosen = np.flatnonzero(sample == RANDOM_SAMPLE)
    order = chosen[np.argsort(content_hashes(posterior[rows[chosen]], labels[rows[chosen]]), kind="stable")]
    return RandomDraw(rows=rows[order], true=true[order])


# ----------------------------------------------------------------------------------------------- what is shown


def _population(
    posterior: np.ndarray, labels: np.ndarray, rows: np.ndarray, true: np.ndarray, count: np.ndarray
) -> Population:
    """Return what is predicted of all rows, verified ones by fits without them."""
    every, predicted = np.arange(len(labels)), posterior.argmax(1)
    return Population(
        given=labels,
        predicted=predicted,
        confidence=posterior[every, predicted],
        label_score=posterior[every, labels],
        rows=rows,
        true=true,
        count=count,
    )


def _noise_matrix(trusted: TrustedRows, soft_counts: np.ndarray, config: VerdictConfig) -> NoiseMatrix:
    counts = np.zeros(soft_counts.shape, np.int64)
    np.add.at(counts, (trusted.true, trusted.given), 1)
    transition = Transition.fit(trusted.true, trusted.given, trusted.count, soft_counts, config.prior_rows)
    return transition.with_intervals(config.interval, counts)


def _mean_weights(fits: Mapping[int, Posterior], names: Sequence[str]) -> dict[str, float]:
    mean = np.mean([fit.weights for fit in fits.values()], axis=0)
    titles = [*names, "transition", "given_label", "given_label_score", "best_score"]
    return {title: round(float(value), 6) for title, value in zip(titles, mean, strict=False)}


def actions(issue: np.ndarray, promised: np.ndarray, verified: np.ndarray, *, of_labels: bool) -> np.ndarray:
    """Return an `Action` for every row, (N,) int8, from label issues and promised rows, both (N,) bool.

    `verified` are the rows with a trusted label, as numbers or as a mask. Under a promise `of_labels`, a person
    must look at every row that it does not take.
    """
    action = np.where(issue, np.where(promised, Action.RELABEL, Action.REVIEW), Action.KEEP).astype(np.int8)
    if of_labels:
        action[~promised] = Action.REVIEW
    action[verified] = np.where(issue[verified], Action.RELABEL, Action.KEEP)
    return action


def _finish(
    posterior: np.ndarray,
    held_out: np.ndarray,
    labels: np.ndarray,
    trusted: TrustedRows,
    verified: np.ndarray,
    fits: Mapping[int, Posterior],
    soft_counts: np.ndarray,
    sources: tuple[str, ...],
    classes: tuple[str, ...],
    config: VerdictConfig,
    population: Population,
    found: PromisedRows,
    sample: RandomCheck | None,
) -> Verdict:
    rows = np.arange(len(labels))
    predicted = posterior.argmax(1).astype(np.int32)
    issue = predicted != labels
    of_labels = config.max_label_error is not None
    action = actions(issue, found.promised, verified, of_labels=of_labels)
    return Verdict(
        soft_label=posterior,
        predicted_label=predicted,
        confidence=posterior[rows, predicted],
        label_score=posterior[rows, labels],
        is_label_issue=issue,
        action=action,
        noise_matrix=_noise_matrix(trusted, soft_counts, config),
        estimates=rate_estimates(population, config.interval)
        | calibration_estimates(population, held_out[trusted.count > 0], config.interval),
        per_class=estimates_per_class(population, classes, config.interval),
        weights=_mean_weights(fits, sources),
        classes=classes,
        promised=found.promised,
        kept=found.kept,
        promises=found.promises,
        held_out=held_out,
        sample=sample,
    )


def _promised(
    view: Population, known: np.ndarray, trained: np.ndarray, draw: RandomDraw, config: VerdictConfig
) -> PromisedRows:
    """Return what a random sample promises; known (X,) row numbers, trained (N,) bool."""
    verified = np.zeros(len(view.given), bool)
    verified[known] = verified[view.rows] = verified[draw.verified] = True
    if config.max_label_error is not None:
        return promises_of_labels(view, verified, draw, config.max_label_error, config.interval)
    if config.max_fix_error is not None:
        if draw.exact:  # the trusted rows are a part of the sample that the draw has no row of
            trained = trained | np.isin(np.arange(len(trained)), view.rows)
        return promise_of_fixes(view, verified, trained, draw, config.max_fix_error, config.interval)
    nothing = np.zeros(len(verified), bool)
    return PromisedRows(promises=(), promised=nothing, kept=nothing)
