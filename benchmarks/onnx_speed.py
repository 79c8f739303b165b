"""Compare onnxruntime on one CPU core with this project's layers.

    python benchmarks/onnx_speed.py [--cells lstm gru goru] [--seconds 3]

The models have the sizes of configs/imdb.yaml and random weights, on which the speed does not
depend. The columns:

  1 x 32, 1 x 256   milliseconds of one text of 32 or 256 tokens
  64 texts          thousand tokens per second of 64 texts of 128 to 256 tokens, without padding
  difference        largest difference of a probability from fp32 over the 64 texts

The rows are this project's layers in fp32 and bf16, onnxruntime in fp32, and onnxruntime after its
dynamic quantization of matrix products and LSTM to int8. They take turns; the table has medians.
The CPU time of the process is measured, which on an idle core is the time that passes: other
processes then affect the results less.
"""

import argparse
import logging
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
sys.path.insert(0, str(REPOSITORY))

import numpy as np  # noqa: E402
import torch  # noqa: E402

from benchmarks.machine import cpu_name  # noqa: E402
from pipeline.components import make  # noqa: E402
from pipeline.export.onnx.check import Arrays, open_session  # noqa: E402
from pipeline.export.onnx.models import BATCH, classifier  # noqa: E402
from pipeline.models.classifier import Classifier  # noqa: E402
from pipeline.runtime.device import use_one_core  # noqa: E402

VOCABULARY, LABELS = 32_000, 2
Predict = Callable[[Arrays], np.ndarray]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cells", nargs="+", default=["lstm", "gru", "goru"])
    parser.add_argument("--seconds", type=float, default=3.0, help="per implementation and shape")
    args = parser.parse_args()
    logging.getLogger("root").setLevel(logging.ERROR)  # of the quantization
    use_one_core()
    rng = np.random.default_rng(0)
    one, longer = batch(rng, [32]), batch(rng, [256])
    many = batch(rng, np.sort(rng.integers(128, 257, 64))[::-1])
    print(f"1 core, {cpu_name()}, torch {torch.__version__}, {time.strftime('%Y-%m-%d')}")
    print("| cell | implementation | 1 x 32 | 1 x 256 | 64 texts | difference |")
    print("|---|---|---|---|---|---|")
    for cell in args.cells:
        with tempfile.TemporaryDirectory() as folder:
            named = implementations(cell, Path(folder))
            functions = list(named.values())
            times = [
                time_in_turn(functions, inputs, args.seconds) for inputs in (one, longer, many)
            ]
            expected = functions[0](many)
            tokens = int(many["lengths"].sum())
            for number, name in enumerate(named):
                short, long, all_texts = (by_function[number] for by_function in times)
                difference = np.abs(functions[number](many) - expected).max()
                print(
                    f"| {cell} | {name} | {1e3 * short:.2f} ms | {1e3 * long:.2f} ms | "
                    f"{tokens / all_texts / 1e3:.0f} | {difference:.0e} |",
                    flush=True,
                )


def implementations(cell: str, folder: Path) -> dict[str, Predict]:
    """Return functions from a batch to its probabilities [B, C], by name."""
    torch.manual_seed(0)
    settings = make(Classifier.Settings, cell=cell, embedding=128, hidden=128, layers=2)
    module = Classifier(settings, VOCABULARY, LABELS).eval().requires_grad_(False)
    graph, scores = classifier(module, settings)
    graph.output("probabilities", scores.softmax(-1), [BATCH, LABELS])
    (folder / "fp32.onnx").write_bytes(graph.model("fp32").SerializeToString())
    from onnxruntime.quantization import quantize_dynamic

    quantize_dynamic(folder / "fp32.onnx", folder / "int8.onnx")
    return {
        "fp32": torch_function(module, bf16=False),
        "bf16": torch_function(module, bf16=True),
        "onnxruntime fp32": session_function(folder / "fp32.onnx"),
        "onnxruntime int8": session_function(folder / "int8.onnx"),
    }


def torch_function(module: Classifier, *, bf16: bool) -> Predict:
    def predict(inputs: Arrays) -> np.ndarray:
        tokens, lengths = (torch.from_numpy(inputs[name]) for name in ("tokens", "lengths"))
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            scores: torch.Tensor = module(tokens, lengths, torch.zeros_like(lengths))
        return np.asarray(scores.float().softmax(-1).numpy())

    return predict


def session_function(path: Path) -> Predict:
    session = open_session(path)
    return lambda inputs: np.asarray(session.run(["probabilities"], inputs)[0])


def batch(rng: np.random.Generator, lengths: "list[int] | np.ndarray") -> Arrays:
    tokens = rng.integers(4, VOCABULARY, (len(lengths), max(lengths)))
    return {"tokens": tokens, "lengths": np.array(lengths, np.int64)}


def time_in_turn(functions: list[Predict], inputs: Arrays, seconds: float) -> list[float]:
    """Return each function's median CPU time; the functions take turns."""
    times: list[list[float]] = [[] for _ in functions]
    for run in functions:
        run(inputs)
    begin = time.process_time()
    while len(times[0]) < 3 or time.process_time() - begin < seconds * len(functions):
        for run, run_times in zip(functions, times, strict=True):
            start = time.process_time()
            run(inputs)
            run_times.append(time.process_time() - start)
    return [statistics.median(run_times) for run_times in times]


if __name__ == "__main__":
    main()
