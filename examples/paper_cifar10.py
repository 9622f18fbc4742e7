"""CIFAR-10 with the settings of the MSLG authors, against cross-entropy in the same run.

    LABELFIX_DATA=... python examples/paper_cifar10.py --out results

120 epochs, 44 of them warm-up, batch 128, 8-layer network, learning rate 1e-2, 1e-3 and 1e-4 by thirds, alpha
.5, beta 4000, means over batch and classes; 4,000 trusted images and 5,000 test images from the test split.
Uniform and feature-dependent noise of 40 %. The paper reports 78.82 % and 79.30 %; our JPEGs are lossy, so the
comparison with cross-entropy counts.

Writes paper_cifar10.json and one history.parquet per run, a few kilobytes each. Every epoch is saved: the same
command goes on where it was stopped or killed. Small on a CPU:

    python examples/paper_cifar10.py --images 2000 --trusted 400 --test 1000 --epochs 6 --out results
"""

import argparse
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
from planted import Experiment, Kept, data_folder, hardware, read_images, recorded_settings, write_json

from labelfix.benchmark.networks import cifar_network
from labelfix.benchmark.noise import Ties, feature_dependent_noise, uniform_noise
from labelfix.errors import LabelfixError
from labelfix.settings import Augment, FullConfig, LearningRateSchedule, NetworkConfig, Reduction, Schedule
from labelfix.training.checkpoints import Checkpoints
from labelfix.training.epoch_log import history_table

PAPER = {"uniform": 0.7882, "feature-dependent": 0.7930}
NUM_CLASSES = 10


def experiment(arguments: argparse.Namespace, noise: str, seed: int) -> tuple[Experiment, np.ndarray]:
    """Return the experiment, and the true labels of its training images."""
    pixels, labels = read_images("cifar10", "train", slice(0, arguments.images))
    used = arguments.trusted + arguments.test
    other_pixels, other = read_images("cifar10", "test", slice(None))
    drawn_rows = np.random.default_rng(seed).permutation(len(other))[:used]
    other_pixels, other = other_pixels[drawn_rows], other[drawn_rows]
    if noise == "uniform":
        drawn = uniform_noise(labels, arguments.noise, num_classes=NUM_CLASSES, seed=seed)
    else:
        scores = np.load(data_folder() / "student_logits_cifar10.npy")[: arguments.images]
        drawn = feature_dependent_noise(labels, arguments.noise, scores=scores, seed=seed, ties=Ties.LAST)
    on_gpu = torch.cuda.is_available()
    planted = Experiment(
        pixels=np.concatenate([pixels, other_pixels]),
        given=drawn.labels,
        trusted=other[: arguments.trusted],
        test=other[arguments.trusted :],
        network=lambda: cifar_network(NUM_CLASSES),
        augment=Augment.CROP_FLIP,
        device=torch.device("cuda" if on_gpu else "cpu"),
        autocast_dtype=torch.bfloat16 if on_gpu and arguments.bfloat16 else None,
        num_classes=NUM_CLASSES,
    )
    return planted, labels


def main() -> None:
    """Run both kinds of noise, print accuracies and write them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=50_000)
    parser.add_argument("--trusted", type=int, default=4_000)
    parser.add_argument("--test", type=int, default=5_000)
    parser.add_argument("--noises", default=",".join(PAPER), help="comma list")
    parser.add_argument("--noise", type=float, default=0.4, help="share of the labels that are wrong")
    parser.add_argument("--epochs", type=int, default=120)
    parser.add_argument("--trusted-batch-size", type=int, default=128)
    parser.add_argument("--schedules", default="exact", help="comma list of exact, fast, reference")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--bfloat16", action="store_true", help="forward passes in bfloat16 on a GPU")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--out", type=Path, help="folder for paper_cifar10.json and the histories")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    loop = NetworkConfig(
        epochs=arguments.epochs,
        warmup_epochs=round(arguments.epochs * 44 / 120),
        batch_size=128,
        trusted_batch_size=arguments.trusted_batch_size,
        learning_rate=0.01,
        alpha=0.5,
        beta=4000.0,
        reduction=Reduction.MEAN,
    )
    full = FullConfig(augment=Augment.CROP_FLIP, learning_rate_schedule=LearningRateSchedule.STEP)
    schedules = [Schedule(name) for name in arguments.schedules.split(",")]
    settings = recorded_settings(arguments)
    checkpoints = None
    if arguments.out:
        arguments.out.mkdir(parents=True, exist_ok=True)
        try:
            checkpoints = Checkpoints.open(arguments.out, {"settings": settings}, resume=True)
        except LabelfixError as error:
            parser.error(f"{error}\nOr choose another --out for these settings.")
    rows = []
    for seed in range(arguments.seeds):
        for noise in arguments.noises.split(","):
            planted, true = experiment(arguments, noise, seed)
            kept = Kept(checkpoints, f"{noise}-{seed}")
            for result in planted.compare(loop, full, schedules, seed, kept):
                rows.append(report(noise, result, true, arguments.out))
                if arguments.out:
                    content = {"settings": settings, "hardware": hardware(), "paper": PAPER, "rows": rows}
                    write_json(arguments.out / "paper_cifar10.json", content)
    if checkpoints is not None:
        shutil.rmtree(checkpoints.folder)


def report(noise: str, result: dict, true: np.ndarray, out: Path | None) -> dict:
    """Print one result, write its history, and return what goes into the JSON file."""
    row = {name: result[name] for name in ("method", "seed", "test_accuracy", "seconds")}
    row |= {"noise": noise, "label_accuracy": float((result["labels"] == true).mean())}
    print(
        f"{noise:17}  seed {row['seed']}  {row['method']:13}  test accuracy {row['test_accuracy']:.2%}  "
        f"label accuracy {row['label_accuracy']:.1%}  {row['seconds']:.0f} s",
        flush=True,
    )
    if out:
        name = f"history-{noise}-{row['method']}-{row['seed']}.parquet"
        pq.write_table(history_table(result["history"]), out / name)
    return row


if __name__ == "__main__":
    main()
