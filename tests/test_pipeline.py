"""The main job from Python: real files in, the run directory out."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from conftest import TinySet, write_rows

import labelfix
import labelfix.cross_fitting.predictions
import labelfix.pipeline
from labelfix import CleanConfig, CleanResult
from labelfix.errors import InputError, OutputError, SettingError
from labelfix.settings import HeadConfig, NetworkConfig, Train

FAST = {"train": "head", "image_size": 32, "folds": 3, "workers": 0}


def run(tiny: TinySet, out: str = "out", **options: object) -> CleanResult:
    cache = str(tiny.folder / "cache")
    arguments = {"labels": tiny.labels, "trusted": tiny.trusted} | FAST | {"cache_dir": cache} | options
    return labelfix.clean(tiny.images, out=tiny.folder / out, **arguments)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[TinySet, CleanResult]:
    tiny = TinySet(tmp_path_factory.mktemp("done"), rows=150)
    return tiny, run(tiny)


def test_columns_are_the_contract(done: tuple[TinySet, CleanResult]) -> None:
    tiny, result = done
    table = pq.read_table(result.out / "soft_labels.parquet")
    types = {field.name: str(field.type).split(", indices")[0] for field in table.schema}
    assert types == {
        "image": "string",
        "given_label": "string",
        "predicted_label": "string",
        "soft_label": "fixed_size_list<element: float>[3]",
        "confidence": "float",
        "label_score": "float",
        "is_label_issue": "bool",
        "action": "dictionary<values=string",
        "trusted_label": "string",
        "verified_as": "string",
        "promised": "bool",
        "kept": "bool",
    }
    assert table["image"].to_pylist() == tiny.names
    assert table["given_label"].to_pylist() == [tiny.classes[k] for k in tiny.given]
    metadata = json.loads(table.schema.metadata[b"labelfix"])
    assert metadata["classes"] == tiny.classes
    assert metadata["seed"] == 0
    assert metadata["config"]["image_size"] == 32
    assert metadata["labelfix"] == labelfix.__version__


def test_columns_agree_with_each_other(done: tuple[TinySet, CleanResult]) -> None:
    tiny, result = done
    frame = pd.read_parquet(result.out / "soft_labels.parquet")
    soft = np.stack(frame.soft_label.to_list())
    rows = np.arange(len(frame))
    np.testing.assert_allclose(soft.sum(1), 1, atol=1e-5)
    predicted = soft.argmax(1)
    assert (frame.predicted_label == np.array(tiny.classes)[predicted]).all()
    np.testing.assert_array_equal(frame.confidence, soft[rows, predicted])
    np.testing.assert_array_equal(frame.label_score, soft[rows, tiny.given])
    assert (frame.is_label_issue == (frame.predicted_label != frame.given_label)).all()
    assert ((frame.action == "keep") == ~frame.is_label_issue).all()
    suspects = pd.read_parquet(result.out / "suspects.parquet")
    assert sorted(suspects.image) == sorted(frame.image[frame.is_label_issue])
    assert suspects.label_score.is_monotonic_increasing
    assert list(suspects.columns) == list(frame.columns)


def test_trusted_rows_have_their_trusted_label(done: tuple[TinySet, CleanResult]) -> None:
    tiny, result = done
    frame = result.soft_labels.to_pandas().iloc[np.sort(tiny.trusted_rows)]
    true = np.array(tiny.classes)[tiny.true[np.sort(tiny.trusted_rows)]]
    assert (frame.trusted_label == true).all()
    assert (frame.predicted_label == true).all()
    assert (frame.confidence == 1).all()
    wrong = frame[frame.given_label != true]
    assert len(wrong)
    assert (wrong.action == "relabel").all()
    assert (wrong.label_score == 0).all()
    assert result.soft_labels["trusted_label"].null_count == len(tiny.names) - len(frame)


def test_planted_errors_are_found(done: tuple[TinySet, CleanResult]) -> None:
    tiny, result = done
    rest = np.setdiff1d(np.arange(len(tiny.names)), tiny.trusted_rows)
    predicted = np.array(result.soft_labels["predicted_label"].to_pylist())[rest]
    true = np.array(tiny.classes)[tiny.true[rest]]
    given = np.array(tiny.classes)[tiny.given[rest]]
    assert (predicted == true).mean() > 0.97 > 0.85 > (given == true).mean()


def test_run_record(done: tuple[TinySet, CleanResult]) -> None:
    tiny, result = done
    record = json.loads((result.out / "run.json").read_text())
    assert record["summary"] == result.summary
    assert record["inputs"]["files"][0] == {
        "path": str(tiny.labels),
        "sha256": hashlib.sha256(tiny.labels.read_bytes()).hexdigest(),
    }
    assert record["evidence"]["images_decoded"] == len(tiny.names)
    assert record["versions"]["torch"]
    noise = record["summary"]["estimates"]["noise_rate"]
    wrong = (tiny.given != tiny.true)[tiny.trusted_rows]
    assert noise["value"] == pytest.approx(
        (tiny.given != tiny.true).mean(), abs=0.05
    )  # not of these rows alone
    assert noise["low"] < noise["value"] < noise["high"]
    assert noise["high"] - noise["low"] < 0.8 * 2 * 1.96 * np.sqrt(
        wrong.mean() * (1 - wrong.mean()) / len(wrong)
    )
    assert noise["rows"] == len(tiny.trusted_rows)


def test_noise_matrix_counts_trusted_pairs(done: tuple[TinySet, CleanResult]) -> None:
    tiny, result = done
    frame = pd.read_parquet(result.out / "noise_matrix.parquet")
    assert len(frame) == 9
    sums = frame.groupby("true_label").probability.sum()
    np.testing.assert_allclose(sums, 1)
    assert ((frame.low <= frame.probability) & (frame.probability <= frame.high)).all()
    cell = frame[(frame.true_label == "c0") & (frame.given_label == "c1")].rows.item()
    rows = tiny.trusted_rows
    assert cell == ((tiny.true[rows] == 0) & (tiny.given[rows] == 1)).sum()


def test_same_seed_same_bytes(tiny: TinySet) -> None:
    first, second, other = run(tiny), run(tiny, "again"), run(tiny, "other", seed=1)
    as_bytes = [
        r.soft_labels["soft_label"].combine_chunks().flatten().to_numpy().tobytes() for r in (first, second)
    ]
    assert as_bytes[0] == as_bytes[1]
    assert as_bytes[0] != other.soft_labels["soft_label"].combine_chunks().flatten().to_numpy().tobytes()


def test_permuting_rows_permutes_the_result(tiny: TinySet) -> None:
    order = np.random.default_rng(1).permutation(len(tiny.names))
    shuffled = tiny.write("shuffled.csv", order, tiny.given)
    straight = run(tiny).soft_labels
    permuted = run(tiny, "permuted", labels=shuffled, cache_dir=str(tiny.folder / "fresh")).soft_labels
    assert permuted["image"].to_pylist() == [tiny.names[i] for i in order]
    assert permuted["predicted_label"].to_pylist() == straight["predicted_label"].take(order).to_pylist()
    np.testing.assert_allclose(
        permuted["label_score"].to_numpy(), straight["label_score"].to_numpy()[order], atol=1e-6
    )


def test_broken_images_are_quarantined(tiny: TinySet) -> None:
    trusted_row, plain_row = int(tiny.trusted_rows[0]), int(np.setdiff1d(np.arange(60), tiny.trusted_rows)[0])
    for row in (trusted_row, plain_row):
        (tiny.images / tiny.names[row]).write_bytes(b"\x89PNG broken")
    result = run(tiny)
    quarantined = pq.read_table(result.out / "quarantine.parquet").to_pydict()
    assert sorted(quarantined["image"]) == sorted([tiny.names[trusted_row], tiny.names[plain_row]])
    assert all(quarantined["reason"])
    kept = [name for i, name in enumerate(tiny.names) if i not in (trusted_row, plain_row)]
    assert result.soft_labels["image"].to_pylist() == kept
    assert result.summary["quarantined"] == 2
    assert result.summary["trusted_pairs"] == len(tiny.trusted_rows) - 1


def test_every_image_broken(tiny: TinySet) -> None:
    for name in tiny.names:
        (tiny.images / name).write_bytes(b"")
    with pytest.raises(InputError, match="0 images"):
        run(tiny)
    assert not (tiny.folder / "out" / "run.json").exists()


def test_missing_images_can_be_quarantined(tiny: TinySet) -> None:
    (tiny.images / tiny.names[4]).unlink()
    with pytest.raises(InputError, match=r"there is no file .*--missing quarantine"):
        run(tiny)
    result = run(tiny, missing="quarantine")
    assert result.quarantine.to_pylist() == [{"image": tiny.names[4], "reason": "there is no such file"}]
    assert len(result.soft_labels) == len(tiny.names) - 1


def test_without_trusted_labels(tiny: TinySet) -> None:
    result = run(tiny, trusted=None)
    assert result.summary["calibrated"] is False
    assert result.summary["estimates"] == {}
    assert result.soft_labels["trusted_label"].null_count == len(tiny.names)
    predicted = np.array(result.soft_labels["predicted_label"].to_pylist())
    assert (predicted == np.array(tiny.classes)[tiny.true]).mean() > 0.85


def test_trusted_images_outside_the_labels(tiny: TinySet) -> None:
    labels = tiny.write("some.csv", range(40), tiny.given)
    everything = tiny.write("all_trusted.csv", range(20, 60), tiny.true)
    result = run(tiny, labels=labels, trusted=everything)
    assert result.soft_labels["image"].to_pylist() == tiny.names[:40]
    assert (result.summary["trusted_pairs"], result.summary["trusted_extra"]) == (20, 20)


def test_existing_run_is_kept(tiny: TinySet) -> None:
    out = run(tiny).out
    before = {p.name: p.read_bytes() for p in out.iterdir()}
    with pytest.raises(OutputError, match="--force"):
        run(tiny)
    assert {p.name: p.read_bytes() for p in out.iterdir()} == before
    (out / "annotators.parquet").write_bytes(b"of an earlier run")
    (out / "my notes.txt").write_text("keep me")
    run(tiny, force=True)
    assert not (out / "annotators.parquet").exists()
    assert (out / "my notes.txt").read_text() == "keep me"
    assert not list(out.glob(".*"))  # no temporary file left behind


def test_out_that_is_a_file(tiny: TinySet) -> None:
    (tiny.folder / "out").write_text("")
    with pytest.raises(OutputError, match="is a file"):
        run(tiny)


def test_top_k_soft_labels(tiny: TinySet) -> None:
    whole = run(tiny).soft_labels
    short = run(tiny, "short", soft_label_top_k=2).soft_labels
    dense = np.stack(whole["soft_label"].to_pylist())
    for row, (pairs, rest) in enumerate(
        zip(short["soft_label"].to_pylist(), short["soft_label_rest"].to_pylist(), strict=True)
    ):
        best = np.argsort(-dense[row], kind="stable")[:2]
        assert [p["class"] for p in pairs] == [tiny.classes[k] for k in best]
        np.testing.assert_allclose([p["probability"] for p in pairs], dense[row][best], atol=1e-6)
        assert rest == pytest.approx(1 - dense[row][best].sum(), abs=1e-5)


@pytest.mark.parametrize("library", ["pandas", "arrow"])
def test_tables_in_memory(tiny: TinySet, library: str) -> None:
    columns = {"image": tiny.names, "label": [tiny.classes[k] for k in tiny.given]}
    table = pd.DataFrame(columns) if library == "pandas" else pa.table(columns)
    from_memory = run(tiny, labels=table).soft_labels
    assert from_memory.equals(run(tiny, "from_file").soft_labels)


def test_features_and_probs_as_matrices(tiny: TinySet) -> None:
    rng = np.random.default_rng(0)
    corners = rng.normal(size=(3, 8)) * 3
    np.save(tiny.folder / "features.npy", corners[tiny.true] + rng.normal(size=(60, 8)))
    probs = np.full((60, 3), 0.05)
    probs[np.arange(60), tiny.true] = 0.9
    np.save(tiny.folder / "probs.npy", probs)
    true = np.array(tiny.classes)[tiny.true]
    for name, kind in (("features.npy", "features"), ("probs.npy", "probs")):
        result = labelfix.clean(
            tiny.folder / name, tiny.labels, tiny.trusted, tiny.folder / kind, folds=3, epochs=20
        )
        record = json.loads((result.out / "run.json").read_text())
        assert record["evidence"]["kind"] == kind
        assert (np.array(result.soft_labels["predicted_label"].to_pylist()) == true).mean() > 0.95


def test_class_order_of_a_matrix(tiny: TinySet) -> None:
    """Naming the columns in another order must turn the result around."""
    probs = np.full((60, 3), 0.05)
    probs[np.arange(60), 2 - tiny.true] = 0.9  # columns are c2, c1, c0
    np.save(tiny.folder / "probs.npy", probs)
    result = labelfix.clean(
        tiny.folder / "probs.npy", tiny.labels, tiny.trusted, tiny.folder / "out", classes=["c2", "c1", "c0"]
    )
    true = np.array(tiny.classes)[tiny.true]
    assert (np.array(result.soft_labels["predicted_label"].to_pylist()) == true).mean() > 0.95


def test_wrong_matrix_shapes(tiny: TinySet) -> None:
    np.save(tiny.folder / "short.npy", np.ones((59, 3), np.float32))
    np.save(tiny.folder / "wide.npy", np.full((60, 4), 0.25, np.float32))
    with pytest.raises(InputError, match="59 rows; the labels have 60"):
        labelfix.clean(
            tiny.folder / "short.npy", tiny.labels, tiny.trusted, tiny.folder / "out", kind="features"
        )
    with pytest.raises(InputError, match="4 columns, but there are 3 classes"):
        labelfix.clean(tiny.folder / "wide.npy", tiny.labels, tiny.trusted, tiny.folder / "out", kind="probs")


def test_unknown_option(tiny: TinySet) -> None:
    with pytest.raises(SettingError, match="Did you mean 'folds'"):
        run(tiny, fold=3)


def test_inputs_are_never_changed(tiny: TinySet) -> None:
    def state() -> dict[str, bytes]:
        files = [*tiny.images.rglob("*.png"), tiny.labels, tiny.trusted]
        return {str(p): p.read_bytes() for p in files}

    before = state()
    run(tiny)
    run(tiny, force=True, seed=1)
    assert state() == before


def test_several_annotators(tiny: TinySet) -> None:
    """Three annotators, of whom the third is always wrong: the majority is the given label."""
    wrong = (tiny.true + 1) % 3
    rows = [
        (name, tiny.classes[label], who)
        for who, labels in (("ann", tiny.true), ("bea", tiny.true), ("cyd", wrong))
        for name, label in zip(tiny.names, labels, strict=True)
    ]
    labels = write_rows(tiny.folder / "three.csv", rows, ("image", "label", "annotator"))
    result = run(tiny, labels=labels)
    assert len(result.soft_labels) == 60
    assert result.summary["label_rows"] == 180
    assert result.summary["annotators"] == 3
    given = result.soft_labels["given_label"].to_pylist()
    assert given == [tiny.classes[k] for k in tiny.true]


def test_paths_may_be_strings(tiny: TinySet) -> None:
    result = labelfix.clean(
        str(tiny.images), str(tiny.labels), [str(tiny.trusted)], str(tiny.folder / "out"), **FAST
    )
    assert Path(result.out, "run.json").exists()


# ---------------------------------------------------------------------------------------- what auto comes to


class Decided(Exception):  # noqa: N818
    """Carries the configuration that training would start with."""


def decided(tiny: TinySet, monkeypatch: pytest.MonkeyPatch, device: str, **options: object) -> CleanConfig:
    """Return the configuration that the evidence would be computed with, where `device` is what there is."""

    def stop(
        origin: object, kind: object, table: object, config: CleanConfig, *more: object, **_: object
    ) -> None:
        raise Decided(config)

    monkeypatch.setattr(labelfix.pipeline, "predict_out_of_fold", stop)
    for module in (labelfix.pipeline, labelfix.cross_fitting.predictions):
        monkeypatch.setattr(module, "choose_device", lambda name: torch.device(device))
    with pytest.raises(Decided) as found:
        labelfix.clean(tiny.images, out=tiny.folder / "out", labels=tiny.labels, **options)  # type: ignore[arg-type]
    return found.value.args[0]


def test_auto_takes_the_options_of_the_full_network_on_a_gpu(
    tiny: TinySet, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = decided(tiny, monkeypatch, "cuda", trusted=tiny.trusted, folds=1, epochs=5)
    assert (config.train, config.head) == (Train.FULL, NetworkConfig(folds=1, epochs=5))


@pytest.mark.parametrize(("device", "with_trusted"), [("cpu", True), ("cuda", False)])
def test_auto_takes_the_options_of_the_head_elsewhere(
    tiny: TinySet, monkeypatch: pytest.MonkeyPatch, device: str, with_trusted: bool
) -> None:
    trusted = tiny.trusted if with_trusted else None
    config = decided(tiny, monkeypatch, device, trusted=trusted, epochs=7)
    assert (config.train, config.head) == (Train.HEAD, HeadConfig(epochs=7))
    with pytest.raises(SettingError, match="--folds: got 1; expected a whole number of at least 2"):
        labelfix.clean(tiny.images, out=tiny.folder / "other", labels=tiny.labels, trusted=trusted, folds=1)


# ------------------------------------------------------------------------------------------------ a finished run


def test_config_and_options_give_the_same_run(tiny: TinySet) -> None:
    config = CleanConfig.from_options({**FAST, "seed": 3, "cache_dir": str(tiny.folder / "cache")})
    arguments = {"labels": tiny.labels, "trusted": tiny.trusted}
    one = labelfix.clean(tiny.images, out=tiny.folder / "one", config=config, **arguments)
    two = labelfix.clean(tiny.images, out=tiny.folder / "two", config=config, seed=3, **arguments)
    other = labelfix.clean(tiny.images, out=tiny.folder / "other", config=config, seed=4, **arguments)
    assert one.soft_labels["soft_label"].equals(two.soft_labels["soft_label"])
    assert not one.soft_labels["soft_label"].equals(other.soft_labels["soft_label"])
    record = json.loads((tiny.folder / "other" / "run.json").read_text())
    assert (record["config"]["seed"], record["config"]["image_size"]) == (4, 32)


def test_defaults_of_a_config_leave_the_network_its_own() -> None:
    assert CleanConfig().changed_options() == {}
    config = CleanConfig(train=Train.FULL, head=NetworkConfig(epochs=9))
    assert config.changed_options() == {"train": "full", "epochs": 9}


def test_open_run_does_what_the_commands_do(tmp_path: Path, done: tuple[TinySet, CleanResult]) -> None:
    _, result = done
    run = labelfix.open_run(result.out)
    assert run.summary == result.summary
    assert run.suspects.equals(result.suspects)
    assert run.soft_labels.equals(result.soft_labels)
    plan = run.next(7, tmp_path / "next.csv")
    assert plan.table.num_rows == 7
    assert len(pd.read_csv(tmp_path / "next.csv")) == 7
    assert (plan.draw.settings["number"], run.next(7).draw.settings["number"]) == (1, 2)
    assert run.export(tmp_path / "export", to="csv").summary["run_id"] == run.finished.run_id
    assert run.report(tmp_path / "page.html").path.exists()
    assert not run.check(max_noise=0.0).passed
    with pytest.raises(InputError, match="annotator column"):
        run.audit()
    with pytest.raises(InputError, match="holds no finished run"):
        labelfix.open_run(tmp_path)


def test_results_show_themselves_in_one_line_and_in_notebooks(
    tmp_path: Path, done: tuple[TinySet, CleanResult]
) -> None:
    _, result = done
    run = labelfix.open_run(result.out)
    export, check = run.export(tmp_path / "export", to="csv"), run.check(max_noise=0.5, max_suspects=0.0)
    assert repr(export).endswith("150 images)")
    assert repr(check) == "CheckResult(1 of 2 gates passed)"
    assert "<th style='text-align:left'>failed</th>" in check._repr_html_()
    assert "<td style='text-align:left'>csv</td>" in export._repr_html_()
    for shown in (result, run):
        assert len(repr(shown)) < 200
        assert "150 images" in repr(shown)
        assert "<th style='text-align:left'>noise rate</th>" in shown._repr_html_()
