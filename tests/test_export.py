"""Every format is read back by the tool it is for; policies, provenance, and inputs that stay as they are."""

import hashlib
import json
import os
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pandas as pd
import pytest
from conftest import TinySet, write_rows
from jsonschema import validate
from typer.testing import CliRunner

import labelfix
from labelfix.errors import InputError, LabelfixError, OutputError, SettingError
from labelfix.export import decide, export_run
from labelfix.export.image_files import folder_name, path_in_export, unique_names
from labelfix.runs.reading import FinishedRun, dense_soft_labels
from labelfix.settings.export import DEFAULT_POLICY, ExportFormat, Policy
from labelfix_cli import app

FAST = {"train": "head", "image_size": 32, "folds": 3, "workers": 0}


@pytest.fixture(scope="module")
def tiny_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[TinySet, Path]:
    tiny = TinySet(tmp_path_factory.mktemp("exported"), rows=90)
    rows = [
        (f"x{i}", name, tiny.classes[k])
        for i, (name, k) in enumerate(zip(tiny.names, tiny.given, strict=True))
    ]
    tiny.labels = write_rows(tiny.folder / "labels.csv", rows, ("id", "file_name", "class"))
    labelfix.clean(tiny.images, tiny.labels, tiny.trusted, tiny.folder / "out", **FAST)  # type: ignore[arg-type]
    return tiny, tiny.folder / "out"


@pytest.fixture
def frame(tiny_run: tuple[TinySet, Path]) -> pd.DataFrame:
    return pd.read_parquet(tiny_run[1] / "soft_labels.parquet")


def state_of(tiny: TinySet) -> dict[str, tuple[str, int]]:
    """Digest and time of change of every input file, and the names of all files and folders beside them."""
    kept = [p for p in tiny.images.rglob("*") if p.is_file()] + [tiny.labels, tiny.trusted]
    listing = hashlib.sha256(repr(sorted(map(str, tiny.images.rglob("*")))).encode()).hexdigest()
    state = {str(p): (hashlib.sha256(p.read_bytes()).hexdigest(), p.stat().st_mtime_ns) for p in kept}
    return state | {"": (listing, 0)}


@pytest.fixture(autouse=True)
def _inputs_stay(tiny_run: tuple[TinySet, Path]) -> Iterator[None]:
    before = state_of(tiny_run[0])
    yield
    assert state_of(tiny_run[0]) == before


# ---------------------------------------------------------------------------------------------------- decisions


@pytest.mark.parametrize("policy", list(Policy))
def test_what_a_policy_does(tiny_run: tuple[TinySet, Path], frame: pd.DataFrame, policy: Policy) -> None:
    run = FinishedRun.open(tiny_run[1])
    decisions = decide(run, policy)
    issue, verified = frame.is_label_issue.to_numpy(), frame.trusted_label.notna().to_numpy()
    assert (issue & verified).any()
    assert (issue & ~verified).any()
    columns = {name: np.array(values.to_pylist()) for name, values in decisions.provenance().items()}
    assert (columns["old_label"] == frame.given_label).all()
    assert set(columns["run_id"]) == {run.run_id}
    assert all(columns["reason"])
    expected = {
        Policy.RELABEL: np.where(verified & issue, "relabel", np.where(issue, "review", "keep")),
        Policy.DROP: np.where(verified & issue, "relabel", np.where(issue, "drop", "keep")),
        Policy.SOFT: np.where(verified & issue, "relabel", np.where(verified, "keep", "soft")),
        Policy.REVIEW_ONLY: np.where(issue, "review", "keep"),
    }[policy]
    assert (columns["action"] == expected).all()
    new = np.where(np.isin(expected, ["relabel", "soft"]), frame.predicted_label, frame.given_label)
    shown = columns["new_label"]
    assert all(
        n is None if done == "drop" else n == w for n, w, done in zip(shown, new, expected, strict=True)
    )
    kept = decisions.kept
    targets = kept.targets(0, len(kept))
    np.testing.assert_allclose(targets.sum(1), 1, atol=1e-5)
    if policy is Policy.SOFT:
        np.testing.assert_array_equal(targets, np.stack(frame.soft_label.to_list()))
    else:
        assert (targets.argmax(1) == kept.new).all()
        assert set(np.unique(targets)) == {0, 1}


