"""TSV."""

from pipeline.corpus.readers.formats.csv import Csv


class Tsv(Csv):
    """Fields separated by tabs; a quote is an ordinary character unless `corpus.quoting` is set."""

    suffixes = (".tsv", ".tab")
    delimiter = "\t"
    quoting = False
