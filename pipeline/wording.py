"""Short texts for messages: shortened names, and numbers with a noun."""


def shorten(text: str, length: int) -> str:
    """Return a text with at most `length` characters, cut off if it has more.

    >>> shorten("creative-work", 8)
    'creat...'
    """
    return text if len(text) <= length else text[: length - 3].rstrip() + "..."


def quantity(number: int, noun: str) -> str:
    """Return a number and a noun.

    >>> quantity(1, "epoch"), quantity(1200, "epoch")
    ('1 epoch', '1,200 epochs')
    """
    return f"{number:,} {noun}" + ("" if number == 1 else "s")