def test_promised_fixes_are_relabelled(tmp_path: Path) -> None:
    tiny = TinySet(tmp_path, rows=240, noise=0.4)
    trusted = tiny.write("half.csv", range(120), tiny.true)
    labelfix.clean(tiny.images, tiny.labels, trusted, tmp_path / "out", max_fix_error=0.2, **FAST)  # type: ignore[arg-type]
    decisions = decide(FinishedRun.open(tmp_path / "out"), Policy.RELABEL)
    reasons = np.array(decisions.provenance()["reason"].to_pylist())
    fixed = reasons == "a fix within the promised error"
    assert fixed.sum() > 10
    assert (decisions.new[fixed] == decisions.suggested[fixed]).all()
    assert (decisions.trusted[fixed] < 0).all()


@pytest.mark.parametrize(("policy", "done"), [(Policy.RELABEL, "relabel"), (Policy.DROP, "drop")])
def test_min_confidence(
    tiny_run: tuple[TinySet, Path], frame: pd.DataFrame, policy: Policy, done: str
) -> None:
    run = FinishedRun.open(tiny_run[1])
    suspects = frame[frame.is_label_issue & frame.trusted_label.isna()]
    level = float(suspects.confidence.median())
    actions = pd.Series(decide(run, policy, min_confidence=level).provenance()["action"].to_pylist())
    above = suspects.confidence >= level
    assert 0 < above.sum() < len(suspects)
    assert (actions[suspects.index[above]] == done).all()
    assert (actions[suspects.index[~above]] == "review").all()


def test_top_k_soft_labels_are_made_whole(tmp_path: Path) -> None:
    tiny = TinySet(tmp_path, classes=4)
    options: dict[str, Any] = FAST | {"cache_dir": str(tmp_path / "cache")}
    whole = labelfix.clean(tiny.images, tiny.labels, tiny.trusted, tmp_path / "whole", **options)
    short = labelfix.clean(
        tiny.images, tiny.labels, tiny.trusted, tmp_path / "short", soft_label_top_k=2, **options
    )
    dense = dense_soft_labels(whole.soft_labels, ("c0", "c1", "c2", "c3"))
    made = dense_soft_labels(short.soft_labels, ("c0", "c1", "c2", "c3"))
    np.testing.assert_allclose(made.sum(1), 1, atol=1e-5)
    best = np.argsort(-dense, axis=1)[:, :2]
    np.testing.assert_allclose(
        np.take_along_axis(made, best, 1), np.take_along_axis(dense, best, 1), atol=1e-5
    )


# ------------------------------------------------------------------------------------------------------ formats


def test_csv_has_the_columns_that_came_in(
    tiny_run: tuple[TinySet, Path], frame: pd.DataFrame, tmp_path: Path
) -> None:
    tiny, out = tiny_run
    summary = export_run(out, tmp_path / "csv", to="csv").summary
    back = pd.read_csv(tmp_path / "csv" / "labels.csv", dtype=str, keep_default_na=False)
    assert list(back.columns[:3]) == ["id", "file_name", "class"]
    assert list(back.columns[3:]) == [
        "old_label", "action", "reason", "confidence", "label_score", "suggested_label", "run_id",
    ]  # fmt: skip
    assert back.id.tolist() == [f"x{i}" for i in range(90)]
    assert back.old_label.tolist() == [tiny.classes[k] for k in tiny.given]
    fixed = (frame.action == "relabel").to_numpy()
    assert fixed.any()
    assert (back["class"] == np.where(fixed, frame.predicted_label, frame.given_label)).all()
    np.testing.assert_allclose(back.confidence.astype(float), frame.confidence, rtol=1e-6)
    assert summary["actions"]["relabel"] == fixed.sum()
    assert labelfix.read_label_table(tmp_path / "csv" / "labels.csv").num_images == 90


def test_csv_can_be_cleaned_and_exported_again(tiny_run: tuple[TinySet, Path], tmp_path: Path) -> None:
    tiny, out = tiny_run
    export_run(out, tmp_path / "csv", to="csv", policy="drop")
    labels = tmp_path / "csv" / "labels.csv"
    labelfix.clean(tiny.images, labels, tiny.trusted, tmp_path / "again", **FAST)  # type: ignore[arg-type]
    export_run(tmp_path / "again", tmp_path / "twice", to="csv")
    back = pd.read_csv(tmp_path / "twice" / "labels.csv")
    assert {"old_label", "labelfix_old_label"} <= set(back.columns)
    assert len(back) == len(pd.read_csv(labels)) < 90


