"""Defaults that depend on other values: defaults of a task, name and folder of a run, folder of its
shards."""

import re
import sys
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

from pipeline import components, tasks
from pipeline.config.schema import Config
from pipeline.corpus.dataset.identity import shards_digest
from pipeline.errors import ConfigError
from pipeline.tasks.base.settings import TaskSettings

SHARDS = "data/shards"
MAX_NAME = 60
"""Maximum number of characters of a name that is made from the name of an input."""


def fill_defaults(values: dict[str, Any], name: str) -> None:
    """Set the defaults that depend on the name of the config, on the task or on
    `model.init_from`. Raises ConfigError if the name of the run is not the name of a folder."""
    if not isinstance(values.get("run"), dict):
        return
    # A file name may have bytes that the locale cannot decode, or characters it cannot encode.
    readable = name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    run_name = str(values["run"].setdefault("name", readable))
    encoding = sys.getfilesystemencoding()
    folder = run_name.encode(encoding, "replace").decode(encoding)
    if "dir" not in values["run"]:
        parts = PurePosixPath(f"./{folder}").parts
        if run_name and (not parts or ".." in parts):
            raise ConfigError(
                f"run.name={run_name}: is not the name of a folder in runs/; set another name, or "
                "run.dir"
            )
        values["run"]["dir"] = f"runs/{folder}"
    if not all(isinstance(values.get(section), dict) for section in Config.model_fields):
        return
    for key, default in dependent_defaults(values).items():
        section, _, field = key.partition(".")
        values[section].setdefault(field, default)


def dependent_defaults(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the defaults of the task and of `model.init_from`, by dotted key.

    They replace the declared defaults of the keys. `values` are the sections of the config.
    """
    defaults: dict[str, Any] = {}
    task = values["task"].get("name", TaskSettings().name)
    if isinstance(task, str):  # another type is reported with all other mistakes
        defaults.update(components.load("task", task).defaults(values))
    model, corpus = values["model"], values["corpus"]
    if isinstance(model.get("init_from"), str) and model["init_from"]:
        defaults.setdefault("corpus.tokenizer", f"{model['init_from']}/dataset/tokenizer.json")
        if not corpus.get("group") and not corpus.get("time"):
            # Texts that the language model held out are then held out here too.
            defaults.setdefault("corpus.stratify", False)
    return defaults


def with_shards(config: Config, name: str) -> Config:
    """Return the config with a value of `corpus.shards`: data/shards/NAME-DIGEST by default.

    DIGEST is a hash of the settings that affect the shards, so runs with the same settings share
    them, independent of `run.name`.
    """
    if config.corpus.shards:
        return config
    fields = tasks.fields(config.task.name, config.corpus)
    shards = f"{SHARDS}/{file_name(name)}-{shards_digest(config.corpus, fields)}"
    corpus = config.corpus.model_copy(update={"shards": shards})
    return config.model_copy(update={"corpus": corpus})


def input_name(inputs: Any) -> str:
    """Return a name for the value of `corpus.input`: its first file's name without suffixes.

    >>> input_name("mail/tickets-2024.csv.gz")
    'tickets-2024'
    >>> input_name({"source": ["wmt/train.en"], "target": ["wmt/train.de"]})
    'train'
    >>> input_name("s3://bucket/tickets/*.jsonl")
    'tickets'
    """
    while isinstance(inputs, (list, dict)) and inputs:
        inputs = next(iter(inputs.values() if isinstance(inputs, dict) else inputs))
    path = re.sub(r"[*?\[{].*", "", str(inputs)) or str(inputs)
    parts = [part for part in re.split(r"[/\\]", path) if part.strip(".~")]
    last = parts[-1] if parts else ""
    return file_name(last.lstrip(".").partition(".")[0])


def file_name(text: str) -> str:
    """Convert a text to the name of a folder, of letters, digits, `.`, `_` and `-`.

    >>> file_name("my reviews (2)")
    'my-reviews-2'
    """
    return re.sub(r"[^\w.-]+", "-", text)[:MAX_NAME].strip("-.") or "input"
