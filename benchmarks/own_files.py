"""Files of each form of docs/data.md, with 300 rows that can be learned from.

The words are those of a shop's messages (tests/helpers/tickets.py), of reviews with 1 to 5 stars,
of sentences with names, and of an English-German phrase book.
"""

import csv
import gzip
import io
import json
import lzma
import tarfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
from PIL import Image

from tests.helpers import saved_datasets
from tests.helpers.tickets import TOPICS, note, write_tickets

ROWS = 300
PRAISE = {
    1: "awful broke useless refund terrible waste rude never",
    2: "disappointing weak thin late scratched poor mediocre flimsy",
    3: "okay average fine acceptable ordinary usual decent expected",
    4: "good solid nice quick comfortable sturdy friendly pleasant",
    5: "excellent perfect love wonderful best superb delighted great",
}
THINGS = ["lamp", "jacket", "kettle", "table", "pen", "umbrella", "blanket", "bottle", "mirror"]
NAMES = {
    "PER": ["Anna Schmidt", "Peter Miller", "Li Wei", "Maria da Silva", "John Okafor", "Tom Berg"],
    "ORG": ["Siemens", "Deutsche Bank", "Acme Corp", "Red Cross", "Volvo", "Bank of Ghana"],
    "LOC": ["Berlin", "New York", "Accra", "San Jose", "Oslo", "Lake Geneva", "Porto"],
}
SENTENCES = [
    "{PER} works for {ORG} in {LOC} .", "{ORG} opened an office in {LOC} last year .",
    "Yesterday {PER} met {PER} near {LOC} .", "Shares of {ORG} fell , {PER} reports .",
    "The train from {LOC} to {LOC} was late .", "{ORG} and {ORG} will merge , says {PER} .",
]  # fmt: skip
CLASSES = {"PER": "NNP", "ORG": "NNP", "LOC": "NNP"}
SUBJECTS = {"a dog": "ein Hund", "the child": "das Kind", "a man": "ein Mann",
            "the woman": "die Frau", "my brother": "mein Bruder", "the girl": "das Mädchen",
            "an old cat": "eine alte Katze", "the teacher": "der Lehrer"}  # fmt: skip
VERBS = {"sleeps": "schläft", "waits": "wartet", "plays": "spielt", "reads": "liest",
         "laughs": "lacht", "eats": "isst", "sings": "singt"}  # fmt: skip
PLACES = {"in the garden": "im Garten", "on the beach": "am Strand", "at home": "zu Hause",
          "in front of the house": "vor dem Haus", "in the park": "im Park",
          "by the river": "am Fluss", "in the train": "im Zug"}  # fmt: skip
Row = Sequence[Any]


def messages(rows: int = ROWS) -> list[tuple[str, str]]:
    """Return messages of a shop with their topic."""
    random = Random(5)
    labels = random.choices(list(TOPICS), [5, 3, 3, 2], k=rows)
    return [(note(random, label, f"{n % 28 + 1:02}.05."), label) for n, label in enumerate(labels)]


def reviews(stars: Sequence[int] = (1, 2, 3, 4, 5)) -> list[tuple[str, int]]:
    random, found = Random(6), []
    for _ in range(ROWS):
        star = random.choice(stars)
        first, second = random.sample(PRAISE[star].split(), 2)
        thing, days = random.choice(THINGS), random.randint(2, 90)
        found.append((
            random.choice([
                f"The {thing} is {first}, after {days} days still {second}.",
                f"{first.capitalize()}! Bought this {thing} for my sister; {second} I would say.",
                f"{second.capitalize()} {thing}, {first} delivery. Took {days} days.",
            ]), star,
        ))  # fmt: skip
    return found


def sentences() -> list[list[tuple[str, str, str]]]:
    """Return sentences of words with part of speech and IOB tag."""
    random, found = Random(7), []
    for _ in range(ROWS):
        words = []
        for word in random.choice(SENTENCES).split():
            kind = word.strip("{}")
            if kind not in NAMES:
                words.append((word, "." if word in ".," else "NN", "O"))
                continue
            parts = random.choice(NAMES[kind]).split()
            words += [(p, "NNP", f"{'I' if n else 'B'}-{kind}") for n, p in enumerate(parts)]
        found.append(words)
    return found


def pairs() -> list[tuple[str, str]]:
    every = [
        (f"{s} {v} {p} .".capitalize(), f"{SUBJECTS[s]} {VERBS[v]} {PLACES[p]} .".capitalize())
        for s in SUBJECTS for v in VERBS for p in PLACES
    ]  # fmt: skip
    return Random(8).sample(every, ROWS)


def topics() -> list[tuple[str, list[str]]]:
    """Return messages about one or two topics."""
    random, found = Random(9), []
    for number in range(ROWS):
        chosen = random.sample(list(TOPICS), random.choice([1, 1, 2]))
        parts = [note(random, topic, f"{number % 28 + 1}.05.") for topic in chosen]
        found.append((" ".join(parts), chosen))
    return found


