"""Trained models in Python.

    model = pipeline.load("runs/imdb")
    model.predict(["A fine film.", "Dull."])
    model.evaluate("reviews.csv")

Predictions and metrics are those of `headrace predict` and `headrace evaluate`.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from pipeline.config import Config, as_yaml
from pipeline.corpus.readers.base import has_nested, nested
from pipeline.corpus.row import Row
from pipeline.errors import ConfigError, InputError
from pipeline.inference.abilities import embed, generate, score, score_encoder
from pipeline.inference.batching import batched
from pipeline.inference.evaluator import evaluate_files
from pipeline.inference.input_encoding import InputEncoder
from pipeline.inference.predictor import Predictor, use_top_k
from pipeline.inference.python_values import check_no_table, python_value
from pipeline.inference.run_input import RawInput
from pipeline.inference.sources import local_folder
from pipeline.inference.trained import TrainedModel, load_trained
from pipeline.tasks.base.abilities import Generation, GenerationOptions, Score
from pipeline.tasks.base.sample import Sample

Input = str | Mapping[str, Any]
"""A text, as in a line of `headrace predict`, or a row by column."""
Prediction = dict[str, Any]
"""A prediction of a task, or `{"error": ...}` for an input that cannot be used."""
PLACE = "inputs"
"""Name of inputs from Python in messages."""


class Model:
    """A trained model. Use `pipeline.load` to make one.

    A model is not thread-safe, because its kernels share one workspace.
    """

    trained: TrainedModel
    """The parts of the model, for code that extends this package."""

    def __init__(self, trained: TrainedModel) -> None:
        self.trained = trained
        self._predictor = Predictor(trained)
        self._score_encoder: InputEncoder | None = None

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
        """The device of the network."""
        return self.trained.device

    @property
    def columns(self) -> list[str]:
        """Columns of a row that `predict` reads."""
        return self._predictor.columns

    def predict(self, inputs: Iterable[Input], *, top_k: int = 0) -> list[Prediction]:
        """Return the prediction for each input, in order, as `headrace predict` prints it.

        An input is a text or a row. A text has the form of a line of `headrace predict`: for
        `entailment` two texts with a tab between them, for `tagging` words with spaces between
        them, for images a path. A row is a mapping that has the run's columns (`columns`). The
        prediction for an input that cannot be used is `{"error": ...}`. `top_k` limits `scores` to
        the most probable labels (default: all, at most 50). Inputs are batched by length, and their
        predictions do not depend on each other. Raises InputError for a row without a required
        column, ConfigError for `top_k` below 0 or if the task has no scores, and TypeError for
        inputs of other types, such as a table of pandas.
        """
        task = self.trained.task
        default = task.top_k
        if top_k:
            use_top_k(self.trained, top_k)
        try:
            predictions: list[Prediction] = []
            for chunk in self._chunks(inputs):
                predictions += self._predictor.predict(chunk)
        finally:
            task.top_k = default
        return predictions

    def samples(self, item: Input) -> list[Sample]:
        """Return samples that display an input and its generated text with the attention. Empty for
        tasks that do not generate text."""
        return self._predictor.samples(_raw_input(1, item, self.columns))

    def predict_files(self, files: str | Path | Sequence[str | Path]) -> Iterator[Prediction]:
        """Yield the prediction for each row of files, in order, as `headrace predict --input` does.

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

    def embed(self, inputs: Iterable[Input]) -> NDArray[np.float32]:
        """Return a vector for each input [N, P]: the pooled states that the output layer reads.

        `tagging`, `language_modeling` and `translation` have no pooling; their vector is the mean
        state of the words or tokens. A vector depends only on its input. Raises InputError, with a
        line for each input that cannot be used.
        """
        parts = [
            embed(self.trained, self._predictor.encoder, chunk) for chunk in self._chunks(inputs)
        ]
        return np.concatenate(parts) if parts else np.empty((0, 0), np.float32)

    def score(self, inputs: Iterable[Input]) -> list[Score]:
        """Return the log-probability of each text.

        For language models, an input is a text; its log-probability is that of the text after the
        end of another text. For `translation` and `captioning`, an input is a row with the source
        and the target, and the log-probability is that of the target given the source. Raises
        InputError, with a line for
        each input that cannot be used, such as a text of more than `corpus.max_tokens` tokens, and
        ConfigError for other tasks.
        """
        if self._score_encoder is None:
            self._score_encoder = score_encoder(self.trained)
        encoder, scores = self._score_encoder, []
        for chunk in self._chunks(inputs, encoder.columns):
            scores += score(self.trained, encoder, chunk)
        return scores

    def generate(
        self,
        inputs: Iterable[Input],
        *,
        n: int = 1,
        temperature: float | None = None,
        seed: int | None = None,
        max_new_tokens: int | None = None,
        beam_size: int | None = None,
    ) -> list[list[Generation]]:
        """Return `n` generated texts for each input, as `predict` generates them by default.

        A language model returns sampled continuations at `temperature` (default:
        `task.temperature`). For `translation` and `captioning`, beam search returns the best texts
        that it finds, best first; with a `temperature`, they are samples. A sample depends only on
        the input and `seed`. Raises InputError, with a line for each input that cannot be used,
        and ConfigError for an option that the task does not have.
        """
        if n < 1:
            raise ConfigError(f"n={n}: must be at least 1")
        options = GenerationOptions(n, temperature, seed, max_new_tokens, beam_size)
        texts: list[list[Generation]] = []
        for chunk in self._chunks(inputs):
            texts += generate(self.trained, self._predictor.encoder, chunk, options)
        return texts

    def to(self, device: str | torch.device) -> "Model":
        """Move the model to a device, such as "cuda", and return it. Raises ConfigError if there is
        none."""
        self.trained = self.trained.to(_device(device))
        self._predictor.model = self.trained
        return self

    def __repr__(self) -> str:
        files, parameters = self.trained.files, sum(p.numel() for p in self.module.parameters())
        return (
            f"<Model of {files.folder.name}: {self.task}, {parameters:,} parameters, step "
            f"{files.step:,}, {self.device}>"
        )

    def _chunks(
        self, inputs: Iterable[Input], columns: Sequence[str] = ()
    ) -> Iterator[list[RawInput]]:
        """Yield lists of inputs that are batched together. `columns` are the columns that a row
        must have (default: those that `predict` reads)."""
        check_no_table(inputs, PLACE)
        if isinstance(inputs, str | Mapping):
            raise TypeError(f"inputs={inputs!r:.40}: is a single input; give a list of inputs")
        needed = columns or self.columns
        items = (_raw_input(number, item, needed) for number, item in enumerate(inputs, 1))
        yield from batched(items, self.trained.chunk_rows)


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
    `device` is by default the first GPU, or the CPU if there is none. `trust_code` allows the code
    of components in the folder to run, which someone else may have written. Raises RunError if
    files are missing or damaged, or if an override contradicts the weights, and ConfigError for an
    invalid override.
    """
    given = [f"{key}={as_yaml(value)}" for key, value in (overrides or {}).items()]
    return Model(
        load_trained(
            local_folder(source),
            given,
            weights=Path(checkpoint) if checkpoint else None,
            trust_code=trust_code,
            device=_device(device) if device else None,
        )
    )


def _device(name: str | torch.device) -> torch.device:
    """Return a device. Raises ConfigError if this machine does not have it."""
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:  # torch raises nothing narrower
        reason = str(error).partition("\n")[0]
        raise ConfigError(f"device={name}: cannot be used: {reason}; use cpu") from None
    return device


def _names(files: str | Path | Sequence[str | Path]) -> list[str]:
    check_no_table(files, "files")
    names = [files] if isinstance(files, str | Path) else list(files)
    for name in names:
        if not isinstance(name, str | Path):
            raise TypeError(
                f"files: one is of type {type(name).__name__}; give paths, and write rows to a file"
            )
    return [str(name) for name in names]


def _raw_input(number: int, item: Input, columns: Sequence[str]) -> RawInput:
    """Return an input from Python. Raises InputError for a row without one of the columns."""
    if isinstance(item, str):
        return RawInput(PLACE, Row(number, None, number), item)
    if not isinstance(item, Mapping):
        raise TypeError(
            f"{PLACE}, row {number}: is of type {type(item).__name__}; give a text, or a row "
            "as a dict"
        )
    values = {str(name): value for name, value in item.items()}
    if missing := [name for name in columns if not has_nested(values, name)]:
        raise InputError(
            f"{PLACE}, row {number}: has no column {missing[0]!r}; it has "
            f"{', '.join(map(repr, values)) or 'none'}"
        )
    return RawInput(
        PLACE, Row(number, {name: python_value(nested(values, name)) for name in columns})
    )
