"""Each example of docs/data.md is inspected as the page says it is read."""

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from pipeline import config
from pipeline.inspection.config_text import config_text
from pipeline.inspection.inspection import inspect
from tests.corpus.test_data_page import EXAMPLES, run_example

FILES = {
    "news.yaml": ["news.csv"],
    "stars.parquet": ["stars.parquet", "stars.feather"],
    "train.en": ["train.en", "train.de"],
    "saved/train": ["saved/train", "saved/test"],
}
"""The files of the examples with other files than the one that they are named by."""
DIFFERENT: dict[str, dict[str, Any]] = {
    "news.yaml": {
        "corpus.columns": ["label", "text_2", "text"],
        "corpus.text": "text",
        "corpus.label_names": [],
    },
    "array.json": {"corpus.label_names": []},
    "download": {"corpus.validation": 0.1},
    "words.txt": {"corpus.columns": [], "corpus.text": "0", "corpus.label": "-1"},
    "ner.jsonl": {"corpus.label_names": []},
    "cooking.txt": {"corpus.format": "", "corpus.label_prefix": None},
    "questions.csv": {"corpus.join": "\n"},
    "yelp.csv": {"corpus.label_names": [], "corpus.label_base": 0},
    "tweets.csv": {"corpus.label_names": []},
    "vectors.jsonl": {"corpus.label_names": ["label 1", "label 2", "label 3"]},
    "languages.csv": {"corpus.filters": {}},
    "bad.jsonl": {"corpus.max_skipped_ratio": 0.35, "corpus.validation": 0.1},
}
"""Keys that differ from those on the page: values that no file shows, such as names of labels, and
columns that the page numbers or names otherwise."""
IGNORED = ("run.", "corpus.shards")


def given_by_page(folder: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    if name == "captions.txt":  # which names an image of the example before
        (folder / "data/photos/cat").mkdir(parents=True)
        Image.new("L", (28, 28)).save(folder / "data/photos/cat/1.png")
    arguments = run_example(folder, name, monkeypatch)
    path = Path(arguments.pop(1)) if arguments[0] == "--config" else None
    return config.flatten(config.load(path, [a for a in arguments if a != "--config"]))


@pytest.mark.parametrize("name", EXAMPLES)
def test_proposal(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = given_by_page(tmp_path, name, monkeypatch) | DIFFERENT.get(name, {})
    text = config_text(inspect(FILES.get(name, [name])))
    Path("own.yaml").write_text(text)
    found = config.flatten(config.load(Path("own.yaml")))
    different = {
        key: (found.get(key), value)
        for key, value in expected.items()
        if found.get(key) != value and not key.startswith(IGNORED)
    }
    assert different == {}
    assert max(map(len, text.splitlines())) <= 80