def table(header: Row, rows: Iterable[Row], delimiter: str = ",", quoting: int = 0) -> str:
    file = io.StringIO()
    writer = csv.writer(file, delimiter=delimiter, quoting=quoting)  # type: ignore[arg-type]
    writer.writerows([*([header] if header else []), *rows])
    return file.getvalue()


def json_lines(rows: Iterable[Any]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def image(random: Random, kind: str) -> Image.Image:
    """Return a noisy image of a bright disc or a bright bar."""
    noise = np.random.default_rng(random.randrange(2**32)).integers(0, 90, (32, 32, 3))
    y, x = np.mgrid[:32, :32]
    middle, size = random.randint(10, 21), random.randint(4, 8)
    disc = (y - middle) ** 2 + (x - middle) ** 2 < size**2
    noise[disc if kind == "disc" else abs(x - middle) < size // 2] += 150
    return Image.fromarray(noise.astype(np.uint8))


def write_images(folder: Path) -> list[Path]:
    random, paths = Random(10), []
    for number in range(ROWS):
        kind = ("disc", "bar")[number % 2]
        paths.append(folder / "photos" / kind / f"IMG_{number:04}.png")
        paths[-1].parent.mkdir(parents=True, exist_ok=True)
        image(random, kind).save(paths[-1])
    return paths


def write_captions(folder: Path) -> list[str]:
    random, lines = Random(11), []
    for path in write_images(folder):
        kind = path.parent.name
        for n in range(2):
            start = random.choice(["A bright", "There is a white", "One light"])
            where = random.choice(["on a dark wall", "in the night", "in front of black"])
            lines.append(f"{path.relative_to(folder).as_posix()}#{n}\t{start} {kind} {where}.\n")
    (folder / "captions.txt").write_text("".join(lines))
    return ["captions.txt"]


def write_mails(folder: Path) -> list[str]:
    for number, (text, label) in enumerate(messages()):
        path = folder / "mails" / label / f"{number}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return ["mails"]


def write_tar(folder: Path) -> list[str]:
    with tarfile.open(folder / "messages.tar", "w") as archive:
        for number, row in enumerate(messages()):
            for suffix, value in zip(("txt", "cls"), row, strict=True):
                info = tarfile.TarInfo(f"{number:05}.{suffix}")
                info.size = len(value.encode())
                archive.addfile(info, io.BytesIO(value.encode()))
    return ["messages.tar"]


def write_saved(folder: Path) -> list[str]:
    words = {1: "negative", 5: "positive"}
    rows = [{"text": text, "label": words[star]} for text, star in reviews((1, 5))]
    saved_datasets.save(folder / "saved" / "train", rows[:240])
    saved_datasets.save(folder / "saved" / "test", rows[240:])
    return ["saved/train", "saved/test"]


def write_stars(folder: Path, name: str) -> list[str]:
    found = reviews()
    body = [{"text": text, "words": len(text.split())} for text, _ in found]
    columns = pa.table({"body": body, "stars": [star for _, star in found]})
    if name.endswith("parquet"):
        pq.write_table(columns, folder / name)
    else:
        pyarrow.feather.write_feather(columns, str(folder / name))
    return [name]


def write_parallel(folder: Path) -> list[str]:
    for number, name in enumerate(("a.en", "a.de")):
        (folder / name).write_text("".join(f"{pair[number]}\n" for pair in pairs()))
    return ["a.en", "a.de"]


def write_shop(folder: Path) -> list[str]:
    write_tickets(folder / "tickets.csv")
    return ["tickets.csv"]


def file(name: str, content: Callable[[], str | bytes], encoding: str = "utf-8") -> Any:
    """Return a function that writes one file to a folder and returns its name in a list."""

    def write(folder: Path) -> list[str]:
        data = content()
        (folder / name).write_bytes(data.encode(encoding) if isinstance(data, str) else data)
        return [name]

    return write


def conll(*, documents: bool) -> str:
    blocks = ["-DOCSTART- -X- O\n"] if documents else ["# a comment\n"]
    for number, words in enumerate(sentences()):
        if documents and number and number % 20 == 0:
            blocks.append("-DOCSTART- -X- O\n")
        lines = (" ".join(word) if documents else f"{word[0]}\t{word[2]}" for word in words)
        blocks.append("".join(f"{line}\n" for line in lines))
    return "\n".join(blocks) if documents else "\n".join(blocks).replace("\n\n", "\n", 1)


def conllu() -> str:
    classes = {"NNP": "PROPN", "NN": "NOUN", ".": "PUNCT"}
    blocks = []
    for number, words in enumerate(sentences()):
        lines = [f"# sent_id = {number + 1}"] + [
            f"{n}\t{word}\t{word.lower()}\t{classes[tag]}\t{tag}\t_\t0\troot\t_\t_"
            for n, (word, tag, _) in enumerate(words, 1)
        ]
        blocks.append("\n".join(lines) + "\n")
    return "\n".join(blocks) + "\n"


def token_lists() -> str:
    names = ["O", *(f"{side}-{kind}" for kind in NAMES for side in "BI")]
    return json_lines(
        {"id": str(n), "tokens": [w for w, _, _ in words],
         "ner_tags": [names.index(tag) for _, _, tag in words]}
        for n, words in enumerate(sentences())
    )  # fmt: skip


def language_rows() -> list[Row]:
    marked = {1: "negative", 5: "positive"}
    other = {"negative": "Leider kaputt, sehr schlecht", "positive": "Sehr gut, gerne wieder"}
    rows: list[Row] = []
    for number, (text, star) in enumerate(reviews((1, 5))):
        german = f"{other[marked[star]]} ({number}). {THINGS[number % 9]}"
        rows.append((german if number % 3 == 0 else text, marked[star],
                     "de" if number % 3 == 0 else "en"))  # fmt: skip
    return rows


def titled_messages() -> list[Row]:
    """Return a title of a message, a message of the same topic, and the topic."""
    random = Random(12)
    rows: list[Row] = []
    for number, (text, label) in enumerate(messages()):
        title = random.choice(TOPICS[label]).format(n=random.randint(2, 90), d=f"{number % 28}.05.")
        rows.append((title.capitalize(), "" if number % 9 == 0 else text, label))
    return rows


FORMS: dict[str, Callable[[Path], list[str]]] = {
    "a shop's CSV": write_shop,
    "JSON lines, nested": file("tickets.ndjson", lambda: json_lines(
        {"body": {"text": text, "words": len(text.split())}, "queue": label}
        for text, label in messages())),
    "JSON array": file("array.json", lambda: json.dumps(
        [{"text": text, "label": star // 5} for text, star in reviews((1, 5))], indent=1)),
    "JSON lines, texts only": file("c4.json.gz", lambda: gzip.compress(json_lines(
        {"text": " ".join(t for t, _ in messages()[n:n + 4]),
         "timestamp": f"2019-04-{n % 28 + 1:02}T12:00:{n % 60:02}Z",
         "url": f"https://example.com/{n}"} for n in range(ROWS)).encode())),
    "CSV with semicolons": file("sentences.csv", lambda: table(
        ["id", "sentence", "stars"],
        [(n, *row) for n, row in enumerate(reviews(), 1)], ";")),
    "TSV without a header": file("mail.tsv", lambda: "".join(
        f"{' '.join(t.split())}\t{label}\n" for t, label in messages())),
    "TSV with quotes": file("quoted.tsv", lambda: table(
        ["text", "label"], messages(), "\t", csv.QUOTE_ALL)),
    "CSV in cp1252": file("latin.csv", lambda: table(
        ["text", "label"], [("Café Größe: " + t, label) for t, label in messages()]), "cp1252"),
    "CSV in UTF-16": file("excel.csv", lambda: table(["text", "label"], messages()), "utf-16"),
    "Parquet": lambda folder: write_stars(folder, "stars.parquet"),
    "Feather": lambda folder: write_stars(folder, "stars.feather"),
    "folder of texts": write_mails,
    "WebDataset tar": write_tar,
    "CoNLL, documents": file("ner.conll", lambda: conll(documents=True)),
    "CoNLL, comments": file("words.txt", lambda: conll(documents=False)),
    "CoNLL-U": file("en.conllu", conllu),
    "JSON lines, words and tags": file("ner.jsonl", token_lists),
    "fastText": file("cooking.txt", lambda: "".join(
        " ".join(f"__label__{name}" for name in names) + f" {' '.join(text.split())}\n"
        for text, names in topics())),
    "folder of images": lambda folder: [write_images(folder)[0].parts[-3]],
    "captions": write_captions,
    "parallel files": write_parallel,
    "Hugging Face dataset": write_saved,
    "CSV, compressed": file("download", lambda: lzma.compress(table(
        ["text", "label"], messages()).encode())),
    "CSV, several texts": file("questions.csv", lambda: table(
        ["title", "body", "label"], titled_messages())),
    "CSV, labels 1 and 2": file("yelp.csv", lambda: table(
        [], [(star // 5 + 1, text) for text, star in reviews((1, 5))])),
    "CSV, labels 0 and 4": file("tweets.csv", lambda: table(
        [], [(star - 1, text) for text, star in reviews((1, 5))])),
    "JSON lines, label lists": file("lists.jsonl", lambda: json_lines(
        {"text": text, "label": names} for text, names in topics())),
    "CSV, joined labels": file("separated.csv", lambda: table(
        ["text", "label"], [(text, "|".join(names)) for text, names in topics()])),
    "CSV, columns of 0 and 1": file("comments.csv", lambda: table(
        ["comment_text", *TOPICS],
        [(text, *(int(t in names) for t in TOPICS)) for text, names in topics()])),
    "JSON lines, label maps": file("maps.jsonl", lambda: json_lines(
        {"text": text, "label": {t: int(t in names) for t in TOPICS}} for text, names in topics())),
    "JSON lines, label vectors": file("vectors.jsonl", lambda: json_lines(
        {"text": text, "label": [int(t in names) for t in TOPICS]} for text, names in topics())),
    "CSV, a column of languages": file("languages.csv", lambda: table(
        ["text", "label", "language"], language_rows())),
}  # fmt: skip
"""By name: a function that writes the files to a folder and returns their names."""
