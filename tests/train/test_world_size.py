"""One process equals two and four on the same updates; what the ranks tell each other."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from safetensors.torch import load_file

from pipeline import config
from pipeline.corpus.dataset.manifest import open_dataset
from pipeline.kernels import library
from pipeline.stream.opening import open_loader
from tests.helpers.corpora import small
from tests.helpers.files import columns_of
from tests.helpers.processes import command, finish, losses, metrics, run, start, wait_for

RUN = [
    "train.max_steps=12", "train.log_every=1", "model.dropout=0.3", "model.embedding_dropout=0.1",
    "stream.accumulation_steps=2", "stream.token_budget=1200",
]  # fmt: skip


@pytest.fixture(scope="module")
def one(case: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("one")
    status, _, err = run(*case, *RUN, f"run.dir={folder}")
    assert status == 0, err
    return folder


@pytest.mark.parametrize(
    "case, world",
    [
        ("classification", 2),
        ("classification", 4),
        ("tagging", 3),
        ("multilabel", 3),
        ("images", 3),
        ("translation", 2),
        ("captioning", 3),
    ],
    indirect=["case"],
)
def test_the_world_size_bears_on_nothing(
    world: int, one: Path, case: list[str], tmp_path: Path
) -> None:
    """In fp32, with dropout: losses within 1e-5, weights within 1e-4, validation counts equal."""
    status, _, err = run(*case, *RUN, f"run.dir={tmp_path}", nproc=world)
    assert status == 0, err
    found, expected = losses(tmp_path), losses(one)
    assert len(found) == 12
    assert all(abs(found[step] - expected[step]) < 1e-5 for step in expected)
    file = "checkpoints/latest/model.safetensors"
    a, b = load_file(one / file), load_file(tmp_path / file)
    assert all((a[name] - b[name]).abs().max() < 1e-4 for name in a)
    rows = columns_of(open_dataset(config.load(None, case).corpus.shards), "validation")
    documents = sum(row.get("segment", 0) == 0 for row in rows)
    assert metrics(tmp_path)[-1]["val/examples"] == metrics(one)[-1]["val/examples"] == documents


@pytest.mark.skipif(library().loaded is None, reason=library().reason)
@pytest.mark.parametrize("zoneout", ["zoneout", "zoneout_memory"])
def test_the_first_line_names_the_loops_that_run(
    zoneout: str, corpus: Path, tmp_path: Path
) -> None:
    """LSTM in fp32 is torch's own, but for zoneout of any kind, which that has not."""
    settings = [*small(corpus), "train.max_steps=1", f"model.{zoneout}=0.1"]
    status, _, err = run(*settings, f"run.dir={tmp_path}")
    assert status == 0, err
    assert "fp32, C++ loops (" in err


def test_more_ranks_than_lanes_is_one_line_of_rank_0(corpus: Path, tmp_path: Path) -> None:
    status, _, err = run(*small(corpus), "stream.lanes=2", f"run.dir={tmp_path}", nproc=3)
    assert status != 0
    errors = [line for line in err.splitlines() if line.startswith("error:")]
    assert len(errors) == 1
    assert "world size 3: stream.lanes=2 serves at most 2 ranks" in errors[0]
    assert "start 2" in errors[0]


def test_an_error_that_one_rank_meets_is_printed_by_it(corpus: Path, tmp_path: Path) -> None:
    """A block of rank 1's lane is damaged; rank 0 says that another process has ended."""
    shutil.copytree(corpus / "shards", tmp_path / "shards")
    settings = [
        *small(corpus),
        "stream.lanes=2",
        "stream.shuffle_window=4",
        f"run.dir={tmp_path}/run",
    ]
    loaded = config.load(None, settings)
    manifest = open_dataset(tmp_path / "shards")
    plan = open_loader(manifest, loaded.stream).plan
    window = plan.window(0, 0)
    first, second = (set(plan.share(window, rank, 2).block.tolist()) for rank in (0, 1))
    block = window.blocks[min(second - first)]
    shard = manifest.shard("train", block.shard)
    data = bytearray(shard.read_bytes())
    data[block.offset + 200] ^= 1
    shard.write_bytes(data)
    status, _, err = run(*settings, f"corpus.shards={tmp_path}/shards", nproc=2)
    assert status != 0
    errors = [line for line in err.splitlines() if line.startswith("error:")]
    assert f"error: rank 1: {shard}: block {block.number} at byte" in "\n".join(errors)
    assert "[rank" not in err  # no worker's traceback


