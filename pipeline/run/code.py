"""A user's components in a run's folder: copies of their files, with digests.

`code/` of a run folder holds the files, `code.json` beside it their digests. Resuming, evaluating
and predicting use the same code. Code of a run that was trained elsewhere runs only if the user
trusts it.
"""

import json
import logging
import os
import sysconfig
from collections.abc import Collection, Iterable, Mapping
from hashlib import sha256
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

from pipeline import components
from pipeline.components import Source
from pipeline.errors import RunError
from pipeline.storage.atomic import write_file

logger = logging.getLogger(__name__)


def write(folder: Path, sources: Iterable[Source]) -> None:
    """Copy the files of components into a run's folder, and trust them on this machine."""
    record: dict[str, dict[str, Any]] = {}
    for source in sources:
        entry = {"kind": source.kind, "sha256": source.sha256, "version": source.version}
        if source.is_file:
            name = f"{source.path.stem}-{source.sha256[:8]}.py"
            (folder / "code").mkdir(exist_ok=True)
            write_file(folder / "code" / name, source.path.read_bytes())
            entry["file"] = f"code/{name}"
        _trust(source.sha256)
        record[source.reference] = entry
    if record:
        write_record(folder, record)
    else:
        _record(folder).unlink(missing_ok=True)  # of an earlier run in this folder


def check(folder: Path, sources: Iterable[Source]) -> None:
    """Raise RunError if a component has changed since the run began."""
    record = read(folder)
    lines = []
    for source in sources:
        entry = record.get(source.reference)
        if entry is None or entry["sha256"] == source.sha256:
            continue  # another reference is another value of its key, which is reported anyway
        copy = f"; {folder / entry['file']} is a copy of the old one" if "file" in entry else ""
        old = f" (version {entry['version']})" if entry["version"] else ""
        lines.append(
            f"{source.path}: has changed since the run in {folder} began{old}; restore it, or "
            f"start a new run in another run.dir{copy}"
        )
    if lines:
        raise RunError(lines)


def use(
    folder: Path,
    references: Iterable[str],
    *,
    trust: bool = False,
    trusted: Collection[str] = (),
) -> None:
    """Use the components that a run's config names from the run's folder.

    Raises RunError if their code was not run on this machine by this user and `trust` is false, or
    if a file or an installed package is not the one that the run was trained with. `trusted` are
    digests of code to trust too. Nothing is imported before these checks, nor by them.
    """
    record = read(folder)
    for reference in references:
        is_file = reference.rpartition(":")[0].endswith(".py")
        entry = record.get(reference)
        if entry is None or is_file != ("file" in entry):
            raise RunError(
                f"{folder}: its config names {reference}, but {_record(folder).name} does not; "
                f"copy the run's folder again"
            )
        if "file" not in entry:
            known = entry["sha256"] in {*_trusted(), *trusted}
            _check_installed(folder, reference, entry, known or trust)
            continue
        path = (folder / entry["file"]).resolve()
        inside = path.parent == (folder / "code").resolve()
        digest = sha256(path.read_bytes()).hexdigest() if inside and path.is_file() else ""
        if digest != entry["sha256"]:
            raise RunError(f"{path}: is missing or was changed; copy the run's folder again")
        if digest not in {*_trusted(), *trusted}:
            if not trust:
                raise RunError(
                    f"{folder}: has code ({path}) that was not run on this machine; read it, and "
                    f"evaluate or predict with --trust-code if you trust it"
                )
            _trust(digest)
        components.use_copy(reference, path)


def _check_installed(folder: Path, reference: str, entry: dict[str, Any], trusted: bool) -> None:
    """Raise RunError unless a module is the recorded one, and outside the run's folder."""
    origin = _origin(components.module_of(entry["kind"], reference))
    content = origin.read_bytes() if origin is not None and origin.is_file() else b""
    if sha256(content).hexdigest() != entry["sha256"]:
        raise RunError(
            f"{reference}: is not the code that the run in {folder} was trained with (version "
            f"{entry['version'] or 'unknown'}); install that version"
        )
    assert origin is not None
    if folder.resolve() in origin.parents or not (trusted or _is_installed(origin)):
        raise RunError(
            f"{reference}: {origin} is no file of an installed package and was not run on this "
            f"machine; read it, and evaluate or predict with --trust-code if you trust it"
        )


def _origin(module: str) -> Path | None:
    """Return the file of a module without importing its parent packages."""
    path, spec = None, None
    names = module.split(".")
    for count in range(1, len(names) + 1):
        spec = PathFinder.find_spec(".".join(names[:count]), path)
        if spec is None:
            return None
        path = list(spec.submodule_search_locations or ())
    return Path(spec.origin).resolve() if spec is not None and spec.origin else None


def _is_installed(file: Path) -> bool:
    """Return whether a file is in a folder for installed packages."""
    folders = {Path(sysconfig.get_path(name)).resolve() for name in ("purelib", "platlib")}
    return any(folder in file.parents for folder in folders)


def _record(folder: Path) -> Path:
    return folder / "code.json"


def write_record(folder: Path, record: Mapping[str, Mapping[str, Any]]) -> None:
    """Write `code.json`: facts about each component, by its reference."""
    write_file(_record(folder), json.dumps(record, indent=1) + "\n")


def read(folder: Path) -> dict[str, dict[str, Any]]:
    """Read `code.json`; empty if there is none. Raises RunError if it is damaged."""
    path = _record(folder)
    try:
        record: dict[str, dict[str, Any]] = json.loads(path.read_text()) if path.exists() else {}
        for entry in record.values():
            for key in ("kind", "sha256", "version"):
                entry[key].strip()
            entry.get("file", "").strip()
    except (ValueError, TypeError, AttributeError, KeyError):
        raise RunError(f"{path}: is damaged; copy the run's folder again") from None
    return record


def _trust_file() -> Path:
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(state) / "headrace" / "trusted_code"


def _trusted() -> set[str]:
    path = _trust_file()
    return set(path.read_text().split()) if path.exists() else set()


def _trust(digest: str) -> None:
    if digest not in _trusted():
        path = _trust_file()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("a") as file:
                file.write(f"{digest}\n")
        except OSError as error:
            logger.warning("%s: cannot be written (%s); --trust-code is needed", path, error)
