"""Guesses the encoding of a text."""

import codecs
import re

from charset_normalizer import from_bytes

LIKELY = (
    "cp1252", "cp1250", "cp1251", "cp1253", "cp1254", "koi8_r", "gb18030", "big5", "shift_jis",
    "euc_jp", "euc_kr", "mac_roman",
)  # fmt: skip
"""Frequent encodings other than UTF-8, such as those of Windows, macOS and spreadsheets."""
MIN_BYTES_TO_JUDGE = 40
"""With fewer non-ASCII bytes, letter statistics do not show the encoding; cp1252 is guessed."""
MIN_GOOD = 20
"""Minimum number of valid non-ASCII characters per invalid byte in a damaged UTF-8 text."""
NOT_ASCII = re.compile(rb"[\x80-\xff]")
NON_ASCII_WORD = re.compile(r"\w*[^\W\x00-\x7f]\w*")


def guess(sample: bytes) -> tuple[str, str]:
    """Return the encoding of the first bytes of a text, and a word with which to check it.

    Both are empty for UTF-8. The encoding is a guess: only a person who reads the language sees
    whether the word is decoded correctly.
    """
    if any(sample.startswith(mark) for mark in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "", ""
    for name, offset in (("utf-16-le", 1), ("utf-16-be", 0)):
        if len(sample) > 3 and sample[offset:512:2].count(0) * 4 > len(sample[:512]):
            return name, ""
    if _is_utf8(sample):
        return "", ""
    encoding = "cp1252"
    if len(NOT_ASCII.findall(sample)) >= MIN_BYTES_TO_JUDGE:
        best = from_bytes(sample[: 1 << 16], cp_isolation=list(LIKELY)).best()
        if best and sample.decode(best.encoding, "replace") != sample.decode(encoding, "replace"):
            encoding = best.encoding  # of two that read the same, the common one
    found = NON_ASCII_WORD.search(sample.decode(encoding, "replace"))
    return encoding, found[0][:20] if found else ""


def _is_utf8(sample: bytes) -> bool:
    """Return whether a sample is UTF-8. Its last character may be cut off.

    A few bad bytes among many good characters are damage, not another encoding.
    """
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    others = [character for character in decoder.decode(sample) if character > "\x7f"]
    bad = others.count("\ufffd")
    return len(others) - bad >= MIN_GOOD * bad
