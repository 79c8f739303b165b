"""Texts alone."""

from pipeline.corpus.field_spec import FieldSpec
from pipeline.inspection import roles
from pipeline.inspection.form import Form, Proposal
from pipeline.inspection.table import Table
from pipeline.inspection.text_keys import columns_of, describe_texts, text_alternatives, text_key


class LanguageModelingForm(Form):
    """A column of texts."""

    task = "language_modeling"

    @classmethod
    def propose(cls, table: Table) -> Proposal | None:
        texts = roles.text_columns(table)
        if not texts or table.label:
            return None
        labels = roles.labels(table)
        has_label = any(roles.label_score(column) >= 1 for column in labels)
        return Proposal(
            cls.task,
            0.2 if has_label else 0.3,
            describe_texts(texts) + (", and nothing that looks like a label" if not labels else ""),
            text_key(texts),
            (FieldSpec("tokens", columns_of(texts), "text"),),
            tuple(text_alternatives(table, texts)),
        )
