"""The format of an exported model: a folder with everything that prediction needs.

  config.json        task, metrics, labels and calibration; checksums of weights and dataset.json
  config.yaml        the run's config, without tracking, passwords and local folders
  dataset.json       fields, label names, checksums of tokenizers, as in a prepared dataset
  tokenizer.json     one file per vocabulary, named after it
  model.safetensors  weights in fp32
  code/, code.json   copies of a user's components, if there are any (see `code.py`)

The Hugging Face Hub shows config.json, model.safetensors and, if it is added, README.md.
"""

import json
import math
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml
from safetensors.torch import save_file
from torch import Tensor

from pipeline.corpus.dataset.manifest import Manifest, read_manifest
from pipeline.errors import RunError
from pipeline.run import code as run_code
from pipeline.storage.atomic import replaced, sha256_of
from pipeline.storage.base import is_url
from pipeline.storage.redaction import redacted, redacted_settings
from pipeline.tasks.base.calibration import NO_CALIBRATION, Calibration

FORMAT = 1
LIBRARY = "headrace"
FACTS, CONFIG, WEIGHTS = "config.json", "config.yaml", "model.safetensors"
DATASET = "dataset.json"
LOCAL_SECTIONS = ("run", "track")
"""Sections of a config that apply only to the machine of the run."""
LOCAL_KEYS = {
    "corpus": ("root", "image_root", "shards"),
    "stream": ("mix", "cache"),
    "model": ("init_from", "word_vectors"),
}
"""Keys with paths that prediction does not read, by section."""
INPUT_KEYS = ("input", "validation", "test", "tokenizer")
"""Keys of the section `corpus` that keep file names, but not their folders."""
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
    dataset_sha256: str = ""
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
    names = portable_references(config.parent)
    facts = replace(facts, task=names.get(facts.task, facts.task))
    try:
        with replaced(target) as folder:
            folder.mkdir()
            tensors = {name: tensor.float().cpu().contiguous() for name, tensor in weights.items()}
            save_file(tensors, folder / WEIGHTS, {"format": "pt"})
            (folder / WEIGHTS).chmod(0o644)  # safetensors makes it readable by the owner only
            (folder / CONFIG).write_text(_portable_config(config, names), encoding="utf-8")
            text = _portable_manifest(manifest, names)
            (folder / DATASET).write_text(text, encoding="utf-8")
            facts = replace(
                facts,
                weights_sha256=sha256_of(folder / WEIGHTS),
                dataset_sha256=sha256_of(folder / DATASET),
            )
            (folder / FACTS).write_text(facts.to_text(), encoding="utf-8")
            for name in manifest.tokenizers:
                data = manifest.store.read_file(f"{name}.json")
                (folder / f"{name}.json").write_bytes(data)
            if code := run_code.read(config.parent):
                entries = {names.get(reference, reference): code[reference] for reference in code}
                run_code.write_record(folder, entries)
                if (folder_of_code := config.with_name("code")).is_dir():
                    shutil.copytree(folder_of_code, folder / "code")
            for name, text in (extra or {}).items():
                (folder / name).write_text(text, encoding="utf-8")
    except OSError as error:
        raise RunError(
            f"{target}: cannot be written: {error.strerror or error}; nothing incomplete is kept"
        ) from None


def portable_references(folder: Path) -> dict[str, str]:
    """Return other names for the components in a run's folder whose references have a folder of
    the machine: the names of the run's copies."""
    return {
        reference: f"{entry['file']}:{reference.rpartition(':')[2]}"
        for reference, entry in run_code.read(folder).items()
        if "file" in entry and {"/", "..", "~"} & set(Path(reference).parts)
    }


def _portable_config(path: Path, names: Mapping[str, str]) -> str:
    values = yaml.safe_load(path.read_text(encoding="utf-8"))
    kept = {name: section for name, section in values.items() if name not in LOCAL_SECTIONS}
    for section, keys in LOCAL_KEYS.items():
        kept[section] = {k: v for k, v in kept.get(section, {}).items() if k not in keys}
    kept["corpus"] = _with_file_names(kept["corpus"])
    portable = {name: renamed(_redacted(section), names) for name, section in kept.items()}
    return yaml.safe_dump(portable, sort_keys=False, allow_unicode=True)


def _portable_manifest(manifest: Manifest, names: Mapping[str, str]) -> str:
    kept = {k: v for k, v in manifest.settings.items() if k not in LOCAL_KEYS["corpus"]}
    settings = renamed(_redacted(_with_file_names(kept)), names)
    return replace(manifest, settings=settings, inputs=()).to_text()


def _redacted(section: Mapping[str, Any]) -> dict[str, Any]:
    """Return a section without secrets: also texts of keys such as `api_key`, which a component of
    the user may declare."""
    texts = {key: value for key, value in section.items() if isinstance(value, str)}
    return {**redacted(section), **redacted_settings(texts)}


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


def renamed(value: Any, names: Mapping[str, str]) -> Any:
    """Return a config value with other texts in place of some, also inside lists and mappings."""
    if isinstance(value, str):
        return names.get(value, value)
    if isinstance(value, list):
        return [renamed(item, names) for item in value]
    if isinstance(value, dict):
        return {key: renamed(item, names) for key, item in value.items()}
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
        values["calibration"] = _calibration(values.get("calibration", {}))
        model = ExportedModel(**{name: values[name] for name in names if name in values})
    except READ_ERRORS as error:
        raise RunError(
            f"{path}: is damaged ({type(error).__name__}: {error}); export the run again"
        ) from None
    if library != LIBRARY:
        raise RunError(f"{path}: is not a model of Headrace; give the folder of one")
    return model


def _calibration(values: Mapping[str, Any]) -> Calibration:
    """Return a calibration. Raises ValueError or TypeError for values that no fit gives."""
    found = Calibration(**values)
    shares = [found.threshold, *found.label_thresholds.values()]
    if not (0 < found.temperature < math.inf and all(0 <= share <= 1 for share in shares)):
        raise ValueError("calibration is out of range")
    return found


def check_files(folder: Path, model: ExportedModel) -> None:
    """Raise RunError unless the weights, dataset.json and the tokenizers are those that were
    exported."""
    _check_file(folder / DATASET, model.dataset_sha256, FACTS)
    for name, tokenizer in read_manifest(folder).tokenizers.items():
        _check_file(folder / f"{name}.json", tokenizer.sha256, DATASET)
    _check_file(folder / WEIGHTS, model.weights_sha256, FACTS)


def _check_file(path: Path, expected: str, record: str) -> None:
    """Raise RunError unless a file has the SHA-256 that another file, the record, has for it."""
    try:
        digest = sha256_of(path)
    except OSError as error:
        raise RunError(
            f"{path}: cannot be read: {error.strerror}; copy it again, or export the run again"
        ) from None
    if digest != expected:
        raise RunError(
            f"{path}: is damaged: its SHA-256 is not the one in {record}; copy it again, or export "
            "the run again"
        )
