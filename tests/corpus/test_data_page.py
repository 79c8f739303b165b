"""The examples of docs/data.md, exactly as the page prints them."""

import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from pipeline import config, tasks
from pipeline.corpus.fields.example import Example, RowChecker
from pipeline.corpus.readers.inputs import locate_splits
from pipeline.corpus.readers.materialize import open_rows
from pipeline.corpus.skip_reason import SkipReason
from tests.helpers.processes import REPOSITORY, call
from tests.helpers.saved_datasets import save

PAGE = (REPOSITORY / "docs" / "data.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, re.M | re.S)
COMMAND = re.compile(r"^\$ headrace \w+ .*?([\w/.]+\.yaml|corpus\.input=.*)$", re.M)

EXPECTED: dict[str, list[Any]] = {
    "reviews.csv": [("A fine film.", "positive"), ("Dull, and too long.", "negative")],
    "news.yaml": [
        ("Oil rises\nPrices rose again.", "3"),
        ("A phone that folds\nIt has two screens.", "4"),
    ],
    "tickets.ndjson": [("I was billed twice.", "billing"), ("Where is my parcel?", "shipping")],
    "array.json": [("A fine film.", "1"), ("Dull.", "0")],
    "c4.json.gz": [("A page of the web.",), ("Another page.",)],
    "sentences.csv": [("Fine", "5"), ("Dull", "1")],
    "mail.tsv": [('5" disk', "spam"), ('"An open quote', "ham")],
    "quoted.tsv": [("two\nlines", "ham")],
    "latin.csv": [("Café", "fr")],
    "excel.csv": [("a", "b")],
    "stars.parquet": [("Fine.", "5"), ("Dull.", "1")] * 2,
    "mails": [("See you at noon.\n", "ham"), ("You have won!\n", "spam")],
    "reviews.tar": [("A fine film.", "positive"), ("Dull.", "negative")],
    "ner.conll": [(["EU", "rejects"], ["I-ORG", "O"])],
    "words.txt": [(["EU", "rejects"], ["B-ORG", "O"])],
    "en.conllu": [(["Dogs", "bark"], ["NOUN", "VERB"])],
    "ner.jsonl": [
        (["EU", "rejects"], ["B-ORG", "O"]),
        (["Paris", "is", "old"], ["B-ORG", "O", "O"]),
    ],
    "cooking.txt": [
        (
            "How much does potato starch affect a cheese sauce recipe?",
            ["sauce", "cheese"],
        ),
        ("Which baking dish is best to bake a banana bread?", ["baking"]),
    ],
    "photos": ["cat", "dog"],
    "captions.txt": [["A cat sleeps.", "A gray cat."]],
    "train.en": [("Two dogs.", "Zwei Hunde.")],
    "saved/train": [("A fine film.", "positive"), ("Dull.", "negative")],
    "download": [("A fine film.", "positive")],
    "questions.csv": [("Broken link: The page is gone.", "bug"), ("Dark mode", "wish")],
    "yelp.csv": [("The soup was cold.", "1"), ("Lovely people!", "2")],
    "tweets.csv": [("A sunny day.", "4"), ("Missed the bus.", "0")],
    "lists.jsonl": [("Crude prices rise.", ["crude", "trade"]), ("Nothing happened.", [])],
    "separated.csv": [("Crude prices rise.", ["crude", "trade"])],
    "comments.csv": [("Go away.", ["toxic"]), ("Thanks!", [])],
    "maps.jsonl": [("Go away.", ["toxic"]), ("You fool.", ["toxic", "insult"])],
    "vectors.jsonl": [("Go away.", ["toxic"]), ("You fool.", ["toxic", "insult"])],
    "languages.csv": [("Fine.", "good"), SkipReason.FILTERED],
}
"""The checked values of each row, by the input of the example; those of images are left out."""

NAMES = {
    "news.yaml": ["World", "Sports", "Business", "Sci/Tech"],
    "array.json": ["negative", "positive"],
    "yelp.csv": ["bad", "good"],
    "tweets.csv": ["negative", "positive"],
    "comments.csv": ["toxic", "insult"],
}


def examples() -> dict[str, list[tuple[str, str]]]:
    """Return the blocks of each example, by its input; the last one has the command."""
    found, blocks = {}, []
    for language, text in BLOCKS:
        blocks.append((language, text))
        if command := re.search(
            r"^\$ headrace \w+ .*?([\w/.]+\.yaml|corpus\.input=.*)$", text, re.M
        ):
            name = command[1].removeprefix("corpus.input=").lstrip("{[").removeprefix("source: ")
            found[re.split(r"[ ,'\]]", name)[0]] = blocks
            blocks = []
    assert not blocks
    return found


EXAMPLES = examples()


def commands(text: str) -> Iterator[tuple[str, str]]:
    """Yield each command of a console block, and what is printed after it."""
    for part in re.split(r"^\$ ", text, flags=re.M)[1:]:
        command, _, output = part.partition("\n")
        yield command, output


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def write_files(command: str, output: str) -> None:
    """Write the files that a command of an example shows, or run the command."""
    program, *arguments = shlex.split(command)
    if program == "cat":
        write(Path(arguments[0]), output)
    elif program == "head":
        for name, text in re.findall(r"^==> (.*) <==\n(.*\n)", output, re.M):
            write(Path(name), text)
    elif program == "find":
        for name in output.splitlines():
            Path(name).parent.mkdir(parents=True, exist_ok=True)
            Image.new("L", (28, 28)).save(name)
    elif program == "ls":
        for name in arguments:
            rows = [("A fine film.", "positive"), ("Dull.", "negative")]
            save(Path(name), [{"text": text, "label": label} for text, label in rows])
    else:
        subprocess.run(["bash", "-c", command], check=True)


def run_example(folder: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Write the files of an example below a folder; return the arguments of its command."""
    monkeypatch.chdir(folder)
    Path("data").mkdir(exist_ok=True)
    command: list[str] = []
    for language, text in EXAMPLES[name]:
        if language == "python":
            exec(text, {})
            continue
        for line, output in commands(text):
            if line.startswith("headrace "):
                command = shlex.split(line)[2:]
            else:
                write_files(line, output)
    return command


def test_each_example_has_an_expected_result() -> None:
    assert EXAMPLES.keys() - {"bad.jsonl"} == EXPECTED.keys()


@pytest.mark.parametrize("name", EXPECTED)
def test_example_is_read_as_expected(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if name == "captions.txt":  # which names an image of the example before
        (tmp_path / "data/photos/cat").mkdir(parents=True)
        Image.new("L", (28, 28)).save(tmp_path / "data/photos/cat/1.png")
    arguments = run_example(tmp_path, name, monkeypatch)
    path = Path(arguments.pop(1)) if arguments[0] == "--config" else None
    settings = config.load(path, [a for a in arguments if a != "--config"])
    corpus: Any = settings.corpus
    checker = RowChecker.of(corpus, tasks.fields(settings.task.name, corpus))
    found: list[Any] = []
    located = locate_splits(corpus)
    sources, held_out = located[""], located.get("validation", [])
    for source in sources:
        with open_rows(corpus, source, checker.columns) as rows:
            for row in rows:
                example = checker.check(row, source.name)
                found.append(example.values if isinstance(example, Example) else example)
    if name in ("photos", "captions.txt"):
        found = [values[1] for values in found]
    if settings.task.name == "tagging":  # which reads the words twice, also by character
        found = [(words, tags) for words, _, tags in found]
    assert found == EXPECTED[name]
    assert bool(held_out) == (name == "saved/train")
    if name in NAMES:
        assert corpus.names == NAMES[name]


TIMES = re.compile(r"\d+\.\d s|-[0-9a-f]{8} is")


def test_bad_rows_are_reported_as_printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = run_example(tmp_path, "bad.jsonl", monkeypatch)
    ((command, printed),) = [
        pair for pair in commands(EXAMPLES["bad.jsonl"][-1][1]) if pair[0].startswith("headrace ")
    ]
    assert shlex.split(command)[2:] == arguments
    status, out, err = call("prepare", *arguments, "corpus.on_bad_row=stop")
    assert status == 2
    (error,) = re.findall(r"^      (error: bad\.jsonl.*)$", PAGE, re.M)
    assert error in err.splitlines()
    status, out, err = call("prepare", *arguments)
    assert status == 0, err
    assert TIMES.sub("", out) == TIMES.sub("", printed)
