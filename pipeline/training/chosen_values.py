"""Values of keys that the user did not set: chosen by the size of the corpus, or kept from the run
that is resumed."""

from collections.abc import Collection
from pathlib import Path
from typing import Any

import yaml

from pipeline.config import Config, size_defaults
from pipeline.corpus.dataset.manifest import Manifest
from pipeline.run import checkpoint
from pipeline.run.folder import RunFolder


def choose(config: Config, manifest: Manifest, folder: RunFolder, resume: str) -> dict[str, Any]:
    """Return the values by dotted key; `resume` is `train.resume`.

    A run that resumes keeps those of its `config.yaml`, even if the rule that chose them has
    changed since.
    """
    values = size_defaults(config, manifest)
    return values | _stored(folder, resume, values.keys())


def _stored(folder: RunFolder, resume: str, keys: Collection[str]) -> dict[str, Any]:
    """Return the values of the run that `resume` continues; none if there is no such run."""
    if resume in ("auto", "never"):
        if not any(folder.checkpoints.glob("step-*")):
            return {}
    else:
        path = checkpoint.resolve(Path(resume))
        folder = RunFolder(path.parents[1])
    try:
        saved = yaml.safe_load(folder.config.read_text(encoding="utf-8"))
        pairs = {key: saved[key.partition(".")[0]][key.partition(".")[2]] for key in keys}
    except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError):
        return {}  # the checks of a run that resumes report what is wrong with the file
    return pairs
