"""Guesses of encodings."""

import pytest

from pipeline.inspection.encodings import guess

GERMAN = "Die Bäume blühen früh, und die Vögel grüßen fröhlich über die Straße. " * 20
RUSSIAN = "Сегодня хорошая погода, и мы пойдём гулять в большой парк. " * 20


@pytest.mark.parametrize("text", ["", "plain", "Café", GERMAN, RUSSIAN, "日本語"])
def test_utf8_needs_no_key(text: str) -> None:
    assert guess(text.encode()) == ("", "")


def test_a_character_that_is_cut_off_is_utf8() -> None:
    assert guess("Café".encode()[:-1]) == ("", "")


def test_few_bad_bytes_in_utf8_are_damage() -> None:
    assert guess(GERMAN.encode() + b"\xff" + GERMAN.encode()) == ("", "")


def test_a_short_text_is_guessed_to_be_western() -> None:
    assert guess("text,label\nCafé,fr\n".encode("cp1252")) == ("cp1252", "Café")


@pytest.mark.parametrize(
    ("text", "encoding"),
    [(GERMAN, "cp1252"), (RUSSIAN, "cp1251"), ("今日は天気がいいですね。" * 30, "shift_jis")],
)
def test_longer_texts_show_their_encoding(text: str, encoding: str) -> None:
    found, word = guess(text.encode(encoding))
    assert text.encode(encoding).decode(found) == text
    assert word
    assert word in text


def test_of_encodings_that_read_the_same_the_common_one_is_taken() -> None:
    text = "Café, Größe: der Händler antwortet schnell. " * 40
    assert guess(text.encode("cp1250")) == ("cp1252", "Café")


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_utf16_without_a_mark(encoding: str) -> None:
    assert guess("a plain text".encode(encoding)) == (encoding, "")
