"""Old names of keys and values are errors that name the new ones."""

from pathlib import Path

import pytest

from pipeline import config
from pipeline.config.renamed import RENAMED_KEYS, RENAMED_VALUES
from pipeline.errors import ConfigError

KEYS = config.known_keys()


def errors(path: Path | None, overrides: list[str]) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        config.load(path, overrides)
    return caught.value.lines


def yaml_file(folder: Path, key: str, value: str) -> Path:
    """Write a config file with an input and one more setting."""
    section, _, name = key.partition(".")
    sections = {"corpus": ["input: a.csv"]}
    sections.setdefault(section, []).append(f"{name}: {value}")
    path = folder / "old.yaml"
    path.write_text("".join(f"{s}: {{{', '.join(keys)}}}\n" for s, keys in sections.items()))
    return path


@pytest.mark.parametrize("old, new", RENAMED_KEYS.items(), ids=RENAMED_KEYS)
def test_an_old_key_is_one_line_that_names_the_new_key(old: str, new: str, tmp_path: Path) -> None:
    expected = [f"{old}=1: this key is now named {new}; rename it"]
    assert errors(yaml_file(tmp_path, old, "1"), []) == expected
    assert errors(None, [f"{old}=1"]) == expected


@pytest.mark.parametrize("setting, new", RENAMED_VALUES.items(), ids="=".join)
def test_an_old_value_is_one_line_that_names_the_new_value(
    setting: tuple[str, str], new: str, tmp_path: Path
) -> None:
    key, old = setting
    expected = [f"{key}={old}: this value is now named {new}; rename it"]
    assert errors(yaml_file(tmp_path, key, old), []) == expected
    assert errors(None, [f"{key}={old}"]) == expected


def test_language_modelling_is_now_spelled_language_modeling() -> None:
    (line,) = errors(None, ["task.name=language_modelling"])
    assert line == (
        "task.name=language_modelling: this value is now named language_modeling; rename it"
    )


def test_no_old_key_is_a_key_today() -> None:
    assert not RENAMED_KEYS.keys() & KEYS


def test_each_new_key_is_a_key_today() -> None:
    assert set(RENAMED_KEYS.values()) <= set(KEYS)


@pytest.mark.parametrize("setting, new", RENAMED_VALUES.items(), ids="=".join)
def test_each_new_value_is_valid_today(setting: tuple[str, str], new: str, tmp_path: Path) -> None:
    key, _ = setting
    with pytest.raises(ConfigError) as caught:  # of another task than the default config's
        config.load(None, [f"{key}={new}"])
    assert not any(line.startswith(f"{key}={new}: ") for line in caught.value.lines)
