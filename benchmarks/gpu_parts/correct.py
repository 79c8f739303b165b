"""Checks that a GPU computes what the CPU computes, the most valuable first."""

import json
import math
import signal
import subprocess
import sys
import tempfile
import time
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from benchmarks.gpu_parts.steps import Machine, Step
from pipeline import config, tasks
from pipeline.config import Config, load_run_config
from pipeline.corpus.dataset.manifest import open_dataset
from pipeline.corpus.prepare.prepare import prepare
from pipeline.corpus.tokenization.special_tokens import BEGIN, END
from pipeline.errors import TrainingError
from pipeline.inference.predictor import Predictor
from pipeline.models.cells import CELLS
from pipeline.models.cells.goru import Goru
from pipeline.models.decoding.beam_search import Hypothesis, beam_search
from pipeline.models.encoder import encoder
from pipeline.models.layers.crf import CRF
from pipeline.models.layers.recurrent import Layer
from pipeline.models.settings import ModelSettings
from pipeline.models.translator import Translator
from pipeline.run.folder import RunFolder
from pipeline.runtime.device import memory_errors
from pipeline.runtime.precision import Precision
from pipeline.runtime.process_group import World
from pipeline.train.session import build, train
from pipeline.train.trainer import Trainer
from tests.helpers.corpora import CASES, small_run_overrides
from tests.helpers.processes import REPOSITORY

TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
TOLERANCE = {"fp32": 1e-4, "bf16": 0.1, "fp16": 0.02}
"""Largest norm of the difference of states or gradients from float64, relative to their norm."""
LOSS_TOLERANCE = {"fp32": 1e-3, "bf16": 0.05, "fp16": 0.05}
"""Largest difference of a loss within 12 updates from that of a CPU in fp32."""
UPDATES = 12


def types(machine: Machine) -> dict[str, Any]:
    """The states of every cell have the type that autocast was given."""
    found = {}
    for cell in CELLS:
        for name, dtype in TYPES.items():
            layer = Layer(32, ModelSettings(cell=cell, hidden=32)).to(machine.device)
            x = torch.randn(5, 4, 32, device=machine.device)
            lengths = torch.full((4,), 5, device=machine.device)
            with torch.autocast(machine.device.type, dtype, enabled=name != "fp32"):
                y, state = layer(x, lengths, lengths)
            y.float().sum().backward()
            found[f"{cell} {name}"] = [str(t.dtype) for t in (y, state.h, state.c)]
            assert y.dtype == dtype, f"{cell} in {name} computes {y.dtype}"
    return found