@pytest.mark.parametrize("ending", ["csv", "tsv", "jsonl", "parquet"])
def test_csv_from_every_kind_of_table(tmp_path: Path, ending: str) -> None:
    tiny = TinySet(tmp_path)
    names = [name.replace("/", "\\") if i % 7 == 0 else name for i, name in enumerate(tiny.names)]
    table = pd.DataFrame(
        {"label": [tiny.classes[k] for k in tiny.given], "image": names, "note": 'a "b", c', "n": 7}
    )
    path = tmp_path / f"table.{ending}"
    if ending == "jsonl":
        table.to_json(path, orient="records", lines=True)
    elif ending == "parquet":
        table.to_parquet(path)
    else:
        table.to_csv(path, index=False, sep="\t" if ending == "tsv" else ",")
    labelfix.clean(tiny.images, path, tiny.trusted, tmp_path / "out", **FAST)  # type: ignore[arg-type]
    export_run(tmp_path / "out", tmp_path / "dest", to="csv", policy="review-only")
    back = pd.read_csv(tmp_path / "dest" / "labels.csv")
    assert list(back.columns[:4]) == ["label", "image", "note", "n"]
    pd.testing.assert_frame_equal(back.iloc[:, :4], table, check_dtype=False)


def test_csv_with_several_annotators(tmp_path: Path) -> None:
    """Every row keeps what its annotator said, and an image that could not be read is left out."""
    tiny = TinySet(tmp_path)
    wrong = (tiny.true + 1) % 3
    said = {"ann": tiny.true, "bea": tiny.true, "cyd": wrong}
    rows = [
        (f"./{name}" if who == "cyd" else name, tiny.classes[k], who)
        for who, labels in said.items()
        for name, k in zip(tiny.names, labels, strict=True)
    ]
    labels = write_rows(tmp_path / "three.csv", rows, ("image", "label", "annotator"))
    (tiny.images / tiny.names[0]).write_bytes(b"")
    labelfix.clean(tiny.images, labels, tiny.trusted, tmp_path / "out", **FAST)  # type: ignore[arg-type]
    summary = export_run(tmp_path / "out", tmp_path / "dest", to="csv", policy="soft").summary
    back = pd.read_csv(tmp_path / "dest" / "labels.csv")
    assert len(back) == 3 * 59
    assert summary["rows_without_verdict"] == 3
    assert (back[back.annotator == "cyd"].old_label.to_numpy() == np.array(tiny.classes)[wrong[1:]]).all()
    assert back.groupby(back.image.str.removeprefix("./")).label.nunique().max() == 1


def test_csv_of_a_table_in_memory(tmp_path: Path) -> None:
    tiny = TinySet(tmp_path)
    table = pd.read_csv(tiny.labels)
    labelfix.clean(tiny.images, table, tiny.trusted, tmp_path / "out", **FAST)  # type: ignore[arg-type]
    export_run(tmp_path / "out", tmp_path / "dest", to="csv", policy="review-only")
    back = pd.read_csv(tmp_path / "dest" / "labels.csv")
    pd.testing.assert_frame_equal(back[["image", "label"]], table)


def test_csv_of_another_label_table_is_refused(tmp_path: Path) -> None:
    tiny = TinySet(tmp_path)
    labelfix.clean(tiny.images, tiny.labels, tiny.trusted, tmp_path / "out", **FAST)  # type: ignore[arg-type]
    moved = tiny.labels.rename(tmp_path / "moved.csv")
    with pytest.raises(InputError, match="--labels"):
        export_run(tmp_path / "out", tmp_path / "dest", to="csv")
    export_run(tmp_path / "out", tmp_path / "dest", to="csv", labels=str(moved))
    moved.write_text(moved.read_text() + "\n")
    with pytest.raises(InputError, match="not the file that the run read"):
        export_run(tmp_path / "out", tmp_path / "other", to="csv", labels=str(moved))
    assert not (tmp_path / "other").exists()
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("transfer", ["link", "symlink", "copy"])
def test_imagefolder(
    tiny_run: tuple[TinySet, Path], frame: pd.DataFrame, tmp_path: Path, transfer: str
) -> None:
    from torchvision.datasets import ImageFolder

    tiny, out = tiny_run
    export_run(out, tmp_path / "dest", to="imagefolder", transfer=transfer, policy="drop")
    back = ImageFolder(str(tmp_path / "dest"))
    assert back.classes == tiny.classes
    kept = ~(frame.is_label_issue & frame.trusted_label.isna())
    assert len(back) == kept.sum() < len(frame)
    origin = pd.read_parquet(tmp_path / "dest" / "provenance.parquet")
    assert len(origin) == len(frame)
    assert (origin.file.isna() == ~kept).all()
    assert (origin.action[~kept] == "drop").all()
    label_of = {f"{tmp_path}/dest/{f}": n for f, n in zip(origin.file, origin.new_label, strict=True)}
    for path, label in back.samples:
        assert label_of[path] == tiny.classes[label]
    for file, image in zip(origin.file[kept], origin.image[kept], strict=True):
        written, source = tmp_path / "dest" / file, tiny.images / image
        assert written.read_bytes() == source.read_bytes()
        assert written.samefile(source) == (transfer != "copy")
        assert written.is_symlink() == (transfer == "symlink")


