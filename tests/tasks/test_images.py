"""Image classification: steps and grids of an image, config errors, a run from idx files."""

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
from pipeline.stream.batch import Batch
from pipeline.tasks.images import Images
from tests.helpers.corpora import SMALL
from tests.helpers.processes import call
from tests.helpers.settings import model_settings, task_settings
from tests.helpers.task_data import Data

HEIGHT, WIDTH, FEATURES = 3, 4, 2
STEPS = HEIGHT * WIDTH


def make_settings(**changes: Any) -> Any:
    return model_settings(**({"embedding": 5, "hidden": 6, "layers": 2} | changes))


def make_task(**changes: Any) -> Images:
    fields = (
        FieldSpec("steps", "image", "steps", width=FEATURES, plane=(HEIGHT, WIDTH)),
        FieldSpec("label", "label", "label"),
    )
    names = {"label": ["a", "b", "c"]}
    corpus = {"image_size": [HEIGHT, WIDTH], "step": "pixel", "patch": 4}
    return Images(task_settings(), make_settings(**changes), Data({}, names, {}, corpus, fields))


def make_batch(rows: int = 4) -> Batch:
    draw = torch.Generator().manual_seed(1)
    steps = torch.randint(0, 256, (rows, STEPS, FEATURES), generator=draw)
    ones = torch.ones(rows)
    columns = {"steps": steps, "label": torch.arange(rows) % 3}
    return Batch(columns, torch.full((rows,), STEPS), ones, torch.arange(rows))


def test_pixels_are_scaled_to_0_to_1_before_the_linear_layer() -> None:
    layer = ImageSteps(FEATURES, STEPS, make_settings())
    x = torch.tensor([[[0, 255]]])
    assert torch.allclose(layer(x)[0, 0], layer.linear.weight[:, 1] + layer.linear.bias)


def test_the_permutation_of_steps_depends_only_on_its_seed() -> None:
    orders: list[list[int]] = []
    steps = 28 * 28
    for seed in (7, 7, 8):
        torch.manual_seed(len(orders))
        layer = ImageSteps(FEATURES, steps, make_settings(permute=seed))
        assert sorted(layer.order.tolist()) == list(range(steps))
        assert "order" not in layer.state_dict()
        orders.append(layer.order.tolist())
    assert orders[0] == orders[1] != orders[2]
    assert orders[0] != list(range(steps))
    assert orders[0][:5] == [
        763,
        752,
        740,
        212,
        172,
    ]  # else the weights of older runs would be useless


@pytest.mark.parametrize("cell", ["lstm", "grid_lstm"])
def test_permute_equals_permuting_the_images(cell: str) -> None:
    torch.manual_seed(0)
    plain, permuted = make_task(cell=cell), make_task(cell=cell, permute=3)
    plain_model, permuted_model = plain.build(), permuted.build()
    permuted_model.load_state_dict(plain_model.state_dict())
    batch = make_batch()
    embedding = permuted_model.get_submodule("embedding")
    assert isinstance(embedding, ImageSteps)
    permuted_batch = Batch(
        batch.columns | {"steps": batch.columns["steps"][:, embedding.order]},
        batch.lengths, batch.weights, batch.keys,
    )  # fmt: skip
    expected = plain.outputs(plain_model.eval(), permuted_batch)
    assert torch.allclose(permuted.outputs(permuted_model.eval(), batch), expected)
    assert not torch.allclose(plain.outputs(plain_model, batch), expected)


