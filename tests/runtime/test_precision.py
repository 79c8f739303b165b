"""Auto takes what works; what was asked for and does not work is an error."""

import subprocess
import sys

import pytest
import torch

from pipeline.errors import TrainingError
from pipeline.models.settings import ModelSettings
from pipeline.runtime import precision

CPU = torch.device("cpu")


def choose(asked: str) -> tuple[str, list[str]]:
    said: list[str] = []
    return precision.choose(asked, CPU, ModelSettings(hidden=16), said.append).name, said


def test_fp16_on_a_cpu_is_an_error_that_says_what_runs() -> None:
    with pytest.raises(TrainingError, match=r"train\.precision=fp16: .*a CPU trains in fp32 or"):
        choose("fp16")


@pytest.mark.parametrize("seconds,expected", [(0.5, "bf16"), (2.0, "fp32")])
def test_auto_takes_the_faster(
    seconds: float, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def step(p: precision.Precision, model: ModelSettings) -> float:
        return seconds if p.name == "bf16" else 1.0

    monkeypatch.setattr(precision, "_step_seconds", step)
    name, said = choose("auto")
    assert name == expected
    slow = ["precision: bf16 runs here but is no faster than fp32"]
    assert said == ([] if expected == "bf16" else slow)


def test_where_bf16_fails_auto_says_so_and_asking_for_it_is_an_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def step(p: precision.Precision, model: ModelSettings) -> float:
        if p.name == "bf16":
            raise RuntimeError("could not create a primitive descriptor\nmore")
        return 1.0

    monkeypatch.setattr(precision, "_step_seconds", step)
    name, said = choose("auto")
    assert name == "fp32"
    assert said == ["precision: bf16 does not run here (could not create a primitive descriptor)"]
    with pytest.raises(TrainingError, match=r"train\.precision=bf16: a lstm step fails"):
        choose("bf16")


def test_a_cpu_without_avx512_gets_by() -> None:
    """In a real process whose oneDNN may use AVX2 only, where torch's bf16 LSTM raises."""
    code = (
        "import torch; from pipeline.models.settings import ModelSettings as Model; said = []\n"
        "from pipeline.runtime import precision as p; model = Model(hidden=16, native=False)\n"
        "name = p.choose('auto', torch.device('cpu'), model, said.append).name\n"
        "assert name == 'fp32' and 'bf16' in said[0], (name, said)"
    )
    done = subprocess.run(
        ["env", "ONEDNN_MAX_CPU_ISA=AVX2", sys.executable, "-c", code],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_the_probe_leaves_the_generator_alone() -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    choose("auto")
    assert torch.equal(torch.get_rng_state(), before)
