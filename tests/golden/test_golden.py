"""Results that a refactoring must not change."""

import json
from pathlib import Path

import pytest

from tests.golden.record import VALUES, golden_values


@pytest.mark.slow
@pytest.mark.parametrize("task", sorted(json.loads(VALUES.read_text())))
def test_golden_values(task: str, tmp_path: Path) -> None:
    """Dataset and batches are equal; losses and weights differ at most as between processors."""
    expected, found = json.loads(VALUES.read_text())[task], golden_values(task, tmp_path)
    assert found["fingerprint"] == expected["fingerprint"]
    assert found["batches"] == expected["batches"]
    assert found["losses"] == pytest.approx(expected["losses"], abs=2e-5)
    assert found["weights"].keys() == expected["weights"].keys()
    for name, values in expected["weights"].items():
        assert found["weights"][name] == pytest.approx(values, rel=1e-3, abs=2e-3), name
