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
import sys
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from pipeline.kernels import gpu

capability, dtype = int(sys.argv[1]), sys.argv[2]
TYPES = {"lengths": "*i64", "candidate_bias": "*fp32", "dh": "*fp32", "T": "i32", "B": "i32"}
for kernel in (gpu._forward, gpu._backward):
    for mod_relu in (False, True):
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
@pytest.mark.parametrize("capability, dtype", [(70, "fp16"), (80, "bf16"), (90, "fp32")])
def test_kernels_compile(capability: int, dtype: str) -> None:
    env = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    env["TRITON_ALWAYS_COMPILE"] = "1"  # not from the cache
    command = [sys.executable, "-c", COMPILE, str(capability), dtype]
    done = subprocess.run(command, cwd=REPOSITORY, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