def test_a_mistake_is_printed_once_under_torchrun(corpus: Path, tmp_path: Path) -> None:
    """Also where the rank that prints is the last to meet it."""
    late = tmp_path / "late.py"
    late.write_text(
        "import os, runpy, sys, time\n"
        "time.sleep(3 * (os.environ['RANK'] == '0'))\n"
        "runpy.run_path(sys.argv.pop(1), run_name='__main__')\n"
    )
    arguments = command(*small(corpus), "train.lr=-1", "model.hiden=3", nproc=2)
    script = next(i for i, word in enumerate(arguments) if word.endswith("launch/train.py"))
    status, _, err = finish(start([*arguments[:script], str(late), *arguments[script:]]))
    assert status != 0
    errors = [line for line in err.splitlines() if line.startswith("error:")]
    assert len(errors) == 2
    assert "did you mean model.hidden?" in errors[0]


def test_ranks_wait_for_the_first_to_prepare(corpus: Path, tmp_path: Path) -> None:
    status, _, err = run(
        *small(corpus), f"corpus.shards={tmp_path}/new", f"run.dir={tmp_path}/run",
        "train.max_steps=2", nproc=2,
    )  # fmt: skip
    assert status == 0, err
    assert (tmp_path / "new" / "dataset.json").exists()
    assert err.count("2 x CPU core") == 1


@pytest.fixture
def holder(tmp_path: Path) -> subprocess.Popen[str]:
    """Another process that writes in tmp_path."""
    code = (
        "import sys, time, pathlib; from pipeline.run.folder import RunFolder\n"
        "with RunFolder(pathlib.Path(sys.argv[1])).writing(print):\n"
        "    print('in', flush=True); time.sleep(60)"
    )
    process = start([sys.executable, "-c", code, str(tmp_path)])
    assert process.stdout
    assert process.stdout.readline() == "in\n"
    return process


def test_a_second_writer_is_refused_by_the_firsts_name(
    holder: subprocess.Popen[str], tmp_path: Path
) -> None:
    from pipeline.errors import RunError
    from pipeline.run.folder import RunFolder

    said: list[str] = []
    with (
        pytest.raises(RunError, match=f"process {holder.pid} on "),
        RunFolder(tmp_path).writing(said.append, wait=0.2),
    ):
        pytest.fail("two writers")
    assert "has another writer" in said[0]
    holder.kill()
    with RunFolder(tmp_path).writing(said.append, wait=5):
        assert str(os.getpid()) in (tmp_path / ".writer").read_text()
    holder.communicate()


def test_a_worker_ends_when_its_launcher_dies() -> None:
    code = (
        "from pipeline.runtime.launcher import end_with_launcher\n"
        "import time; end_with_launcher(0.1); print('up', flush=True); time.sleep(60)"
    )
    launcher = (
        "import os, subprocess, sys, time; os.environ['TORCHELASTIC_RUN_ID'] = 'x'\n"
        f"print(subprocess.Popen([sys.executable, '-c', {code!r}], start_new_session=True).pid,"
        " flush=True); time.sleep(60)"
    )
    process = start([sys.executable, "-c", launcher])
    assert process.stdout
    worker = int(process.stdout.readline())
    assert process.stdout.readline() == "up\n"
    process.kill()
    wait_for(lambda: not psutil.pid_exists(worker), 10)
    finish(process)
