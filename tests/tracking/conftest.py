"""A run folder whose trackers are checked often."""

import pytest

from pipeline.tracking import follower


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(follower, "POLL_SECONDS", 0.05)
    monkeypatch.setattr(follower, "RETRY_SECONDS", 0.5)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run").mkdir()
    return tmp_path / "run"
