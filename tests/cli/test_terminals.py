"""All commands work in terminals that cannot show every character."""

import json
import sys
from pathlib import Path

import pytest

from tests.helpers.corpora import small_run_overrides
from tests.helpers.processes import call, finish, start

LABELS = ["café", "naïf ✓"]
ASCII = [
    {"PYTHONIOENCODING": "ascii"},
    {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    {"LC_ALL": "POSIX"},  # in which Python writes UTF-8
]


def cli(variables: dict[str, str], *arguments: str) -> tuple[str, str]:
    """Run a command; return stdout and stderr, which must be ASCII unless Python writes UTF-8."""
    process = start([sys.executable, "-m", "pipeline.cli", *arguments], variables=variables)
    status, out, err = finish(process)
    assert status == 0, err
    assert (out + err).isascii() or variables == ASCII[-1]
    return out, err


@pytest.fixture(scope="module")
def overrides(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The arguments of a run whose labels are not ASCII."""
    folder = tmp_path_factory.mktemp("labels")
    rows = [f"text {number} ✓,{LABELS[number % 2]}\n" for number in range(80)]
    (folder / "reviews.csv").write_text("".join(["text,label\n", *rows]), encoding="utf-8")
    overrides = [o for o in small_run_overrides(folder) if "label_names" not in o]
    names = json.dumps(LABELS, ensure_ascii=False)
    config = f"corpus:\n  label_names: {names} # ✓\n"
    (folder / "é.yaml").write_text(config, encoding="utf-8")
    return [f"--config={folder}/é.yaml", *overrides, "train.max_steps=1", f"run.dir={folder}/run"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "variables",
    [
        pytest.param(ASCII[0], marks=pytest.mark.campaign, id="encoding"),
        pytest.param(ASCII[1], id="locale"),
        pytest.param(ASCII[2], marks=pytest.mark.campaign, id="POSIX"),
    ],
)
def test_prepare_train_evaluate_and_predict_in_an_ascii_terminal(
    variables: dict[str, str], overrides: list[str], tmp_path: Path
) -> None:
    overrides = [*overrides, f"corpus.shards={tmp_path}/shards", f"run.dir={tmp_path}/run"]
    data = next(o for o in overrides if o.startswith("corpus.input=")).partition("=")[2]
    cli(variables, "prepare", *overrides)
    out, _ = cli(variables, "train", *overrides)
    assert "run folder" in out
    run = ["--run", f"{tmp_path}/run"]
    out, _ = cli(variables, "evaluate", *run, "--input", data)
    assert json.loads(out)["examples"] == 80
    (tmp_path / "texts").write_text("un café ✓\n", encoding="utf-8")
    out, _ = cli(variables, "predict", *run, "--input", str(tmp_path / "texts"))
    assert set(json.loads(out)["scores"]) == set(LABELS)
    cli(variables, "train", "--help")


@pytest.mark.slow
def test_predict_prints_characters_that_the_terminal_has(
    overrides: list[str], tmp_path: Path
) -> None:
    status, _, err = call("train", *overrides)
    assert status == 0, err
    run = next(o for o in overrides if o.startswith("run.dir=")).partition("=")[2]
    (tmp_path / "texts").write_text("un café\n", encoding="utf-8")
    arguments = ["predict", "--run", run, "--input", str(tmp_path / "texts")]
    process = start([sys.executable, "-m", "pipeline.cli", *arguments])
    status, out, err = finish(process)
    assert status == 0, err
    assert all(label in out for label in LABELS)