def test_imagefolder_with_equal_names_and_odd_classes(tmp_path: Path) -> None:
    tiny = TinySet(tmp_path, classes=3)
    odd = ["a/b", "..", "Größe 1"]
    for i, name in enumerate(tiny.names):  # the same file name in three folders
        new = f"{i % 3}/{i // 3}.png"
        (tiny.images / name).rename(tiny.images / new)
        tiny.names[i] = new
    tiny.classes = odd
    labels, trusted = tiny.write("l.csv", range(60), tiny.given), tiny.write("t.csv", range(20), tiny.true)
    labelfix.clean(tiny.images, labels, trusted, tmp_path / "out", **FAST)  # type: ignore[arg-type]
    export_run(tmp_path / "out", tmp_path / "dest", to="imagefolder", policy="soft")
    folders = json.loads((tmp_path / "dest" / "classes.json").read_text())
    assert sorted(folders.values()) == sorted(odd)
    assert sorted(folders) == sorted(p.name for p in (tmp_path / "dest").iterdir() if p.is_dir())
    files = list((tmp_path / "dest").rglob("*.png"))
    assert len(files) == 60
    assert all(p.parent.parent == tmp_path / "dest" for p in files)


@pytest.mark.parametrize("label", ["a/b", "..", ".", "a\\b", "a%2Fb", "nul ", "x.", "Käse", "a:b", "a\nb"])
def test_class_folders_are_plain_names(label: str) -> None:
    name = folder_name(label)
    assert name not in ("", ".", "..")
    assert not set(name) & set('/\\:*?"<>|\n')
    assert unquote(name) == label
    assert (name == label) == (label == "Käse")


def test_names_in_the_export_are_unique_and_stay_inside() -> None:
    keys = ["a/x.png", "b/x.png", "b/y.png", "c/X.png", "../out/z.png"]
    names = unique_names(keys, ["c"] * 5)
    assert len({name.casefold() for name in names}) == 5
    assert names[2] == "y.png"
    assert [path_in_export(key) for key in keys[:4]] == keys[:4]
    assert ".." not in path_in_export(keys[4]).split("/")


@pytest.mark.parametrize("transfer", ["link", "symlink", "copy"])
def test_huggingface_is_loaded_by_datasets(
    tiny_run: tuple[TinySet, Path], frame: pd.DataFrame, tmp_path: Path, transfer: str
) -> None:
    datasets = pytest.importorskip("datasets")
    tiny, out = tiny_run
    export_run(out, tmp_path / "dest", to="huggingface", transfer=transfer)
    back = datasets.load_dataset(str(tmp_path / "dest"), split="train", cache_dir=str(tmp_path / "cache"))
    assert back.features["label"].names == tiny.classes
    assert back.num_rows == len(frame)
    by_old = {row["old_label"] for row in back.remove_columns("image")}
    assert by_old == set(tiny.classes)
    np.testing.assert_allclose(np.array(back["soft_label"]), np.stack(frame.soft_label.to_list()), atol=1e-6)
    names = [tiny.classes[k] for k in back["label"]]
    assert names == frame.predicted_label.tolist()
    assert {"old_label", "new_label", "action", "reason", "run_id", "confidence"} <= set(back.column_names)
    colours = np.array([np.asarray(back[i]["image"]).mean((0, 1)) for i in range(10)])
    wanted = np.array(tiny.COLOURS)[tiny.true[:10]]
    assert np.abs(colours - wanted).max() < 30  # the images are those of the rows


