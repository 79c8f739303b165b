"""Files of every form, large enough to train on."""

import json
import random
import tarfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

ROWS = 60
WORDS = {
    "good": ["fine", "lovely", "superb", "moving"],
    "bad": ["dull", "weak", "tedious", "awful"],
}


def rows() -> list[tuple[str, str]]:
    """Return different texts with their labels."""
    generator = random.Random(0)
    found = []
    for number in range(ROWS):
        label = ("good", "bad")[number % 2]
        words = " ".join(generator.choices(WORDS[label], k=3))
        found.append((f"The film number {number} was {words} to watch", label))
    return found


def lines(*names: str, separator: str = ",") -> str:
    return "".join(separator.join(row) + "\n" for row in [names, *rows()])


def write_csv() -> list[str]:
    Path("a.csv").write_text(lines("text", "label"))
    return ["a.csv"]


def write_csv_without_header() -> list[str]:
    Path("a.csv").write_text("".join(f"{label},{text}.\n" for text, label in rows()))
    return ["a.csv"]


def write_semicolons() -> list[str]:
    Path("a.csv").write_text(lines("Satz", "Klasse", separator=";"), encoding="cp1252")
    return ["a.csv"]


def write_tsv_named_txt() -> list[str]:
    Path("a.txt").write_text(lines("text", "label", separator="\t"))
    return ["a.txt"]


def write_nested_json() -> list[str]:
    records = [{"body": {"text": text}, "queue": label} for text, label in rows()]
    Path("a.json").write_text(json.dumps(records, indent=1))
    return ["a.json"]


def write_parquet() -> list[str]:
    numbers = [2.5 * len(text) for text, _ in rows()]
    pq.write_table(pa.table({"text": [t for t, _ in rows()], "score": numbers}), "a.parquet")
    return ["a.parquet"]


def write_conll() -> list[str]:
    sentence = "Peter B-PER\nMiller I-PER\nsaw O\nnumber{n} O\n\n"
    Path("a.txt").write_text("".join(sentence.replace("{n}", str(n)) for n in range(ROWS)))
    return ["a.txt"]


def write_conllu() -> list[str]:
    token = "{i}\tword{n}\t_\t{tag}\t_\t_\t0\troot\t_\t_\n"
    sentences = [
        token.format(i=1, n=n, tag="NOUN") + token.format(i=2, n=n + 1, tag="VERB") + "\n"
        for n in range(ROWS)
    ]
    Path("a.conllu").write_text("".join(sentences))
    return ["a.conllu"]


def write_fasttext() -> list[str]:
    Path("a.txt").write_text("".join(f"{text} __label__{label}\n" for text, label in rows()))
    return ["a.txt"]


def write_tar() -> list[str]:
    with tarfile.open("a.tar", "w") as archive:
        for number, (text, label) in enumerate(rows()):
            for suffix, value in (("txt", text), ("cls", label)):
                info = tarfile.TarInfo(f"{number:03}.{suffix}")
                info.size = len(value)
                archive.addfile(info, BytesIO(value.encode()))
    return ["a.tar"]


def write_documents() -> list[str]:
    for number, (text, label) in enumerate(rows()):
        path = Path("mails", label, f"{number}.txt")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return ["mails"]


def write_photos() -> list[str]:
    for number in range(ROWS):
        path = Path("photos", ("cat", "dog")[number % 2], f"{number}.png")
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (12, 10), (number, 4 * number, 0)).save(path)
    return ["photos"]


def write_captions() -> list[str]:
    write_photos()
    names = sorted(Path("photos").rglob("*.png"))
    text = "".join(
        f"{path.as_posix()}#{n}\tA {path.parent.name} with number {path.stem} that sits there.\n"
        for path in names
        for n in (0, 1)
    )
    Path("captions.txt").write_text(text)
    return ["captions.txt"]


def write_parallel() -> list[str]:
    Path("train.en").write_text("".join(f"{text}.\n" for text, _ in rows()))
    Path("train.de").write_text("".join(f"Der {text} also.\n" for text, _ in rows()))
    return ["train.en", "train.de"]


def write_pairs() -> list[str]:
    header = "premise\thypothesis\tlabel\n"
    body = "".join(f"{text}\tIt was {label} in the end.\t{label}\n" for text, label in rows())
    Path("pairs.tsv").write_text(header + body)
    return ["pairs.tsv"]


def write_flags() -> list[str]:
    body = "".join(f"{text},{len(text) % 2},{int(label == 'bad')}\n" for text, label in rows())
    Path("flags.csv").write_text("comment_text,toxic,insult\n" + body)
    return ["flags.csv"]


def write_joined_labels() -> list[str]:
    pairs = (("one", "two"), ("two", "three"), ("one",), ("three", "four"), ("four", "one"))
    body = "".join(
        f"{text},{'|'.join(pairs[n % 5])}{'|five' * (n % 7 == 0)}\n"
        for n, (text, _) in enumerate(rows())
    )
    Path("joined.csv").write_text("text,topics\n" + body)
    return ["joined.csv"]


def write_plain_text() -> list[str]:
    Path("book.txt").write_text("".join(f"{text}, and then it ended.\n" for text, _ in rows() * 4))
    return ["book.txt"]


FORMS: dict[str, tuple[Callable[[], list[str]], str]] = {
    "csv": (write_csv, "classification"),
    "no header": (write_csv_without_header, "classification"),
    "semicolons": (write_semicolons, "classification"),
    "tsv named txt": (write_tsv_named_txt, "classification"),
    "nested json": (write_nested_json, "classification"),
    "parquet": (write_parquet, "regression"),
    "conll": (write_conll, "tagging"),
    "conllu": (write_conllu, "tagging"),
    "fasttext": (write_fasttext, "classification"),
    "tar": (write_tar, "classification"),
    "documents": (write_documents, "classification"),
    "photos": (write_photos, "images"),
    "captions": (write_captions, "captioning"),
    "parallel": (write_parallel, "translation"),
    "pairs": (write_pairs, "entailment"),
    "flags": (write_flags, "multilabel"),
    "joined labels": (write_joined_labels, "multilabel"),
    "plain text": (write_plain_text, "language_modeling"),
}
"""By name: a function that writes files to the current folder and returns their names, and the task
that fits."""
