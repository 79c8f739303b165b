"""Short texts for messages: shortened names, numbers with a noun, sizes."""


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


def size(count: float) -> str:
    """Return a number of bytes with a unit.

    >>> size(12), size(37_650), size(66e6)
    ('12 bytes', '37.6 kB', '66.0 MB')
    """
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= scale:
            return f"{count / scale:.1f} {unit}"
    return f"{count:.0f} bytes"