FIFTYONE_SCHEMA = {
    "type": "object",
    "required": ["classes", "labels"],
    "properties": {
        "classes": {"type": "array", "items": {"type": "string"}},
        "labels": {
            "type": "object",
            "additionalProperties": {
                "type": "object",
                "required": ["label", "confidence", "attributes"],
                "properties": {
                    "label": {"type": "integer", "minimum": 0},
                    "confidence": {"type": "number", "minimum": 0, "maximum": 1},
                    "attributes": {"type": "object"},
                },
            },
        },
    },
}


@pytest.mark.parametrize("transfer", ["link", "copy"])
def test_fiftyone_matches_the_documented_layout(
    tiny_run: tuple[TinySet, Path], frame: pd.DataFrame, tmp_path: Path, transfer: str
) -> None:
    tiny, out = tiny_run
    export_run(out, tmp_path / "dest", to="fiftyone", transfer=transfer)
    labels = json.loads((tmp_path / "dest" / "labels.json").read_text())
    validate(labels, FIFTYONE_SCHEMA)
    assert labels["classes"] == tiny.classes
    data = tmp_path / "dest" / "data"
    images = {str(p.relative_to(data).with_suffix("")): p for p in data.rglob("*") if p.is_file()}
    assert any(p.samefile(tiny.images / p.relative_to(data)) for p in images.values()) == (transfer == "link")
    assert images.keys() == labels["labels"].keys()
    for row in frame.itertuples():
        item = labels["labels"][os.path.splitext(row.image)[0]]
        assert labels["classes"][item["label"]] == row.given_label
        assert item["attributes"]["mistakenness"] == pytest.approx(1 - row.label_score)
        assert item["attributes"]["suggested_label"] == row.predicted_label
        source = tiny.images / row.image
        assert images[os.path.splitext(row.image)[0]].read_bytes() == source.read_bytes()


def test_fiftyone_tells_apart_files_that_differ_in_their_ending(tmp_path: Path) -> None:
    tiny = TinySet(tmp_path)
    for i in range(0, 60, 2):
        (tiny.images / tiny.names[i]).rename(tiny.images / f"same{i}.png")
        (tiny.images / tiny.names[i + 1]).rename(tiny.images / f"same{i}.bmp")
        tiny.names[i : i + 2] = [f"same{i}.png", f"same{i}.bmp"]
    labels, trusted = tiny.write("l.csv", range(60), tiny.given), tiny.write("t.csv", range(20), tiny.true)
    labelfix.clean(tiny.images, labels, trusted, tmp_path / "out", **FAST)  # type: ignore[arg-type]
    export_run(tmp_path / "out", tmp_path / "dest", to="fiftyone")
    found = json.loads((tmp_path / "dest" / "labels.json").read_text())["labels"]
    data = {p.stem: p for p in (tmp_path / "dest" / "data").iterdir()}
    assert len(found) == 60
    assert data.keys() == found.keys()
    sources = {p.stat().st_ino for p in tiny.images.glob("same*")}
    assert {p.stat().st_ino for p in data.values()} == sources


@pytest.mark.slow
def test_fiftyone_imports_it(tiny_run: tuple[TinySet, Path], tmp_path: Path) -> None:
    importers = pytest.importorskip("fiftyone.utils.data.importers")
    tiny, out = tiny_run
    export_run(out, tmp_path / "dest", to="fiftyone")
    with importers.FiftyOneImageClassificationDatasetImporter(dataset_dir=str(tmp_path / "dest")) as importer:
        samples = {path: label for path, _, label in importer}
    assert len(samples) == 90
    for name, given in zip(tiny.names, tiny.given, strict=True):
        label = samples[str(tmp_path / "dest" / "data" / name)]
        assert label.label == tiny.classes[given]
        assert 0 <= label.confidence <= 1
        assert label["reason"]


