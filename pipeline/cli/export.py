"""Export the model of a run to ONNX or to a folder for the Hugging Face Hub.

    headrace export --run runs/imdb --format onnx -o imdb-onnx

    headrace export --run runs/imdb --format hub -o imdb-model

The folder appears complete or not at all. `onnx` writes graphs for onnxruntime to a new or empty
folder, with a script that gives the predictions of `headrace predict` and needs neither Headrace
nor torch (docs/onnx.md). `hub` writes the model and a model card. `pipeline.load` and all commands
with --run read this folder, and it can be uploaded to the Hugging Face Hub. An older export in this
format is replaced.

`--format onnx --int8` quantizes the weights of an LSTM model: the file is smaller and onnxruntime
is faster, but probabilities differ slightly (docs/onnx.md has measurements).
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pipeline.cli import common
from pipeline.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

    from pipeline.inference.trained import TrainedModel


def main(arguments: Sequence[str] | None = None, program: str = "headrace export") -> None:
    parser = common.make_run_parser(program, __doc__, example_override="task.beam_size=8")
    parser.add_argument("--format", choices=("onnx", "hub"), required=True, help="format to write")
    parser.add_argument(
        "-o", "--output", type=common.user_path, required=True, metavar="DIR",
        help="folder to write",
    )  # fmt: skip
    parser.add_argument(
        "--int8", action="store_true",
        help="with --format=onnx: quantize the weights of LSTM layers and embeddings to 8 bits",
    )  # fmt: skip
    args = common.parse(parser, arguments)
    if args.int8 and args.format != "onnx":
        raise ConfigError("--int8: applies only to --format=onnx; leave it out")

    from pipeline.inference.trained import load_trained

    model = load_trained(
        args.run, args.overrides, weights=args.checkpoint, trust_code=args.trust_code
    )
    if args.format == "hub" and args.overrides:
        raise ConfigError(
            f"{args.overrides[0]}: --format=hub exports the run's config unchanged; leave it out, "
            "and give it to the command that uses the model"
        )
    if args.format == "onnx":
        _onnx(model, args.output, int8=args.int8)
    else:
        _hub(model, args.output)
    print(args.output)


def _onnx(model: "TrainedModel", output: "Path", *, int8: bool) -> None:
    from pipeline.export.onnx.export import export_onnx

    manifest = model.manifest
    tokenizers = {n: manifest.store.read_file(f"{n}.json") for n in manifest.vocabularies}
    export_onnx(model.task, model.module, model.config, manifest, tokenizers, output, int8=int8)


def _hub(model: "TrainedModel", output: "Path") -> None:
    from pipeline.export.hub import export_hub

    export_hub(model, output)
