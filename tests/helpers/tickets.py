"""The messages of a small shop in docs/inspect.md and docs/first_run.md: 300 untidy rows.

python -m tests.helpers.tickets writes tickets.csv to the current folder.
"""

import csv
from datetime import date, timedelta
from pathlib import Path
from random import Random

TOPICS = {
    "delivery": [
        "the parcel never arrived", "my order is {n} days late",
        "the courier left the box at the wrong door", "tracking has shown no movement since {d}",
        "one of two boxes is missing", "can you ship to my office instead",
        "the delivery slot was not kept",
    ],
    "billing": [
        "I was charged twice", "please send the invoice for {d} again",
        "the discount code was not applied", "a refund of {n} EUR is missing",
        "the card payment failed but the money is gone", "there is a fee that I do not know",
        "my company needs a receipt with VAT",
    ],
    "product": [
        "the zip broke after {n} days", "the color differs from the photo",
        "one of the {n} cups was cracked", "does the jacket come in size {n}",
        "the lamp flickers", "it smells odd", "the manual is missing in the box",
        "the wood has a deep scratch",
    ],
    "returns": [
        "how do I send the shoes back", "the return label does not print",
        "I returned it on {d} and heard nothing", "can I exchange the lamp for another one",
        "I want to send back {n} of the glasses", "is there a free return",
    ],
}  # fmt: skip
STARTS = ["Hello, ", "Hi there, ", "", "", "Dear team, ", "Good morning! ", "Once more: "]
ENDS = [
    ".", "?", ". Please help.", ". Thanks, Anna",
    ". This is the second time I write about it, and nobody has answered me so far.", "!",
    ".\nSent from my phone", ". Call me back, please.",
]  # fmt: skip
NOTES = {41: "", 203: "", 77: 'You wrote "no refund", so I ask again.'}
LABELS = {17: "delivry", 60: "Billing", 61: "Billing", 120: "", 150: "other"}
"""Rows with another note or label than the others: missing, misspelled or rare."""
HEADER = ["Ticket ID", "Received", "Customer", "Note", "Category", "Amount EUR", "Resolved",
          "Branch"]  # fmt: skip


def write_tickets(path: Path) -> None:
    """Write the messages; the file is the same each time."""
    random, day = Random(11), date(2026, 1, 5)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(HEADER)
        for number in range(300):
            label = random.choices(list(TOPICS), [5, 3, 3, 2])[0]
            day += timedelta(days=random.choice([0, 1, 1, 2]))
            text = note(random, label, (day - timedelta(days=3)).strftime("%d.%m."))
            amount = f"{random.uniform(5, 250):.2f}" if random.random() < 0.8 else ""
            writer.writerow([
                f"T-{10234 + number}", day.strftime("%d.%m.%Y"), f"C{random.randint(1, 90):03}",
                NOTES.get(number, text), LABELS.get(number, label), amount,
                random.choice(["yes", "yes", "no"]), "Hamburg",
            ])  # fmt: skip


def note(random: Random, label: str, day: str) -> str:
    """Return a message about a topic and sometimes about another one, too."""
    parts = [random.choice(TOPICS[label])]
    if random.random() < 0.35:
        parts.append(random.choice(TOPICS[random.choice(list(TOPICS))]))
        if random.random() < 0.5:
            parts.reverse()
    start, text = random.choice(STARTS), ", and ".join(parts)
    return start + text.format(n=random.randint(2, 90), d=day) + random.choice(ENDS)


if __name__ == "__main__":
    write_tickets(Path("tickets.csv"))
