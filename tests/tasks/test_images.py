"""Classification of images: what the model reads of them, what a config cannot be, a whole run."""

import gzip
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from pipeline import config
from pipeline.corpus.field_spec import FieldSpec
from pipeline.errors import ConfigError
from pipeline.models.classifier import Classifier
from pipeline.models.layers.grid_image import GridImage, ImageStack
from pipeline.models.layers.images import ImageSteps
from pipeline.models.settings import ModelSettings
from pipeline.stream.batch import Batch
from pipeline.tasks.images import Images
from pipeline.tasks.settings import TaskSettings
from tests.helpers.corpora import SMALL
from tests.helpers.processes import run
from tests.helpers.task_data import Data
from tests.launch.test_entry_points import launch

DOWN, ACROSS, FIGURES = 3, 4, 2
STEPS = DOWN * ACROSS


def settings(**changes: Any) -> ModelSettings:
    return ModelSettings(**({"embedding": 5, "hidden": 6, "layers": 2} | changes))


def task(**changes: Any) -> Images:
    fields = (
        FieldSpec("steps", "image", "steps", width=FIGURES, plane=(DOWN, ACROSS)),
        FieldSpec("label", "label", "label"),
    )
    names = {"label": ["a", "b", "c"]}
    made = {"image_size": [DOWN, ACROSS], "step": "pixel", "patch": 4}
    return Images(TaskSettings(), settings(**changes), Data({}, names, {}, made, fields))


def batch(rows: int = 4) -> Batch:
    draw = torch.Generator().manual_seed(1)
    steps = torch.randint(0, 256, (rows, STEPS, FIGURES), generator=draw)
    ones = torch.ones(rows)
    columns = {"steps": steps, "label": torch.arange(rows) % 3}
    return Batch(columns, torch.full((rows,), STEPS), ones, torch.arange(rows))


def test_figures_go_from_0_to_1_through_a_linear_layer() -> None:
    reads = ImageSteps(FIGURES, STEPS, settings())
    x = torch.tensor([[[0, 255]]])
    assert torch.allclose(reads(x)[0, 0], reads.linear.weight[:, 1] + reads.linear.bias)


def test_permuted_steps_are_the_same_for_all_images_and_hang_on_the_seed_alone() -> None:
    orders = []
    for seed in (7, 7, 8):
        torch.manual_seed(len(orders))
        reads = ImageSteps(FIGURES, 784, settings(permute=seed))
        assert sorted(reads.order.tolist()) == list(range(784))
        assert "order" not in reads.state_dict()
        orders.append(reads.order.tolist())
    assert orders[0] == orders[1] != orders[2]
    assert orders[0] != list(range(784))
    assert orders[0][:5] == [763, 752, 740, 212, 172]  # weights of a run mean nothing in another


@pytest.mark.parametrize("cell", ["lstm", "grid_lstm"])
def test_permuted_is_plain_on_permuted_images(cell: str) -> None:
    torch.manual_seed(0)
    plain, permuted = task(cell=cell), task(cell=cell, permute=3)
    model, other = plain.build(), permuted.build()
    other.load_state_dict(model.state_dict())
    given = batch()
    reads = other.get_submodule("embedding")
    assert isinstance(reads, ImageSteps)
    turned = Batch(
        given.columns | {"steps": given.columns["steps"][:, reads.order]},
        given.lengths, given.weights, given.keys,
    )  # fmt: skip
    expected = plain.outputs(model.eval(), turned)
    assert torch.allclose(permuted.outputs(other.eval(), given), expected)
    assert not torch.allclose(plain.outputs(model, given), expected)