def triton(machine: Machine) -> dict[str, Any]:
    """The Triton loops equal the equations (tests/kernels/test_gpu.py)."""
    command = [sys.executable, "-m", "pytest", "-q", "tests/kernels/test_gpu.py"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    summary = done.stdout.strip().splitlines()[-1]
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    return {"summary": summary}


def cells(machine: Machine) -> dict[str, Any]:
    """States and gradients of every cell, direction and width equal float64 on the CPU."""
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
    wrong = {k: e for k, e in worst.items() if not e <= TOLERANCE[k.split()[1]]}
    assert not wrong, f"larger than {TOLERANCE}: {wrong}"
    return worst


def _layer_error(
    machine: Machine, cell: str, hidden: int, bidirectional: bool, precision: str
) -> float:
    """Return the largest relative error of the states or a gradient, with poisoned padding."""
    torch.manual_seed(0)
    settings = ModelSettings(cell=cell, hidden=hidden, layers=2, bidirectional=bidirectional)
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
        (y.double() ** 2).sum().backward()
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

    settings = ModelSettings(embedding=16, hidden=24, layers=3, bidirectional=True)
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


def train_fp32(machine: Machine) -> dict[str, Any]:
    """Every task in fp32: 12 updates as on a CPU, evaluation, resume, prediction."""
    return _train_tasks(machine, "fp32")


def train_bf16(machine: Machine) -> dict[str, Any]:
    """Every task in bf16: 12 updates as on a CPU in fp32, evaluation, resume, prediction."""
    return _train_tasks(machine, "bf16")


def train_fp16(machine: Machine) -> dict[str, Any]:
    """Every task in fp16 with loss scaling; in a rehearsal in bf16, as a CPU has no fp16."""
    return _train_tasks(machine, machine.choose("fp16", "bf16"))


def _train_tasks(machine: Machine, precision: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for task in CASES:
        with tempfile.TemporaryDirectory() as name:
            found[task] = _train_task(machine, task, precision, Path(name))
    return found


def _train_task(machine: Machine, task: str, precision: str, folder: Path) -> dict[str, Any]:
    """Train a task, compare with the CPU and with a resumed run, and predict."""
    settings = _small_config(task, folder, "cpu", "train.precision=fp32")
    prepare(settings.corpus, tasks.get(task).fields(settings.corpus))
    expected = _losses_on_cpu(settings)
    chosen = f"train.precision={precision}"
    train(_small_config(task, folder, "whole", chosen))
    train(_small_config(task, folder, "resumed", chosen, f"train.max_steps={UPDATES // 2}"))
    train(_small_config(task, folder, "resumed", chosen))
    whole, resumed = (_losses(folder / name) for name in ("whole", "resumed"))
    assert whole.keys() == resumed.keys()
    difference = max(abs(loss - expected[step]) for step, loss in whole.items())
    after_resume = max(abs(loss - resumed[step]) for step, loss in whole.items())
    assert difference <= LOSS_TOLERANCE[precision] * max(expected.values()), (whole, expected)
    assert after_resume <= LOSS_TOLERANCE[precision], (whole, resumed)
    run_config = load_run_config(folder / "whole" / "config.yaml")
    predictor = Predictor(folder / "whole", run_config)
    if task not in ("images", "captioning"):
        predictions = predictor.predict(["the film was superb", "music"])
        assert all("error" not in prediction for prediction in predictions), predictions
    weights = [_weights(folder / name) for name in ("whole", "resumed")]
    return {
        "difference of a loss from the CPU": difference,
        "difference of a loss after a resume": after_resume,
        "resumed weights are equal bit for bit": weights[0] == weights[1],
    }


class _Recorder:
    """A listener that keeps the losses of a run without tracking."""

    def __init__(self) -> None:
        self.losses: dict[int, float] = {}

    def update(self, step: int, rows: int, metrics: Any) -> None:
        self.losses[step] = metrics["loss"]

    def log(self, step: int, metrics: Any) -> None: ...

    def evaluated(self, *_: Any) -> None: ...

    def saving(self) -> None: ...


def _losses_on_cpu(settings: Config) -> dict[int, float]:
    """Train on the CPU in fp32 and return the loss by step."""
    cpu = World(0, 1, torch.device("cpu"))
    trainer = build(settings, open_dataset(settings.corpus.shards), cpu, _folder(settings), None)
    recorder = trainer.listener = _Recorder()
    trainer.train()
    return recorder.losses


def host_syncs(machine: Machine) -> dict[str, Any]:
    """No update of any task waits for the device (PyTorch's sync debug mode)."""
    for task in CASES:
        with tempfile.TemporaryDirectory() as name:
            trainer = _trainer(machine, task, Path(name), "model.dropout=0.1")
            updates = trainer._transferable(trainer.stream.remaining(), training=True)
            trainer._update(next(updates))
            ready = [next(updates) for _ in range(2)]
            if machine.is_gpu:
                torch.cuda.synchronize()
                torch.cuda.set_sync_debug_mode("error")
            try:
                for update in ready:
                    trainer._update(update)
            finally:
                if machine.is_gpu:
                    torch.cuda.set_sync_debug_mode("default")
            updates.close()
    return {"tasks": len(CASES)}


def equal_runs(machine: Machine) -> dict[str, Any]:
    """Two equal runs, compared bit for bit, with and without deterministic cuDNN."""
    found = {}
    for deterministic in (False, True):
        torch.backends.cudnn.deterministic = deterministic
        weights = []
        for _ in range(2):
            with tempfile.TemporaryDirectory() as name:
                trainer = _trainer(machine, "classification", Path(name), "model.dropout=0.1")
                trainer.train()
                weights.append([p.detach().cpu() for p in trainer.model.parameters()])
        pairs = list(zip(*weights, strict=True))
        difference = max(float((a - b).abs().max()) for a, b in pairs)
        found[f"deterministic={deterministic}"] = difference
        assert difference < 1e-3
    return {"largest difference of a weight": found}


def collectives(machine: Machine) -> dict[str, Any]:
    """NCCL in a group of one rank: all collectives that training uses, and DDP."""
    backend = machine.choose("nccl", "gloo")
    with tempfile.TemporaryDirectory() as name:
        dist.init_process_group(
            backend, init_method=f"file://{name}/store", rank=0, world_size=1,
            device_id=machine.device if machine.is_gpu else None,
        )  # fmt: skip
        try:
            values = torch.ones(3, dtype=torch.float64, device=machine.device)
            dist.all_reduce(values)
            objects: list[Any] = [{"a": 1}]
            dist.broadcast_object_list(objects, src=0, device=machine.device)
            gathered: list[Any] = [None]
            dist.all_gather_object(gathered, "b")
            received = torch.empty_like(values)
            dist.all_to_all_single(received, values)
            assert (received.tolist(), objects, gathered) == ([1.0] * 3, [{"a": 1}], ["b"])
            model = DistributedDataParallel(
                nn.Linear(4, 4).to(machine.device),
                device_ids=[0] if machine.is_gpu else None,
            )
            model(torch.ones(2, 4, device=machine.device)).sum().backward()
        finally:
            dist.destroy_process_group()
    return {"backend": backend}


def stop_and_kill(machine: Machine) -> dict[str, Any]:
    """A run that SIGTERM stops, and one that SIGKILL ends, resume under torchrun."""
    found = {}
    processes = max(torch.cuda.device_count(), 1) if machine.is_gpu else 2
    torchrun = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--local-addr=localhost",
        f"--nproc_per_node={processes}", "launch/train.py",
    ]  # fmt: skip
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _small_config("classification", folder, "signal")
        for number in (signal.SIGTERM, signal.SIGKILL):
            run = folder / number.name
            overrides = [*_overrides("classification", folder), f"run.dir={run}"]
            command = [*torchrun, *overrides, "train.epochs=40", "train.log_every=1"]
            command += ["train.checkpoint_every=5", "train.max_steps=400"]
            process = subprocess.Popen(command, cwd=REPOSITORY, stderr=subprocess.DEVNULL)
            end = time.monotonic() + 60
            while len(_losses(run)) < 8:
                assert time.monotonic() < end, "no 8 updates within 60 s"
                assert process.poll() is None, "the run has ended early"
                time.sleep(0.02)
            begin = time.monotonic()
            process.send_signal(number)
            process.wait(60)
            found[f"{number.name}: seconds to end"] = time.monotonic() - begin
            done = subprocess.run(
                [*command, "train.max_steps=60"], cwd=REPOSITORY, capture_output=True, text=True
            )
            assert done.returncode == 0, done.stderr[-3000:]
            assert "resuming from" in done.stderr
            steps = sorted(_losses(run))
            assert steps[-1] >= 60
    return found


def overflow(machine: Machine) -> dict[str, Any]:
    """Loss scaling in fp16 skips updates that overflow, lowers its scale and continues."""
    with tempfile.TemporaryDirectory() as name:
        trainer = _trainer(
            machine, "classification", Path(name), "train.max_steps=40", "train.epochs=9",
        )  # fmt: skip
        trainer.precision = Precision("fp16", machine.device)
        scale = 2.0**30
        trainer.scaler = torch.amp.GradScaler(machine.device.type, init_scale=scale)
        recorder = trainer.listener = _Recorder()
        trainer.train()
        final = trainer.scaler.get_scale()
    assert final < scale, "no update overflowed"
    assert all(math.isfinite(loss) for loss in recorder.losses.values())
    return {"scale at first": scale, "scale at the end": final}


def out_of_memory(machine: Machine) -> dict[str, Any]:
    """Memory that runs out in training is reported by one clear line."""
    lines = []
    with tempfile.TemporaryDirectory() as name:
        if machine.is_gpu:
            torch.cuda.set_per_process_memory_fraction(0.005)
            settings = _small_config("classification", Path(name), "run", "model.hidden=4096")
            try:
                train(settings)
            except TrainingError as error:
                lines += error.lines
        else:
            try:
                with memory_errors():
                    torch.empty(2**50, dtype=torch.uint8)
            except TrainingError as error:
                lines += error.lines
    assert len(lines) == 1, lines
    assert "out of memory" in lines[0], lines
    return {"line": lines[0]}


def _overrides(task: str, folder: Path) -> list[str]:
    """Write the task's small corpus into the folder, unless it exists; return its overrides."""
    case = CASES[task]
    if not (folder / case.file).exists():
        case.write(folder / case.file, case.rows)
    return small_run_overrides(folder, task)


def _small_config(task: str, folder: Path, run: str, *overrides: str) -> Config:
    return config.load(
        None,
        [
            *_overrides(task, folder), "train.log_every=1", f"train.max_steps={UPDATES}",
            "train.epochs=9", f"run.dir={folder}/{run}", *overrides,
        ],
    )  # fmt: skip


def _folder(settings: Config) -> RunFolder:
    return RunFolder(Path(settings.run.dir))


def _trainer(machine: Machine, task: str, folder: Path, *overrides: str) -> Trainer:
    settings = _small_config(task, folder, "run", *overrides)
    manifest = prepare(settings.corpus, tasks.get(task).fields(settings.corpus))
    return build(settings, manifest, World(0, 1, machine.device), _folder(settings), None)


def _losses(run: Path) -> dict[int, float]:
    path = run / "metrics.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    values = [json.loads(line) for line in lines if line.endswith("}")]
    return {int(v["step"]): v["train/loss"] for v in values if "train/loss" in v}


def _weights(run: Path) -> bytes:
    return (run / "checkpoints" / "latest" / "model.safetensors").read_bytes()


STEPS = (
    Step("types", 40, types),
    Step("triton", 90, triton),
    Step("cells", 90, cells),
    Step("crf_and_search", 40, crf_and_search),
    Step("train_fp32", 90, train_fp32),
    Step("train_bf16", 90, train_bf16),
    Step("train_fp16", 90, train_fp16),
    Step("host_syncs", 60, host_syncs),
    Step("equal_runs", 60, equal_runs),
    Step("collectives", 40, collectives),
    Step("overflow", 40, overflow),
    Step("out_of_memory", 40, out_of_memory),
    Step("stop_and_kill", 120, stop_and_kill),
)