LABEL_STUDIO_SCHEMA = {
    "type": "array",
    "items": {
        "type": "object",
        "required": ["data", "predictions"],
        "properties": {
            "data": {"type": "object", "required": ["image"], "properties": {"image": {"type": "string"}}},
            "predictions": {
                "type": "array",
                "items": {
                    "type": "object",
                    "required": ["model_version", "score", "result"],
                    "properties": {
                        "score": {"type": "number", "minimum": 0, "maximum": 1},
                        "result": {
                            "type": "array",
                            "items": {
                                "type": "object",
                                "required": ["type", "from_name", "to_name", "value"],
                                "properties": {
                                    "type": {"const": "choices"},
                                    "value": {
                                        "type": "object",
                                        "required": ["choices"],
                                        "properties": {
                                            "choices": {"type": "array", "items": {"type": "string"}}
                                        },
                                    },
                                },
                            },
                        },
                    },
                },
            },
        },
    },
}


def test_label_studio_matches_the_documented_layout(
    tiny_run: tuple[TinySet, Path], frame: pd.DataFrame, tmp_path: Path
) -> None:
    _, out = tiny_run
    export_run(out, tmp_path / "dest", to="label-studio", rows="suspects", url_prefix="https://x.y/?d=")
    tasks = json.loads((tmp_path / "dest" / "tasks.json").read_text())
    validate(tasks, LABEL_STUDIO_SCHEMA)
    suspects = frame[frame.is_label_issue].sort_values("label_score", kind="stable")
    assert [task["data"]["path"] for task in tasks] == suspects.image.tolist()
    assert all(task["data"]["image"].startswith("https://x.y/?d=") for task in tasks)
    assert "%20" in tasks[0]["data"]["image"]
    chosen = [task["predictions"][0]["result"][0]["value"]["choices"] for task in tasks]
    assert chosen == [[name] for name in suspects.predicted_label]
    config = ET.fromstring((tmp_path / "dest" / "labeling-config.xml").read_text())
    choices = config.find("Choices")
    assert choices is not None
    assert [c.get("value") for c in choices] == ["c0", "c1", "c2"]
    result = tasks[0]["predictions"][0]["result"][0]
    assert (result["from_name"], result["to_name"]) == (choices.get("name"), choices.get("toName"))


@pytest.mark.slow
def test_label_studio_accepts_it(tiny_run: tuple[TinySet, Path], tmp_path: Path) -> None:
    interface = pytest.importorskip("label_studio_sdk.label_interface").LabelInterface
    export_run(tiny_run[1], tmp_path / "dest", to="label-studio")
    made = interface((tmp_path / "dest" / "labeling-config.xml").read_text())
    made.validate()
    for task in json.loads((tmp_path / "dest" / "tasks.json").read_text()):
        assert made.validate_prediction(task["predictions"][0], return_errors=True) == []


def test_cleanlab_columns(tiny_run: tuple[TinySet, Path], frame: pd.DataFrame, tmp_path: Path) -> None:
    cleanlab = pytest.importorskip("cleanlab.datalab.internal.issue_manager.label")
    export_run(tiny_run[1], tmp_path / "dest", to="cleanlab")
    back = pd.read_parquet(tmp_path / "dest" / "issues.parquet")
    name = cleanlab.LabelIssueManager.issue_name
    assert {f"is_{name}_issue", f"{name}_score", "given_label", "predicted_label"} <= set(back.columns)
    assert (back.is_label_issue == frame.is_label_issue).all()
    assert (back.label_score == frame.label_score).all()
    worst = back.sort_values("label_score").iloc[0]
    assert worst.is_label_issue


