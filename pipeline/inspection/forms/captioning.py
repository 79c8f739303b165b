"""An image and texts that describe it."""

from pipeline.inspection import roles
from pipeline.inspection.column import Column, Kind
from pipeline.inspection.form import Form, Proposal
from pipeline.inspection.image_keys import image_keys
from pipeline.inspection.keys import Key
from pipeline.inspection.table import Table


class CaptioningForm(Form):
    """A column of images and a column of captions, one or several in a row."""

    task = "captioning"

    @classmethod
    def propose(cls, table: Table) -> Proposal | None:
        images, captions = table.of_kind(Kind.IMAGE), _captions(table)
        if not images or not captions or table.label:
            return None
        image, caption = images[0], captions[0]
        keys = image_keys(table, image, largest=128)
        keys["target"] = Key(caption.name, "the captions to generate")
        if "csv" in table.formats and image.share_distinct < 0.9:
            keys["format"] = Key("captions", "consecutive lines have captions of the same image")
        return Proposal(
            cls.task, 0.87, f"images in {image.name}, and texts in {caption.name}", keys
        )


def _captions(table: Table) -> list[Column]:
    lists = [c for c in table.of_kind(Kind.LIST) if max(map(len, c.items), default=0) > 12]
    return [*roles.texts(table), *lists]
