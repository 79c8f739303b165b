"""The paused garbage collector."""

import gc
from collections.abc import Iterator

import pytest

from pipeline.runtime.garbage import paused_collection


@pytest.fixture(autouse=True)
def unfrozen() -> Iterator[None]:
    yield
    gc.unfreeze()


def test_objects_of_the_block_are_excluded_from_collections() -> None:
    with paused_collection():
        assert not gc.isenabled()
        made: list[object] = []
        made.append(made)
    assert gc.isenabled()
    assert gc.get_freeze_count() > 0
    assert not any(found is made for found in gc.get_objects())


def test_the_collector_stays_disabled_and_an_error_passes() -> None:
    gc.disable()
    try:
        with pytest.raises(ValueError, match="inside"), paused_collection():
            raise ValueError("inside")
        assert not gc.isenabled()
    finally:
        gc.enable()
