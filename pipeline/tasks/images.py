"""Image classification: one label for each image, which is read as a sequence of steps."""

from collections.abc import Iterator
from math import prod
from pathlib import Path
from typing import Any

from torch import nn

from pipeline.corpus.field_spec import FieldSpec
from pipeline.corpus.fields import images
from pipeline.corpus.fields.kinds.label import LabelField
from pipeline.corpus.fields.kinds.steps import StepsField
from pipeline.models.classifier import Classifier
from pipeline.models.layers.images import ImageSteps
from pipeline.settings import Conflict, Sections, is_default, same_column, unused
from pipeline.stream.batch import Batch
from pipeline.tasks.base.image_rules import image_conflicts, image_path
from pipeline.tasks.base.sample import ImageData
from pipeline.tasks.base.task import DatasetInfo
from pipeline.tasks.classification import Classification


class Images(Classification):
    """Loss and metrics of `Classification`. All images have the same number of steps: rows of
    pixels, single pixels or patches."""

    uses = (Classifier, ImageSteps, StepsField, LabelField)
    streams_unprepared = False
    input_field = "steps"

    def __init__(self, settings: Classification.Settings, model: Any, data: DatasetInfo) -> None:
        super().__init__(settings, model, data)
        self.steps_model: ImageSteps.Settings = model

    @classmethod
    def conflicts(cls, config: Sections) -> Iterator[Conflict]:
        yield from same_column(config, "label", "image")
        corpus = config.corpus
        size, side = corpus.image_size, corpus.patch
        if corpus.step != "patch" and not is_default(corpus, "patch"):
            yield unused("corpus.patch", "corpus.step", ["patch"], corpus.step)
        if size and corpus.step == "patch" and any(pixels % side for pixels in size):
            yield Conflict(
                "corpus.patch",
                f"patches of {side} x {side} pixels do not divide corpus.image_size={size} evenly",
                "set a divisor of height and width",
            )
        else:
            yield from image_conflicts(config, prod(images.plane(corpus)) if size else 0)

    @staticmethod
    def example(corpus: Any) -> str:
        return image_path(corpus)

    @staticmethod
    def fields(corpus: Any) -> tuple[FieldSpec, ...]:
        width, plane = images.features(corpus), images.plane(corpus)
        return (
            FieldSpec("steps", corpus.image, "steps", width=width, plane=plane),
            FieldSpec("label", corpus.label, "label"),
        )

    def build(self) -> nn.Module:
        field = self.data.fields[0]
        rows, columns = field.plane
        embedding = ImageSteps(field.width, rows * columns, self.steps_model)
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
