"""Small models of each task with random weights, the check of their graphs, and exports."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn

from pipeline import tasks
from pipeline.corpus.dataset.manifest import NumberStats
from pipeline.corpus.field_spec import FieldSpec
from pipeline.export.onnx import check
from pipeline.export.onnx.check import Part
from pipeline.export.onnx.export import export_onnx
from pipeline.export.onnx.tasks import task_export
from pipeline.inference.trained import TrainedModel
from pipeline.tasks.base.task import Task
from tests.helpers.settings import model_settings
from tests.helpers.task_data import Data

VOCABULARY = 50
NAMES = {"label": ["a", "b", "c"], "labels": ["a", "b", "c"], "tags": ["O", "B-X", "I-X", "B-Y"]}
STEPS = FieldSpec("steps", "image", "steps", width=2, plane=(4, 3))
SMALL = {"embedding": 5, "hidden": 8, "characters": 4}


def small_model(name: str, *, seed: int = 0, **model: Any) -> tuple[Task, nn.Module, Any]:
    """Return a task, its model with random weights, and a config."""
    if name == "language_modeling":
        model = {"bidirectional": False} | model
    shared_vocab = model.pop("shared_vocab", True)
    settings = model_settings(**(SMALL | model))
    numbers = {"number": NumberStats(40.0, 12.0)}
    vocabularies = {"source": VOCABULARY, "target": VOCABULARY + 5}
    if shared_vocab:
        vocabularies = {"tokenizer": VOCABULARY}
    data = Data(vocabularies, NAMES, fields=(STEPS,), numbers=numbers)
    kind = tasks.get(name)
    task = kind(kind.Settings(name=name), settings, data)
    torch.manual_seed(seed)
    module = task.build()
    randomize(module)
    config = SimpleNamespace(
        task=SimpleNamespace(name=name), model=settings, corpus=SimpleNamespace(word_bytes=7)
    )
    return task, module.eval().requires_grad_(False), config


def randomize(module: nn.Module) -> None:
    """Change all weights, also those that are initialized to 0 or 1, so that each has an effect."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.mul_(0.6).add_(0.05 * torch.randn_like(parameter))


def written_parts(name: str, **model: Any) -> dict[str, Part]:
    """Return the graphs of a small model."""
    return task_export(*small_model(name, **model)).parts


def check_parts(parts: dict[str, Part], folder: Path) -> float:
    """Compare all graphs with their models, and return the largest difference."""
    differences = []
    for name, part in parts.items():
        (folder / name).write_bytes(part.graph.model("model").SerializeToString())
        differences.append(check.check(folder / name, part))
    return max(differences)


def export_of(run: TrainedModel, output: Path, *, int8: bool = False) -> None:
    """Export a run as `headrace export --format onnx` does."""
    store = run.manifest.store
    tokenizers = {name: store.read_file(f"{name}.json") for name in run.manifest.vocabularies}
    export_onnx(run.task, run.module, run.config, run.manifest, tokenizers, output, int8=int8)
