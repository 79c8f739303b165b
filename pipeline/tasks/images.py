"""Classification of images, read a step after the other (one-to-one: an image, one label)."""

from pathlib import Path
from typing import Any

from torch import nn

from pipeline.corpus.field_spec import FieldSpec
from pipeline.corpus.fields import images
from pipeline.corpus.settings import CorpusSettings
from pipeline.models.classifier import Classifier
from pipeline.models.layers.images import ImageSteps
from pipeline.stream.batch import Batch
from pipeline.tasks.classification import Classification
from pipeline.tasks.sample import ImageData


class Images(Classification):
    """The loss and the figures of classification. All images have equally many steps: rows of
    pixels, single pixels or patches."""

    reads = "steps"

    @staticmethod
    def fields(corpus: CorpusSettings) -> tuple[FieldSpec, ...]:
        width, plane = images.features(corpus), images.plane(corpus)
        return (
            FieldSpec("steps", corpus.image, "steps", width=width, plane=plane),
            FieldSpec("label", corpus.label, "label"),
        )

    def build(self) -> nn.Module:
        field = self.data.fields[0]
        down, across = field.plane
        embedding = ImageSteps(field.width, down * across, self.model)
        return Classifier(self.model, embedding, len(self.labels), field.plane)

    @staticmethod
    def parse(line: str) -> dict[str, Any]:
        return {"steps": Path(line.strip())}

    def _text(self, batch: Batch, row: int) -> list[int]:
        return []

    def _picture(self, batch: Batch, row: int) -> ImageData:
        made = self.data.settings
        side = made["patch"] if made["step"] == "patch" else 0
        steps = batch.columns["steps"][row].cpu().numpy()
        return ImageData.of(images.pixels(steps, made["image_size"], side))
