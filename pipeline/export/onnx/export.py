"""Writes the ONNX folder of a trained model.

model.onnx           the graph; for translation, encoder.onnx and decoder.onnx instead; for a
                     language model with two directions, also backward.onnx
tokenizer.json       one file per vocabulary, named after it
config.json          labels, limits and decoding settings, and the SHA-256 of the other files
predict_onnx.py      predicts from lines of text with NumPy, onnxruntime and tokenizers only
requirements.txt     the packages that predict_onnx.py needs
"""

import json
import logging
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from torch import nn

from pipeline import __version__
from pipeline.config import Config
from pipeline.corpus.dataset.manifest import Manifest
from pipeline.corpus.fields.images import StepSettings
from pipeline.corpus.settings import TextSettings
from pipeline.corpus.skip_reason import SKIP_DESCRIPTIONS, SkipReason
from pipeline.errors import RunError
from pipeline.storage.atomic import replaced
from pipeline.tasks.base.task import Task

logger = logging.getLogger(__name__)

FORMAT, FORMAT_VERSION = "headrace-onnx", 1
CONFIG, RUNTIME, REQUIREMENTS = "config.json", "predict_onnx.py", "requirements.txt"
MAX_BYTES = (1 << 31) - 1
"""Size limit of an ONNX file, which is one Protocol Buffers message."""
LINE_ERRORS = (SkipReason.NOT_UTF8, SkipReason.NUL, SkipReason.TOO_LONG)
"""Reasons why a line of text cannot be used, besides an empty text."""


def export_onnx(
    task: Task,
    module: nn.Module,
    config: Config,
    manifest: Manifest,
    tokenizers: Mapping[str, bytes],
    output: Path,
    *,
    int8: bool = False,
) -> None:
    """Write a trained model as an ONNX folder, with weights in float32, or quantized to int8.

    `tokenizers` maps vocabularies to the contents of their tokenizer files. The folder appears as
    `output` after the outputs in onnxruntime have been compared with the model's. Raises RunError,
    and writes nothing, if a component or setting is not supported, if `output` has files, or if an
    output differs; in int8, probabilities may differ by the limits of `quantization`.
    """
    _require_libraries()
    # These import onnx, which is an optional dependency.
    from pipeline.export.onnx import quantization
    from pipeline.export.onnx.check import check
    from pipeline.export.onnx.tasks import task_export

    if output.is_file() or (output.is_dir() and any(output.iterdir())):
        raise RunError(
            f"--output={output}: exists and is not empty; remove it, or give another folder"
        )
    if int8:
        quantization.require_supported(config)
    module = deepcopy(module).cpu().float().eval().requires_grad_(False)
    exported = task_export(task, module, config)
    facts = {**_facts(task, config, manifest), **exported.facts}
    with _new_folder(output) as folder:
        for name, part in exported.parts.items():
            model = part.graph.model(name.removesuffix(".onnx"))
            if model.ByteSize() > MAX_BYTES:
                raise RunError(
                    f"--output={output}: {name} would have {model.ByteSize():,} bytes, but an ONNX "
                    f"file has at most {MAX_BYTES:,}; export a model with a smaller vocabulary"
                )
            (folder / name).write_bytes(model.SerializeToString())
            largest = check(folder / name, part)
            logger.info("%s: differs by at most %.1e from the model", name, largest)
            if int8:
                facts["int8"] = quantization.quantize(folder / name, part)
        for name, content in tokenizers.items():
            (folder / f"{name}.json").write_bytes(content)
        digests = {file.name: sha256(file.read_bytes()).hexdigest() for file in folder.iterdir()}
        text = json.dumps({**facts, "files": digests}, indent=1, ensure_ascii=False)
        (folder / CONFIG).write_text(f"{text}\n", encoding="utf-8")
        shutil.copyfile(Path(__file__).with_name("numpy_runtime.py"), folder / RUNTIME)
        libraries = ["numpy", "onnxruntime", "tokenizers" if tokenizers else "pillow"]
        (folder / REQUIREMENTS).write_text("".join(f"{library}\n" for library in libraries))


def _facts(task: Task, config: Config, manifest: Manifest) -> dict[str, Any]:
    """Return the part of config.json that all tasks have."""
    corpus = config.corpus.model_copy(update=dict(task.prediction_overrides))
    fields = [field for field in task.fields(corpus) if field.kind_class.is_input]
    facts = {
        "format": FORMAT,
        "version": FORMAT_VERSION,
        "headrace": __version__,
        "task": config.task.name,
        "run": config.run.name,
        "dataset": manifest.fingerprint,
        "inputs": [
            {"name": field.name, "kind": field.kind, "vocabulary": field.vocabulary}
            for field in fields
        ],
        "token_budget": config.stream.token_budget,
        "max_tokens": corpus.max_tokens,
        "errors": {reason.value: SKIP_DESCRIPTIONS[reason] for reason in LINE_ERRORS},
    }
    if isinstance(corpus, TextSettings):
        facts |= {"overflow": corpus.overflow, "truncation_side": corpus.truncation_side}
    if isinstance(corpus, StepSettings):
        keys = ("image_size", "channels", "step", "patch")
        facts |= {key: getattr(corpus, key) for key in keys}
    return facts


def _require_libraries() -> None:
    missing = [name for name in ("onnx", "onnxruntime") if find_spec(name) is None]
    if missing:
        raise RunError(
            f"--format=onnx: {missing[0]} is not installed; pip install 'headrace[onnx]'"
        )


@contextmanager
def _new_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder that is renamed to `path` at the end.

    Raises RunError if it cannot be written.
    """
    try:
        with replaced(path) as temporary:
            temporary.mkdir()
            yield temporary
    except OSError as error:
        raise RunError(
            f"--output={path}: cannot be written ({error.strerror or error}); free space, or give "
            "another folder"
        ) from None
