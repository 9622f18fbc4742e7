"""Is the fast schedule as good as the exact one? Fashion-MNIST, 40 % feature-dependent noise, 1,000 trusted.

    LABELFIX_DATA=... python examples/fast_against_exact.py --seeds 8 --out results

trains a small convolutional network with cross-entropy, MSLG exact and MSLG fast from the same initialisation
and the same warm-up, for every seed, and prints test accuracies with the paired difference fast - exact and its
95 % interval.
"""

import argparse
import itertools
from pathlib import Path

import numpy as np
import torch
from planted import (
    Experiment,
    data_folder,
    hardware,
    paired_interval,
    read_images,
    recorded_settings,
    write_json,
)
from torch import nn

from labelfix.benchmark.noise import feature_dependent_noise
from labelfix.settings import Augment, FullConfig, NetworkConfig, Reduction, Schedule


def small_network() -> nn.Module:
    """Three convolutions with batch norm, (B, 1, 28, 28) to (B, 10): small enough for a CPU."""
    widths = (1, 16, 32, 64)
    blocks: list[nn.Module] = []
    for before, after in itertools.pairwise(widths):
        blocks += [nn.Conv2d(before, after, 3, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
        blocks += [nn.MaxPool2d(2)]
    return nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))


def experiment(arguments: argparse.Namespace, seed: int) -> Experiment:
    """Draw training and trusted images by the seed, plant the noise, take test images."""
    rows = np.random.default_rng(seed).permutation(60_000)[: arguments.images + arguments.trusted]
    pixels, labels = read_images("fashion_mnist", "train", rows)
    test_pixels, test = read_images("fashion_mnist", "test", slice(0, 10_000))
    scores = np.load(data_folder() / "student_logits_fashion_mnist.npy")[rows[: arguments.images]]
    noise = feature_dependent_noise(labels[: arguments.images], arguments.noise, scores=scores, seed=seed)
    return Experiment(
        pixels=np.concatenate([pixels, test_pixels]),
        given=noise.labels,
        trusted=labels[arguments.images :],
        test=test,
        network=small_network,
        augment=Augment.NONE,
        device=torch.device("cuda" if torch.cuda.is_available() else "cpu"),
        autocast_dtype=None,
    )


def main() -> None:
    """Run all seeds, print the comparison and write it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--trusted", type=int, default=1_000)
    parser.add_argument("--noise", type=float, default=0.4)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--warmup-epochs", type=int, default=4)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--learning-rate", type=float, default=0.05)
    parser.add_argument("--alpha", type=float, default=0.5)
    parser.add_argument("--beta", type=float, default=4000.0)
    parser.add_argument("--reduction", default=str(Reduction.MEAN), help="with these, the authors' settings")
    parser.add_argument("--trusted-batch-size", type=int, default=NetworkConfig.trusted_batch_size)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--out", type=Path, help="folder for fast_against_exact.json")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    loop = NetworkConfig(
        epochs=arguments.epochs,
        warmup_epochs=arguments.warmup_epochs,
        batch_size=arguments.batch_size,
        trusted_batch_size=arguments.trusted_batch_size,
        learning_rate=arguments.learning_rate,
        alpha=arguments.alpha,
        beta=arguments.beta,
        reduction=arguments.reduction,
    )
    full = FullConfig(augment=Augment.NONE)
    rows = []
    for seed in range(arguments.first_seed, arguments.first_seed + arguments.seeds):
        planted = experiment(arguments, seed)
        for result in planted.compare(loop, full, [Schedule.EXACT, Schedule.FAST], seed):
            rows.append({k: v for k, v in result.items() if k not in ("history", "labels")})
            moved = float((result["labels"] != planted.given).mean())
            print(
                f"seed {seed}  {result['method']:13}  test accuracy {result['test_accuracy']:.2%}  "
                f"labels moved {moved:.1%}  {result['seconds']:.0f} s",
                flush=True,
            )
    report(rows, arguments)


def report(rows: list[dict], arguments: argparse.Namespace) -> None:
    """Print means and paired differences; write them where asked."""
    by_method = {
        method: np.array([row["test_accuracy"] for row in rows if row["method"] == method])
        for method in ("cross-entropy", "exact", "fast")
    }
    print()
    for method, accuracy in by_method.items():
        print(f"{method:13}  {accuracy.mean():.2%} (n = {len(accuracy)})")
    differences = {}
    for one, other in (("fast", "exact"), ("exact", "cross-entropy"), ("fast", "cross-entropy")):
        mean, low, high = paired_interval(100 * (by_method[one] - by_method[other]))
        differences[f"{one} - {other}"] = {"points": mean, "low": low, "high": high}
        print(f"{one} - {other}: {mean:+.2f} points, 95 % interval {low:+.2f} to {high:+.2f}")
    if arguments.out:
        arguments.out.mkdir(parents=True, exist_ok=True)
        content = {
            "settings": recorded_settings(arguments),
            "hardware": hardware(),
            "rows": rows,
            "differences": differences,
        }
        write_json(arguments.out / "fast_against_exact.json", content)


if __name__ == "__main__":
    main()
