"""The Triton kernels compile to machine code; no GPU is needed.

Triton's interpreter, which runs the other tests on a CPU, accepts code that its compiler refuses.
"""

import os
import subprocess
import sys

import pytest

from tests.helpers.processes import REPOSITORY

pytest.importorskip("triton", reason="Triton, which comes with PyTorch for CUDA, is not installed")

COMPILE = """
import itertools
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from pipeline.kernels import gpu

TYPES = {"lengths": "*i64", "candidate_bias": "*fp32", "dh": "*fp32", "T": "i32", "B": "i32"}
KERNELS = itertools.product((gpu._forward, gpu._backward), (False, True))
TARGETS = ((70, "fp16"), (80, "bf16"), (90, "fp32"))
for (kernel, mod_relu), (capability, dtype) in itertools.product(KERNELS, TARGETS):
    constants = {"H": 256, "D": 2, "MOD_RELU": mod_relu}
    constants |= {"M": gpu.BLOCK_M, "N": gpu.BLOCK_N, "K": gpu.BLOCK_K}
    signature = {name: "constexpr" if name in constants else TYPES.get(name, f"*{dtype}")
                 for name in kernel.arg_names}
    source = ASTSource(fn=kernel, signature=signature, constexprs=constants)
    compiled = triton.compile(source, target=GPUTarget("cuda", capability, 32))
    assert compiled.asm["cubin"]
    assert compiled.metadata.shared <= 48 * 1024  # limit of a thread block
"""


@pytest.mark.slow
def test_kernels_compile() -> None:
    env = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    env["TRITON_ALWAYS_COMPILE"] = "1"  # not from the cache
    command = [sys.executable, "-c", COMPILE]
    done = subprocess.run(command, cwd=REPOSITORY, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