def test_a_grid_of_three_dimensions_has_the_steps_as_its_plane() -> None:
    torch.manual_seed(0)
    of = task(cell="grid_lstm", grid_dimensions=3)
    model = of.build()
    assert isinstance(model, Classifier)
    assert isinstance(model.stack, ImageStack)
    given = batch()
    x = model.embedding(given.columns["steps"].transpose(0, 1))
    states, _ = model.stack(x, given.lengths, given.keys)
    grid = model.stack.grid
    assert isinstance(grid, GridImage)
    alone = grid(x.reshape(DOWN, ACROSS, 4, -1), given.keys)
    for place in range(STEPS):
        assert torch.equal(states[place], alone[place // ACROSS, place % ACROSS])
    of.loss(model, given)[0].backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


def test_mistakes_show_names_and_no_tokens() -> None:
    torch.manual_seed(0)
    of, given = task(), batch(30)
    _, mistakes = of.evaluate(of.outputs(of.build().eval(), given), given)
    assert mistakes
    for mistake in mistakes:
        assert mistake.tokens == []
        assert mistake.shown.keys() == {"label", "predicted", "probability"}
    steps = [bytes(row.flatten().tolist()) for row in given.columns["steps"]]
    assert all(mistake.picture.data in steps for mistake in mistakes)
    assert mistakes[0].picture.shape == (DOWN, ACROSS, FIGURES)


def test_a_line_is_a_path() -> None:
    assert Images.parse(" a b/c.png\r") == {"steps": Path("a b/c.png")}


IMAGES = [
    "task.name=images", "corpus.truncation_side=start", "corpus.vocab_size=16000", "corpus.replace={}",
    "corpus.image_size=[28, 28]",
]  # fmt: skip
GRID = ["model.cell=grid_lstm", "model.grid_dimensions=3", "corpus.step=patch"]
WRONG = {
    "no size": (["corpus.image_size=[]"], "corpus.image_size=[]: says nothing, but the task is"),
    "one number": (["corpus.image_size=[28]"], "corpus.image_size=[28]: needs rows and columns"),
    "no pixel": (["corpus.image_size=[0, 28]"], "greater than or equal to 1"),
    "two channels": (["corpus.channels=2"], "corpus.channels=2: input should be 1 or 3"),
    "too many steps": (
        ["corpus.step=pixel"],
        "an image has 784 steps (image_size=[28, 28], step=pixel), none of which is cut off",
    ),
    "far too many": (
        ["corpus.step=pixel", "corpus.image_size=[256, 256]"],
        "none of which is cut off; set a smaller corpus.image_size, or another step",
    ),
    "patches that do not fit": (
        ["corpus.step=patch", "corpus.patch=5"],
        "corpus.patch=5: patches of 5 x 5 pixels do not cover corpus.image_size=[28, 28]",
    ),
    "a patch that is none": (["corpus.patch=7"], "corpus.patch=7: is of corpus.step=patch"),
    "long texts": (
        ["corpus.overflow=split"],
        "corpus.overflow='split': is of texts, but the task is images",
    ),
    "a tokenizer": (["corpus.tokenizer=x.json"], "corpus.tokenizer='x.json': is of texts"),
    "words": (["corpus.format=conll"], "corpus.format=conll: is of words, but the task is images"),
    "side by side, with a format": (
        ["corpus.input={image: a, label: b}", "corpus.format=images"],
        "corpus.format=images: files that lie side by side",
    ),
    "label is image": (["corpus.image=label"], "the same column as corpus.image"),
    "an embedding of words": (["model.word_vectors=x"], "model.word_vectors=x: is of task.name=tagging"),
    "rows for a plane": ([*GRID[:2]], "model.grid_dimensions=3: goes down and across an image"),
    "permuted plane": ([*GRID, "model.permute=1"], "model.permute=1: a grid of three dimensions"),
    "one direction": ([*GRID, "model.bidirectional=false"], "model.bidirectional=False: a grid of"),
    "zoneout": ([*GRID, "model.zoneout=0.1"], "model.zoneout=0.1: a grid of three dimensions"),
    "another cell": ([*GRID[1:]], "is of model.cell=grid_lstm"),
    "direct": (["stream.unprepared_rows=9", "stream.batch_rows=4"], "only texts for classification are"),
}  # fmt: skip
OF_OTHERS = {
    "size": ("corpus.image_size=[8, 8]", "corpus.image_size=[8, 8]: is of task.name=images"),
    "step": ("corpus.step=pixel", "corpus.step=pixel: is of task.name=images"),
    "format": ("corpus.format=images", "corpus.format=images: is of task.name=images"),
    "permute": ("model.permute=1", "model.permute=1: is of task.name=images"),
}


@pytest.mark.parametrize("overrides, says", WRONG.values(), ids=WRONG)
def test_what_cannot_be_is_a_line(overrides: list[str], says: str) -> None:
    config.load(None, IMAGES)
    with pytest.raises(ConfigError) as caught:
        config.load(None, [*IMAGES, *overrides])
    assert any(says in line for line in caught.value.lines), caught.value.lines
    assert len(caught.value.lines) == 1 or "stream.unprepared_rows=9" in overrides


@pytest.mark.parametrize("override, says", OF_OTHERS.values(), ids=OF_OTHERS)
def test_keys_of_images_are_of_no_other_task(override: str, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        config.load(None, [override])
    (line,) = caught.value.lines
    assert says in line


def test_a_plane_needs_images() -> None:
    with pytest.raises(ConfigError, match="grid_dimensions=3: goes over images, and the task"):
        config.load(None, GRID[:2])


PLACES = ["up", "down", "left"]


def draw(count: int) -> tuple[np.ndarray[Any, Any], list[int]]:
    """Images of 8 x 8 pixels, bright up, down or on the left."""
    random = np.random.default_rng(0)
    pixels, labels = random.integers(0, 100, (count, 8, 8), np.uint8), []
    for image in pixels:
        label = int(random.integers(3))
        part = (image[:4], image[4:], image[:, :4])[label]
        part += 120
        labels.append(label)
    return pixels, labels


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same images as idx files and as a folder."""
    folder = tmp_path_factory.mktemp("pictures")
    pixels, labels = draw(500)
    head = struct.pack(">BBBBIII", 0, 0, 8, 3, *pixels.shape)
    (folder / "images.gz").write_bytes(gzip.compress(head + pixels.tobytes()))
    (folder / "labels").write_text("".join(f"{PLACES[label]}\n" for label in labels))
    for number, (image, label) in enumerate(zip(pixels, labels, strict=True)):
        path = folder / "images" / PLACES[label] / f"{number:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    return folder


MODELS = {
    "rows": [],
    "permuted pixels": ["corpus.step=pixel", "corpus.max_tokens=64", "model.permute=5"],
    "plane of patches": [*GRID, "corpus.patch=2"],
}


@pytest.fixture(scope="module", params=MODELS)
def trained(
    request: pytest.FixtureRequest, corpus: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    folder = tmp_path_factory.mktemp("run")
    status, _, err = run(
        *SMALL, *IMAGES, "corpus.image_size=[8, 8]", f"corpus.root={corpus}",
        "corpus.input={image: images.gz, label: labels}", f"corpus.shards={folder}/shards",
        "model.dropout=0", "model.embedding_dropout=0", "model.hidden=16", "train.epochs=12",
        "train.lr=0.02", "train.ema_decay=0", "stream.token_budget=512",
        *MODELS[request.param], f"run.dir={folder}/run",
    )  # fmt: skip
    assert status == 0, err
    return folder / "run"


def test_a_run_from_idx_files_to_predictions(trained: Path, corpus: Path) -> None:
    summary = json.loads((trained / "summary.json").read_text())
    assert summary["metric"] == "accuracy"
    assert summary["best"] > 0.9
    found = []
    for given in (f"image={corpus}/images.gz,label={corpus}/labels", f"{corpus}/images"):
        status, out, err = launch("evaluate.py", "--run", str(trained), "--input", given)
        assert status == 0, err
        found.append(json.loads(out))
        assert (found[-1]["examples"], found[-1]["skipped"]) == (500, 0)
        assert found[-1]["accuracy"] > 0.9
    assert found[0] == pytest.approx(found[1], abs=1e-4)
    paths = [next((corpus / "images" / name).iterdir()) for name in PLACES]
    text = "".join(f"{path}\n" for path in [*paths[:2], corpus / "labels", "none.png", paths[2]])
    status, out, err = launch("predict.py", "--run", str(trained), text=text)
    assert status == 0, err
    lines = [json.loads(line) for line in out.splitlines()]
    broken = {"error": "no PNG or JPEG that can be read"}
    assert lines[2:4] == [broken, {"error": "no such file"}]
    for line in (*lines[:2], lines[4]):
        assert set(line["scores"]) == set(PLACES)
    right = [
        line["label"] == name for line, name in zip(lines[:2] + lines[4:], PLACES, strict=True)
    ]
    assert sum(right) >= 2


@pytest.mark.parametrize("trained", ["rows"], indirect=True)
@pytest.mark.parametrize(
    "given, says",
    [
        ("none.gz", "--input none.gz: is no file of rows, as the columns of this run lie side by "),
        ("image=images.gz", "lie side by side; give image=FILE,label=FILE"),
        ("image=images.gz,lable=labels", "lie side by side; give image=FILE,label=FILE"),
        ("image=none.gz,label=labels", "none.gz: no such file"),
        ("image=labels,label=images.gz", "no row is left to evaluate"),
        ("none.csv", "none.csv: no such file"),
    ],
)
def test_what_cannot_be_evaluated_is_a_line(
    trained: Path, corpus: Path, given: str, says: str
) -> None:
    for name in ("images.gz", "labels"):
        given = given.replace(f"={name}", f"={corpus / name}")
    status, _, err = launch("evaluate.py", "--run", str(trained), "--input", given)
    assert (status, len(err.splitlines())) == (2, 1)
    assert says in err
