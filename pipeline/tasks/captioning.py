"""Captioning: generate a text that describes an image (one-to-many, encoder-decoder)."""

from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.corpus.field_spec import FieldSpec
from pipeline.corpus.fields.kinds.features import FeaturesField
from pipeline.corpus.fields.kinds.targets import TargetsField
from pipeline.models.captioner import Captioner, PixelEncoder, RegionEncoder
from pipeline.models.decoding.decoder import Decoder
from pipeline.settings import Conflict, Sections, is_default, same_column, setting
from pipeline.stream.batch import Batch
from pipeline.tasks.base.image_rules import image_conflicts, image_path
from pipeline.tasks.base.sample import ImageData
from pipeline.tasks.base.seq2seq import Seq2SeqTask, reference_streams

BLEU_ORDERS = {"bleu1": 1, "bleu2": 2, "bleu3": 3, "bleu": 4}
"""Maximum n-gram order of each BLEU metric."""


class Captioning(Seq2SeqTask):
    """Trained on each caption of an image, weighted by its tokens. The generated caption is scored
    against all of them: BLEU-1 to BLEU-4 as computed by sacrebleu, the share of exact matches
    (`exact`), and CIDEr if pycocoevalcap is installed.
    """

    class Settings(Seq2SeqTask.Settings):
        max_length: int = setting(50, "maximum tokens of a caption", ge=1, may_change=True)

    uses = (Captioner, Decoder, FeaturesField, TargetsField)
    input_field, output_name = "image", "caption"
    reported = MappingProxyType(
        {"loss": False, "perplexity": False}
        | dict.fromkeys(("accuracy", "bleu1", "bleu2", "bleu3", "exact", "cider"), True)
    )

    @classmethod
    def conflicts(cls, config: Sections) -> Iterator[Conflict]:
        yield from super().conflicts(config)
        yield from same_column(config, "target", "image")
        corpus = config.corpus
        if not corpus.features:
            rows = corpus.image_size[0] if corpus.image_size else 0
            yield from image_conflicts(config, rows)
            return
        for name, section in (
            ("image_size", "corpus"), ("channels", "corpus"), ("convolutions", "model")
        ):  # fmt: skip
            if not is_default(getattr(config, section), name):
                yield Conflict(
                    f"{section}.{name}",
                    f"applies to pixels, but images are features (corpus.features="
                    f"{corpus.features})",
                    "remove one of the two",
                )

    @staticmethod
    def example(corpus: Any) -> str:
        return image_path(corpus, ".npy" if corpus.features else ".png")

    @staticmethod
    def fields(corpus: Any) -> tuple[FieldSpec, ...]:
        target = FieldSpec("target", corpus.target, "targets")
        if corpus.features:
            return FieldSpec("image", corpus.image, "features", width=corpus.features), target
        rows, columns = corpus.image_size or (0, 0)  # a missing size is a conflict
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

    def max_lengths(self, lengths: Tensor) -> Tensor:
        return torch.full_like(lengths, self.settings.max_length + 1)

    def input_details(self, batch: Batch, row: int) -> dict[str, Any]:
        return {}

    def attention_inputs(self, batch: Batch, row: int) -> dict[str, Any]:
        field, stride = self.data.fields[0], 2 ** len(self.model.convolutions)
        if field.kind == "pixels":
            return {"plane": tuple(-(-size // stride) for size in field.plane)}
        return {"read": [f"region {number}" for number in range(1, int(batch.lengths[row]) + 1)]}

    def input_image(self, batch: Batch, row: int) -> ImageData | None:
        field = self.data.fields[0]
        if field.kind != "pixels":
            return None
        return ImageData.of(batch.columns["image"][row].cpu().numpy().reshape(*field.plane, -1))

    def text_metrics(
        self, generated: Sequence[str], references: Sequence[Sequence[str]]
    ) -> tuple[dict[str, float], dict[str, str]]:
        from sacrebleu import BLEU

        streams, tokenizer = reference_streams(references), self.settings.bleu_tokenizer
        scorers = {
            name: BLEU(tokenize=tokenizer, max_ngram_order=order, force=True)
            for name, order in BLEU_ORDERS.items()
        }
        metrics = {
            name: scorer.corpus_score(generated, streams).score for name, scorer in scorers.items()
        }
        signatures = {"bleu": str(scorers["bleu"].get_signature())}
        exact = sum(text in texts for text, texts in zip(generated, references, strict=True))
        metrics["exact"] = exact / len(generated)
        if find_spec("pycocoevalcap"):
            tokenize = scorers["bleu"].tokenizer
            metrics["cider"] = cider(
                [tokenize(text) for text in generated],
                [[tokenize(text) for text in texts] for texts in references],
            )
        return metrics, signatures

    @staticmethod
    def parse(line: str) -> dict[str, Any]:
        return {"image": Path(line.strip())}


def cider(generated: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """Return CIDEr-D, at most 10, of texts with space-separated words (Vedantam et al. 2015).

    Computed by pycocoevalcap, which weights an n-gram by its rarity in these references.
    """
    from pycocoevalcap.cider.cider import Cider

    score, _ = Cider().compute_score(
        {i: list(texts) for i, texts in enumerate(references)},
        {i: [text] for i, text in enumerate(generated)},
    )
    return float(score)
