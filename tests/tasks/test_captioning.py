"""Captioning: training and metrics with several captions per image, config errors, a run from
photographs to captions."""

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
from pipeline.models.captioner import Captioner
from pipeline.stream.batch import Batch
from pipeline.tasks.captioning import Captioning, cider
from tests.helpers.corpora import small_run_overrides
from tests.helpers.processes import call
from tests.helpers.settings import model_settings, task_settings
from tests.helpers.task_data import Data

V, HEIGHT, WIDTH = 13, 6, 8
CAPTIONS = [
    [[5, 6, 7], [5, 7]],
    [[8]],
    [[9, 9, 9, 9], [], [5]],
    [[6, 6], [7], [8], [9]],
]
"""Captions of four images; the last image is padding (weight 0)."""
FEATURES = FieldSpec("image", "image", "features", width=3)
PIXELS = FieldSpec("image", "image", "pixels", width=WIDTH, plane=(HEIGHT, WIDTH))


def make_task(field: FieldSpec = PIXELS, **settings: Any) -> Captioning:
    model = model_settings(embedding=8, hidden=8, layers=1, convolutions=[8])
    data = Data({"tokenizer": V}, fields=(field,))
    return Captioning(task_settings(name="captioning", max_length=6, **settings), model, data)


def make_batch(rows: Sequence[int] = range(4)) -> Batch:
    draw = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (4, HEIGHT, WIDTH), generator=draw, dtype=torch.uint8)
    targets = [[token for text in texts for token in [*text, END]] for texts in CAPTIONS]
    index = torch.tensor(rows)
    width = max(len(targets[row]) for row in rows)
    target = torch.tensor([targets[row] + [0] * (width - len(targets[row])) for row in rows])
    columns = {"image": pixels[index], "target": target}
    weights = torch.tensor([1.0, 1.0, 1.0, 0.0])[index]
    return Batch(columns, torch.full((len(rows),), HEIGHT), weights, torch.arange(4)[index])


def make_model(task: Captioning) -> Captioner:
    torch.manual_seed(1)
    model = task.build()
    assert isinstance(model, Captioner)
    for name, parameter in model.named_parameters():
        if "norms" not in name:
            nn.init.normal_(parameter, std=0.5)
    return model.eval()


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_matches_torch_caption_by_caption(smoothing: float) -> None:
    """Each caption of each image alone. An empty caption still has its end to learn."""
    task, batch = make_task(label_smoothing=smoothing), make_batch()
    model = make_model(task)
    loss, tokens, nll, correct, padded = task.loss(model, batch).tolist()
    expected_loss = expected_nll = expected_correct = expected_tokens = 0.0
    for row, texts in enumerate(CAPTIONS[:3]):
        for text in texts:
            inputs = torch.tensor([[BEGIN, *text]])
            image, keys = batch.columns["image"][row : row + 1], batch.keys[row : row + 1]
            length = torch.tensor([len(text) + 1])
            scores = model(image, batch.lengths[row : row + 1], inputs, length, keys)[:, 0]
            answers = torch.tensor([*text, END])
            smoothed = functional.cross_entropy(
                scores, answers, reduction="sum", label_smoothing=smoothing
            )
            expected_loss += smoothed.item()
            expected_nll += functional.cross_entropy(scores, answers, reduction="sum").item()
            expected_correct += (scores.argmax(1) == answers).sum().item()
            expected_tokens += len(answers)
    assert (tokens, correct) == (expected_tokens, expected_correct)
    longest = max(len(text) + 1 for texts in CAPTIONS for text in texts)
    assert padded == max(map(len, CAPTIONS)) * len(CAPTIONS) * longest
    assert loss == pytest.approx(expected_loss, rel=1e-5)
    assert nll == pytest.approx(expected_nll, rel=1e-5)
    counts, _ = task.evaluate(task.outputs(model, batch), batch)
    metrics = task.summarize(counts, [("a", "a")]).metrics
    mean_nll = expected_nll / expected_tokens
    assert metrics["examples"] == 3
    assert metrics["loss"] == pytest.approx(mean_nll, rel=1e-5)
    assert metrics["perplexity"] == pytest.approx(math.exp(mean_nll), rel=1e-5)
    assert metrics["accuracy"] == pytest.approx(expected_correct / expected_tokens)


