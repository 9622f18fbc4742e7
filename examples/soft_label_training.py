"""Train a timm model on soft labels, and see what they gain over the given and over the corrected labels.

The images of the demo (scanned digits), but with annotators who are wrong two times in five, mostly by taking one
digit for another that looks like it, and one image in twenty verified. A third of the images has no label at all:
they are the test. Three exports of the same run are trained on alike, until the network has learnt its labels:

    given      the labels as they came (--policy review-only)
    corrected  every suspect takes the most probable label (--policy relabel --min-confidence 0)
    soft       the soft labels (--policy soft)

Every seed draws annotators, verified images, test images and the network's start anew.

    python examples/soft_label_training.py [FOLDER] [--seeds 3]

About two minutes on two CPU cores; it writes to FOLDER (labelfix-training) and changes nothing else.
"""

import argparse
import csv
import sys
import time
from pathlib import Path

import numpy as np
import timm
import torch
from timm.loss import SoftTargetCrossEntropy
from torch.utils.data import DataLoader
from torchvision.transforms import v2

import labelfix
from labelfix.demo import write_demo_data
from labelfix.torch_dataset import load_image

ERRORS = {"alice": 0.15, "bob": 0.30, "carol": 0.40, "dave": 0.50, "erin": 0.60}
TRUSTED_SHARE = 0.05
SIDE, EPOCHS, BATCH, LEARNING_RATE = 16, 40, 128, 4e-3
POLICIES = {
    "given": {"policy": "review-only"},
    "corrected": {"policy": "relabel", "min_confidence": 0.0},
    "soft": {"policy": "soft"},
}
TO_TENSOR = v2.Compose(
    [
        v2.Resize((SIDE, SIDE), antialias=True),
        v2.ToImage(),
        v2.ToDtype(torch.float32, scale=True),
        v2.Normalize([0.5] * 3, [0.5] * 3),
    ]
)


def split(folder: Path, truth: dict[str, str], seed: int) -> dict[str, str]:
    """Take a third of the images out of labels.csv and trusted.csv; return them with their true labels."""
    names = sorted(truth)
    test = set(np.random.default_rng(seed).permutation(names)[: len(names) // 3].tolist())
    for name in ("labels.csv", "trusted.csv"):
        with (folder / name).open(encoding="utf-8") as file:
            header, *rows = csv.reader(file)
        with (folder / f"some_{name}").open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([header, *(row for row in rows if row[0] not in test)])
    return {name: truth[name] for name in sorted(test)}


def whole(dataset: torch.utils.data.Dataset) -> tuple[torch.Tensor, torch.Tensor]:
    """Decode a small data set once: images (N, 3, SIDE, SIDE), targets (N, K)."""
    images, targets = next(iter(DataLoader(dataset, batch_size=len(dataset))))
    return images, targets


def train(images: torch.Tensor, targets: torch.Tensor, seed: int) -> torch.nn.Module:
    """Train a small timm network from nothing on soft targets (N, K)."""
    torch.manual_seed(seed)
    model = timm.create_model("test_resnet", num_classes=targets.shape[1])
    loss = SoftTargetCrossEntropy()
    steps = EPOCHS * -(-len(images) // BATCH)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=LEARNING_RATE, total_steps=steps)
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(images)).split(BATCH):
            optimizer.zero_grad()
            loss(model(images[rows]), targets[rows]).backward()
            optimizer.step()
            schedule.step()
    return model.eval()


def compare(folder: Path, seed: int) -> dict[str, tuple[float, float]]:
    """Draw, clean, export and train; return test accuracy and log loss of every policy."""
    truth = write_demo_data(folder, force=True, seed=seed, errors=ERRORS, trusted_share=TRUSTED_SHARE)
    test = split(folder, truth, seed)
    run = labelfix.clean(
        folder / "images",
        folder / "some_labels.csv",
        folder / "some_trusted.csv",
        folder / "labelfix-out",
        force=True,
        image_size=64,
        train="head",
        seed=seed,
        report=False,
    ).out
    test_images = torch.stack([TO_TENSOR(load_image(str(folder / "images" / name))) for name in test])
    figures = {}
    for name, options in POLICIES.items():
        export = labelfix.export_run(run, folder / f"train-{name}", force=True, to="torch", **options)
        dataset = labelfix.SoftLabelDataset(export.path, transform=TO_TENSOR)
        true = torch.tensor([dataset.classes.index(label) for label in test.values()])
        model = train(*whole(dataset), seed)
        with torch.no_grad():
            logits = model(test_images)
        right = (logits.argmax(1) == true).float().mean().item()
        figures[name] = (right, torch.nn.functional.cross_entropy(logits, true).item())
        print(f"seed {seed}, {name}: {right:.4f}", file=sys.stderr, flush=True)
    return figures


def main() -> None:
    """Print accuracies and log losses on the test images, and what soft labels gain over corrected ones."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, nargs="?", default=Path("labelfix-training"))
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    start = time.perf_counter()
    draws = [compare(arguments.folder, seed) for seed in range(arguments.seeds)]
    rows = {name: np.array([draw[name] for draw in draws]) for name in POLICIES}
    rows["soft - corrected"] = rows["soft"] - rows["corrected"]
    print(f"test_resnet at {SIDE} px, {EPOCHS} epochs, {arguments.seeds} seeds: mean ± standard deviation")
    print(f"{'':18}{'test accuracy':>20}{'test log loss':>20}")
    for name, figures in rows.items():
        mean, spread = figures.mean(0), figures.std(0, ddof=1)
        print(f"{name:18}{mean[0]:>11.4f} ± {spread[0]:.4f}{mean[1]:>11.4f} ± {spread[1]:.4f}")
    print(f"{time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
