"""A text and one label."""

from pipeline.corpus.field_spec import FieldSpec
from pipeline.inspection import roles
from pipeline.inspection.form import Form, Proposal
from pipeline.inspection.table import Table
from pipeline.inspection.text_keys import (
    columns_of,
    describe_texts,
    label_key,
    text_alternatives,
    text_key,
)


class ClassificationForm(Form):
    """A column of texts and a column of labels."""

    task = "classification"

    @classmethod
    def propose(cls, table: Table) -> Proposal | None:
        texts, labels = roles.text_columns(table), roles.labels(table)
        if not texts or (len(labels) != 1 and (not labels or table.label)):
            return None
        label = labels[0]
        if label.name in {text.name for text in texts}:
            return None
        is_number = label.is_numeric
        if is_number and not roles.is_number_label(label):
            return None
        alternatives = text_alternatives(table, texts)
        if is_number and not label.is_binary:
            alternatives.append(
                f"task.name=regression if the numbers in {label.name} measure something"
            )
        alternatives += [
            f"corpus.label={other.name} ({other.distinct} different values)"
            for other in labels[1:4]
            if other.distinct > 1
        ]
        alternatives += [
            f"task.name=regression corpus.label={other.name}"
            for other in roles.numbers(table)[:2]
            if not table.label and other.name not in {column.name for column in labels}
        ]
        what = "whole numbers" if is_number else "labels"
        return Proposal(
            cls.task,
            0.7,
            f"{describe_texts(texts)}, and {label.distinct} different {what} in {label.name}",
            text_key(texts) | label_key(label),
            (
                FieldSpec("tokens", columns_of(texts), "text"),
                FieldSpec("label", label.name, "label"),
            ),
            tuple(alternatives),
            is_sure=roles.is_sure(labels, table),
        )