@pytest.mark.filterwarnings("ignore")  # theirs
def test_cleanlab_and_crowd_kit_columns_of_annotators(tmp_path: Path) -> None:
    """The columns that the tools themselves make and take, with the figures of the run in them."""
    multiannotator = pytest.importorskip("cleanlab.multiannotator")
    aggregation = pytest.importorskip("crowdkit.aggregation")
    tiny = TinySet(tmp_path)
    rng = np.random.default_rng(0)
    share = {"ann": 0.95, "bea": 0.9, "cyd": 0.6}
    said = {who: np.where(rng.random(60) < p, tiny.true, (tiny.true + 1) % 3) for who, p in share.items()}
    rows = [
        (name, tiny.classes[k], who)
        for who, labels in said.items()
        for name, k in zip(tiny.names, labels, strict=True)
    ]
    labels = write_rows(tmp_path / "three.csv", rows, ("image", "label", "annotator"))
    labelfix.clean(tiny.images, labels, tiny.trusted, tmp_path / "out", **FAST)  # type: ignore[arg-type]
    export_run(tmp_path / "out", tmp_path / "dest", to="cleanlab", rows="suspects")
    suspects = pd.read_parquet(tmp_path / "dest" / "issues.parquet").image
    assert set(pd.read_parquet(tmp_path / "dest" / "annotations.parquet").task) == set(suspects)
    export_run(tmp_path / "out", tmp_path / "dest", to="cleanlab", force=True)
    back = {path.stem: pd.read_parquet(path) for path in (tmp_path / "dest").glob("*.parquet")}
    probs = np.full((60, 3), 0.1) + 0.7 * np.eye(3)[tiny.true]
    theirs = multiannotator.get_label_quality_multiannotator(
        pd.DataFrame(dict(said)), probs, verbose=False, return_detailed_quality=False
    )
    assert set(theirs["annotator_stats"].columns) <= set(back["annotator_stats"].columns)
    assert set(theirs["label_quality"].columns) <= set(back["label_quality"].columns)
    people = back["annotator_stats"].set_index("annotator")
    assert people.index[0] == "cyd"
    assert people.num_examples_labeled.tolist() == [60] * 3
    best = back["label_quality"].set_index("image").consensus_label[tiny.names].to_numpy()
    assert (best == np.array(tiny.classes)[tiny.true]).mean() > 0.9
    for who, labels_of in said.items():
        agreed = np.mean(np.array(tiny.classes)[labels_of] == best)
        assert people.agreement_with_consensus[who] == pytest.approx(agreed)
    assert (back["label_quality"].num_annotations == 3).all()
    found = aggregation.MajorityVote().fit_predict(back["annotations"])
    votes = np.array([np.bincount([s[i] for s in said.values()], minlength=3).argmax() for i in range(60)])
    assert (found[tiny.names].to_numpy() == np.array(tiny.classes)[votes]).all()


def test_duckdb_and_polars_read_the_provenance(
    tiny_run: tuple[TinySet, Path], frame: pd.DataFrame, tmp_path: Path
) -> None:
    duckdb, polars = pytest.importorskip("duckdb"), pytest.importorskip("polars")
    export_run(tiny_run[1], tmp_path / "dest", to="huggingface", policy="relabel")
    path = str(tmp_path / "dest" / "metadata.parquet")
    changed = duckdb.sql(
        f"SELECT old_label, new_label, count(*) FROM '{path}' WHERE old_label <> new_label GROUP BY ALL"
    ).fetchall()
    fixed = frame[frame.action == "relabel"]
    wanted = fixed.groupby(["given_label", "predicted_label"]).size()
    assert {(old, new): n for old, new, n in changed} == wanted.to_dict()
    table = polars.read_parquet(path)
    assert table.filter(polars.col("action") == "relabel").height == len(fixed)
    assert table["soft_label"].dtype == polars.Array(polars.Float32, 3)


# ----------------------------------------------------------------------------------------------- where it writes


def test_nothing_is_overwritten(tiny_run: tuple[TinySet, Path], tmp_path: Path) -> None:
    _, out = tiny_run
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("keep me")
    for force in (False, True):
        with pytest.raises(OutputError, match="holds no export"):
            export_run(out, tmp_path / "mine", to="csv", force=force)
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="not a folder"):
        export_run(out, tmp_path / "file", to="csv", force=True)
    export_run(out, tmp_path / "dest", to="csv")
    before = {p.name: p.read_bytes() for p in (tmp_path / "dest").iterdir()}
    with pytest.raises(OutputError, match="--force"):
        export_run(out, tmp_path / "dest", to="cleanlab")
    assert {p.name: p.read_bytes() for p in (tmp_path / "dest").iterdir()} == before
    export_run(out, tmp_path / "dest", to="cleanlab", force=True)
    assert not (tmp_path / "dest" / "labels.csv").exists()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["dest", "file", "mine"]


def test_inputs_are_out_of_bounds(tmp_path: Path) -> None:
    tiny = TinySet(tmp_path / "all")
    labelfix.clean(tiny.images, tiny.labels, tiny.trusted, tmp_path / "out", **FAST)  # type: ignore[arg-type]
    (tmp_path / "all" / "export.json").write_text("{}")  # looks like an export, and holds the inputs
    (tmp_path / "link").symlink_to(tiny.images)
    for place in (tiny.images, tiny.images / "new", tmp_path / "link" / "new", tmp_path / "all"):
        with pytest.raises(OutputError, match="an input of the run"):
            export_run(tmp_path / "out", place, to="imagefolder", force=True)
    assert len(list(tiny.images.rglob("*.png"))) == 60


