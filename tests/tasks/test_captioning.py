"""Captioning: what is learnt and judged where an image has several captions, and photographs from
their files to a caption of one more."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sacrebleu
import torch
from PIL import Image, ImageDraw
from torch import nn
from torch.nn import functional

from pipeline import config
from pipeline.corpus.field_spec import FieldSpec
from pipeline.corpus.tokenization.special_tokens import BEGIN, END
from pipeline.errors import ConfigError
from pipeline.models.settings import ModelSettings
from pipeline.stream.batch import Batch
from pipeline.tasks.captioning import Captioning, cider
from pipeline.tasks.settings import TaskSettings
from tests.helpers.corpora import small
from tests.helpers.processes import run
from tests.helpers.task_data import Data
from tests.launch.test_entry_points import launch

V, HEIGHT, WIDTH = 13, 6, 8
CAPTIONS = [
    [[5, 6, 7], [5, 7]],
    [[8]],
    [[9, 9, 9, 9], [], [5]],
    [[6, 6], [7], [8], [9]],
]
"""Of four images, the last of which has no weight."""
FEATURES = FieldSpec("image", "image", "features", width=3)
PIXELS = FieldSpec("image", "image", "pixels", width=WIDTH, plane=(HEIGHT, WIDTH))


def task(field: FieldSpec = PIXELS, **settings: Any) -> Captioning:
    made = ModelSettings(embedding=8, hidden=8, layers=1, convolutions=[8])
    data = Data({"tokenizer": V}, fields=(field,))
    return Captioning(TaskSettings(name="captioning", max_length=6, **settings), made, data)


def batch(rows: Sequence[int] = range(4)) -> Batch:
    draw = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (4, HEIGHT, WIDTH), generator=draw, dtype=torch.uint8)
    targets = [[token for text in texts for token in [*text, END]] for texts in CAPTIONS]
    own = torch.tensor(rows)
    width = max(len(targets[row]) for row in rows)
    target = torch.tensor([targets[row] + [0] * (width - len(targets[row])) for row in rows])
    columns = {"image": pixels[own], "target": target}
    weights = torch.tensor([1.0, 1.0, 1.0, 0.0])[own]
    return Batch(columns, torch.full((len(rows),), HEIGHT), weights, torch.arange(4)[own])


def model(of: Captioning) -> nn.Module:
    torch.manual_seed(1)
    made = of.build()
    for name, parameter in made.named_parameters():
        if "norms" not in name:
            nn.init.normal_(parameter, std=0.5)
    return made.eval()


@pytest.mark.parametrize("share", [0.0, 0.1])
def test_the_loss_is_torchs_caption_by_caption(share: float) -> None:
    """Each caption of each image alone; one has no word, and yet its end is learnt."""
    of, rows = task(label_smoothing=share), batch()
    net = model(of)
    loss, tokens, nll, correct, padded = of.loss(net, rows).tolist()
    expected = plain = right = count = 0.0
    for row, texts in enumerate(CAPTIONS[:3]):
        for text in texts:
            fed = torch.tensor([[BEGIN, *text]])
            image, keys = rows.columns["image"][row : row + 1], rows.keys[row : row + 1]
            length = torch.tensor([len(text) + 1])
            scores = net(image, rows.lengths[row : row + 1], fed, length, keys)[:, 0]
            answers = torch.tensor([*text, END])
            smoothed = functional.cross_entropy(
                scores, answers, reduction="sum", label_smoothing=share
            )
            expected += smoothed.item()
            plain += functional.cross_entropy(scores, answers, reduction="sum").item()
            right += (scores.argmax(1) == answers).sum().item()
            count += len(answers)
    assert (tokens, correct) == (count, right)
    longest = max(len(text) + 1 for texts in CAPTIONS for text in texts)
    assert padded == max(map(len, CAPTIONS)) * len(CAPTIONS) * longest
    assert loss == pytest.approx(expected, rel=1e-5)
    assert nll == pytest.approx(plain, rel=1e-5)
    tally, _ = of.evaluate(of.outputs(net, rows), rows)
    found = of.evaluation(tally, [("a", "a")]).metrics
    assert found["examples"] == 3
    assert found["loss"] == pytest.approx(plain / count, rel=1e-5)
    assert found["perplexity"] == pytest.approx(math.exp(plain / count), rel=1e-5)
    assert found["accuracy"] == pytest.approx(right / count)


def test_sums_of_parts_add_up_and_rows_without_weight_have_no_part() -> None:
    of = task(label_smoothing=0.1, beam_size=3)
    net = model(of)

    def found(rows: Sequence[int]) -> tuple[torch.Tensor, ...]:
        net.zero_grad()
        sums = of.loss(net, batch(rows))
        sums[0].backward()
        gradient = torch.cat([p.grad.flatten() for p in net.parameters() if p.grad is not None])
        tally, _ = of.evaluate(of.outputs(net, batch(rows)), batch(rows))
        return sums[:4].detach(), gradient, tally  # the fifth counts padding

    whole, parts = found(range(4)), [found(rows) for rows in ([0, 3], [2], [1], [3])]
    for expected, *each in zip(whole, *parts, strict=True):
        assert torch.allclose(expected, sum(each, torch.zeros_like(expected)), atol=1e-5)
    assert not any(x.any() for x in parts[-1])


def test_the_captions_of_an_image_are_what_it_is_judged_by() -> None:
    of, rows = task(), batch()
    outputs = of.outputs(model(of), rows)
    references = [tuple(" ".join(map(str, c)) for c in texts) for texts in CAPTIONS[:3]]
    assert [of_row[1:] for of_row in of.texts(outputs, rows)] == references
    right = torch.full((4, 7), -1.0, dtype=torch.float64)  # the last caption of each
    wrong = right.clone()
    for row in range(3):
        ids = CAPTIONS[row][-1]
        right[row, 3 : 3 + len(ids)] = torch.tensor(ids)
        wrong[row, 3] = 12
    assert not of.evaluate(right, rows)[1]
    assert of.evaluation(torch.ones(4), of.texts(right, rows)).metrics["exact"] == 1
    mistakes = of.evaluate(wrong, rows)[1]
    expected = [{"caption": "12", "reference": "\n".join(of_row)} for of_row in references]
    assert [mistake.shown for mistake in mistakes] == expected


WRITTEN = [
    ("A dog runs on the grass.", "A dog runs over the grass.", "The dog is on the grass.", "A dog"),
    ("two men", "Two men sit on a bench.", "men"),
    ("a red car", "a red car"),
    ("", "Somebody swims."),
]


@pytest.mark.parametrize("tokenizer", ["13a", "char"])
def test_bleu_is_sacrebleus_over_all_references(tokenizer: str) -> None:
    found = task(bleu_tokenizer=tokenizer).evaluation(torch.ones(4, dtype=torch.float64), WRITTEN)
    written = [text for text, *_ in WRITTEN]
    most = max(len(of_row) for of_row in WRITTEN)
    references = [
        [of_row[k] if k < len(of_row) else None for of_row in WRITTEN] for k in range(1, most)
    ]
    whole = sacrebleu.corpus_bleu(written, references, tokenize=tokenizer)  # type: ignore[arg-type]
    assert found.metrics["bleu"] == pytest.approx(whole.score)
    for n, name in enumerate(["bleu1", "bleu2", "bleu3", "bleu"], 1):
        mean = sum(map(math.log, whole.precisions[:n])) / n  # Papineni et al. 2002
        assert found.metrics[name] == pytest.approx(whole.bp * math.exp(mean)), name
    assert found.metrics["exact"] == 1 / 4
    assert f"tok:{tokenizer}" in found.signatures["bleu"]


def test_an_unknown_word_of_a_reference_counts_as_a_word_that_is_missed() -> None:
    """The figures are those of the texts themselves."""
    of = task()
    reference, written = of._text([4, 1, 6, 1, END]), of._text([4, 5, 6, 7, END, 0])
    assert (reference, written) == ("4 \ufffd 6 \ufffd", "4 5 6 7")
    metrics, _ = of.figures([written], [[reference]])
    spelt, _ = of.figures([written], [["4 never 6 seen"]])
    assert metrics == spelt
    assert metrics["bleu1"] == pytest.approx(50)


def test_cider_is_ten_where_all_is_said_and_nothing_else() -> None:
    """And is averaged over the references (Vedantam et al. 2015)."""
    pytest.importorskip("pycocoevalcap")
    texts = ["a dog runs on the grass", "two men sit there and talk"]
    assert cider(texts, [[text] for text in texts]) == pytest.approx(10)
    assert cider(texts, [[texts[0], "nothing like it"], [texts[1]]]) == pytest.approx(7.5)
    assert cider(texts[::-1], [[text] for text in texts]) == pytest.approx(0)
    found = task().evaluation(torch.ones(4), [(texts[0], texts[0]), (texts[1], texts[1])])
    assert found.metrics["cider"] == pytest.approx(10)


def test_features_take_the_place_of_pixels() -> None:
    of = task(FEATURES)
    rows = batch()
    regions = torch.rand(4, 5, 3, generator=torch.Generator().manual_seed(0))
    given = Batch({**rows.columns, "image": regions}, torch.tensor([5, 2, 1, 3]), *(
        (rows.weights, rows.keys)
    ))  # fmt: skip
    net = model(of)
    outputs = of.outputs(net, given)
    regions[1, 2:] = 1e3  # past its length
    assert torch.equal(outputs, of.outputs(net, given))
    of.loss(net, given)[0].backward()
    assert all(p.grad is not None and p.grad.any() for p in net.parameters())


def test_no_caption_is_longer_than_it_may_be() -> None:
    of = task(beam_size=3, n_best=2)
    net = model(of)
    net.decoder.bias.data[END] = -1e3  # type: ignore[union-attr, index]
    told = of.predict(of.outputs(net, batch([0, 1])), [{}] * 2)
    for each in told:
        assert [len(c["caption"].split()) for c in each["best"]] == [6, 6]
        assert each["best"][0] == {name: each[name] for name in ("caption", "score")}


CONFLICTS = {
    "corpus.text=words": "corpus.text='words': is of texts, but the task is captioning",
    "corpus.overflow=drop": "corpus.overflow='drop': is of texts, but the task is captioning",
    "corpus.target=image": "corpus.target='image': the same column as corpus.image; name the",
    "corpus.format=images": "corpus.format=images: is of task.name=images, but the task is captio",
    "corpus.format=conll": "corpus.format=conll: is of words, but the task is captioning",
    "corpus.image_size=[]": "corpus.image_size=[]: says nothing, but the task is captioning",
    "corpus.max_tokens=15": "corpus.max_tokens=15: an image has 16 steps",
    "corpus.features=9": "corpus.image_size=[16, 24]: is of pixels, but corpus.features=9 says",
    "corpus.step=pixel": "corpus.step=pixel: is of task.name=images, but the task is captioning",
    "corpus.shared_vocab=false": "corpus.shared_vocab=False: is of task.name=translation, but the task is capti",
    "model.cell=grid_lstm": "model.cell=grid_lstm: has no decoder",
    "model.convolutions=[12]": "model.convolutions.0=12: input should be a multiple of 8",
    "model.convolutions=[]": "model.convolutions=[]: list should have at least 1 item",
    "task.n_best=5": "task.n_best=5: no more are found than are followed, task.beam_size=2",
    "task.max_length_ratio=2": "task.max_length_ratio=2.0: is of task.name=translation, but the task is capti",
}


@pytest.mark.parametrize("override, expected", CONFLICTS.items(), ids=CONFLICTS)
def test_what_cannot_be_is_one_line(override: str, expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        config.load(None, [*small(Path(), "captioning"), override])
    assert any(expected in line for line in caught.value.lines), caught.value.lines


@pytest.mark.parametrize(
    "override", ["model.convolutions=[8]", "corpus.captions=2", "corpus.format=captions"]
)
def test_what_is_of_captioning_alone_is_passed_over_by_no_other(override: str) -> None:
    with pytest.raises(ConfigError, match=r"is of task.name=captioning, but the task is classif"):
        config.load(None, [override])


COLOURS = {"red": (220, 30, 30), "green": (30, 200, 40), "blue": (30, 40, 220)}


def photographs(folder: Path, count: int, split: str, seed: int) -> None:
    """Colour JPEGs of any size of a disc or a box, with two captions each, in Flickr8k's layout."""
    draw = np.random.default_rng(seed)
    (folder / "images").mkdir(exist_ok=True)
    lines = []
    for number in range(count):
        colour, shape = list(COLOURS)[draw.integers(3)], ("disc", "box")[draw.integers(2)]
        width, height = (int(side) for side in draw.integers(40, 90, 2))
        noise = draw.integers(0, 60, (height, width, 3), np.uint8)
        picture = Image.fromarray(noise)
        box = (width * 0.2, height * 0.2, width * 0.8, height * 0.8)
        pencil = ImageDraw.Draw(picture)
        (pencil.ellipse if shape == "disc" else pencil.rectangle)(box, fill=COLOURS[colour])
        name = f"{split}_{number}.jpg"
        picture.save(folder / "images" / name, quality=90)
        lines += [f"{name}#0\tA {colour} {shape}.\n", f"{name}#1\tThere is a {colour} {shape}.\n"]
    (folder / f"{split}.token.txt").write_text("".join(lines))