def test_a_3d_grid_reads_the_steps_as_rows_and_columns() -> None:
    torch.manual_seed(0)
    task = make_task(cell="grid_lstm", grid_dimensions=3)
    model = task.build()
    assert isinstance(model, Classifier)
    assert isinstance(model.stack, ImageStack)
    batch = make_batch()
    x = model.embedding(batch.columns["steps"].transpose(0, 1))
    states, _ = model.stack(x, batch.lengths, batch.keys)
    grid = model.stack.grid
    assert isinstance(grid, GridImage)
    expected = grid(x.reshape(HEIGHT, WIDTH, 4, -1), batch.keys)
    for step in range(STEPS):
        assert torch.equal(states[step], expected[step // WIDTH, step % WIDTH])
    task.loss(model, batch)[0].backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


def test_mistakes_have_label_names_and_the_image() -> None:
    torch.manual_seed(0)
    task, batch = make_task(), make_batch(30)
    _, mistakes = task.evaluate(task.outputs(task.build().eval(), batch), batch)
    assert mistakes
    steps = [bytes(row.flatten().tolist()) for row in batch.columns["steps"]]
    for mistake in mistakes:
        assert mistake.tokens == []
        assert mistake.details.keys() == {"label", "predicted", "probability"}
        assert mistake.image is not None
        assert mistake.image.data in steps
        assert mistake.image.shape == (HEIGHT, WIDTH, FEATURES)


def test_an_input_line_is_a_path() -> None:
    assert Images.parse(" a b/c.png\r") == {"steps": Path("a b/c.png")}


IMAGES = [
    "task.name=images", "corpus.truncation_side=start", "corpus.vocab_size=16000",
    "corpus.replace={}", "corpus.image_size=[28, 28]",
]  # fmt: skip
GRID = ["model.cell=grid_lstm", "model.grid_dimensions=3", "corpus.step=patch"]
CONFLICTS = {
    "no size": (["corpus.image_size=[]"], "corpus.image_size=[]: is empty, but the number of"),
    "one number": (["corpus.image_size=[28]"], "corpus.image_size=[28]: needs rows and columns"),
    "no pixels": (["corpus.image_size=[0, 28]"], "greater than or equal to 1"),
    "two channels": (["corpus.channels=2"], "corpus.channels=2: input should be 1 or 3"),
    "too many steps": (
        ["corpus.step=pixel"],
        "an image has 784 steps (corpus.image_size=[28, 28], corpus.step=pixel) and is",
    ),
    "far too many steps": (
        ["corpus.step=pixel", "corpus.image_size=[256, 256]"],
        "and is not truncated; set a smaller corpus.image_size or another corpus.step",
    ),
    "patches that do not fit": (
        ["corpus.step=patch", "corpus.patch=5"],
        "corpus.patch=5: patches of 5 x 5 pixels do not divide corpus.image_size=[28, 28]",
    ),
    "a patch without step=patch": (
        ["corpus.patch=7"],
        "corpus.patch=7: applies only to corpus.step=patch and would be ignored with corpus.step=",
    ),
    "long texts": (
        ["corpus.overflow=split"],
        "would be ignored with task.name=images",
    ),
    "a tokenizer": (["corpus.tokenizer=x.json"], "would be ignored with task.name=images"),
    "words": (["corpus.format=conll"], "corpus.format=conll: is a format of tagged words, but the"),
    "parallel files with a format": (
        ["corpus.input={image: a, label: b}", "corpus.format=images"],
        "corpus.format=images: corpus.input lists parallel files",
    ),
    "label is image": (["corpus.image=label"], "the same column as corpus.image"),
    "word vectors": (
        ["model.word_vectors=x"],
        "model.word_vectors=x: applies only to task.name=tagging",
    ),
    "a grid over rows": ([*GRID[:2]], "model.grid_dimensions=3: scans the rows and columns"),
    "a permuted grid": (
        [*GRID, "model.permute=1"],
        "model.permute=1: would be ignored with model.grid_dimensions=3",
    ),
    "a grid in one direction": (
        [*GRID, "model.bidirectional=false"],
        "model.bidirectional=false: would be ignored with model.grid_dimensions=3",
    ),
    "a grid with zoneout": (
        [*GRID, "model.zoneout=0.1"],
        "model.zoneout=0.1: would be ignored with model.grid_dimensions=3",
    ),
    "grid dimensions of another cell": ([*GRID[1:]], "applies only to model.cell=grid_lstm"),
    "unprepared rows": (
        ["stream.unprepared_rows=9", "stream.batch_rows=4"],
        "only text classification can train on unprepared rows",
    ),
}  # fmt: skip
IMAGE_KEYS = {
    "size": ("corpus.image_size=[8, 8]", "corpus.image_size=[8, 8]: applies only to task"),
    "step": ("corpus.step=pixel", "corpus.step=pixel: applies only to task.name=images"),
    "format": ("corpus.format=images", "corpus.format=images: applies only to task.name=images"),
    "permute": ("model.permute=1", "model.permute=1: applies only to task.name=images"),
}


@pytest.mark.parametrize("overrides, expected", CONFLICTS.values(), ids=CONFLICTS)
def test_conflicting_settings_are_reported_in_one_line(overrides: list[str], expected: str) -> None:
    config.load(None, IMAGES)
    with pytest.raises(ConfigError) as caught:
        config.load(None, [*IMAGES, *overrides])
    assert any(expected in line for line in caught.value.lines), caught.value.lines
    assert len(caught.value.lines) == 1 or "stream.unprepared_rows=9" in overrides


@pytest.mark.parametrize("override, expected", IMAGE_KEYS.values(), ids=IMAGE_KEYS)
def test_keys_of_images_are_errors_in_other_tasks(override: str, expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        config.load(None, [override])
    (line,) = caught.value.lines
    assert expected in line


def test_a_3d_grid_needs_images() -> None:
    with pytest.raises(ConfigError, match="grid_dimensions=3: applies only to images, but the"):
        config.load(None, GRID[:2])


BRIGHT_HALVES = ["up", "down", "left"]


def draw_images(count: int) -> tuple[np.ndarray[Any, Any], list[int]]:
    """Return images of 8 x 8 pixels and their labels: which half is bright."""
    rng = np.random.default_rng(0)
    pixels, labels = rng.integers(0, 100, (count, 8, 8), np.uint8), []
    for image in pixels:
        label = int(rng.integers(3))
        half = (image[:4], image[4:], image[:, :4])[label]
        half += 120
        labels.append(label)
    return pixels, labels


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the same images as idx files and as a folder, and return the parent folder."""
    folder = tmp_path_factory.mktemp("images")
    pixels, labels = draw_images(500)
    head = struct.pack(">BBBBIII", 0, 0, 8, 3, *pixels.shape)
    (folder / "images.gz").write_bytes(gzip.compress(head + pixels.tobytes()))
    (folder / "labels").write_text("".join(f"{BRIGHT_HALVES[label]}\n" for label in labels))
    for number, (image, label) in enumerate(zip(pixels, labels, strict=True)):
        path = folder / "images" / BRIGHT_HALVES[label] / f"{number:03d}.png"
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
    status, _, err = call(
        "train",
        *SMALL, *IMAGES, "corpus.image_size=[8, 8]", f"corpus.root={corpus}",
        "corpus.input={image: images.gz, label: labels}", f"corpus.shards={folder}/shards",
        "model.dropout=0", "model.embedding_dropout=0", "model.hidden=16", "train.epochs=12",
        "train.lr=0.02", "train.ema_decay=0", "stream.token_budget=512",
        *MODELS[request.param], f"run.dir={folder}/run",
    )  # fmt: skip
    assert status == 0, err
    return folder / "run"


@pytest.mark.slow
def test_a_run_from_idx_files_to_predictions(trained: Path, corpus: Path) -> None:
    summary = json.loads((trained / "summary.json").read_text())
    assert summary["metric"] == "accuracy"
    assert summary["best"] > 0.9
    evaluations = []
    for files in (f"image={corpus}/images.gz,label={corpus}/labels", f"{corpus}/images"):
        status, out, err = call("evaluate", "--run", str(trained), "--input", files)
        assert status == 0, err
        metrics = json.loads(out)
        assert (metrics["examples"], metrics["skipped"]) == (500, 0)
        assert metrics["accuracy"] > 0.9
        evaluations.append(metrics)
    assert evaluations[0] == pytest.approx(evaluations[1], abs=1e-4)
    paths = [next((corpus / "images" / name).iterdir()) for name in BRIGHT_HALVES]
    text = "".join(f"{path}\n" for path in [*paths[:2], corpus / "labels", "none.png", paths[2]])
    status, out, err = call("predict", "--run", str(trained), text=text)
    assert status == 0, err
    first, second, *errors, last = [json.loads(line) for line in out.splitlines()]
    no_image = {"error": "the file is not a readable PNG or JPEG"}
    assert errors == [no_image, {"error": "no such file"}]
    pairs = list(zip((first, second, last), BRIGHT_HALVES, strict=True))
    for prediction, _ in pairs:
        assert set(prediction["scores"]) == set(BRIGHT_HALVES)
    assert sum(prediction["label"] == label for prediction, label in pairs) >= 2


@pytest.mark.parametrize("trained", ["rows"], indirect=True)
@pytest.mark.parametrize(
    "files, expected",
    [
        ("none.gz", "--input none.gz: is not a file of rows, and the columns of this run are in "),
        ("image=images.gz", "are in parallel files; give image=FILE,label=FILE"),
        ("image=images.gz,lable=labels", "are in parallel files; give image=FILE,label=FILE"),
        ("image=none.gz,label=labels", "none.gz: no such file"),
        ("image=labels,label=images.gz", "no row is left to evaluate"),
        ("none.csv", "none.csv: no such file"),
    ],
)
def test_unusable_evaluation_input_is_reported_in_one_line(
    trained: Path, corpus: Path, files: str, expected: str
) -> None:
    for name in ("images.gz", "labels"):
        files = files.replace(f"={name}", f"={corpus / name}")
    status, _, err = call("evaluate", "--run", str(trained), "--input", files)
    assert (status, len(err.splitlines())) == (2, 1)
    assert expected in err
