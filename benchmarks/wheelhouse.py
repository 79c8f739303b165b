"""Download the wheels that a machine without internet needs in addition to its own torch.

    make wheelhouse [PYTHON=3.12] [EXTRAS=prepare,translate] [INCLUDE=pyarrow,pillow]

Writes wheelhouse/: a wheel of Headrace and of everything that it and its EXTRAS need, in the
versions of requirements.txt, for Linux on x86-64. torch and its own requirements are left out, and
so are numpy, pandas, pyarrow and pillow, which are large and which most images with torch have;
INCLUDE adds some of them. On the other machine:

    pip install --no-index --find-links wheelhouse 'headrace[prepare,translate]'
"""

import argparse
import re
import subprocess
import sys
from importlib.metadata import requires
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

REPOSITORY = Path(__file__).parents[1]
PREINSTALLED = {"torch", "numpy", "pandas", "pyarrow", "pillow"}
PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="folder of the wheels")
    parser.add_argument("--python-version", default="3.12", help="of the other machine [3.12]")
    parser.add_argument("--extras", default="prepare,translate", help="[prepare,translate]")
    parser.add_argument(
        "--include",
        default="",
        help="packages to add that images usually have",
    )
    args = parser.parse_args()
    python = args.python_version
    extras = {extra for extra in args.extras.split(",") if extra}
    excluded = PREINSTALLED - set(args.include.split(","))
    try:
        names = closure("headrace", extras, excluded, python) - closure(
            "torch", set(), set(), python
        )
    except ModuleNotFoundError as error:
        sys.exit(
            f"error: {error.name} is not installed, so its requirements are unknown; run make setup"
        )
    pins = pinned_versions((REPOSITORY / "requirements.txt").read_text())
    wanted = [f"{name}=={pins[name]}" for name in sorted(names - {"headrace"})]
    pip = [sys.executable, "-m", "pip"]
    target = ["--only-binary=:all:", f"--python-version={python}"]
    target += [f"--platform={platform}" for platform in PLATFORMS]
    run([*pip, "download", "--quiet", "--no-deps", *target, f"--dest={args.folder}", *wanted])
    headrace = ["--no-build-isolation", f"--wheel-dir={args.folder}", str(REPOSITORY)]
    run([*pip, "wheel", "--quiet", "--no-deps", *headrace])
    wheels = list(args.folder.glob("*.whl"))
    size = sum(wheel.stat().st_size for wheel in wheels) / 1e6
    print(f"{args.folder}: {len(wheels)} wheels for Python {python}, {size:.1f} MB; install with")
    print(f"pip install --no-index --find-links {args.folder} 'headrace[{args.extras}]'")


def closure(package: str, extras: set[str], excluded: set[str], python: str) -> set[str]:
    """Return the canonical names of a package and of all that it requires, except `excluded`.

    Reads the metadata of installed packages; raises ModuleNotFoundError if one is missing.
    """
    found: set[str] = set()
    pending = [(package, frozenset(extras))]
    visited = set(pending)
    while pending:
        name, name_extras = pending.pop()
        found.add(name)
        for line in requires(name) or []:
            requirement = Requirement(line)
            required = canonicalize_name(requirement.name)
            if required in excluded or not applies(requirement, name_extras, python):
                continue
            entry = (str(required), frozenset(requirement.extras))
            if entry not in visited:
                visited.add(entry)
                pending.append(entry)
    return found


def applies(requirement: Requirement, extras: frozenset[str], python: str) -> bool:
    """Return whether a requirement holds for the other machine and for any of the extras."""
    environment = {
        "python_version": python, "python_full_version": f"{python}.0", "sys_platform": "linux",
        "platform_system": "Linux", "platform_machine": "x86_64", "os_name": "posix",
        "implementation_name": "cpython", "platform_python_implementation": "CPython",
    }  # fmt: skip
    marker = requirement.marker
    return marker is None or any(
        marker.evaluate({**environment, "extra": extra}) for extra in ("", *extras)
    )


def pinned_versions(requirements: str) -> dict[str, str]:
    """Return the version of each package, by canonical name, in a requirements file."""
    pins = re.findall(r"^([\w.-]+)==(\S+)", requirements, re.MULTILINE)
    return {str(canonicalize_name(name)): version for name, version in pins}


def run(command: list[str]) -> None:
    if subprocess.run(command).returncode:
        sys.exit(f"error: command failed: {' '.join(command)}")


if __name__ == "__main__":
    main()
