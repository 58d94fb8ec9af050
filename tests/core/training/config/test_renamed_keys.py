"""Old names of settings: accepted in files and overrides, reported, and without effect on hashes."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
from steadyscale.core.training import TrainConfig, TrainingError, config_from, read_config
from steadyscale.core.training.config.renamed_keys import RENAMED_KEYS, hash_text
from steadyscale.core.training.config.toml_dataclass import merge_tables, to_table


def lookup(table: Any, path: str) -> Any:
    for key in path.split("."):
        table = table[key]
    return table


def nested(path: str, value: Any) -> Any:
    for key in reversed(path.split(".")):
        value = {key: value}
    return value


def other_value(new: str) -> Any:
    """A valid value that is not the default."""
    default = lookup(to_table(TrainConfig()), new)
    if new == "losses.layer_weights":
        return {"conv1_2": 0.5}
    if isinstance(default, dict):  # a section: one key that was not renamed itself
        key = next(key for key in default if f"{new}.{key}" not in RENAMED_KEYS.values())
        return {key: other_value(f"{new}.{key}")}
    if new == "optim.min_learning_rate":
        return default / 2
    if new == "runtime.autocast_dtype":
        return "bf16"
    if new == "runtime.device":
        return "cpu"
    if isinstance(default, str):
        return "other"
    if isinstance(default, bool):
        return not default
    if isinstance(default, int):
        return default + 1
    if isinstance(default, float):
        return default / 2 if default else 2.0
    return [value / 2 for value in default]


@pytest.mark.parametrize(("old", "new"), RENAMED_KEYS.items())
def test_an_old_name_sets_the_setting_of_the_new_name(
    old: str, new: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    value = other_value(new)
    wanted = config_from(nested(new, value))
    assert wanted != TrainConfig()
    assert not caplog.records
    with caplog.at_level(logging.WARNING):
        assert config_from(nested(old, value)) == wanted
    [record] = caplog.records
    leaf = f".{next(iter(value))}" if isinstance(value, dict) else ""
    assert f"{old}{leaf} is now {new}{leaf}" in record.getMessage()

    file = tmp_path / "run.toml"
    file.write_text("")
    if not isinstance(value, dict):
        text = str(value).lower() if isinstance(value, bool) else f"{value}"
        assert read_config(file, [f"{old}={text}"]) == wanted

    both = f"{old} and {new} are the same setting"
    with pytest.raises(TrainingError, match=both.replace(".", r"\.")):
        config_from(merge_tables(nested(old, value), nested(new, value)))


def test_an_override_under_either_name_replaces_the_value_of_the_file(tmp_path: Path):
    old, new = tmp_path / "old.toml", tmp_path / "new.toml"
    old.write_text("[learning]\nrate = 1e-3\nbetas = [0.5, 0.9]\n")
    new.write_text("[optim]\nlearning_rate = 1e-3\nbetas = [0.5, 0.9]\n")
    assert read_config(old) == read_config(new)
    for override in ("learning.rate=0.5", "optim.learning_rate=0.5"):
        for file in (old, new):
            optim = read_config(file, [override]).optim
            assert (optim.learning_rate, optim.betas) == (0.5, (0.5, 0.9))


def test_free_keys_with_dots_stay_one_key():
    assert config_from({"losses": {"layers": {"a.b": 1.0}}}).losses.layer_weights == {"a.b": 1.0}


def test_the_hashed_text_has_the_first_names():
    old = Path(__file__).parents[3] / "compatibility/files/run/config.toml"
    text = hash_text(to_table(read_config(old)))
    assert text == old.read_text(encoding="utf-8")
