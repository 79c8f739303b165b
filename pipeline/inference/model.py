"""Trained models in Python.

    model = pipeline.load("runs/imdb")
    model.predict(["A fine film.", "Dull."])
    model.evaluate("reviews.csv")

Predictions and metrics are those of `headrace predict` and `headrace evaluate`.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from pipeline.config import Config, as_yaml
from pipeline.corpus.readers.base import has_nested, nested
from pipeline.corpus.row import Row
from pipeline.errors import InputError
from pipeline.inference.batching import batched
from pipeline.inference.evaluator import evaluate_files
from pipeline.inference.predictor import Predictor
from pipeline.inference.run_input import RawInput
from pipeline.inference.sources import local_folder
from pipeline.inference.trained import TrainedModel, load_trained
from pipeline.tasks.base.sample import Sample

Input = str | Mapping[str, Any]
"""A text, as in a line of `headrace predict`, or a row by column."""
Prediction = dict[str, Any]
"""A prediction of a task, or `{"error": ...}` for an input that cannot be used."""
PLACE = "inputs"
"""Name of inputs from Python in messages."""


class Model:
    """A trained model. Use `pipeline.load` to make one.

    An object is not thread-safe: a model has one workspace for its kernels.
    """

    trained: TrainedModel
    """The parts of the model, for code that extends this package."""

    def __init__(self, trained: TrainedModel) -> None:
        self.trained = trained
        self._predictor = Predictor(trained)

    @property
    def module(self) -> nn.Module:
        """The network, in evaluation mode: tensors in, tensors out."""
        return self.trained.module

    @property
    def config(self) -> Config:
        """The config of the run, with the overrides."""
        return self.trained.config

    @property
    def task(self) -> str:
        """Name of the task, such as `classification`."""
        return self.config.task.name

    @property
    def labels(self) -> list[str]:
        """Names of the labels, in the order of the network's outputs; empty if there are none."""
        return list(self.trained.task.labels)

    @property
    def device(self) -> torch.device:
        """The device that computes."""
        return self.trained.device

    @property
    def columns(self) -> list[str]:
        """Columns of a row that `predict` reads."""
        return self._predictor.columns

    def predict(self, inputs: Iterable[Input]) -> list[Prediction]:
        """Return the prediction for each input, in order, as `headrace predict` prints it.

        An input is a text or a row. A text has the form of a line of `headrace predict`: for
        `entailment` two texts with a tab between them, for `tagging` words with spaces between
        them, for images a path. A row is a mapping that has the run's columns (`columns`). The
        prediction for an input that cannot be used is `{"error": ...}`. Inputs are batched by
        length, and their predictions do not depend on each other. Raises InputError for a row
        without a column that is needed, and TypeError for inputs of other types.
        """
        if isinstance(inputs, str | Mapping):
            raise TypeError(f"predict takes a list of inputs; write predict([{inputs!r:.40}])")
        items = (self._raw_input(number, item) for number, item in enumerate(inputs, 1))
        predictions: list[Prediction] = []
        for chunk in batched(items, self.trained.chunk_rows):
            predictions += self._predictor.predict(chunk)
        return predictions

    def samples(self, item: Input) -> list[Sample]:
        """Return an input with its prediction as samples to display: a generated text with its
        attention. Empty for other tasks."""
        return self._predictor.samples(self._raw_input(1, item))

    def predict_files(self, files: str | Path | Sequence[str | Path]) -> Iterator[Prediction]:
        """Yield the prediction for each row of files, in order, as `headrace predict --input`.

        Files are read lazily. Raises InputError for a file that cannot be read.
        """
        yield from self._predictor.predict_files(_names(files))

    def evaluate(self, files: str | Path | Sequence[str | Path], *, by: str = "") -> dict[str, Any]:
        """Return the metrics over all labeled rows of files, as `headrace evaluate` prints them.

        With a column `by`, the entry `by` has the metrics over the rows of each of its values.
        `skipped` is the number of rows that cannot be used. Raises InputError if no row is left.
        """
        metrics, skips = evaluate_files(self.trained, _names(files), by=by)
        return {**metrics, "skipped": skips.total()}

    def to(self, device: str | torch.device) -> "Model":
        """Move the model to a device, such as "cuda", and return it."""
        self.trained = self.trained.to(torch.device(device))
        self._predictor.model = self.trained
        return self

    def __repr__(self) -> str:
        files, parameters = self.trained.files, sum(p.numel() for p in self.module.parameters())
        return (
            f"<Model of {files.folder.name}: {self.task}, {parameters:,} parameters, step "
            f"{files.step:,}, {self.device}>"
        )

    def _raw_input(self, number: int, item: Input) -> RawInput:
        if isinstance(item, str):
            return RawInput(PLACE, Row(number, None, number), item)
        if not isinstance(item, Mapping):
            raise TypeError(
                f"{PLACE}, row {number}: is of type {type(item).__name__}; give a text, or a row "
                "as a dict"
            )
        values = {str(name): value for name, value in item.items()}
        if missing := [name for name in self.columns if not has_nested(values, name)]:
            raise InputError(
                f"{PLACE}, row {number}: has no column {missing[0]!r}; it has "
                f"{', '.join(map(repr, values)) or 'none'}"
            )
        return RawInput(PLACE, Row(number, {name: nested(values, name) for name in self.columns}))


def load(
    source: str | Path,
    overrides: Mapping[str, Any] | None = None,
    *,
    checkpoint: str | Path | None = None,
    device: str | torch.device | None = None,
    trust_code: bool = False,
) -> Model:
    """Load a trained model.

    `source` is the folder of a run, of one of its checkpoints or of an exported model, or an MLflow
    URI such as `models:/reviews@champion`. `overrides` are config keys with values, such as
    `{"corpus.text": "review"}`. `checkpoint` is a folder (default: the run's best checkpoint).
    `device` is by default the first GPU, or the CPU if there is none. `trust_code` runs a user's
    components in the folder that are not known on this machine: this is code that somebody else may
    have written. Raises RunError if files are missing or damaged, or if an override contradicts the
    weights, and ConfigError for an override that is wrong.
    """
    given = [f"{key}={as_yaml(value)}" for key, value in (overrides or {}).items()]
    return Model(
        load_trained(
            local_folder(source),
            given,
            weights=Path(checkpoint) if checkpoint else None,
            trust_code=trust_code,
            device=torch.device(device) if device else None,
        )
    )


def _names(files: str | Path | Sequence[str | Path]) -> list[str]:
    return [str(files)] if isinstance(files, str | Path) else [str(file) for file in files]
