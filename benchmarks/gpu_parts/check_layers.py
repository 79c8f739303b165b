"""Checks of single layers: types, states and gradients, decoding."""

import subprocess
import sys
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.gpu_parts.steps import Machine
from pipeline.components import make
from pipeline.corpus.tokenization.special_tokens import BEGIN, END
from pipeline.models.cells.goru import Goru
from pipeline.models.decoding.beam_search import Hypothesis, beam_search
from pipeline.models.encoder import encoder
from pipeline.models.layers.crf import CRF
from pipeline.models.layers.recurrent import Layer
from pipeline.models.settings import model_settings
from pipeline.models.translator import Translator
from tests.helpers.processes import REPOSITORY

CELLS = ("elman", "lstm", "gru", "goru")
TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
TOLERANCE = {"fp32": 1e-4, "bf16": 0.1, "fp16": 0.02}
"""Largest allowed relative error (norm) of outputs and gradients against float64."""
GORU_FACTOR = 2
"""Factor of the tolerance for GORU in 16 bits: rounding can move a state across a threshold."""


def types(machine: Machine) -> dict[str, Any]:
    """The outputs of every cell have the autocast dtype."""
    found = {}
    for cell in CELLS:
        for name, dtype in TYPES.items():
            settings = model_settings(cell=cell, hidden=32)
            layer = Layer(32, settings, bidirectional=True).to(machine.device)
            x = torch.randn(5, 4, 32, device=machine.device)
            lengths = torch.full((4,), 5, device=machine.device)
            with torch.autocast(machine.device.type, dtype, enabled=name != "fp32"):
                y, state = layer(x, lengths, lengths)
            y.float().sum().backward()
            found[f"{cell} {name}"] = [str(t.dtype) for t in (y, state.h, state.c)]
            assert y.dtype == dtype, f"{cell} in {name} computes {y.dtype}"
    return found


def triton(machine: Machine) -> dict[str, Any]:
    """The Triton kernels match the reference equations (tests/kernels/test_gpu.py)."""
    command = [sys.executable, "-m", "pytest", "-q", "tests/kernels/test_gpu.py"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    summary = done.stdout.strip().splitlines()[-1]
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    return {"summary": summary}


def cells(machine: Machine) -> dict[str, Any]:
    """Outputs and gradients of every cell, direction and width match float64 on the CPU."""
    worst: dict[str, float] = {}
    for cell in CELLS:
        for hidden in machine.choose((32, 128, 160, 256), (32,)):
            for bidirectional in (False, True):
                if cell == "goru" and hidden & (hidden - 1):
                    continue  # a power of two
                for name in machine.choose(("fp32", "bf16", "fp16"), ("fp32", "bf16")):
                    error = _layer_error(machine, cell, hidden, bidirectional, name)
                    key = f"{cell} {name}"
                    worst[key] = max(worst.get(key, 0.0), error)
    wrong = {}
    for key, error in worst.items():
        cell, name = key.split()
        factor = GORU_FACTOR if cell == "goru" and name != "fp32" else 1
        if not error <= factor * TOLERANCE[name]:
            wrong[key] = error
    assert not wrong, f"relative errors above the tolerance: {wrong}"
    return worst


def _layer_error(
    machine: Machine, cell: str, hidden: int, bidirectional: bool, precision: str
) -> float:
    """Return the largest relative error of the states or a gradient, with poisoned padding."""
    torch.manual_seed(0)
    settings = model_settings(cell=cell, hidden=hidden, layers=2, bidirectional=bidirectional)
    stack = encoder(24, settings)
    for module in stack.modules():
        if isinstance(module, Goru):  # with a positive threshold its states jump at 0
            nn.init.constant_(module.threshold, -0.05)
            nn.init.normal_(module.input, std=0.3)
    lengths = torch.tensor([9, 1, 17, 17, 4])
    x = torch.randn(17, 5, 24)
    dtype = TYPES[precision]

    def run(net: nn.Module, x: Tensor, device: torch.device, autocast: bool) -> list[Tensor]:
        x = x.to(device).requires_grad_()
        on_device = lengths.to(device)
        with torch.autocast(device.type, dtype, enabled=autocast):
            y, _ = net(x, on_device, on_device)
        (y.double() ** 2).sum().div(512).backward()  # gradients within the range of fp16
        results = [y, *(p.grad for p in net.parameters() if p.grad is not None)]
        return [result.detach().double().cpu() for result in results]

    reference = deepcopy(stack).double()
    for module in reference.modules():
        if isinstance(module, Layer):
            module.native = False
    expected = run(reference, x.double(), torch.device("cpu"), False)
    poisoned = x.clone()
    for row, length in enumerate(lengths):
        poisoned[length:, row] = 1e4
    actual = run(stack.to(machine.device), poisoned, machine.device, precision != "fp32")
    return max(
        float((a - e).norm() / e.norm().clamp(min=1e-9))
        for a, e in zip(actual, expected, strict=True)
    )


def crf_and_search(machine: Machine) -> dict[str, Any]:
    """The CRF and beam search give the same results as on the CPU."""
    torch.manual_seed(0)
    crf = CRF(7)
    emissions, tags = torch.randn(60, 9, 7), torch.randint(0, 7, (60, 9))
    lengths = torch.randint(1, 61, (9,))
    expected = crf.nll(emissions, tags, lengths), crf.decode(emissions, lengths)
    on_device = [x.to(machine.device) for x in (emissions, tags, lengths)]
    crf.to(machine.device)
    nll = crf.nll(*on_device).cpu()
    assert torch.allclose(nll, expected[0], rtol=1e-4), (nll, expected[0])
    assert torch.equal(crf.decode(on_device[0], on_device[2]).cpu(), expected[1])

    settings = make(Translator.Settings, embedding=16, hidden=24, layers=3, bidirectional=True)
    model = Translator(settings, 50, None).eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.4)
    source, lengths = torch.randint(4, 50, (6, 11)), torch.tensor([11, 3, 7, 1, 9, 11])

    def search(device: torch.device) -> list[list[Hypothesis]]:
        model.to(device)
        inputs = source.to(device), lengths.to(device), torch.arange(6, device=device)
        with torch.no_grad():
            memory = model.encode(*inputs)
            limits = (lengths * 2).to(device)
            return beam_search(model.step, memory, limits, begin=BEGIN, end=END, n_best=2)

    expected_texts, texts = search(torch.device("cpu")), search(machine.device)
    differences = 0.0
    for expected_row, row in zip(expected_texts, texts, strict=True):
        for a, b in zip(expected_row, row, strict=True):
            assert a.tokens == b.tokens
            differences = max(differences, abs(a.score - b.score))
    assert differences < 1e-3
    return {"largest difference of a score": differences}
