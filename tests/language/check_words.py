"""Find words in code, docs and tests that this project does not use.

    python -m tests.language.check_words [PATH ...]

Prints one line per match, and exits with 1 if there are any. Without a PATH, all files are checked.

The words are listed in words.yaml, beside this file. Each entry has a regular expression (`word`),
the words to use instead (`instead`), and the places where the word is allowed (`allowed`): globs of
`paths`, or a longer `phrase` that contains the word, with the reason (`because`). A word is also
found inside an identifier, but not inside another word: `told` matches `_told`, but not `untold`.
"""

import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
WORDS = Path(__file__).with_name("words.yaml")
FILES = ("*.py", "*.md", "*.yaml", "*.yml", "*.toml", "*.cpp", "*.h", "Makefile", "Dockerfile")


@dataclass(frozen=True)
class Rule:
    """A word that is not used, and the words to use instead."""

    pattern: re.Pattern[str]
    instead: str
    paths: tuple[str, ...] = ()
    """Globs of files in which the word is allowed."""
    phrases: tuple[re.Pattern[str], ...] = field(default=())
    """Longer expressions in which the word is allowed everywhere."""


def read_rules(path: Path = WORDS) -> list[Rule]:
    """Read the rules from a YAML list."""
    return [_rule(entry) for entry in yaml.safe_load(path.read_text(encoding="utf-8"))]


def _rule(entry: dict[str, Any]) -> Rule:
    allowed = entry.get("allowed", [])
    return Rule(
        re.compile(rf"(?<![A-Za-z])(?:{entry['word']})(?![a-z])", re.IGNORECASE),
        entry["instead"],
        tuple(path for item in allowed for path in item.get("paths", [])),
        tuple(re.compile(item["phrase"], re.IGNORECASE) for item in allowed if "phrase" in item),
    )


def find(text: str, path: str, rules: Iterable[Rule]) -> Iterator[str]:
    """Yield a line for each match in a file's text: its place, the match, and the words to use."""
    for number, line in enumerate(text.splitlines(), 1):
        for rule in rules:
            if any(fnmatch(path, allowed) for allowed in rule.paths):
                continue
            rest = line
            for phrase in rule.phrases:
                rest = phrase.sub("", rest)
            if match := rule.pattern.search(rest):
                yield f"{path}:{number}: {match[0]!r}: write {rule.instead}"


def tracked_files() -> list[str]:
    """Return the paths of all files to check, relative to the root; this folder is left out."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", *FILES]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    return sorted(
        path
        for path in listed.stdout.splitlines()
        if (ROOT / path).is_file() and not (ROOT / path).is_relative_to(Path(__file__).parent)
    )


def main(paths: list[str]) -> int:
    """Print the matches in the files below `paths`, or in all files; return the exit status."""
    rules = read_rules()
    lines = [
        line
        for path in tracked_files()
        if not paths or path.startswith(tuple(paths))
        for line in find((ROOT / path).read_text(encoding="utf-8"), path, rules)
    ]
    print(*lines, sep="\n", end="\n" if lines else "")
    return int(bool(lines))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
