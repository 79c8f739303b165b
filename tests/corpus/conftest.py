"""Fixture that prepares a small dataset."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.corpus.dataset.manifest import Manifest
from pipeline.corpus.prepare.prepare import prepare
from tests.helpers.files import FIELDS, settings_in


@pytest.fixture
def prepare_dataset(tmp_path: Path) -> Callable[..., Manifest]:
    """Return a function that prepares a dataset in the test's folder."""

    def prepare_with(**changes: Any) -> Manifest:
        return prepare(settings_in(tmp_path, **changes), FIELDS)

    return prepare_with