def test_photographs_are_learnt_evaluated_and_captioned(tmp_path: Path) -> None:
    photographs(tmp_path, 400, "train", 0)
    photographs(tmp_path, 60, "dev", 1)
    (tmp_path / "images" / "train_7.jpg").unlink()
    whole = (tmp_path / "images" / "train_8.jpg").read_bytes()
    (tmp_path / "images" / "train_8.jpg").write_bytes(whole[:200])
    status, _, err = run(
        *small(tmp_path, "captioning"), f"corpus.root={tmp_path}", "corpus.input=train.token.txt",
        "corpus.validation=dev.token.txt", "corpus.format=captions", "corpus.image_root=images",
        "corpus.target=caption", "corpus.image_size=[32, 32]", "corpus.channels=3",
        "corpus.lowercase=false", "model.cell=gru", "model.embedding=16", "model.hidden=48",
        "model.convolutions=[16, 32]",
        "model.dropout=0", "model.embedding_dropout=0", "task.label_smoothing=0", "train.ema_decay=0",
        "train.weight_decay=0", "train.lr=7e-3", "train.epochs=16", "train.warmup=0.1",
        "stream.token_budget=512", f"run.dir={tmp_path}/run",
    )  # fmt: skip
    assert status == 0, err
    assert "left out of 460 rows: 1 no file, 1 no image" in err
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert (summary["metric"], summary["validation"]["examples"]) == ("bleu", 60)
    assert summary["validation"]["exact"] > 0.9
    photographs(tmp_path, 20, "new", 2)
    where = ["--run", f"{tmp_path}/run"]
    status, out, err = launch("evaluate.py", *where, "--input", f"{tmp_path}/new.token.txt")
    assert status == 0, err
    assert json.loads(out)["examples"] == 20
    assert json.loads(out)["exact"] > 0.8
    known: dict[str, list[str]] = {}
    for line in (tmp_path / "new.token.txt").read_text().splitlines():
        name, _, caption = line.partition("\t")
        known.setdefault(f"{tmp_path}/images/{name.partition('#')[0]}", []).append(caption)
    given = "\n".join([*known, f"{tmp_path}/gone.jpg", f"{tmp_path}/new.token.txt"])
    status, out, err = launch("predict.py", *where, text=given)
    assert status == 0, err
    *told, gone, no_image = [json.loads(line) for line in out.splitlines()]
    assert gone == {"error": "no such file"}
    assert no_image == {"error": "no PNG or JPEG that can be read"}
    right = [each["caption"] in some for each, some in zip(told, known.values(), strict=True)]
    assert sum(right) >= 17
