"""Settings of a run: what is refused, and the key that decides whether a run is done."""

from dataclasses import replace
from typing import Any

import pytest

from labelfix.benchmark.settings import RunSettings
from labelfix.errors import SettingError


def test_the_key_follows_every_setting() -> None:
    one = RunSettings(method="mslg")
    keys = {one.key()}
    changes: list[dict[str, Any]] = [
        {"seed": 1}, {"noise": "uniform"}, {"ratio": 0.2}, {"epochs": 7}, {"trusted": 500}, {"images": None},
        {"options": {"alpha": 0.1}}, {"measured_on": "train"}, {"method": "pencil"}, {"dtype": "bfloat16"},
    ]  # fmt: skip
    keys |= {replace(one, **change).key() for change in changes}
    assert len(keys) == len(changes) + 1


def test_the_key_does_not_follow_how_a_default_is_written() -> None:
    assert RunSettings(method="mslg").key() == RunSettings(method="mslg", options={"alpha": 0.5}).key()
    assert (
        RunSettings(method="mslg", noise="none", ratio=0.4).key()
        == RunSettings(method="mslg", noise="none", ratio=None).key()
    )


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"method": "dividemix"}, "method: got 'dividemix'; expected one of cross_entropy"),
        ({"data": "mnist"}, "data: got 'mnist'"),
        ({"ratio": 1.5}, "ratio: got 1.5"),
        ({"ratio": None}, "ratio: got None"),
        ({"epochs": 0}, "epochs: got 0; expected a whole number of at least 1"),
        ({"images": 0}, "images: got 0"),
        ({"held_out": 2000}, "at most the trusted images"),
        ({"learning_rate": float("nan")}, "learning_rate"),
        ({"augment": "cutmix"}, "augment: got 'cutmix'"),
        ({"trusted_from": "valid"}, "trusted_from"),
        ({"dtype": "int8"}, "dtype"),
        ({"options": {"gama": 1}}, r"option mslg.gama: got 1; expected an option in \['alpha'"),
        ({"options": {"reduction": "sum"}}, "options of mslg: 'sum' is not a valid Reduction"),
    ],
)
def test_bad_settings(change: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingError, match=said):
        RunSettings(**{"method": "mslg", **change})
