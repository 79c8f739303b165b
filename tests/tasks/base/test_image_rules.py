"""The path of an image of a corpus, to show in a command."""

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from pipeline import config
from pipeline.tasks.base.image_rules import image_path


@pytest.fixture(autouse=True)
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = Path("data/photos/cat/1.png")
    path.parent.mkdir(parents=True)
    Image.new("L", (8, 8)).save(path)


def corpus(*overrides: str) -> Any:
    return config.load(None, [*overrides, "corpus.image_size=[8, 8]"]).corpus


def test_an_image_of_a_folder() -> None:
    settings = corpus("task.name=images", "corpus.input=photos")
    assert image_path(settings) == "data/photos/cat/1.png"


def test_the_image_of_a_captions_file() -> None:
    Path("data/captions.txt").write_text("photos/cat/1.png#0\tA cat sleeps.\n")
    keys = ("task.name=captioning", "corpus.input=captions.txt", "corpus.format=captions",
            "corpus.target=caption")  # fmt: skip
    assert image_path(corpus(*keys)) == "data/photos/cat/1.png"
    Path("data/photos/cat/1.png").unlink()
    assert image_path(corpus(*keys)) == "image.png"


@pytest.mark.parametrize("given", ["missing", "https://example.com/images.parquet"])
def test_a_placeholder_if_the_input_is_not_here(given: str) -> None:
    settings = corpus("task.name=images", f"corpus.input={given}")
    assert image_path(settings, ".npy") == "image.npy"
