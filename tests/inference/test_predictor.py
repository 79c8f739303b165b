"""Predictions and evaluations of files: the same rows and columns as in preparing."""

import csv
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.corpus.skip_reason import SkipReason
from pipeline.errors import InputError
from pipeline.inference.batching import batched
from pipeline.inference.evaluator import evaluate_files
from pipeline.inference.model import Model
from pipeline.inference.predictor import Predictor
from pipeline.inference.trained import load_trained
from tests.helpers.files import write
from tests.helpers.processes import call, error_lines

Runs = Callable[[str], Path]


def predictor(folder: Path, *overrides: str) -> Model:
    return Model(load_trained(folder, overrides))


def predict(run: Model, *given: str | Path) -> list[dict[str, Any]]:
    return list(run.predict_files([str(value) for value in given]))


def write_jsonl(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_rows_of_a_table_are_predicted_as_their_texts(runs: Runs, tmp_path: Path) -> None:
    run = predictor(runs("classification"))
    texts = ["the film was superb", "a dull plot, and long", "", "the\0film", "music"]
    expected = run.predict(texts)
    assert [set(result) for result in expected[2:4]] == [{"error"}, {"error"}]
    rows = write_jsonl(tmp_path / "a.jsonl", [{"text": text, "n": 1} for text in texts])
    assert predict(run, rows) == expected
    with (tmp_path / "a.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerows([["review", "stars"], *([text, 1] for text in texts)])
    other = predictor(runs("classification"), "corpus.text=review")
    assert predict(other, tmp_path / "a.csv") == expected
    with pytest.raises(InputError, match=r"a\.csv: has no column 'text'"):
        predict(run, tmp_path / "a.csv")


def test_rows_without_a_usable_value_are_errors_in_their_place(runs: Runs, tmp_path: Path) -> None:
    run = predictor(runs("classification"))
    (tmp_path / "a.csv").write_text("text,label\nfine,x\nfine\ndull,y\n")
    results = predict(run, tmp_path / "a.csv")
    assert ["label" in result for result in results] == [True, False, True]
    assert results[1]["error"].startswith("the row has more or fewer fields than")
    path = write_jsonl(tmp_path / "a.jsonl", [{"text": None}, {"text": ["a"]}, {"text": "fine"}])
    assert ["error" in result for result in predict(run, path)] == [True, True, False]


def test_chunks_of_several_files_keep_the_order(runs: Runs, tmp_path: Path) -> None:
    run = predictor(runs("classification"))
    texts = [f"{'plot ' * (n % 7)}film {n}" for n in range(40)]
    write_jsonl(tmp_path / "a.jsonl", [{"text": text} for text in texts[:25]])
    write_jsonl(tmp_path / "b.jsonl", [{"text": text} for text in texts[25:]])
    expected = [result["probability"] for result in run.predict(texts)]
    given = [f"{tmp_path}/*.jsonl"]
    for chunk_rows in (1, 7, 25):
        results = list(Predictor(run.trained).predict_files(given, rows_per_chunk=chunk_rows))
        assert [r["probability"] for r in results] == pytest.approx(expected, abs=1e-5)


def test_files_at_a_url_are_read(runs: Runs, tmp_path: Path) -> None:
    import fsspec

    run = predictor(runs("classification"))
    path = write_jsonl(tmp_path / "a.jsonl", [{"text": "music", "label": "positive"}])
    (tmp_path / "b.txt").write_text("the film\n")
    filesystem, name = fsspec.filesystem("memory"), tmp_path.name
    for file in (path, tmp_path / "b.txt"):
        filesystem.put_file(str(file), f"/{name}/{file.name}")
    urls = [f"memory://{name}/a.js*", f"memory://{name}/b.txt"]
    assert predict(run, *urls) == run.predict(["music", "the film"])
    assert evaluate_files(run.trained, urls[:1]) == evaluate_files(run.trained, [str(path)])
    with pytest.raises(InputError, match=r"memory://no/c\.csv: cannot be read: FileNotFoundError"):
        predict(run, "memory://no/c.csv")


def test_pairs_come_from_two_columns(runs: Runs, tmp_path: Path) -> None:
    run = predictor(runs("entailment"))
    expected = run.predict(["the red film\tred", "the plot\tblue"])
    rows = [{"text": "the red film", "claim": "red"}, {"text": "the plot", "claim": "blue"}]
    assert predict(run, write_jsonl(tmp_path / "a.jsonl", rows)) == expected
    with pytest.raises(InputError, match="has no column 'claim'"):
        predict(run, write_jsonl(tmp_path / "b.jsonl", [{"text": "the plot"}]))


@pytest.mark.parametrize("columns", ["[word, tag]", "[word]"])
def test_words_come_from_a_table_with_or_without_tags(
    columns: str, runs: Runs, tmp_path: Path
) -> None:
    run = predictor(runs("tagging"), f"corpus.columns={columns}")
    sentences = [["the", "film", "of", "mr", "Bodalu"], ["it"]]
    expected = run.predict([" ".join(words) for words in sentences])
    tag = " O" if "tag" in columns else ""
    lines = ["".join(f"{word}{tag}\n" for word in words) for words in sentences]
    (tmp_path / "a.conll").write_text("\n".join(lines))
    assert predict(run, tmp_path / "a.conll") == expected
    as_lists = write_jsonl(tmp_path / "a.jsonl", [{"word": words} for words in sentences])
    assert predict(run, as_lists) == expected
    as_texts = write_jsonl(tmp_path / "b.jsonl", [{"word": " ".join(w)} for w in sentences])
    assert predict(run, as_texts) == expected
    write(tmp_path / "a.parquet", [{"word": words} for words in sentences])
    assert predict(run, tmp_path / "a.parquet") == expected


def test_images_come_from_a_table_a_folder_and_files(
    runs: Runs, corpora: Callable[[str], Path], tmp_path: Path
) -> None:
    import pyarrow.parquet as pq

    rows = pq.read_table(corpora("images") / "images.parquet").slice(0, 6).to_pylist()
    for number, row in enumerate(rows):
        path = tmp_path / "folder" / row["label"] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(row["image"])
    write(tmp_path / "a.parquet", [{"image": row["image"]} for row in rows])
    run = predictor(runs("images"))
    paths = sorted((tmp_path / "folder").glob("*/*.png"))
    by_number = dict(
        zip([int(path.stem) for path in paths], run.predict([*map(str, paths)]), strict=True)
    )
    assert predict(run, tmp_path / "a.parquet") == [by_number[n] for n in range(6)]
    assert predict(run, tmp_path / "folder") == list(by_number.values())
    assert predict(run, f"{tmp_path}/folder/*/*.png") == list(by_number.values())


def test_predictions_before_damage_are_not_lost(runs: Runs, tmp_path: Path) -> None:
    path = tmp_path / "a.txt.gz"
    import gzip

    data = gzip.compress("".join(f"film {n}\n" for n in range(50_000)).encode())
    path.write_bytes(data[: len(data) // 2])
    status, out, err = call("predict", "--run", str(runs("classification")), "--input", str(path))
    assert status == 2
    (line,) = error_lines(err)
    assert "a.txt.gz: is damaged or truncated" in line
    count = len(out.splitlines())
    assert 10_000 < count < 50_000
    assert count % 4096  # the last chunk is not full


def test_an_error_comes_after_the_items_before_it() -> None:
    def items() -> Iterator[int]:
        yield from range(5)
        raise InputError("damaged")

    chunks: list[list[int]] = []
    with pytest.raises(InputError, match="damaged"):
        chunks.extend(batched(items(), 2))
    found = batched(items(), 2)
    assert [next(found), next(found), next(found)] == [[0, 1], [2, 3], [4]]
    assert list(batched(range(4), 2)) == [[0, 1], [2, 3]]


@pytest.fixture
def labeled(tmp_path: Path) -> Path:
    rows = [
        ("the film was superb", "positive"), ("a dull plot", "negative"), ("music", "mixed"),
        ("", "positive"), ("a weak plot", "odd"), ("a lovely film", "mixed"), ("it", None),
    ]  # fmt: skip
    return write_jsonl(tmp_path / "new.jsonl", [{"text": t, "label": name} for t, name in rows])


def test_unknown_labels_are_counted_as_wrong(runs: Runs, labeled: Path) -> None:
    folder = runs("classification")
    status, out, err = call("evaluate", "--run", str(folder), "--input", str(labeled))
    assert status == 0, err
    result = json.loads(out)
    assert (result["examples"], result["skipped"], result["unknown_labels"]) == (5, 2, 3)
    guesses = [
        g["label"] for g in predictor(folder).predict(["the film was superb", "a dull plot"])
    ]
    correct = sum(g == t for g, t in zip(guesses, ["positive", "negative"], strict=True))
    assert result["accuracy"] == correct / 5
    for place, reason in ((4, "no text"), (7, "no label")):
        pattern = [f"skipped 1 row(s): {reason}", f"first {labeled}, ", f" {place}"]
        assert any(all(part in line for part in pattern) for line in err.splitlines()), err
    known = [line for line in labeled.read_text().splitlines() if "mixed" not in line]
    labeled.write_text("\n".join(line for line in known if "odd" not in line))
    _, out, _ = call("evaluate", "--run", str(folder), "--input", str(labeled))
    only_known = json.loads(out)
    assert (only_known["examples"], only_known["unknown_labels"]) == (2, 0)
    assert only_known["loss"] == pytest.approx(result["loss"], rel=1e-5)


def test_one_line_names_the_unknown_labels(
    runs: Runs, labeled: Path, caplog: pytest.LogCaptureFixture
) -> None:
    evaluate_files(predictor(runs("classification")).trained, str(labeled))
    (message,) = [r.getMessage() for r in caplog.records if "unknown" in r.getMessage()]
    assert message.startswith(
        "3 label(s) in 3 row(s) are unknown to this run and count as wrong: 'mixed' 2, 'odd' 1; "
        f"first {labeled}, "
    )


def test_evaluation_can_stop_at_a_bad_row(runs: Runs, labeled: Path) -> None:
    run = ["--run", str(runs("classification")), "--input", str(labeled)]
    status, out, err = call("evaluate", *run, "corpus.on_bad_row=stop")
    assert (status, out) == (2, "")
    assert re.search(rf"^error: {labeled}, .* 4: a row with no text .*on_bad_row=skip", err, re.M)


def test_unknown_labels_can_be_refused(runs: Runs, labeled: Path) -> None:
    refuse = "--unknown-labels=refuse"
    run = ["--run", str(runs("classification"))]
    status, out, err = call("evaluate", *run, "--input", str(labeled), refuse)
    assert (status, out) == (2, "")
    (line,) = error_lines(err)
    assert "label 'mixed' is not in" in line


def test_without_a_known_label_the_loss_is_null(runs: Runs, tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", [{"text": "film", "label": "odd"}] * 3)
    status, out, _ = call("evaluate", "--run", str(runs("classification")), "--input", str(path))
    result = json.loads(out)
    assert status == 0
    assert (result["loss"], result["accuracy"], result["unknown_labels"]) == (None, 0.0, 3)


def test_own_metrics_see_one_more_label(runs: Runs, labeled: Path, tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(
        "from pipeline.tasks.base.metric import LABEL, Metric\n\n"
        "class TrueScore(Metric):\n"
        "    predictions = (LABEL,)\n"
        "    def compute(self, predictions, targets):\n"
        "        assert len(self.labels) == predictions.shape[1] == 3\n"
        "        assert self.has_unknown and self.labels[-1] == '(unknown)'\n"
        "        return predictions.gather(1, targets.long()[:, None]).mean().item()\n"
    )
    run = predictor(runs("classification"), f"task.metrics=[f1_score, {tmp_path}/own.py:TrueScore]")
    metrics, _ = evaluate_files(run.trained, str(labeled))
    scores = run.predict(["the film was superb", "a dull plot"])
    total = scores[0]["scores"]["positive"] + scores[1]["scores"]["negative"]
    assert metrics["TrueScore"] == pytest.approx(total / 5, abs=1e-5)
    assert metrics["f1_score"] == pytest.approx(metrics["macro_f1"])


def test_an_unknown_tag_is_wrong_and_its_sentence_is_evaluated(runs: Runs, tmp_path: Path) -> None:
    """Longer sentences than a row may have, with a tag that training lacks."""
    words = [f"w{n}" for n in range(30)]
    tags = ["B-MISC", "I-MISC", *["O"] * 28]
    lines = [f"{word} {tag}\n" for word, tag in zip(words, tags, strict=True)]
    path = tmp_path / "new.conll"
    path.write_text("".join(lines) + "\nthe O\n")
    run = predictor(runs("tagging"))
    metrics, skips = evaluate_files(run.trained, str(path))
    assert (metrics["examples"], metrics["unknown_labels"], skips) == (2, 2, {})
    guesses = run.predict([" ".join(words), "the"])
    inside = {
        n for spans in guesses[:1] for s in spans["spans"] for n in range(s["start"], s["stop"])
    }
    right = len(set(range(2, 30)) - inside) + (not guesses[1]["spans"])
    assert metrics["accuracy"] == pytest.approx(right / 31)
    with pytest.raises(InputError, match="B-MISC"):
        evaluate_files(run.trained, str(path), refuse_unknown=True)


def test_several_files_are_evaluated_together(runs: Runs, labeled: Path, tmp_path: Path) -> None:
    run = predictor(runs("classification"))
    write_jsonl(tmp_path / "newer.jsonl", [{"text": "fine", "label": "positive"}, {"text": ""}])
    _, skips = evaluate_files(run.trained, f"{tmp_path}/new*.jsonl")
    metrics, same = evaluate_files(run.trained, [str(labeled), f"{tmp_path}/newer.jsonl"])
    assert metrics["examples"] == 6
    assert skips == same == {SkipReason.NO_TEXT: 2, SkipReason.NO_LABEL: 1}
    assert skips.first[SkipReason.NO_TEXT].startswith(f"{labeled}, ")


def test_an_evaluation_reads_stdin(runs: Runs, labeled: Path) -> None:
    """In the format of the run's own input, which is CSV, or in another one."""
    run = ["--run", str(runs("classification")), "--input", "-"]
    status, out, err = call("evaluate", *run, text="text,label\nfine,positive\n,negative\n")
    assert status == 0, err
    assert json.loads(out)["examples"] == 1
    assert "skipped 1 row(s): no text (empty, blank, or a list or map), first stdin, " in err
    status, out, err = call("evaluate", *run, "corpus.format=jsonl", text=labeled.read_text())
    assert status == 0, err
    assert json.loads(out)["examples"] == 5


def test_predictions_of_stdin_are_of_lines_unless_a_format_is_given(runs: Runs) -> None:
    run, text = ["--run", str(runs("classification"))], "\ufefffine\r\ndull\n"
    _, clean, _ = call("predict", *run, text="fine\ndull\n")
    for given in ([], ["--input", "-"], ["--input", "/dev/stdin"]):
        status, out, err = call("predict", *run, *given, text=text)
        assert (status, out) == (0, clean), err
    table = "text,n\nfine,1\ndull,2\n"
    status, out, err = call("predict", *run, "corpus.format=csv", text=table)
    assert (status, out) == (0, clean), err
    assert len(call("predict", *run, text=table)[1].splitlines()) == 3


def test_without_a_usable_row_there_is_one_error_line(runs: Runs, tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", [{"text": " ", "label": "positive"}])
    status, _, err = call("evaluate", "--run", str(runs("classification")), "--input", str(path))
    (line,) = error_lines(err)
    assert status == 2
    assert line.startswith(f"error: --input {path}: no row is left to evaluate (skipped 1 row(s): ")


def test_a_missing_input_is_one_error_line(runs: Runs, tmp_path: Path) -> None:
    run = ["--run", str(runs("classification")), "--input", f"{tmp_path}/none.csv"]
    for command in ("predict", "evaluate"):
        status, out, err = call(command, *run)
        assert (status, out) == (2, "")
        (line,) = error_lines(err)
        assert "none.csv: no such file" in line


def test_translations_come_from_the_source_column(runs: Runs, tmp_path: Path) -> None:
    run = predictor(runs("translation"))
    expected = run.predict(["the film", "a plot"])
    rows: list[Any] = [{"text": "the film"}, {"text": "a plot", "target": None}]
    assert predict(run, write_jsonl(tmp_path / "a.jsonl", rows)) == expected
    (tmp_path / "a.en").write_text("the film\na plot\n")
    assert predict(run, f"text={tmp_path}/a.en") == expected


def test_unknown_ones_of_several_labels_are_missed(runs: Runs, tmp_path: Path) -> None:
    """70,000 unknown labels: more than the indices in shards allow."""
    names = [f"label {n}" for n in range(70_000)]
    rows = [{"text": "a fine film", "label": ["praise", *names]}, {"text": "rain", "label": []}]
    path = write_jsonl(tmp_path / "a.jsonl", rows)
    run = predictor(runs("multilabel"))
    metrics, _ = evaluate_files(run.trained, str(path))
    assert (metrics["examples"], metrics["unknown_labels"]) == (2, 70_000)
    first, second = (set(guess["labels"]) for guess in run.predict(["a fine film", "rain"]))
    correct = len(first & {"praise"})
    total = len(first) + len(second) + 70_001
    assert metrics["micro_f1"] == pytest.approx(2 * correct / total)
    assert metrics["accuracy"] == (not second) / 2


def test_a_task_that_cannot_count_unknown_labels_refuses_them(
    runs: Runs, labeled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = predictor(runs("classification"))
    monkeypatch.setattr(run.trained.task, "counts_unknown_labels", False)
    with pytest.raises(InputError, match="label 'mixed' is not in"):
        evaluate_files(run.trained, str(labeled))


def test_metrics_by_the_values_of_a_column(runs: Runs, tmp_path: Path) -> None:
    """The rows of a value have the metrics of a file with these rows alone."""
    texts = ["a superb film", "a dull plot", "good music", "long and bad", "the best"]
    rows = [
        {
            "text": f"{text} {n}",
            "label": ["negative", "positive"][n % 2],
            "from": [None, "web"][n % 3 > 0],
        }
        for n, text in enumerate(texts * 8)
    ]
    run = predictor(runs("classification"))
    run.trained = replace(run.trained, chunk_rows=7)
    metrics, _ = evaluate_files(
        run.trained, str(write_jsonl(tmp_path / "a.jsonl", rows)), by="from"
    )
    by_value = metrics.pop("by")
    assert list(by_value) == ["web", ""]
    assert metrics == pytest.approx(evaluate_files(run.trained, str(tmp_path / "a.jsonl"))[0])
    for value, found in by_value.items():
        own = [row for row in rows if (row["from"] or "") == value]
        alone, _ = evaluate_files(run.trained, str(write_jsonl(tmp_path / f"{value}-.jsonl", own)))
        assert found == pytest.approx({name: alone[name] for name in found}), value
        assert found["examples"] == len(own)


def test_the_table_of_a_column_and_a_missing_one(runs: Runs, tmp_path: Path) -> None:
    rows = [{"text": f"a film {n}", "label": "positive", "stars": n % 60 + 0.5} for n in range(120)]
    path = str(write_jsonl(tmp_path / "a.jsonl", rows))
    folder = str(runs("classification"))
    status, out, err = call("evaluate", "--run", folder, "--input", path, "--by", "stars")
    assert status == 0, err
    *table, last = out.splitlines()
    assert table[0].split() == ["stars", "examples", "loss", "accuracy", "macro_f1"]
    assert len({len(line) for line in table[:-1]}) == 1
    assert table[1].split()[:2] == ["0.5", "2"]
    assert table[-1] == "and 10 more values, which are in the JSON object"
    assert len(json.loads(last)["by"]) == 60
    status, _, err = call("evaluate", "--run", folder, "--input", path, "--by", "star")
    assert status == 2
    assert error_lines(err)[0].startswith(f"error: {path}: has no column 'star'")
    folder = str(runs("language_modeling"))
    status, _, err = call("evaluate", "--run", folder, "--input", path, "--by", "stars")
    assert error_lines(err) == [
        (
            "error: --by stars: task.name=language_modeling reads all rows as one text, so it "
            "has no metrics by row; remove the option"
        )
    ]
