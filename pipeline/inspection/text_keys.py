"""Parts of proposals that several forms share."""

from collections.abc import Sequence

from pipeline.inspection import roles
from pipeline.inspection.column import Column
from pipeline.inspection.keys import Key, Keys
from pipeline.inspection.table import Table


def columns_of(texts: Sequence[Column]) -> str | tuple[str, ...]:
    """Return the names of columns in the form that `FieldSpec` takes."""
    return texts[0].name if len(texts) == 1 else tuple(text.name for text in texts)


def text_key(texts: Sequence[Column]) -> Keys:
    names = [text.name for text in texts]
    why = f"its values have {texts[-1].mean_words:.0f} {unit(texts[-1])} on average"
    if len(names) > 1:
        return {"text": Key(names, "the title and the text are joined")}
    return {"text": Key(names[0], why)}


def label_key(label: Column) -> Keys:
    shown = ", ".join(sorted(label.counts)[:4]) + ", ..." * (label.distinct > 4)
    return {"label": Key(label.name, f"{label.distinct} different values: {shown}")}


def describe_texts(texts: Sequence[Column]) -> str:
    """Return a phrase that names the text columns, for `Proposal.why`."""
    return f"texts in {' and '.join(text.name for text in texts)}"


def unit(column: Column) -> str:
    return "characters" if column.is_unspaced else "words"


def text_alternatives(table: Table, texts: Sequence[Column]) -> list[str]:
    """Return a line for each other column that may be the text."""
    chosen = {text.name for text in texts}
    return [
        f"corpus.text={other.name} ({other.mean_words:.0f} {unit(other)} on average)"
        for other in roles.texts(table)[:3]
        if other.name not in chosen
    ]
