"""Measure an ONNX export in int8 beside the one in fp32, on the held-out rows of a run's dataset.

    python benchmarks/onnx_int8.py --run runs/imdb [--splits validation test] [--shards FOLDER]

The run is a classifier or a tagger with LSTM layers. Each export predicts all rows of the splits
twice: in batches of at most 16,384 tokens, and one by one, because in int8 a row's outputs depend
on its batch. The columns:

  MB                size of model.onnx
  1 x 32, 1 x 256   CPU milliseconds of one text of 32 or 256 random tokens, on one core
  64 texts          thousand tokens per CPU second of 64 texts of 128 to 256 random tokens
  accuracy, F1      metrics on the splits; F1 of the entities, or the macro F1 of the labels
  changed           share of texts whose label, or words whose tag, differs from fp32
  largest, mean     largest and mean difference of a probability from fp32, of the label or tag that
                    differs the most; a tagger's are the marginals of its CRF
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from copy import copy
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

REPOSITORY = Path(__file__).parents[1]
sys.path.insert(0, str(REPOSITORY))

import numpy as np  # noqa: E402
import onnxruntime  # noqa: E402
import torch  # noqa: E402
from torch import Tensor, nn  # noqa: E402

from benchmarks.machine import cpu_name  # noqa: E402
from benchmarks.onnx_speed import time_in_turn  # noqa: E402
from pipeline.cli import export  # noqa: E402
from pipeline.corpus.dataset.manifest import open_dataset  # noqa: E402
from pipeline.evaluation.evaluate import evaluate  # noqa: E402
from pipeline.evaluation.segment_merging import document_outputs  # noqa: E402
from pipeline.export.onnx.check import Arrays, open_session  # noqa: E402
from pipeline.inference.outputs import CPU_TOKEN_BUDGET  # noqa: E402
from pipeline.inference.trained import TrainedModel, load_trained  # noqa: E402
from pipeline.models.layers.crf import CRF  # noqa: E402
from pipeline.models.layers.masks import valid  # noqa: E402
from pipeline.models.tagger import Tagger  # noqa: E402
from pipeline.runtime.device import use_one_core  # noqa: E402
from pipeline.runtime.precision import Precision  # noqa: E402
from pipeline.stream.batch import Batch  # noqa: E402
from pipeline.stream.opening import open_loader  # noqa: E402
from pipeline.stream.plan import Position  # noqa: E402

FORMATS = {"fp32": [], "int8": ["--int8"]}
ARRANGEMENTS = {"batches": 0, "one by one": 1}
"""Name -> stream.batch_rows; 0: as many rows as fit."""


class Predictions(NamedTuple):
    """The predictions of one export for all rows."""

    metrics: dict[str, float]
    labels: Tensor
    """[n] of all texts or words."""
    probabilities: Tensor
    """[n, C]"""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--shards", default="", help="the run's dataset [as in its config]")
    parser.add_argument("--splits", nargs="+", default=["validation", "test"])
    parser.add_argument("--seconds", type=float, default=3.0, help="per export and shape")
    args = parser.parse_args()
    use_one_core()
    model = load_trained(args.run, device=torch.device("cpu"))
    versions = f"torch {torch.__version__}, onnxruntime {onnxruntime.__version__}"
    print(f"1 core, {cpu_name()}, {versions}, {time.strftime('%Y-%m-%d')}")
    print("| export | MB | 1 x 32 | 1 x 256 | 64 texts |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        paths = {name: Path(folder) / name for name in FORMATS}
        for name, options in FORMATS.items():
            given = ["--run", str(args.run), "--format", "onnx", "-o", str(paths[name]), "-q"]
            with redirect_stdout(sys.stderr):
                export.main([*given, *options])
        sessions = {name: open_session(path / "model.onnx") for name, path in paths.items()}
        for (name, path), times in zip(
            paths.items(), speeds(model, sessions, args.seconds), strict=True
        ):
            size = (path / "model.onnx").stat().st_size / 1e6
            print(f"| {name} | {size:.1f} | {' | '.join(times)} |")
    print("\n| export | rows | accuracy | F1 | changed | largest | mean |")
    print("|---|---|---|---|---|---|---|", flush=True)
    shards = args.shards or model.config.corpus.shards
    for arrangement, rows in ARRANGEMENTS.items():
        expected = None
        for name, session in sessions.items():
            found = predictions(model, session, shards, args.splits, rows)
            expected = expected or found
            f1 = found.metrics.get("f1", found.metrics.get("macro_f1"))
            changed = (found.labels != expected.labels).double().mean().item()
            differences = (found.probabilities - expected.probabilities).abs().amax(-1)
            print(
                f"| {name}, {arrangement} | {found.metrics['examples']:,} | "
                f"{found.metrics['accuracy']:.4f} | {'' if f1 is None else f'{f1:.4f}'} | "
                f"{changed:.2%} | {differences.max():.4f} | {differences.mean():.5f} |",
                flush=True,
            )


def speeds(model: TrainedModel, sessions: dict[str, Any], seconds: float) -> Iterator[list[str]]:
    """Yield the cells of the columns `1 x 32`, `1 x 256` and `64 texts` for each session."""
    rng = np.random.default_rng(0)
    many = np.sort(rng.integers(128, 257, 64))[::-1]
    functions: list[Callable[[Arrays], Any]] = [
        partial(session.run, None) for session in sessions.values()
    ]
    columns = [
        time_in_turn(functions, random_inputs(rng, model, lengths), seconds)
        for lengths in (np.array([32]), np.array([256]), many)
    ]
    for short, long, all_texts in zip(*columns, strict=True):
        rate = many.sum() / all_texts / 1e3
        yield [f"{1e3 * short:.2f} ms", f"{1e3 * long:.2f} ms", f"{rate:.0f}"]


def random_inputs(rng: np.random.Generator, model: TrainedModel, lengths: np.ndarray) -> Arrays:
    """Return tokens of any id and, for a tagger, words of 1 to 10 letters."""
    shape = len(lengths), int(lengths.max())
    inputs = {"tokens": rng.integers(4, 2000, shape), "lengths": lengths.astype(np.int64)}
    if isinstance(model.module, Tagger) and model.module.characters:
        corpus: Any = model.config.corpus
        width = corpus.word_bytes
        letters = rng.integers(97, 123, (*shape, width), np.uint8)
        letters[np.arange(width) >= rng.integers(1, 11, (*shape, 1))] = 0
        inputs["characters"] = letters
    return inputs


def predictions(
    model: TrainedModel, session: Any, shards: str, splits: list[str], batch_rows: int
) -> Predictions:
    """Evaluate a session on splits of a dataset as training evaluates a model."""
    probabilities: list[Tensor] = []
    labels: list[Tensor] = []
    module = with_session(model.module, session, probabilities)
    update = {"batch_rows": batch_rows, "accumulation_steps": 1, "token_budget": CPU_TOKEN_BUDGET}
    settings = model.config.stream.model_copy(update=update)
    manifest = open_dataset(shards)

    def batches() -> Iterator[Batch]:
        for split in splits:
            for group in open_loader(manifest, settings, split=split).epoch(Position()):
                yield from group.batches

    def documents() -> Iterator[tuple[Tensor, Batch]]:
        precision = Precision("fp32", model.device)
        for outputs, batch in document_outputs(
            model.task, module, batches(), precision, model.world
        ):
            if isinstance(module, Tagger):
                inside = valid(batch.lengths, outputs.shape[1]).t()
                labels.append(outputs[..., 0][inside])
            else:
                labels.append(outputs.argmax(-1))
            yield outputs, batch

    with torch.no_grad():
        evaluation, _ = evaluate(model.task, documents(), model.world)
    return Predictions(dict(evaluation.metrics), torch.cat(labels), torch.cat(probabilities))


def with_session(module: nn.Module, session: Any, probabilities: list[Tensor]) -> nn.Module:
    """Return a module whose scores are a session's; their probabilities are appended."""
    module = copy(module)

    def emissions(words: Tensor, characters: Tensor, lengths: Tensor, keys: Tensor) -> Tensor:
        feed = {"tokens": words, "lengths": lengths, "characters": characters}
        scores = run(session, "emissions", feed).transpose(0, 1)  # [T, B, C]
        scorer = module.scorer
        found = scorer.marginals(scores, lengths) if isinstance(scorer, CRF) else scores.softmax(-1)
        inside = valid(lengths, len(found)).t()
        probabilities.append(found.transpose(0, 1)[inside])
        return scores

    def forward(tokens: Tensor, lengths: Tensor, keys: Tensor) -> Tensor:
        scores = run(session, "logits", {"tokens": tokens, "lengths": lengths})
        probabilities.append(scores.softmax(-1))
        return scores

    if isinstance(module, Tagger):
        module.emissions = emissions  # type: ignore[method-assign]
    else:
        module.forward = forward
    return module


def run(session: Any, output: str, tensors: dict[str, Tensor]) -> Tensor:
    names = {node.name for node in session.get_inputs()}
    feed = {name: tensor.numpy() for name, tensor in tensors.items() if name in names}
    return torch.from_numpy(session.run([output], feed)[0])


if __name__ == "__main__":
    main()
