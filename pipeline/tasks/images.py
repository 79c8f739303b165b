"""Image classification: one label for each image, which is read as a sequence of steps."""

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
    """Loss and metrics of `Classification`. All images have the same number of steps: rows of
    pixels, single pixels or patches."""

    input_field = "steps"

    @staticmethod
    def fields(corpus: CorpusSettings) -> tuple[FieldSpec, ...]:
        width, plane = images.features(corpus), images.plane(corpus)
        return (
            FieldSpec("steps", corpus.image, "steps", width=width, plane=plane),
            FieldSpec("label", corpus.label, "label"),
        )

    def build(self) -> nn.Module:
        field = self.data.fields[0]
        rows, columns = field.plane
        embedding = ImageSteps(field.width, rows * columns, self.model)
        return Classifier(self.model, embedding, len(self.labels), field.plane)

    @staticmethod
    def parse(line: str) -> dict[str, Any]:
        return {"steps": Path(line.strip())}

    def _text_tokens(self, batch: Batch, row: int) -> list[int]:
        return []

    def _image(self, batch: Batch, row: int) -> ImageData:
        corpus = self.data.settings
        patch = corpus["patch"] if corpus["step"] == "patch" else 0
        steps = batch.columns["steps"][row].cpu().numpy()
        return ImageData.of(images.pixels(steps, corpus["image_size"], patch))
