"""A text and another one to generate from it."""

from pipeline.corpus.field_spec import FieldSpec
from pipeline.inspection.form import Form, Proposal
from pipeline.inspection.keys import Key
from pipeline.inspection.pairs import SOURCES, find_languages, find_pair
from pipeline.inspection.table import Table


class TranslationForm(Form):
    """Two columns of texts: a source and a target."""

    task = "translation"

    @classmethod
    def propose(cls, table: Table) -> Proposal | None:
        pair = find_pair(table, SOURCES) or find_languages(table)
        if table.text and table.label:
            pair = table.columns[table.text[0]], table.columns[table.label[0]]
        if not pair:
            return None
        source, target = (column.name for column in pair)
        why = f"texts in {source} and {target} that belong together"
        return Proposal(
            cls.task,
            0.1 if table.text or table.label else 0.78,
            why,
            {
                "text": Key(source, "the text to translate"),
                "target": Key(target, "the text to generate"),
            },
            (FieldSpec("source", source, "text"), FieldSpec("target", target, "target")),
            (f"corpus.text={target} corpus.target={source} for the other direction",),
        )
