"""Errors: each line is one line, whatever it quotes."""

import pickle

from pipeline.errors import MAX_LINE, HeadraceError, InputError


def test_line_breaks_and_control_characters_do_not_break_a_line():
    error = InputError(
        "a\nb.csv: is damaged: bad\n  data\r\n; download \0 it \x1b[31m \u2028 \udcff again"
    )
    assert error.lines == [
        r"a b.csv: is damaged: bad data ; download \x00 it \x1b[31m \u2028 \udcff again"
    ]
    assert str(error) == error.lines[0]


def test_ordinary_texts_are_unchanged():
    line = "run.name=été 映画 🙂: has\u00a0a blank; remove it"
    assert HeadraceError(line).lines == [line]


def test_the_middle_of_a_long_line_is_left_out():
    (line,) = HeadraceError(f"corpus.text={'x' * 100_000}: is too long; shorten it").lines
    assert len(line) < MAX_LINE + 10
    assert line.startswith("corpus.text=xxx")
    assert line.endswith("xxx: is too long; shorten it")
    assert " ... " in line


def test_several_lines_stay_apart_in_another_process():
    error = InputError(["a=1: is wrong; use 2", "b=1: is wrong; use 3"])
    again = pickle.loads(pickle.dumps(error))  # noqa: S301
    assert again.lines == error.lines == ["a=1: is wrong; use 2", "b=1: is wrong; use 3"]
