import dataclasses
import inspect
import re
from enum import StrEnum

import pytest
from typer.testing import CliRunner

import labelfix
from labelfix.errors import SettingError
from labelfix.settings import CleanConfig, FeatureConfig, HeadConfig, NetworkConfig, Train, option_owners
from labelfix_cli import app
from labelfix_cli.clean import clean as clean_command

# Options of the command that are not settings of the run.
NOT_SETTINGS = {
    "context",
    "source",
    "labels",
    "trusted",
    "reviewed",
    "draws",
    "out",
    "force",
    "as_json",
    "quiet",
    "report",
    "resume",
}


def flat_defaults() -> dict[str, object]:
    return CleanConfig().options()


def plain(value: object) -> object:
    return str(value) if isinstance(value, StrEnum) else value


def test_command_line_and_config_share_their_defaults() -> None:
    parameters = inspect.signature(clean_command).parameters
    settings = {name: plain(p.default) for name, p in parameters.items() if name not in NOT_SETTINGS}
    assert settings == flat_defaults()


def test_every_option_and_default_is_in_the_help() -> None:
    result = CliRunner().invoke(app, ["clean", "--help"], env={"COLUMNS": "200", "TERM": "dumb"})
    text = " ".join(re.sub(r"[│╭╮╰╯─]", " ", result.output).split())
    for name, default in flat_defaults().items():
        assert f"--{name.replace('_', '-')} " in text, name
        if default is not None and not isinstance(default, bool):
            assert f"[default: {default}]" in text, (name, default)


def test_option_names_are_unique_across_stages() -> None:
    stages = [f.default_factory for f in dataclasses.fields(CleanConfig) if callable(f.default_factory)]
    names = [f.name for stage in stages for f in dataclasses.fields(stage)]  # type: ignore[arg-type]
    assert len(names) == len(set(names))


def test_from_options_round_trips() -> None:
    config = CleanConfig.from_options({"image_size": 64, "folds": 3, "seed": 7, "classes": ["a", "b"]})
    assert config.features == FeatureConfig(image_size=64)
    assert config.head == HeadConfig(folds=3)
    assert CleanConfig.from_options(config.options()) == config


def test_auto_is_checked_as_what_it_comes_to() -> None:
    full = CleanConfig.from_options({"epochs": 5, "folds": 1}, auto=Train.FULL)
    assert (full.train, full.head) == (Train.AUTO, NetworkConfig(epochs=5, folds=1))
    with pytest.raises(SettingError, match="--folds: got 1"):
        CleanConfig.from_options({"folds": 1}, auto=Train.HEAD)
    with pytest.raises(SettingError, match="--folds: got 1"):
        CleanConfig.from_options({"folds": 1, "train": "head"}, auto=Train.FULL)


def test_unknown_option_names_the_closest() -> None:
    with pytest.raises(SettingError, match="Did you mean 'image_size'"):
        CleanConfig.from_options({"image_sise": 64})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("folds", 1), ("folds", 2.5), ("epochs", 0), ("warmup_epochs", 21), ("batch_size", 0), ("alpha", 0.0),
        ("learning_rate", -1.0), ("momentum", 1.0), ("beta", float("nan")), ("gamma", float("inf")),
        ("reduction", "sum"), ("image_size", 4), ("inference_batch", 0), ("workers", -1), ("precision", "half"),
        ("kind", "video"), ("missing", "ignore"), ("seed", -1), ("soft_label_top_k", 0), ("interval", 1.0),
        ("prior_rows", 0.0), ("backbone", ""), ("train", "tail"),
    ],
)  # fmt: skip
def test_values_out_of_range_name_the_option(name: str, value: object) -> None:
    with pytest.raises(SettingError, match="--" + name.replace("_", "-")):
        CleanConfig.from_options({name: value})


@pytest.mark.parametrize("name", ["batch_size", "trusted_batch_size"])
def test_batches_of_the_full_network_have_two_rows(name: str) -> None:
    option = "--" + name.replace("_", "-")
    with pytest.raises(SettingError, match=f"{option}: got 1; expected a whole number of at least 2"):
        CleanConfig.from_options({"train": "full", name: 1})
    assert getattr(CleanConfig.from_options({"train": "full", name: 2}).head, name) == 2
    assert getattr(CleanConfig.from_options({"train": "head", name: 1}).head, name) == 1


def test_every_setting_has_an_owner() -> None:
    assert set(option_owners()) == set(flat_defaults())


def test_public_names_resolve() -> None:
    assert sorted(labelfix.__all__, key=str.lower) == sorted(
        labelfix._HOME_OF | {"__version__": ""}, key=str.lower
    )
    for name in labelfix.__all__:
        assert getattr(labelfix, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        labelfix.nothing  # noqa: B018
