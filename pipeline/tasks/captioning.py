"""Captioning: an image to a text that says what it shows (one-to-many, encoder and decoder)."""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.corpus.field_spec import FieldSpec
from pipeline.corpus.settings import CorpusSettings
from pipeline.models.captioner import Captioner, PixelEncoder, RegionEncoder
from pipeline.stream.batch import Batch
from pipeline.tasks.sample import ImageData
from pipeline.tasks.seq2seq import Seq2SeqTask, streams

ORDERS = {"bleu1": 1, "bleu2": 2, "bleu3": 3, "bleu": 4}
"""Of BLEU: up to how many words in a row are compared."""


class Captioning(Seq2SeqTask):
    """Each caption of an image counts as much as it has tokens. What is written of an image is
    judged by all of them: BLEU-1 to BLEU-4 as sacrebleu counts them, the share that is one of them
    word for word (`exact`), and CIDEr where pycocoevalcap is installed.
    """

    reads, writes = "image", "caption"

    @staticmethod
    def fields(corpus: CorpusSettings) -> tuple[FieldSpec, ...]:
        target = FieldSpec("target", corpus.target, "targets")
        if corpus.features:
            return FieldSpec("image", corpus.image, "features", width=corpus.features), target
        rows, columns = corpus.image_size
        width = columns * corpus.channels
        return FieldSpec(
            "image", corpus.image, "pixels", width=width, plane=(rows, columns)
        ), target

    def build(self) -> nn.Module:
        field = self.data.fields[0]
        encoder: PixelEncoder | RegionEncoder
        if field.kind == "features":
            encoder = RegionEncoder(field.width, self.model)
        else:
            encoder = PixelEncoder(field.width, field.plane, self.model)
        return Captioner(self.model, encoder, self.data.vocabularies[self.vocabulary])

    def limits(self, lengths: Tensor) -> Tensor:
        return torch.full_like(lengths, self.settings.max_length + 1)

    def shown(self, batch: Batch, row: int) -> dict[str, Any]:
        return {}

    def read(self, batch: Batch, row: int) -> dict[str, Any]:
        field, halved = self.data.fields[0], 2 ** len(self.model.convolutions)
        if field.kind == "pixels":
            return {"plane": tuple(-(-size // halved) for size in field.plane)}
        return {"read": [f"region {number}" for number in range(1, int(batch.lengths[row]) + 1)]}

    def picture(self, batch: Batch, row: int) -> ImageData | None:
        field = self.data.fields[0]
        if field.kind != "pixels":
            return None
        return ImageData.of(batch.columns["image"][row].cpu().numpy().reshape(*field.plane, -1))

    def figures(
        self, written: Sequence[str], references: Sequence[Sequence[str]]
    ) -> tuple[dict[str, float], dict[str, str]]:
        from sacrebleu import BLEU

        right, tokenizer = streams(references), self.settings.bleu_tokenizer
        counts = {
            n: BLEU(tokenize=tokenizer, max_ngram_order=k, force=True) for n, k in ORDERS.items()
        }
        metrics = {name: count.corpus_score(written, right).score for name, count in counts.items()}
        signatures = {"bleu": str(counts["bleu"].get_signature())}
        same = sum(text in of_row for text, of_row in zip(written, references, strict=True))
        metrics["exact"] = same / len(written)
        if find_spec("pycocoevalcap"):
            cut = counts["bleu"].tokenizer
            metrics["cider"] = cider(
                [cut(text) for text in written], [[cut(r) for r in of] for of in references]
            )
        return metrics, signatures

    @staticmethod
    def parse(line: str) -> dict[str, Any]:
        return {"image": Path(line.strip())}


def cider(written: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """CIDEr-D of texts whose words stand between blanks (Vedantam et al. 2015), as pycocoevalcap
    counts it, at most 10. It weighs words by how few of these references have them."""
    from pycocoevalcap.cider.cider import Cider

    found, _ = Cider().compute_score(
        {n: list(of_row) for n, of_row in enumerate(references)},
        {n: [text] for n, text in enumerate(written)},
    )
    return float(found)
