"""Parts of messages: shortened texts, and numbers with a noun."""


def shorten(text: str, length: int) -> str:
    """Return a text, shortened to at most `length` characters.

    >>> shorten("creative-work", 8)
    'creat...'
    """
    return text if len(text) <= length else text[: length - 3].rstrip() + "..."


def quantity(number: int, noun: str) -> str:
    """Return a number with a noun, in the plural unless the number is 1.

    >>> quantity(1, "epoch"), quantity(1200, "epoch")
    ('1 epoch', '1,200 epochs')
    """
    return f"{number:,} {noun}" + ("" if number == 1 else "s")