def test_sums_of_partial_batches_add_up_without_padding_rows() -> None:
    task = make_task(label_smoothing=0.1, beam_size=3)
    model = make_model(task)

    def run_task(rows: Sequence[int]) -> tuple[torch.Tensor, ...]:
        """Return the sums, the gradient and the counts of a batch."""
        model.zero_grad()
        sums = task.loss(model, make_batch(rows))
        sums[0].backward()
        gradient = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
        counts, _ = task.evaluate(task.outputs(model, make_batch(rows)), make_batch(rows))
        return sums[:4].detach(), gradient, counts  # the fifth sum counts padding

    whole, parts = run_task(range(4)), [run_task(rows) for rows in ([0, 3], [2], [1], [3])]
    for expected, *values in zip(whole, *parts, strict=True):
        assert torch.allclose(expected, sum(values, torch.zeros_like(expected)), atol=1e-5)
    assert not any(x.any() for x in parts[-1])


def test_all_captions_of_an_image_are_references() -> None:
    task, batch = make_task(), make_batch()
    outputs = task.outputs(make_model(task), batch)
    references = [tuple(" ".join(map(str, c)) for c in texts) for texts in CAPTIONS[:3]]
    assert [texts[1:] for texts in task.texts_to_score(outputs, batch)] == references
    correct = torch.full((4, 7), -1.0, dtype=torch.float64)  # the last caption of each image
    wrong = correct.clone()
    for row in range(3):
        ids = CAPTIONS[row][-1]
        correct[row, 3 : 3 + len(ids)] = torch.tensor(ids)
        wrong[row, 3] = 12
    assert not task.evaluate(correct, batch)[1]
    texts = task.texts_to_score(correct, batch)
    assert task.summarize(torch.ones(4), texts).metrics["exact"] == 1
    mistakes = task.evaluate(wrong, batch)[1]
    expected = [{"caption": "12", "reference": "\n".join(texts)} for texts in references]
    assert [mistake.details for mistake in mistakes] == expected


TEXTS = [
    ("A dog runs on the grass.", "A dog runs over the grass.", "The dog is on the grass.", "A dog"),
    ("two men", "Two men sit on a bench.", "men"),
    ("a red car", "a red car"),
    ("", "Somebody swims."),
]
"""Generated captions, each followed by its references."""


@pytest.mark.parametrize("tokenizer", ["13a", "char"])
def test_bleu_matches_sacrebleu_with_several_references(tokenizer: str) -> None:
    task = make_task(bleu_tokenizer=tokenizer)
    evaluation = task.summarize(torch.ones(4, dtype=torch.float64), TEXTS)
    generated = [text for text, *_ in TEXTS]
    width = max(map(len, TEXTS))
    references = [
        [texts[k] if k < len(texts) else None for texts in TEXTS] for k in range(1, width)
    ]
    bleu = sacrebleu.corpus_bleu(generated, references, tokenize=tokenizer)  # type: ignore[arg-type]
    assert evaluation.metrics["bleu"] == pytest.approx(bleu.score)
    for n, name in enumerate(["bleu1", "bleu2", "bleu3", "bleu"], 1):
        mean = sum(map(math.log, bleu.precisions[:n])) / n  # Papineni et al. 2002
        assert evaluation.metrics[name] == pytest.approx(bleu.bp * math.exp(mean)), name
    assert evaluation.metrics["exact"] == 1 / 4
    assert f"tok:{tokenizer}" in evaluation.signatures["bleu"]


def test_an_unknown_word_of_a_reference_counts_as_missed() -> None:
    """The metrics are the same as with the word itself in the reference."""
    task = make_task()
    reference, generated = task._decode([4, 1, 6, 1, END]), task._decode([4, 5, 6, 7, END, 0])
    assert (reference, generated) == ("4 \ufffd 6 \ufffd", "4 5 6 7")
    metrics, _ = task.text_metrics([generated], [[reference]])
    expected, _ = task.text_metrics([generated], [["4 never 6 seen"]])
    assert metrics == expected
    assert metrics["bleu1"] == pytest.approx(50)


