"""Results do not depend on the number of processes, and an error is printed by the right rank."""

import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file

from pipeline import config
from pipeline.corpus.dataset.manifest import open_dataset
from pipeline.kernels import library
from pipeline.stream.opening import open_loader
from tests.helpers.campaign import cases
from tests.helpers.corpora import small_run_overrides
from tests.helpers.files import row_dicts
from tests.helpers.processes import (
    command,
    error_lines,
    finish,
    last_with,
    losses,
    run,
    start,
)

pytestmark = [pytest.mark.slow, pytest.mark.distributed]

RUN = [
    "train.max_steps=12", "train.log_every=1", "model.dropout=0.3", "model.embedding_dropout=0.1",
    "stream.accumulation_steps=2", "stream.token_budget=1200",
]  # fmt: skip


@pytest.fixture(scope="module")
def single(case: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of one process."""
    folder = tmp_path_factory.mktemp("single")
    status, _, err = run(*case, *RUN, f"run.dir={folder}")
    assert status == 0, err
    return folder


@pytest.mark.parametrize(
    "case, world",
    cases(
        [
            ("classification", 2),
            ("classification", 4),
            ("tagging", 2),
            ("multilabel", 3),
            ("regression", 2),
            ("entailment", 3),
            ("images", 3),
            ("translation", 2),
            ("captioning", 3),
        ],
        [("classification", 4), ("tagging", 2)],
    ),
    indirect=["case"],
)
def test_results_do_not_depend_on_the_world_size(
    world: int, single: Path, case: list[str], tmp_path: Path
) -> None:
    """In fp32, with dropout: losses within 1e-5, weights within 1e-4, equal validation counts."""
    status, _, err = run(*case, *RUN, f"run.dir={tmp_path}", nproc=world)
    assert status == 0, err
    found, expected = losses(tmp_path), losses(single)
    assert len(found) == 12
    assert all(abs(found[step] - expected[step]) < 1e-5 for step in expected)
    file = "checkpoints/latest/model.safetensors"
    a, b = load_file(single / file), load_file(tmp_path / file)
    assert all((a[name] - b[name]).abs().max() < 1e-4 for name in a)
    rows = row_dicts(open_dataset(config.load(None, case).corpus.shards), "validation")
    documents = sum(row.get("segment", 0) == 0 for row in rows)
    counts = [last_with("val/examples", folder)["val/examples"] for folder in (tmp_path, single)]
    assert counts == [documents, documents]


@pytest.mark.skipif(library().loaded is None, reason=library().reason)
@pytest.mark.parametrize("zoneout", ["zoneout", "zoneout_memory"])
def test_first_line_names_the_kernel_of_the_recurrent_layers(
    zoneout: str, corpus: Path, tmp_path: Path
) -> None:
    """An LSTM in fp32 is PyTorch's, except with zoneout of either kind, which PyTorch lacks."""
    settings = [*small_run_overrides(corpus), "train.max_steps=1", f"model.{zoneout}=0.1"]
    status, _, err = run(*settings, f"run.dir={tmp_path}")
    assert status == 0, err
    assert "fp32, C++ loops (" in err


def test_more_ranks_than_lanes_is_one_error_line(corpus: Path, tmp_path: Path) -> None:
    status, _, err = run(
        *small_run_overrides(corpus), "stream.lanes=1", f"run.dir={tmp_path}", nproc=2
    )
    assert status != 0
    (line,) = error_lines(err)
    assert line.startswith("error: world size 2: stream.lanes=1 serves at most 1 rank")
    assert "start 1" in line


def test_error_on_one_rank_is_printed_by_that_rank(corpus: Path, tmp_path: Path) -> None:
    """A block in rank 1's lane is damaged."""
    shutil.copytree(corpus / "shards", tmp_path / "shards")
    settings = [
        *small_run_overrides(corpus),
        "stream.lanes=2", "stream.shuffle_window=4", f"run.dir={tmp_path}/run",
    ]  # fmt: skip
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
    start_of_line = f"error: rank 1: {shard}: block {block.number} at byte"
    assert any(line.startswith(start_of_line) for line in error_lines(err)), err
    assert "[rank" not in err  # no worker's traceback


def test_mistake_is_printed_once_under_torchrun(corpus: Path, tmp_path: Path) -> None:
    """Even if rank 0, which prints, finds it later than the other ranks."""
    late = tmp_path / "late.py"
    late.write_text(
        "import os, runpy, sys, time\n"
        "time.sleep(3 * (os.environ['RANK'] == '0'))\n"
        "runpy.run_path(sys.argv.pop(1), run_name='__main__')\n"
    )
    arguments = command(*small_run_overrides(corpus), "train.lr=-1", "model.hiden=3", nproc=2)
    script = next(i for i, word in enumerate(arguments) if word.endswith("launch/train.py"))
    status, _, err = finish(start([*arguments[:script], str(late), *arguments[script:]]))
    assert status != 0
    lines = error_lines(err)
    assert len(lines) == 2
    assert "did you mean model.hidden?" in lines[0]


def test_ranks_wait_for_rank_0_to_prepare(corpus: Path, tmp_path: Path) -> None:
    status, _, err = run(
        *small_run_overrides(corpus), f"corpus.shards={tmp_path}/new", f"run.dir={tmp_path}/run",
        "train.max_steps=2", nproc=2,
    )  # fmt: skip
    assert status == 0, err
    assert (tmp_path / "new" / "dataset.json").exists()
    assert err.count("2 x CPU core") == 1
