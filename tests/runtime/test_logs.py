"""Each rank shows the log lines that concern its user, on stderr."""

import logging
import sys
from collections.abc import Iterator

import pytest
from tqdm import tqdm

from pipeline.runtime.logs import ROOT, ConsoleHandler, configure_logging
from tests.helpers.processes import finish, start

logger = logging.getLogger(f"{ROOT}.somewhere")


@pytest.fixture(autouse=True)
def _restore_logging() -> Iterator[None]:
    root = logging.getLogger(ROOT)
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def shown(capsys: pytest.CaptureFixture[str]) -> list[str]:
    """Log a line at each level and return the lines on stderr."""
    logger.debug("details")
    logger.info("progress of %d rows", 5)
    logger.warning("a block is damaged")
    logger.error("a rank ended")
    captured = capsys.readouterr()
    assert captured.out == ""
    return captured.err.splitlines()


WARNINGS = ["warning: a block is damaged", "error: a rank ended"]


@pytest.mark.parametrize(
    "verbosity, expected",
    [
        (-1, WARNINGS),
        (0, ["progress of 5 rows", *WARNINGS]),
        (1, ["details", "progress of 5 rows", *WARNINGS]),
    ],
)
def test_rank_0_shows_the_levels_of_its_verbosity(
    verbosity: int, expected: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    configure_logging(verbosity)
    assert shown(capsys) == expected


@pytest.mark.parametrize("verbosity", [-1, 0, 1])
def test_other_ranks_show_warnings_only_with_their_number(
    verbosity: int, capsys: pytest.CaptureFixture[str]
) -> None:
    configure_logging(verbosity, rank=3)
    assert shown(capsys) == [
        "warning: rank 3: a block is damaged", "error: rank 3: a rank ended"
    ]  # fmt: skip


def test_rank_0_of_several_shows_its_number(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(rank=0)
    assert shown(capsys) == [
        "progress of 5 rows", "warning: rank 0: a block is damaged", "error: rank 0: a rank ended"
    ]  # fmt: skip


def test_configuring_twice_shows_each_line_once(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging()
    configure_logging(-1)
    handlers = logging.getLogger(ROOT).handlers
    assert sum(isinstance(handler, ConsoleHandler) for handler in handlers) == 1
    assert shown(capsys) == WARNINGS


def test_line_is_written_above_a_progress_bar(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging()
    with tqdm(total=10, file=sys.stderr, mininterval=0, ncols=60, desc="training") as bar:
        bar.update(4)
        capsys.readouterr()
        logger.info("evaluating")
        text = capsys.readouterr().err
        cleared, line, bar_again = text.partition("evaluating\n")
        assert line
        assert cleared.strip() == "", "the bar is removed from its line"
        assert "40%" in bar_again, "and drawn again below the log line"


@pytest.mark.parametrize(
    "rank, expected", [(None, ["ready", "warning: low"]), (2, ["warning: rank 2: low"])]
)
def test_log_of_a_real_process_goes_to_stderr(rank: int | None, expected: list[str]) -> None:
    code = (
        "import logging; from pipeline.runtime.logs import configure_logging\n"
        f"configure_logging(rank={rank}); log = logging.getLogger('pipeline.training')\n"
        "log.debug('never'); log.info('ready'); log.warning('low')"
    )
    status, out, err = finish(start([sys.executable, "-c", code]))
    assert (status, out, err.splitlines()) == (0, "", expected)
