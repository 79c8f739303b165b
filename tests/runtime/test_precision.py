"""Choice of the precision: the fastest that runs with auto, an error if another does not run."""

import subprocess
import sys
from typing import Any

import pytest
import torch

from pipeline.errors import TrainingError
from pipeline.runtime import precision
from tests.helpers.settings import model_settings

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _capture_info(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="pipeline")


def choose(requested: str) -> str:
    return precision.choose(requested, CPU, model_settings(hidden=16)).name


def test_fp16_on_a_cpu_is_an_error_that_names_the_alternatives() -> None:
    with pytest.raises(TrainingError, match=r"=fp16: not supported on a CPU; use .*auto, bf16"):
        choose("fp16")


@pytest.mark.parametrize("seconds,expected", [(0.5, "bf16"), (2.0, "fp32")])
def test_auto_chooses_the_faster_precision(
    seconds: float,
    expected: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def step_seconds(p: precision.Precision, model: Any) -> float:
        return seconds if p.name == "bf16" else 1.0

    monkeypatch.setattr(precision, "_step_seconds", step_seconds)
    assert choose("auto") == expected
    slower = ["precision: bf16 runs here but is not faster than fp32"]
    assert caplog.messages == ([] if expected == "bf16" else slower)


def test_bf16_that_fails_is_logged_by_auto_and_an_error_if_requested(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def step_seconds(p: precision.Precision, model: Any) -> float:
        if p.name == "bf16":
            raise RuntimeError("could not create a primitive descriptor\nmore")
        return 1.0

    monkeypatch.setattr(precision, "_step_seconds", step_seconds)
    assert choose("auto") == "fp32"
    assert caplog.messages == [
        "precision: bf16 does not run here (could not create a primitive descriptor)"
    ]
    with pytest.raises(TrainingError, match=r"=bf16: a layer of model\.cell=lstm fails"):
        choose("bf16")


@pytest.mark.slow
def test_auto_is_fp32_on_a_cpu_without_avx512() -> None:
    """In a real process whose oneDNN may use AVX2 only: PyTorch's bf16 LSTM raises there."""
    code = (
        "import logging, torch; from pipeline.models.settings import ModelSettings as Model\n"
        "logging.basicConfig(level='INFO', format='%(message)s')\n"
        "from pipeline.runtime import precision; model = Model(hidden=16, native=False)\n"
        "print(precision.choose('auto', torch.device('cpu'), model).name)"
    )
    done = subprocess.run(
        ["env", "ONEDNN_MAX_CPU_ISA=AVX2", sys.executable, "-c", code],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout == "fp32\n"
    assert "precision: bf16" in done.stderr.splitlines()[0]


def test_timing_a_step_leaves_the_random_generator_unchanged() -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    choose("auto")
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    "capability, cudnn, expected",
    [
        ((9, 0), 91501, "bf16"),
        ((8, 0), 91300, "bf16"),
        ((9, 0), 91002, "fp16"),  # torch would loop over the tokens in bf16
        ((7, 5), 91501, "fp16"),
        ((6, 1), 91501, "fp32"),
    ],
)
def test_auto_on_a_gpu_follows_its_capability(
    capability: tuple[int, int], cudnn: int, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(torch.backends.cudnn, "version", lambda: cudnn)
    monkeypatch.setattr(precision, "_step_seconds", lambda p, model: 1.0)
    device = torch.device("cuda", 0)
    assert precision.choose("auto", device, model_settings()).name == expected


def test_an_error_that_is_no_runtime_error_is_a_reason_too(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(p: precision.Precision, model: Any) -> float:
        raise NotImplementedError("tl.dot: unsupported type")

    monkeypatch.setattr(precision, "_step_seconds", fail)
    assert choose("auto") == "fp32"
    assert caplog.messages == ["precision: bf16 does not run here (tl.dot: unsupported type)"]


def test_out_of_memory_is_no_reason_against_a_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(p: precision.Precision, model: Any) -> float:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(precision, "_step_seconds", fail)
    for requested in ("auto", "bf16"):
        with pytest.raises(torch.OutOfMemoryError):
            choose(requested)