def test_a_failed_export_leaves_nothing(tmp_path: Path) -> None:
    tiny = TinySet(tmp_path)
    labelfix.clean(tiny.images, tiny.labels, tiny.trusted, tmp_path / "out", **FAST)  # type: ignore[arg-type]
    for name in tiny.names[:12]:
        (tiny.images / name).unlink()
    with pytest.raises(InputError, match=r"no image .* any more") as caught:
        export_run(tmp_path / "out", tmp_path / "dest", to="huggingface")
    assert caught.value.count == 12
    assert not (tmp_path / "dest").exists()
    assert not list(tmp_path.glob(".*"))


def test_images_may_have_moved(tmp_path: Path) -> None:
    tiny = TinySet(tmp_path)
    labelfix.clean(tiny.images, tiny.labels, tiny.trusted, tmp_path / "out", **FAST)  # type: ignore[arg-type]
    tiny.images.rename(tmp_path / "moved")
    with pytest.raises(InputError, match="--images"):
        export_run(tmp_path / "out", tmp_path / "dest", to="torch")
    export_run(tmp_path / "out", tmp_path / "dest", to="torch", images=str(tmp_path / "moved"))
    assert len(labelfix.SoftLabelDataset(tmp_path / "dest")[0][1]) == 3


def test_runs_on_a_matrix_have_no_images(tmp_path: Path) -> None:
    tiny = TinySet(tmp_path)
    probs = np.full((60, 3), 0.05)
    probs[np.arange(60), tiny.true] = 0.9
    np.save(tmp_path / "probs.npy", probs)
    labelfix.clean(tmp_path / "probs.npy", tiny.labels, tiny.trusted, tmp_path / "out")
    for to in ("imagefolder", "huggingface", "fiftyone"):
        with pytest.raises(InputError, match="--images"):
            export_run(tmp_path / "out", tmp_path / to, to=to)
    for to in ("csv", "cleanlab", "label-studio", "torch"):
        export_run(tmp_path / "out", tmp_path / to, to=to)
    dataset = labelfix.SoftLabelDataset(tmp_path / "torch", load=lambda path: os.path.basename(path))
    assert dataset[3][0] == os.path.basename(tiny.names[3])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"to": "excel"}, "--to"),
        ({"to": "csv", "policy": "guess"}, "--policy"),
        ({"to": "csv", "min_confidence": 1.5}, "--min-confidence"),
        ({"to": "csv", "min_confidence": 0.9, "policy": "soft"}, "--policy soft"),
        ({"to": "csv", "transfer": "copy"}, "--copy"),
    ],
)
def test_bad_options(
    tiny_run: tuple[TinySet, Path], tmp_path: Path, options: dict[str, Any], said: str
) -> None:
    with pytest.raises(SettingError, match=said):
        export_run(tiny_run[1], tmp_path / "dest", **options)


def test_folders_without_a_run(tmp_path: Path) -> None:
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "run.json").write_text("{")
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "run.json").write_text("[1]")
    for name in ("nowhere", "broken", "foreign"):
        with pytest.raises(LabelfixError, match=r"Check the path|Run labelfix clean again"):
            export_run(tmp_path / name, tmp_path / "dest", to="csv")


@pytest.mark.parametrize("to", list(ExportFormat))
def test_command(tiny_run: tuple[TinySet, Path], tmp_path: Path, to: ExportFormat) -> None:
    arguments = ["export", str(tiny_run[1]), str(tmp_path / "dest"), "--to", to]
    result = CliRunner().invoke(app, [*arguments, "--json"])
    assert result.exit_code == 0, result.output
    summary = json.loads(result.stdout)
    assert summary["policy"] == DEFAULT_POLICY[to]
    assert summary == json.loads((tmp_path / "dest" / "export.json").read_text()) | {"path": summary["path"]}
    assert len(pd.read_parquet(tmp_path / "dest" / "provenance.parquet")) == 90
    again = CliRunner().invoke(app, arguments)
    assert again.exit_code == 2
    assert "--force" in again.stderr
    shown = CliRunner().invoke(app, [*arguments, "--force"])
    assert "90 images" in shown.stdout