def test_cider_of_a_perfect_caption_is_10() -> None:
    """CIDEr is averaged over the references (Vedantam et al. 2015)."""
    pytest.importorskip("pycocoevalcap")
    texts = ["a dog runs on the grass", "two men sit there and talk"]
    assert cider(texts, [[text] for text in texts]) == pytest.approx(10)
    assert cider(texts, [[texts[0], "nothing like it"], [texts[1]]]) == pytest.approx(7.5)
    assert cider(texts[::-1], [[text] for text in texts]) == pytest.approx(0)
    evaluation = make_task().summarize(torch.ones(4), [(text, text) for text in texts])
    assert evaluation.metrics["cider"] == pytest.approx(10)


def test_features_replace_pixels_and_are_ignored_past_their_length() -> None:
    task = make_task(FEATURES)
    batch = make_batch()
    regions = torch.rand(4, 5, 3, generator=torch.Generator().manual_seed(0))
    batch = Batch({**batch.columns, "image": regions}, torch.tensor([5, 2, 1, 3]), *(
        (batch.weights, batch.keys)
    ))  # fmt: skip
    model = make_model(task)
    outputs = task.outputs(model, batch)
    regions[1, 2:] = 1e3  # past its length
    assert torch.equal(outputs, task.outputs(model, batch))
    task.loss(model, batch)[0].backward()
    assert all(p.grad is not None and p.grad.any() for p in model.parameters())


def test_captions_end_at_max_length() -> None:
    task = make_task(beam_size=3, n_best=2)
    model = make_model(task)
    model.decoder.bias.data[END] = -1e3
    predictions = task.predict(task.outputs(model, make_batch([0, 1])), [{}] * 2)
    for prediction in predictions:
        assert [len(h["caption"].split()) for h in prediction["best"]] == [6, 6]
        assert prediction["best"][0] == {k: prediction[k] for k in ("caption", "score")}


CONFLICTS = {
    "corpus.text=words": "corpus.text=words: applies only to task.name=classification, ",
    "corpus.overflow=drop": "corpus.overflow=drop: applies only to task.name=classification, ",
    "corpus.target=image": "corpus.target=image: is the same column as corpus.image; name",
    "corpus.format=images": "corpus.format=images: applies only to task.name=images and would",
    "corpus.format=conll": "corpus.format=conll: is a format of tagged words, but the task is",
    "corpus.image_size=[]": "corpus.image_size=[]: is empty, but the number of steps",
    "corpus.max_tokens=15": "corpus.max_tokens=15: an image has 16 steps",
    "corpus.features=9": "corpus.image_size=[16, 24]: applies to pixels, but images are",
    "corpus.step=pixel": "corpus.step=pixel: applies only to task.name=images and would be",
    "corpus.shared_vocab=false": (
        "corpus.shared_vocab=false: applies only to task.name=translation and would be ignored "
        "with task.name=captioning"
    ),
    "model.cell=grid_lstm": "model.cell=grid_lstm: has no decoder",
    "model.convolutions=[12]": "model.convolutions.0=12: input should be a multiple of 8",
    "model.convolutions=[]": "model.convolutions=[]: list should have at least 1 item",
    "task.n_best=5": "task.n_best=5: is more than the number of hypotheses in beam search",
    "task.max_length_ratio=2": (
        "task.max_length_ratio=2: applies only to task.name=translation and would be ignored "
        "with task.name=captioning"
    ),
}


