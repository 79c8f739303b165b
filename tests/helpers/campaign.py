"""Parameters of slow tests: a few that `make test` runs, and others for `make campaign`."""

from collections.abc import Collection, Iterable
from typing import Any

import pytest


def cases(all_cases: Iterable[Any], usual: Collection[Any]) -> list[Any]:
    """Return the parameters of a test; those that are not `usual` have the mark `campaign`."""
    return [
        pytest.param(
            *(case if isinstance(case, tuple) else (case,)),
            marks=() if case in usual else pytest.mark.campaign,
            id="-".join(map(str, case)) if isinstance(case, tuple) else str(case),
        )
        for case in all_cases
    ]
