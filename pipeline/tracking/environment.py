"""`environment.json`: how and where a run was last started, for `report.html`."""

import json
import logging
import platform
from collections.abc import Mapping
from pathlib import Path
from threading import Thread
from typing import Any

from pipeline import __version__
from pipeline.report.run_data import ENVIRONMENT
from pipeline.run.source import run_source
from pipeline.storage.atomic import write_file

logger = logging.getLogger(__name__)

TIMEOUT = 10.0
"""Seconds to wait for the file at the end of a run."""


def write_in_thread(folder: Path, facts: Mapping[str, Any], changed: Mapping[str, Any]) -> Thread:
    """Write the file from a thread, because git or a user directory (LDAP) may take seconds.

    Args:
        folder: Run folder.
        facts: Properties of this start, such as world size and device.
        changed: The default of each config key that has another value, by dotted key.
    """
    arguments = (folder, dict(facts), sorted(changed))
    thread = Thread(target=_write, args=arguments, name="environment", daemon=True)
    thread.start()
    return thread


def _write(folder: Path, facts: Mapping[str, Any], changed_keys: list[str]) -> None:
    try:
        source = run_source()
        values = {
            **facts,
            "command": source.command,
            "git_commit": source.repository.commit if source.repository else "",
            "headrace": __version__,
            "python": platform.python_version(),
            "platform": platform.platform(),
            "changed_keys": changed_keys,
        }
        write_file(folder / ENVIRONMENT, json.dumps(values, indent=1) + "\n", sync=False)
    except Exception as error:  # a full disk; training must continue
        logger.warning("%s cannot be written: %s; training continues", ENVIRONMENT, error)