@pytest.mark.parametrize("override, expected", CONFLICTS.items(), ids=CONFLICTS)
def test_conflicting_settings_are_reported_in_one_line(override: str, expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        config.load(None, [*small_run_overrides(Path(), "captioning"), override])
    assert any(expected in line for line in caught.value.lines), caught.value.lines


@pytest.mark.parametrize(
    "override", ["model.convolutions=[8]", "corpus.captions=2", "corpus.format=captions"]
)
def test_keys_of_captioning_are_errors_in_other_tasks(override: str) -> None:
    with pytest.raises(ConfigError, match=r"applies only to task.name=captioning and would be"):
        config.load(None, [override])


COLORS = {"red": (220, 30, 30), "green": (30, 200, 40), "blue": (30, 40, 220)}


def write_photographs(folder: Path, count: int, split: str, seed: int) -> None:
    """Write color JPEGs of a disc or a box, of various sizes, and two captions each, in Flickr8k's
    layout."""
    draw = np.random.default_rng(seed)
    (folder / "images").mkdir(exist_ok=True)
    lines = []
    for number in range(count):
        color, shape = list(COLORS)[draw.integers(3)], ("disc", "box")[draw.integers(2)]
        width, height = (int(side) for side in draw.integers(40, 90, 2))
        noise = draw.integers(0, 60, (height, width, 3), np.uint8)
        image = Image.fromarray(noise)
        box = (width * 0.2, height * 0.2, width * 0.8, height * 0.8)
        canvas = ImageDraw.Draw(image)
        (canvas.ellipse if shape == "disc" else canvas.rectangle)(box, fill=COLORS[color])
        name = f"{split}_{number}.jpg"
        image.save(folder / "images" / name, quality=90)
        lines += [f"{name}#0\tA {color} {shape}.\n", f"{name}#1\tThere is a {color} {shape}.\n"]
    (folder / f"{split}.token.txt").write_text("".join(lines))


@pytest.mark.slow
def test_a_run_learns_evaluates_and_captions_photographs(tmp_path: Path) -> None:
    write_photographs(tmp_path, 400, "train", 0)
    write_photographs(tmp_path, 60, "dev", 1)
    (tmp_path / "images" / "train_7.jpg").unlink()
    damaged = tmp_path / "images" / "train_8.jpg"
    damaged.write_bytes(damaged.read_bytes()[:200])
    status, _, err = call(
        "train",
        *small_run_overrides(tmp_path, "captioning"),
        f"corpus.root={tmp_path}", "corpus.input=train.token.txt",
        "corpus.validation=dev.token.txt", "corpus.format=captions", "corpus.image_root=images",
        "corpus.target=caption", "corpus.image_size=[32, 32]", "corpus.channels=3",
        "corpus.lowercase=false", "model.cell=gru", "model.embedding=16", "model.hidden=48",
        "model.convolutions=[16, 32]", "model.dropout=0", "model.embedding_dropout=0",
        "task.label_smoothing=0", "train.ema_decay=0", "train.weight_decay=0", "train.lr=7e-3",
        "train.epochs=16", "train.warmup=0.1",
        "stream.token_budget=512", f"run.dir={tmp_path}/run",
    )  # fmt: skip
    assert status == 0, err
    assert "left out of 460 rows: 1 no file, 1 no image" in err
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert (summary["metric"], summary["validation"]["examples"]) == ("bleu", 60)
    assert summary["validation"]["exact"] > 0.9
    write_photographs(tmp_path, 20, "new", 2)
    run_args = ["--run", f"{tmp_path}/run"]
    status, out, err = call("evaluate", *run_args, "--input", f"{tmp_path}/new.token.txt")
    assert status == 0, err
    assert json.loads(out)["examples"] == 20
    assert json.loads(out)["exact"] > 0.8
    captions: dict[str, list[str]] = {}
    for line in (tmp_path / "new.token.txt").read_text().splitlines():
        name, _, caption = line.partition("\t")
        captions.setdefault(f"{tmp_path}/images/{name.partition('#')[0]}", []).append(caption)
    lines = "\n".join([*captions, f"{tmp_path}/gone.jpg", f"{tmp_path}/new.token.txt"])
    status, out, err = call("predict", *run_args, text=lines)
    assert status == 0, err
    *predictions, gone, no_image = [json.loads(line) for line in out.splitlines()]
    assert gone == {"error": "no such file"}
    assert no_image == {"error": "the file is not a readable PNG or JPEG"}
    pairs = zip(predictions, captions.values(), strict=True)
    assert sum(prediction["caption"] in texts for prediction, texts in pairs) >= 17
