"""The scripts of launch/: train, then evaluate and predict with nothing but the run folder."""

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.corpora import small_run_overrides as small_overrides
from tests.helpers.corpora import write_reviews
from tests.helpers.processes import REPOSITORY, call, error_lines, launch
from tests.helpers.processes import run as train


@pytest.fixture(scope="module")
def trained(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a trained run, moved to another place."""
    folder = tmp_path_factory.mktemp("trained")
    status, _, err = train(
        *small_overrides(corpus),
        "train.epochs=8",
        "train.lr=2e-2",
        "train.warmup=0.1",
        f"run.dir={folder}/a",
    )
    assert status == 0, err
    shutil.move(folder / "a", folder / "b")
    return folder / "b"


@pytest.mark.slow
def test_model_learns_the_corpus(trained: Path) -> None:
    summary = json.loads((trained / "summary.json").read_text())
    assert summary["best"] > 0.9  # best validation accuracy


@pytest.mark.slow
def test_each_line_gets_a_label_or_an_error(trained: Path) -> None:
    texts = "the film was superb\n\nthe plot was dull and awful\r\n" + "music " * 500 + "\n"
    status, out, err = launch("predict.py", "--run", str(trained), text=texts)
    assert status == 0, err
    lines = [json.loads(line) for line in out.splitlines()]
    assert len(lines) == 4
    assert lines[0]["label"] == "positive"
    assert lines[1] == {"error": "the text is empty"}
    assert lines[2]["label"] == "negative"
    assert lines[2]["probability"] == max(lines[2]["scores"].values())
    assert set(lines[3]["scores"]) == {"negative", "positive"}


@pytest.mark.slow
def test_prediction_does_not_depend_on_the_other_texts(trained: Path, tmp_path: Path) -> None:
    texts = [f"{'plot ' * n}was {word}" for n in (1, 9, 30) for word in ("dull", "superb")]
    path = tmp_path / "texts"
    path.write_text("\n".join(texts))
    _, out, _ = call("predict", "--run", str(trained), "--input", str(path))
    joint_probabilities = [json.loads(line)["probability"] for line in out.splitlines()]
    for text, probability in zip(texts, joint_probabilities, strict=True):
        _, out, _ = call("predict", "--run", str(trained), text=text + "\n")
        assert abs(json.loads(out)["probability"] - probability) < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_evaluate_counts_duplicates_and_agrees_with_predict(
    trained: Path, tmp_path: Path, kind: str
) -> None:
    path = tmp_path / "new.csv"
    write_reviews(path, 60, seed=5)
    with path.open() as file:
        rows = list(csv.DictReader(file)) * 2 + [{"text": "  ", "label": "positive"}]
    if kind == "csv":
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, ["text", "label"])
            writer.writeheader()
            writer.writerows(rows)
    else:
        path = tmp_path / "new.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    status, out, err = call("evaluate", "--run", str(trained), "--input", str(path))
    assert status == 0, err
    result = json.loads(out.splitlines()[-1])
    assert result["examples"] == 120
    assert result["skipped"] == 1
    assert "skipped 1 row(s): no text" in err
    texts = "".join(row["text"] + "\n" for row in rows[:120])
    _, out, _ = call("predict", "--run", str(trained), text=texts)
    guesses = [json.loads(line)["label"] for line in out.splitlines()]
    correct = sum(g == row["label"] for g, row in zip(guesses, rows, strict=False))
    assert result["accuracy"] == pytest.approx(correct / 120)


MISTAKES = {
    "no run": (["--run", "{tmp}/none", "--input", "{tmp}/a.csv"], "is not a run folder"),
    "no file": (["--run", "{run}", "--input", "{tmp}/none.csv"], "none.csv: no such file"),
    "column": (["--run", "{run}", "--input", "{tmp}/a.csv", "corpus.text=txt"], "'txt'"),
    "label": (
        ["--run", "{run}", "--input", "{tmp}/a.csv", "--unknown-labels=refuse"],
        "label 'mixed' is not in",
    ),
    "way": (["--run", "{run}", "--input", "{tmp}/a.csv", "--unknown-labels=no"], "'no'"),
    "typo": (["--run", "{run}", "--input", "{tmp}/a.csv", "corpus.txt=a"], "corpus.text?"),
    "hidden size": (
        ["--run", "{run}", "--input", "{tmp}/a.csv", "model.hidden=9"],
        "model.hidden=9: the weights of this run were trained with ",
    ),
    "checkpoint": (["--run", "{run}", "--input", "{tmp}/a.csv", "--checkpoint", "x"], "x: "),
}


@pytest.mark.slow
@pytest.mark.parametrize("arguments, expected", MISTAKES.values(), ids=MISTAKES)
def test_mistake_is_one_error_line_and_status_2(
    arguments: list[str], expected: str, trained: Path, tmp_path: Path
) -> None:
    (tmp_path / "a.csv").write_text("text,label\nfine,positive\nwell,mixed\n")
    filled = [a.format(run=trained, tmp=tmp_path) for a in arguments]
    status, out, err = call("evaluate", *filled)
    assert status == 2
    (line,) = error_lines(err)
    assert expected in line
    assert "Traceback" not in err
    assert out == ""


@pytest.mark.parametrize("script", ["prepare.py", "train.py", "evaluate.py", "predict.py"])
def test_help_shows_the_command(script: str) -> None:
    status, out, _ = launch(script, "--help")
    assert status == 0
    assert f"launch/{script}" in out
    if script in ("prepare.py", "train.py"):
        assert "corpus.max_tokens" in out


SCRIPTS = sorted((REPOSITORY / "launch").glob("*.py"))


@pytest.mark.parametrize("script", SCRIPTS, ids=os.path.basename)
def test_script_is_short(script: Path) -> None:
    """Entry points only parse, build, run and close; all other code belongs in the package."""
    assert len(script.read_text().splitlines()) <= 80


@pytest.mark.slow
def test_training_runs_without_the_optional_libraries(corpus: Path, tmp_path: Path) -> None:
    """The libraries for preparation and tracking need not be installed."""
    overrides = [*small_overrides(corpus), f"run.dir={tmp_path}", "train.max_steps=2"]
    code = (
        "import sys; blocked = {'tokenizers', 'mlflow', 'matplotlib', 'psutil', 'webdataset'}\n"
        "class Block:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] in blocked: raise ModuleNotFoundError(name)\n"
        "sys.meta_path.insert(0, Block())\n"
        f"import runpy; sys.argv = ['train.py', *{overrides!r}]\n"
        f"runpy.run_path({str(REPOSITORY / 'launch' / 'train.py')!r}, run_name='__main__')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
