"""The format of an exported model: a folder with everything that prediction needs.

  config.json        task, metrics, labels and calibration, and the checksum of the weights
  config.yaml        the run's config, without tracking, passwords and local folders
  dataset.json       fields, label names and tokenizers, as in a prepared dataset
  tokenizer.json     one file per vocabulary, named after it
  model.safetensors  weights in fp32
  code/, code.json   copies of a user's components, if there are any (see `code.py`)

The Hugging Face Hub shows config.json, model.safetensors and, if it is added, README.md.
"""

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml
from pydantic import TypeAdapter
from safetensors.torch import save_file
from torch import Tensor

from pipeline.corpus.dataset.manifest import Manifest
from pipeline.errors import RunError
from pipeline.storage.atomic import replaced, sha256_of
from pipeline.storage.base import is_url
from pipeline.storage.redaction import redacted
from pipeline.tasks.base.calibration import NO_CALIBRATION, Calibration

FORMAT = 1
LIBRARY = "headrace"
FACTS, CONFIG, WEIGHTS = "config.json", "config.yaml", "model.safetensors"
LOCAL_SECTIONS = ("run", "track")
"""Sections of a config that apply only to the machine of the run."""
LOCAL_KEYS = {"corpus": ("root", "image_root", "shards"), "model": ("init_from", "word_vectors")}
"""Keys with paths that prediction does not read, by section."""
INPUT_KEYS = ("input", "validation", "test", "tokenizer")
"""Keys of the section `corpus` that keep file names, but not their folders."""
CALIBRATION = TypeAdapter(Calibration)
READ_ERRORS = (OSError, ValueError, TypeError, KeyError, AttributeError)
"""Exceptions that a damaged `config.json` raises."""


@dataclass(frozen=True)
class ExportedModel:
    """The content of config.json."""

    task: str
    """Name of the task, or its reference if it is a user's."""
    precision: str
    """Precision that the run was trained in, such as bf16."""
    step: int
    """Updates after which the weights were saved."""
    version: str
    """Version of Headrace that exported the model."""
    weights_sha256: str = ""
    name: str = ""
    """Name of the run."""
    metrics: Mapping[str, float] = field(default_factory=dict)
    """Metrics of the weights by split and name, such as `test/accuracy`."""
    labels: list[str] = field(default_factory=list)
    """Names of the labels, if labels are predicted."""
    calibration: Calibration = NO_CALIBRATION
    """The fitted temperature or thresholds."""

    def to_text(self) -> str:
        """Return the content of config.json."""
        values = {"library_name": LIBRARY, "format": FORMAT, **asdict(self)}
        return json.dumps(values, indent=1, ensure_ascii=False) + "\n"


def write(
    target: Path,
    facts: ExportedModel,
    weights: Mapping[str, Tensor],
    *,
    config: Path,
    manifest: Manifest,
    extra: Mapping[str, str] | None = None,
) -> None:
    """Write an exported model. The folder appears complete or not at all; an older one is replaced.

    `config` is the run's config.yaml, with the copies of components beside it. `manifest` is the
    dataset's manifest, with the tokenizers beside it. `extra` maps names of further files to their
    text. Raises RunError if `target` exists and is not an exported model, or if it cannot be
    written.
    """
    if target.exists() and not is_exported(target):
        raise RunError(f"{target}: exists and is not an exported model; name another folder")
    try:
        with replaced(target) as folder:
            folder.mkdir()
            tensors = {name: tensor.float().cpu().contiguous() for name, tensor in weights.items()}
            save_file(tensors, folder / WEIGHTS, {"format": "pt"})
            (folder / WEIGHTS).chmod(0o644)  # safetensors makes it readable by the owner only
            facts = replace(facts, weights_sha256=sha256_of(folder / WEIGHTS))
            (folder / FACTS).write_text(facts.to_text(), encoding="utf-8")
            (folder / CONFIG).write_text(_portable_config(config), encoding="utf-8")
            (folder / "dataset.json").write_text(_portable_manifest(manifest), encoding="utf-8")
            for name in manifest.tokenizers:
                data = manifest.store.read_file(f"{name}.json")
                (folder / f"{name}.json").write_bytes(data)
            code = config.with_name("code.json")
            if code.is_file():
                shutil.copy(code, folder)
                if (folder_of_code := config.with_name("code")).is_dir():
                    shutil.copytree(folder_of_code, folder / "code")
            for name, text in (extra or {}).items():
                (folder / name).write_text(text, encoding="utf-8")
    except OSError as error:
        raise RunError(
            f"{target}: cannot be written: {error.strerror or error}; nothing incomplete is kept"
        ) from None


def _portable_config(path: Path) -> str:
    values = yaml.safe_load(path.read_text(encoding="utf-8"))
    kept = {name: section for name, section in values.items() if name not in LOCAL_SECTIONS}
    for section, keys in LOCAL_KEYS.items():
        kept[section] = {k: v for k, v in kept.get(section, {}).items() if k not in keys}
    kept["corpus"] = _with_file_names(kept["corpus"])
    return yaml.safe_dump(redacted(kept), sort_keys=False, allow_unicode=True)


def _portable_manifest(manifest: Manifest) -> str:
    kept = {k: v for k, v in manifest.settings.items() if k not in LOCAL_KEYS["corpus"]}
    settings = redacted(_with_file_names(kept))
    return replace(manifest, settings=settings, inputs=()).to_text()


def _with_file_names(corpus: Mapping[str, Any]) -> dict[str, Any]:
    """Return the section `corpus` with the names of its local files instead of their paths."""
    return {k: _file_names(v) if k in INPUT_KEYS else v for k, v in corpus.items()}


def _file_names(value: Any) -> Any:
    if isinstance(value, str):
        return value if is_url(value) else value.rstrip("/").rpartition("/")[2]
    if isinstance(value, list):
        return [_file_names(item) for item in value]
    if isinstance(value, dict):
        return {key: _file_names(item) for key, item in value.items()}
    return value


def is_exported(folder: Path) -> bool:
    """Return whether a folder has the files of an exported model."""
    return (folder / FACTS).is_file() and (folder / CONFIG).is_file()


def read(folder: Path) -> ExportedModel:
    """Read config.json. Raises RunError if it is damaged or has another format."""
    path = folder / FACTS
    try:
        values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        library, version = values.pop("library_name"), values.pop("format")
        if library == LIBRARY and version != FORMAT:
            raise RunError(
                f"{path}: has format {version}, but this version reads {FORMAT}; use version "
                f"{values['version']} of Headrace, or export the run again"
            )
        names = ExportedModel.__dataclass_fields__
        values["calibration"] = CALIBRATION.validate_python(values.get("calibration", {}))
        model = ExportedModel(**{name: values[name] for name in names if name in values})
    except READ_ERRORS as error:
        raise RunError(
            f"{path}: is damaged ({type(error).__name__}: {error}); export the run again"
        ) from None
    if library != LIBRARY:
        raise RunError(f"{path}: is not a model of Headrace; give the folder of one")
    return model


def check_weights(folder: Path, model: ExportedModel) -> None:
    """Raise RunError if the weights do not have the checksum of the exported ones."""
    path = folder / WEIGHTS
    try:
        digest = sha256_of(path)
    except OSError as error:
        raise RunError(
            f"{path}: cannot be read: {error.strerror}; copy it again, or export the run again"
        ) from None
    if digest != model.weights_sha256:
        raise RunError(
            f"{path}: is damaged: its SHA-256 is not the one in {FACTS}; copy it again, or export "
            "the run again"
        )
