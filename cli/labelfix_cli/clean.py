"""``labelfix clean``. Defaults come from `labelfix.settings.clean`; a test holds the two together."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from labelfix.settings import (
    Augment,
    FeatureConfig,
    FullConfig,
    HeadConfig,
    Kind,
    LearningRateSchedule,
    MissingImages,
    Precision,
    Reduction,
    Schedule,
    Spellings,
    Train,
    TrustedRole,
    VerdictConfig,
)
from labelfix.settings import CleanConfig as Config
from labelfix.system.paths import check_paths
from labelfix_cli.outcome import ends_cleanly, when_interrupted

__all__ = ["clean"]

INPUT, OUTPUT, FEATURES, MSLG, VERDICT = "Input", "Output", "Features", "MSLG", "Verdict"
FULL = "Full network (--train full)"


def _option(panel: str, text: str, *names: str) -> Any:
    return typer.Option(*names, help=text, rich_help_panel=panel, show_default=True)


@ends_cleanly
def clean(
    context: typer.Context,
    source: Annotated[
        Path, typer.Argument(help="Folder of images, or a .npy/.parquet matrix of features or probabilities.")
    ],
    labels: Annotated[
        Path, typer.Argument(help="Labels: CSV, TSV, JSON lines or Parquet with image, label.")
    ],
    trusted: Annotated[
        list[Path] | None,
        _option(
            INPUT,
            "Labels that someone verified; may be given more than once.  [default: none]",
            "--trusted",
            "-t",
        ),
    ] = None,
    reviewed: Annotated[
        list[Path] | None,
        _option(
            INPUT,
            "Verified labels of images that somebody chose: known, and in no estimate.  [default: none]",
            "--reviewed",
        ),
    ] = None,
    draws: Annotated[
        list[Path] | None,
        _option(
            INPUT, "Records of draws, or their folder.  [default: beside --trusted, and in --out]", "--draws"
        ),
    ] = None,
    kind: Annotated[Kind, _option(INPUT, "What SOURCE holds.")] = Config.kind,
    classes: Annotated[
        str | None,
        _option(INPUT, "Class names in order: a comma list, or a file.  [default: the given labels, sorted]"),
    ] = Config.classes,  # type: ignore[assignment]
    new_classes: Annotated[
        str | None,
        _option(
            INPUT,
            "Classes that only trusted labels have: a comma list, or a file.  [default: none, such labels stop]",
        ),
    ] = Config.new_classes,  # type: ignore[assignment]
    spellings: Annotated[
        Spellings,
        _option(INPUT, "Labels that differ in spelling only: an error, one class, or a class each."),
    ] = Config.spellings,
    missing: Annotated[
        MissingImages, _option(INPUT, "What happens to rows whose image does not exist.")
    ] = Config.missing,
    trusted_weights: Annotated[
        str | None,
        _option(INPUT, "Column of --trusted with sampling weights.  [default: weight, if there is one]"),
    ] = Config.trusted_weights,
    trusted_strata: Annotated[
        str | None,
        _option(
            INPUT, "Column of LABELS with the strata that --trusted was drawn from.  [default: the label]"
        ),
    ] = Config.trusted_strata,
    calibration_split: Annotated[
        float | None,
        _option(
            INPUT, "Share of the random sample to learn nothing from, for exact promises.  [default: none]"
        ),
    ] = Config.calibration_split,
    out: Annotated[Path, _option(OUTPUT, "Folder for the results.", "--out", "-o")] = Path("labelfix-out"),
    force: Annotated[bool, _option(OUTPUT, "Replace the run that --out holds.", "--force", "-f")] = False,
    soft_label_top_k: Annotated[
        int | None, _option(OUTPUT, "Write only the k most probable classes of a soft label.  [default: all]")
    ] = Config.soft_label_top_k,
    as_json: Annotated[bool, _option(OUTPUT, "Print the summary as JSON.", "--json")] = False,
    quiet: Annotated[
        bool, _option(OUTPUT, "Print nothing but errors (and --json).", "--quiet", "-q")
    ] = False,
    backbone: Annotated[
        str, _option(FEATURES, "A timm model, hf-hub:OWNER/NAME, or 'embedded' (no network needed).")
    ] = FeatureConfig.backbone,
    checkpoint: Annotated[
        str | None, _option(FEATURES, "Local weights for --backbone.  [default: its pretrained ones]")
    ] = FeatureConfig.checkpoint,
    image_size: Annotated[
        int | None, _option(FEATURES, "Side of the input in pixels.  [default: the backbone's own]")
    ] = FeatureConfig.image_size,
    precision: Annotated[
        Precision, _option(FEATURES, "Of the forward pass; auto: bfloat16 where the processor has it.")
    ] = FeatureConfig.precision,
    inference_batch: Annotated[
        int, _option(FEATURES, "Images per forward pass.")
    ] = FeatureConfig.inference_batch,
    workers: Annotated[
        int | None, _option(FEATURES, "Processes that decode images.  [default: one per core, at most 8]")
    ] = FeatureConfig.workers,
    cache_dir: Annotated[
        str | None, _option(FEATURES, "Where features are kept between runs.  [default: the user's cache]")
    ] = FeatureConfig.cache_dir,
    train: Annotated[
        Train,
        _option(MSLG, "A linear head on frozen features, or the full network; auto: full with a GPU."),
    ] = Config.train,
    folds: Annotated[int, _option(MSLG, "Folds of the cross-fitting (full: 1).")] = HeadConfig.folds,
    epochs: Annotated[int, _option(MSLG, "Epochs in all (full: 15).")] = HeadConfig.epochs,
    warmup_epochs: Annotated[
        int, _option(MSLG, "Of these, epochs of plain cross-entropy (full: 5).")
    ] = HeadConfig.warmup_epochs,
    batch_size: Annotated[int, _option(MSLG, "Rows per step.")] = HeadConfig.batch_size,
    trusted_batch_size: Annotated[
        int, _option(MSLG, "Trusted rows per step, 64 at most where fast (full: 32).")
    ] = HeadConfig.trusted_batch_size,
    learning_rate: Annotated[
        float, _option(MSLG, "The first learning rate (full: 0.01).")
    ] = HeadConfig.learning_rate,
    momentum: Annotated[float, _option(MSLG, "Of stochastic gradient descent.")] = HeadConfig.momentum,
    weight_decay: Annotated[
        float, _option(MSLG, "Of stochastic gradient descent.")
    ] = HeadConfig.weight_decay,
    alpha: Annotated[float, _option(MSLG, "Step of the look-ahead (full: 0.05).")] = HeadConfig.alpha,
    beta: Annotated[float, _option(MSLG, "Step of the label logits.")] = HeadConfig.beta,
    gamma: Annotated[float, _option(MSLG, "Weight of the entropy.")] = HeadConfig.gamma,
    init_scale: Annotated[
        float, _option(MSLG, "Height of the initial label logits.")
    ] = HeadConfig.init_scale,
    reduction: Annotated[
        Reduction, _option(MSLG, "Average over the batch (paper), or over batch and classes (authors' code).")
    ] = HeadConfig.reduction,
    schedule: Annotated[
        Schedule, _option(FULL, "Gradient of the labels: exact, a cheaper one, or double backward.")
    ] = FullConfig.schedule,
    learning_rate_schedule: Annotated[
        LearningRateSchedule, _option(FULL, "Half a cosine, or a tenth after each third of the epochs.")
    ] = FullConfig.learning_rate_schedule,
    augment: Annotated[
        Augment, _option(FULL, "Of training images: shifts, and mirror images.")
    ] = FullConfig.augment,
    trusted_role: Annotated[
        TrustedRole, _option(FULL, "Whether trusted images also train the classifier.")
    ] = FullConfig.trusted_role,
    held_out_share: Annotated[
        float, _option(FULL, "Share of the trusted labels kept from training when --folds is 1.")
    ] = FullConfig.held_out_share,
    pixel_budget: Annotated[
        float, _option(FULL, "GiB of decoded images to keep; beyond it, decode in every epoch.")
    ] = FullConfig.pixel_budget,
    report: Annotated[bool, _option(OUTPUT, "Write report.html at the end.", "--report/--no-report")] = True,
    resume: Annotated[bool, _option(FULL, "Go on with the unfinished run in --out.", "--resume")] = False,
    device: Annotated[
        str, _option(MSLG, "Where torch computes: auto, cpu, cuda, cuda:1, mps.")
    ] = Config.device,
    seed: Annotated[int, _option(MSLG, "Of every random choice.")] = Config.seed,
    prior_rows: Annotated[
        float | None,
        _option(
            VERDICT, "Strength of the transition matrix's prior, in trusted rows.  [default: the likeliest]"
        ),
    ] = VerdictConfig.prior_rows,
    interval: Annotated[float, _option(VERDICT, "Coverage of every interval.")] = VerdictConfig.interval,
    max_fix_error: Annotated[
        float | None,
        _option(VERDICT, "Relabel only where at most this share is wrong, promised.  [default: no fixes]"),
    ] = VerdictConfig.max_fix_error,
    max_label_error: Annotated[
        float | None,
        _option(
            VERDICT,
            "Say which labels a person must verify for at most this share of all to be wrong.  [default: none]",
        ),
    ] = VerdictConfig.max_label_error,
) -> None:
    """Find and repair the wrong labels of an image data set.

    Writes soft_labels.parquet (one row per image: soft label, verdict, confidence), suspects.parquet (worst
    first), noise_matrix.parquet, quarantine.parquet and run.json to --out. Without --trusted nothing is
    calibrated and nothing is promised.
    """
    options = {
        name: value
        for name, value in locals().items()
        if name
        not in (
            "context",
            "source",
            "labels",
            "trusted",
            "reviewed",
            "draws",
            "out",
            "force",
            "resume",
            "report",
            "as_json",
            "quiet",
        )
        and _was_given(context, name)  # what was not given is the configuration's to choose
    }
    check_paths(
        source, [labels, *(trusted or ()), *(reviewed or ())]
    )  # before the libraries load, which takes seconds

    from labelfix import clean as run
    from labelfix.inputs import read_class_list
    from labelfix.system.progress import SilentProgress, TerminalProgress
    from labelfix_cli.screen import show_summary

    if classes is not None:
        options["classes"] = read_class_list(classes)
    if new_classes is not None:
        options["new_classes"] = read_class_list(new_classes, option="--new-classes", fewest=1)
    progress = SilentProgress() if quiet else TerminalProgress()
    with when_interrupted(lambda: _what_is_kept(out)):
        result = run(
            source,
            labels,
            trusted or None,
            out,
            reviewed=reviewed or None,
            draws=draws or (),
            force=force,
            resume=resume,
            report=report,
            progress=progress,
            **options,
        )
    if as_json:
        typer.echo(json.dumps(result.summary, indent=2, ensure_ascii=False))
    elif not quiet:
        show_summary(result.summary)


def _what_is_kept(out: Path) -> str:
    from labelfix.training.checkpoints import what_is_kept

    return what_is_kept(out) or "The same command starts again; features that were computed are kept."


def _was_given(context: typer.Context, name: str) -> bool:
    origin = context.get_parameter_source(name)
    return origin is not None and not origin.name.startswith("DEFAULT")
