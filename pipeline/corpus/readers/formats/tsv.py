"""TSV."""

from pipeline.corpus.readers.formats.csv import Csv


class Tsv(Csv):
    """Fields separated by tabs, with a header."""

    suffixes = (".tsv",)
    delimiter = "\t"
