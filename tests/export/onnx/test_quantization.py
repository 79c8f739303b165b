"""`headrace export --format onnx --int8`: close to fp32 and smaller, or one line is an error."""

import json
import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from pipeline.errors import RunError
from pipeline.export.onnx import numpy_runtime, quantization
from pipeline.export.onnx.quantization import require_supported
from pipeline.inference.trained import TrainedModel, load_trained
from tests.export.onnx.small_models import export_of, randomize
from tests.helpers.processes import call, error_lines

Runs = Callable[[str], Path]
LINES = ["the film was superb", "a dull plot, and long", "", "plot " * 300, "mr anna saw rovitu"]


def random_run(folder: Path) -> TrainedModel:
    """Return a run with random weights, so that its predictions depend on the text."""
    run = load_trained(folder)
    torch.manual_seed(0)
    randomize(run.module)
    return run


@pytest.mark.slow
@pytest.mark.parametrize("task", ["classification", "tagging"])
def test_the_folder_in_int8(
    task: str, runs: Runs, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run = random_run(runs(task))
    export_of(run, tmp_path / "fp32")
    handlers = list(logging.root.handlers)
    export_of(run, tmp_path / "int8", int8=True)
    assert (logging.root.handlers, logging.root.manager.disable) == (handlers, 0)
    assert "Please consider" not in capfd.readouterr().err  # a warning of the quantizer

    paths = [tmp_path / name for name in ("fp32", "int8")]
    names, others = ({file.name for file in path.iterdir()} for path in paths)
    assert names == others
    graphs = [onnx.load(path / "model.onnx").graph for path in paths]
    lstms, quantized = ([n.op_type for n in g.node if "LSTM" in n.op_type] for g in graphs)
    assert lstms
    assert quantized == ["DynamicQuantizeLSTM"] * len(lstms)
    shape = list(run.module.get_parameter("embedding.weight").shape)
    tables = [[w.data_type for w in g.initializer if list(w.dims) == shape] for g in graphs]
    assert tables == [[onnx.TensorProto.FLOAT], [onnx.TensorProto.UINT8]]
    integers = [w for w in graphs[1].initializer if w.data_type == onnx.TensorProto.INT8]
    weights = [onnx.numpy_helper.to_array(w) for w in integers if len(w.dims) == 3]
    assert len(weights) == 2 * len(lstms)
    assert max(abs(w.astype(int)).max() for w in weights) <= 64  # see quantization.py

    facts = json.loads((paths[1] / "config.json").read_text())["int8"]
    assert "int8" not in json.loads((paths[0] / "config.json").read_text())
    assert 0 < facts["mean_difference"] < facts["largest_difference"] < 0.05
    assert facts["mean_difference"] < quantization.MAX_MEAN

    model, small = (numpy_runtime.load(path, threads=1) for path in paths)
    predictions = model.predict(LINES), small.predict(LINES)
    for expected, found in zip(*predictions, strict=True):
        assert expected.keys() == found.keys()
        if "scores" in expected:
            assert found["scores"] == pytest.approx(expected["scores"], abs=0.05)
    if task == "classification":
        assert predictions[0] != predictions[1]


@pytest.mark.slow
def test_a_model_that_loses_too_much_is_not_written(runs: Runs, tmp_path: Path) -> None:
    run = random_run(runs("classification"))
    with torch.no_grad():
        weight = run.module.get_parameter("embedding.weight")
        weight.mul_(50)
        run.module.get_parameter("scores.weight").mul_(20)
        export_of(run, tmp_path / "before", int8=True)
        weight[7, 0] = 1e5  # the scale of the embedding leaves one step for the other values
    with pytest.raises(
        RunError, match=r"^--int8: probabilities differ from fp32 by .* nothing was written; leave"
    ) as error:
        export_of(run, tmp_path / "int8", int8=True)
    assert len(error.value.lines) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["before"]


@pytest.mark.parametrize("limits", [(0.0, 1.0), (1.0, 0.0), (float("nan"), 1.0)])
def test_both_limits_are_applied(
    limits: tuple[float, float], runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, limit in zip(("MAX_MEAN", "MAX_LARGEST"), limits, strict=True):
        monkeypatch.setattr(quantization, name, limit)
    with pytest.raises(RunError, match="nothing was written"):
        export_of(random_run(runs("classification")), tmp_path / "int8", int8=True)
    assert not list(tmp_path.iterdir())


def test_each_word_is_compared_and_padding_is_not(runs: Runs, tmp_path: Path) -> None:
    run = random_run(runs("tagging"))
    export_of(run, tmp_path / "int8", int8=True)
    facts = json.loads((tmp_path / "int8" / "config.json").read_text())["int8"]
    words = 2 * (1 + 3 + 17 + 400) * quantization.ROUNDS
    assert facts["compared"] == f"{words} predictions for random inputs"
    assert np.isfinite(facts["largest_difference"])


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("cell", "gru", "onnxruntime quantizes only lstm"),
        ("cell", "goru", "onnxruntime quantizes only lstm"),
        ("zoneout", 0.2, "such layers are loops"),
        ("zoneout_memory", 0.1, "such layers are loops"),
    ],
)
def test_layers_that_are_not_quantized_are_refused(
    key: str, value: object, reason: str, runs: Runs
) -> None:
    config = load_trained(runs("classification")).config
    require_supported(config)
    model = config.model.model_copy(update={key: value})
    with pytest.raises(
        RunError, match=f"^model.{key}={value}: cannot be exported in int8: {reason}"
    ) as error:
        require_supported(config.model_copy(update={"model": model}))
    assert len(error.value.lines) == 1


def test_the_command(runs: Runs, tmp_path: Path) -> None:
    output = tmp_path / "onnx"

    def export(task: str, format_: str) -> tuple[int, list[str]]:
        options = ["--run", str(runs(task)), "--format", format_, "--int8", "-o", str(output)]
        status, _, err = call("export", *options)
        return status, error_lines(err)

    assert export("classification", "hub") == (
        2, ["error: --int8: applies only to --format=onnx; leave it out"]
    )  # fmt: skip
    refusal = (
        "error: task.name=regression: cannot be exported in int8: supported are classification and "
        "tagging; leave out --int8"
    )
    assert export("regression", "onnx") == (2, [refusal])
    assert not output.exists()
    assert export("classification", "onnx") == (0, [])
    assert "int8" in json.loads((output / "config.json").read_text())
