"""Values of keys that the user did not set.

They follow from the size of the corpus, or are kept when a run resumes.
"""

from collections.abc import Collection
from pathlib import Path
from typing import Any

import yaml

from pipeline.config import Config, size_defaults
from pipeline.corpus.dataset.manifest import Manifest
from pipeline.run import checkpoint
from pipeline.run.folder import RunFolder


def choose(config: Config, manifest: Manifest, folder: RunFolder, resume: str) -> dict[str, Any]:
    """Return the values of the keys that the user did not set, by dotted key.

    A run that resumes keeps the values in its `config.yaml`, even if the rule in `size_defaults`
    has changed since. `resume` is the value of `train.resume`.
    """
    values = size_defaults(config, manifest)
    return values | _stored(folder, resume, values.keys())


def _stored(folder: RunFolder, resume: str, keys: Collection[str]) -> dict[str, Any]:
    """Return the values from the config of the run that `resume` continues; empty without one."""
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
        return {}  # later checks of the resumed run report the error in the file
    return pairs
