"""Choice of the precision: by the machine with auto, an error if another does not run."""

from types import SimpleNamespace
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


@pytest.mark.parametrize(
    "supports_bf16, settings, expected",
    [
        (True, {}, "bf16"),
        (True, {"cell": "gru"}, "bf16"),
        (True, {"native": False}, "fp32"),
        (False, {}, "fp32"),
    ],
)
def test_auto_on_a_cpu_follows_its_instructions_and_the_cell(
    supports_bf16: bool,
    settings: dict[str, Any],
    expected: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    fake = SimpleNamespace(supports=lambda dtype: supports_bf16)
    monkeypatch.setattr(precision, "library", lambda: fake)
    monkeypatch.setattr(precision, "_run_step", lambda p, model: None)
    model = model_settings(hidden=16, **settings)
    assert precision.choose("auto", CPU, model).name == expected
    assert not caplog.messages


def test_bf16_that_fails_is_logged_by_auto_and_an_error_if_requested(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def run_step(p: precision.Precision, model: Any) -> None:
        if p.name == "bf16":
            raise RuntimeError("could not create a primitive descriptor\nmore")

    monkeypatch.setattr(precision, "_best_of_cpu", lambda model: "bf16")
    monkeypatch.setattr(precision, "_run_step", run_step)
    assert choose("auto") == "fp32"
    assert caplog.messages == [
        "precision: bf16 does not run here (could not create a primitive descriptor)"
    ]
    with pytest.raises(TrainingError, match=r"=bf16: a layer of model\.cell=lstm fails"):
        choose("bf16")


def test_trying_a_step_leaves_the_random_generator_unchanged() -> None:
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
    monkeypatch.setattr(precision, "_run_step", lambda p, model: None)
    device = torch.device("cuda", 0)
    assert precision.choose("auto", device, model_settings()).name == expected


def test_an_error_that_is_no_runtime_error_is_a_reason_too(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(p: precision.Precision, model: Any) -> None:
        raise NotImplementedError("tl.dot: unsupported type")

    monkeypatch.setattr(precision, "_best_of_cpu", lambda model: "bf16")
    monkeypatch.setattr(precision, "_run_step", fail)
    assert choose("auto") == "fp32"
    assert caplog.messages == ["precision: bf16 does not run here (tl.dot: unsupported type)"]


def test_out_of_memory_is_no_reason_against_a_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(p: precision.Precision, model: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(precision, "_run_step", fail)
    for requested in ("auto", "bf16"):
        with pytest.raises(torch.OutOfMemoryError):
            choose(requested)
