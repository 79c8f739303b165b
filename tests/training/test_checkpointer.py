"""Which checkpoint a run resumes from, and what saving and restoring keep."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from pipeline import config as config_file
from pipeline.config import Config
from pipeline.corpus.dataset.manifest import Manifest
from pipeline.errors import RunError
from pipeline.optim.optimizer import Optimizer
from pipeline.run import checkpoint
from pipeline.run.checkpoint import Checkpoint, TrainingState
from pipeline.run.folder import RunFolder
from pipeline.runtime.process_group import World
from pipeline.stream.plan import Position
from pipeline.stream.resumable import ResumableStream
from pipeline.training.callback_list import CallbackList
from pipeline.training.checkpointer import Checkpointer, begin_run, load_weights
from pipeline.training.settings import train_settings
from tests.helpers.corpora import small_run_overrides

CPU = torch.device("cpu")
MUST_MATCH = {"plan version": 1, "dataset": "abc"}


class Stream(ResumableStream):
    """A stream without updates whose state has one tensor."""

    def __init__(self) -> None:
        self.hidden = torch.zeros(3)

    def prefetched(self, position: Position) -> Any:
        raise NotImplementedError

    def rows_before(self, epoch: int) -> int:
        raise NotImplementedError

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"tensors": {"hidden": self.hidden}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.hidden = state["tensors"]["hidden"]


def network(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Embedding(7, 4), nn.LSTM(4, 3))


@dataclass
class Run:
    """The components of a run that a checkpoint restores, without a trainer."""

    model: nn.Module
    ema: nn.Module | None = None
    scaler: torch.amp.GradScaler = field(
        default_factory=lambda: torch.amp.GradScaler("cpu", enabled=True, init_scale=256)
    )
    stream: ResumableStream = field(default_factory=Stream)
    state: TrainingState = field(default_factory=TrainingState)
    callbacks: CallbackList = field(default_factory=lambda: CallbackList(train_settings()))
    optimizer: Optimizer = field(init=False)

    def __post_init__(self) -> None:
        self.optimizer = Optimizer(self.model, train_settings())

    def train(self, steps: int) -> "Run":
        for step in range(steps):
            tokens = torch.arange(step, step + 5)[:, None] % 7
            self.model(tokens)[0].square().sum().backward()
            for optimizer in self.optimizer.optimizers:
                optimizer.step()
                optimizer.zero_grad()
        self.state.step += steps
        return self


def checkpointer(folder: Path, must_match: Mapping[str, Any] = MUST_MATCH) -> Checkpointer:
    return Checkpointer(RunFolder(folder), World(0, 1, CPU), must_match, keep=2)


def save(folder: Path, run: Run) -> Path:
    checkpointer(folder).save(run)
    return folder / "checkpoints" / f"step-{run.state.step:08d}"


def same(first: nn.Module, second: nn.Module) -> bool:
    pairs = zip(first.parameters(), second.parameters(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def test_restored_run_continues_bit_for_bit(tmp_path: Path) -> None:
    stream, restored_stream = Stream(), Stream()
    run = Run(network(seed=0), stream=stream).train(3)
    run.state = TrainingState(
        step=3, rows=99, best=0.5, since_log=[0.1, 1 / 3], seconds=1.5, precision="fp32"
    )
    stream.position, stream.hidden = Position(1, 2, 3), torch.randn(3)
    run.scaler.load_state_dict(run.scaler.state_dict() | {"scale": 64.0})
    path = save(tmp_path, run)
    restored = Run(network(seed=1), stream=restored_stream)
    owner = checkpointer(tmp_path)
    owner.restore(path, restored)
    assert owner.saved_step == 3
    assert restored.state == run.state
    assert restored_stream.position == stream.position
    assert torch.equal(restored_stream.hidden, stream.hidden)
    assert restored.scaler.state_dict() == run.scaler.state_dict()
    run.train(3)
    restored.train(3)
    assert same(run.model, restored.model)


def test_ema_weights_are_the_ones_to_use_and_the_models_own_are_restored(tmp_path: Path) -> None:
    run = Run(network(seed=0), ema=network(seed=5)).train(5)
    path = save(tmp_path, run)
    used = network(seed=1)
    load_weights(path, used)
    restored = Run(network(seed=2), ema=network(seed=3))
    checkpointer(tmp_path).restore(path, restored)
    assert run.ema is not None
    assert restored.ema is not None
    assert same(used, run.ema)
    assert same(restored.ema, run.ema)
    assert same(restored.model, run.model)
    assert not same(run.model, run.ema)


def test_model_of_another_shape_is_one_error_line(tmp_path: Path) -> None:
    path = save(tmp_path, Run(network(seed=0)))
    with pytest.raises(RunError, match="cannot be loaded") as error:
        load_weights(path, nn.Embedding(3, 3))
    assert len(error.value.lines) == 1
    assert "\n" not in error.value.lines[0]


def test_every_saved_tensor_must_be_used(tmp_path: Path) -> None:
    path = save(tmp_path, Run(network(seed=0)).train(1))
    training: dict[str, Tensor] = load_file(path / checkpoint.TRAINING)
    save_file(training | {"sampler/seed": torch.zeros(1)}, path / checkpoint.TRAINING)
    with pytest.raises(RunError, match=r"tensors that no component uses: \['sampler/seed'\]"):
        checkpointer(tmp_path).restore(path, Run(network(seed=0)))


def test_another_dataset_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path, Run(network(seed=0)))
    with pytest.raises(RunError, match="written with dataset abc, now it is xyz"):
        checkpointer(tmp_path, MUST_MATCH | {"dataset": "xyz"}).read_state(path)


def test_run_that_branches_off_starts_without_a_best_checkpoint(tmp_path: Path) -> None:
    run = Run(network(seed=0)).train(2)
    run.state = replace(run.state, best=0.5, best_step=1, stale=1)
    path = save(tmp_path / "first", run)
    branch, restored = checkpointer(tmp_path / "branch"), Run(network(seed=1))
    branch.restore(path, restored)
    assert branch.saved_step == 0, "the branch has not saved its own copy yet"
    assert restored.state == replace(run.state, best=None, best_step=0, stale=0)
    assert same(restored.model, run.model)


@pytest.fixture
def config(corpus: Path, tmp_path: Path) -> Config:
    return config_file.load(None, [*small_run_overrides(corpus), f"run.dir={tmp_path}/run"])


def begin(config: Config, manifest: Manifest, resume: str = "auto") -> Path | None:
    folder = RunFolder(Path(config.run.dir))
    folder.path.mkdir(exist_ok=True)
    return begin_run(folder, config, manifest, {"tokenizer": b"{}"}, resume)


def write_checkpoint(config: Config, step: int) -> Path:
    state = TrainingState(step=step, best_step=step)
    content = Checkpoint({"w": torch.zeros(1)}, {}, state, {}, {})
    return checkpoint.write(RunFolder(Path(config.run.dir)).checkpoints, content, keep=9)


def with_changes(config: Config, **changes: object) -> Config:
    """Return the config with some keys of `train` changed."""
    return config.model_copy(update={"train": config.train.model_copy(update=changes)})


def test_new_run_writes_its_files_and_starts_at_step_0(config: Config, manifest: Manifest) -> None:
    assert begin(config, manifest, "never") is None
    assert begin(config, manifest) is None
    folder = RunFolder(Path(config.run.dir))
    assert config_file.load_run_config(folder.config) == config
    assert (folder.dataset / "tokenizer.json").read_bytes() == b"{}"


def test_run_resumes_from_the_newest_checkpoint_that_verifies(
    config: Config, manifest: Manifest, caplog: pytest.LogCaptureFixture
) -> None:
    begin(config, manifest)
    good, bad = write_checkpoint(config, 1), write_checkpoint(config, 2)
    assert begin(config, manifest) == bad
    (bad / "model.safetensors").unlink()
    assert begin(config, manifest) == good
    assert f"{bad} is damaged" in caplog.text
    assert f"resuming from {good}" in caplog.text
    assert caplog.records[-1].levelname == "WARNING"


def test_links_are_restored_after_a_kill_between_save_and_links(
    config: Config, manifest: Manifest
) -> None:
    begin(config, manifest)
    path = write_checkpoint(config, 1)
    for name in ("latest", "best"):
        path.with_name(name).unlink()
    begin(config, manifest)
    assert path.with_name("latest").readlink().name == path.name
    assert path.with_name("best").readlink().name == path.name


def test_a_damaged_checkpoint_is_set_aside_when_the_run_resumes(
    config: Config, manifest: Manifest
) -> None:
    """It would count as newer than those that the resumed run writes."""
    begin(config, manifest)
    good, bad = write_checkpoint(config, 1), write_checkpoint(config, 3)
    (bad / "model.safetensors").write_bytes(b"")
    assert begin(config, manifest) == good
    assert (bad.with_name(f"damaged-{bad.name}") / "state.json").exists()
    newer = write_checkpoint(config, 2)
    assert begin(config, manifest) == newer
    assert checkpoint.latest_and_best(newer.parent)["latest"] == newer
    assert RunFolder(Path(config.run.dir)).best_checkpoint() == newer
    assert (bad.with_name(f"damaged-{bad.name}") / "state.json").exists()


def test_a_copied_run_resumes(config: Config, manifest: Manifest, tmp_path: Path) -> None:
    """The links of a copy are folders if it was made by `cp -rL`."""
    begin(config, manifest)
    write_checkpoint(config, 1)
    copy = Path(shutil.copytree(config.run.dir, tmp_path / "copy"))
    assert not (copy / "checkpoints" / "latest").is_symlink()
    copied = config.model_copy(update={"run": config.run.model_copy(update={"dir": str(copy)})})
    path = begin(copied, manifest)
    assert path == copy / "checkpoints" / "step-00000001"
    assert path.with_name("latest").readlink().name == path.name
    newest = write_checkpoint(copied, 2)
    assert begin(copied, manifest) == newest


def test_resume_never_refuses_a_folder_with_a_checkpoint(
    config: Config, manifest: Manifest
) -> None:
    begin(config, manifest)
    write_checkpoint(config, 1)
    with pytest.raises(RunError, match=r"train\.resume=never: .* holds step-00000001"):
        begin(config, manifest, "never")


def test_run_branches_off_from_a_named_checkpoint_into_an_empty_folder(
    config: Config, manifest: Manifest, tmp_path: Path
) -> None:
    begin(config, manifest)
    path, newest = write_checkpoint(config, 1), write_checkpoint(config, 2)
    run = config.run.model_copy(update={"dir": str(tmp_path / "branch")})
    branch = config.model_copy(update={"run": run})
    assert begin(branch, manifest, str(path)) == path
    assert begin(config, manifest, str(newest)) == newest
    with pytest.raises(RunError, match=r"set train\.resume=auto to resume from it"):
        begin(config, manifest, str(path))
    (path / "state.json").unlink()
    with pytest.raises(RunError, match=r"step-00000001: not a complete checkpoint: .*state\.json"):
        begin(branch, manifest, str(path))


def test_each_difference_from_the_previous_run_is_named_and_nothing_is_written(
    config: Config, manifest: Manifest
) -> None:
    begin(config, manifest)
    write_checkpoint(config, 1)
    folder = RunFolder(Path(config.run.dir))
    before = folder.config.read_bytes(), (folder.dataset / "dataset.json").read_bytes()
    other = replace(manifest, names={"label": ("bad", "good")})
    with pytest.raises(RunError) as error:
        begin(with_changes(config, lr=1e-9, seed=4), other)
    starts = ["train.seed=4: the run in ", "train.lr=1e-09: the run in "]
    lines = error.value.lines
    assert all(any(line.startswith(start) for line in lines) for start in starts)
    assert f"{manifest.location}: not the dataset that the run in {folder.path}" in lines[-1]
    assert len(lines) == 3
    assert (folder.config.read_bytes(), (folder.dataset / "dataset.json").read_bytes()) == before


def test_keys_that_may_change_are_written_to_the_config(config: Config, manifest: Manifest) -> None:
    begin(config, manifest)
    path = write_checkpoint(config, 1)
    longer = with_changes(config, epochs=7)
    assert begin(longer, manifest) == path
    assert config_file.load_run_config(RunFolder(Path(config.run.dir)).config) == longer


JUMPS = (
    "train.{key}={new}: the learning-rate schedule spanned {old} epoch(s) until now and spans "
    "{new} from here on, so the learning rate jumps; train.schedule_epochs={old} keeps the old "
    "schedule"
)
LASTS = (
    "train.epochs={now[0]} train.max_steps={now[1]}: were {then[0]} and {then[1]}; the "
    "learning-rate schedule still spans {spans} epoch(s)"
)


@pytest.mark.parametrize(
    "before, now, expected",
    [
        ({"epochs": 1}, {"epochs": 1}, ""),
        ({"epochs": 1}, {"epochs": 3}, JUMPS.format(key="epochs", old=1, new=3)),
        (
            {"epochs": 1}, {"epochs": 3, "schedule_epochs": 1},
            LASTS.format(then=(1, 0), now=(3, 0), spans=1),
        ),
        (
            {"epochs": 2, "max_steps": 5}, {"epochs": 2, "max_steps": 9},
            LASTS.format(then=(2, 5), now=(2, 9), spans=2),
        ),
        (
            {"epochs": 3}, {"epochs": 3, "schedule_epochs": 4},
            JUMPS.format(key="schedule_epochs", old=3, new=4),
        ),
    ],
)  # fmt: skip
def test_a_resumed_run_reports_another_length(
    before: dict[str, int],
    now: dict[str, int],
    expected: str,
    config: Config,
    manifest: Manifest,
    caplog: pytest.LogCaptureFixture,
) -> None:
    begin(with_changes(config, **before), manifest)
    write_checkpoint(config, 1)
    caplog.set_level("INFO", logger="pipeline")
    begin(with_changes(config, **now), manifest)
    assert [record.message for record in caplog.records] == [expected] * bool(expected)
