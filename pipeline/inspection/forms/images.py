"""An image and one label."""

from pipeline.inspection import roles
from pipeline.inspection.column import Kind
from pipeline.inspection.form import Form, Proposal
from pipeline.inspection.image_keys import image_keys
from pipeline.inspection.table import Table
from pipeline.inspection.text_keys import label_key


class ImagesForm(Form):
    """A column of images and a column of labels."""

    task = "images"

    @classmethod
    def propose(cls, table: Table) -> Proposal | None:
        images, labels = table.of_kind(Kind.IMAGE), roles.labels(table)
        if not images or not labels:
            return None
        image, label = images[0], labels[0]
        if label.is_numeric and not roles.is_number_label(label):
            return None
        return Proposal(
            cls.task,
            0.85,
            f"images in {image.name}, and {label.distinct} different labels in {label.name}",
            image_keys(table, image, largest=64) | label_key(label),
            alternatives=tuple(f"corpus.label={other.name}" for other in labels[1:4]),
            is_sure=roles.is_sure(labels, table),
        )
