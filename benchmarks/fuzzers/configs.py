"""Mutated configs: each loads, and its dump loads back equal, or is refused line by line."""

import functools
from pathlib import Path
from random import Random
from typing import Any

import yaml

from benchmarks.fuzzers.checks import FINDING, OK, Outcome, refused, unexpected
from benchmarks.fuzzers.mutations import TEXTS, mutate, value
from pipeline import components, config
from pipeline.errors import HeadraceError

ALIASES = "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}' if n else 'x'] * 9)}]\n" for n in range(12)
)
"""A few lines that are a list of 9 to the power of 12 texts."""
SNIPPETS = (
    "corpus:\n  input: b.csv\n", "run: {name: a}\nrun: {name: b}\n", "\tlr: 1\n", "  - x\n",
    "a: [1, 2\n", "b: {c: 1\n", "model: &m {hidden: 8}\n", "train: *m\n", "<<: *m\n",
    "train: {<<: {lr: 1}}\n", "---\n", "...\n", "%YAML 9.9\n", "? [a, b]\n: c\n", "? a\n",
    "!!set {a}\n", "x: !!python/object/apply:os.getcwd []\n", "x: !!binary AAA=\n",
    "x: !!timestamp nope\n", "task: !!str\n", "'unclosed\n", '"unclosed\n', "key: |\n",
    "key: >-\n   a\n  b\n", "12: 3\n", "null: null\n", "~: ~\n", "? \n", "true: false\n",
    "2024-01-01: 2024-13-45\n", "train: null\n", "corpus: []\n", "model: 3\n", "task: text\n",
    "\u00e9: \u00fc\n", "\u2028\n", "a: 1_000\n", "a: 0x1F\n", "a: 1:30\n", "l: &l [*l]\n",
    "[" * 3000 + "\n", "a: " + "[" * 500 + "]" * 500 + "\n", "{a: " * 200 + "\n",
    "run: {dir: ''}\n", "stream: {lanes: 999999999999999999999}\n", "train: {lr: 1e-3}\n",
    "a: &a [x, x]\nb: &b [*a, *a]\nc: &c [*b, *b]\nd: [*c, *c]\n", "# only a comment", ALIASES,
    "@x\n", "`x\n",
)  # fmt: skip
OVERRIDES = (
    "", "=", "a", "a=1", ".=1", "..=", "a.b.c.d=1", "corpus.=1", ".input=1", "corpus=1",
    "corpus={}", "corpus.input", "corpus.input.x=a", "corpus.input.text=a corpus.input.label=b",
    "corpus.input=[a", "corpus.input={a: b, a: c}", "corpus.input={text: [a, b], label: c}",
    "corpus.input=[]", "corpus.input=", "corpus.validation={}", "corpus.validation=2",
    "corpus.validation=0", "model.cell=", "task.name=none", "train.optimizer=[adamw]",
    "model.cell={a: b}", "train.groups=[{a: 1}]", "train.groups=x", "run.name=a/b", "run.name=..",
    "run.dir=", "run.dir=/", "corpus.shards=.", "corpus.label_names={1: a, 1.0: b}",
    "corpus.label_names=[[]]", "corpus.image_size=[0, 0]", "corpus.delimiter=\\t",
    "corpus.delimiter=ab", "corpus.encoding=utf", "corpus.encoding=hex", "corpus.encoding=idna",
    "corpus.encoding=undefined", "corpus.replace={'': a}", "corpus.filters=[a]",
    "corpus.columns={}", "corpus.text=[]", "corpus.text=[a, a]", "model.layers=1e3",
    "train.lr=1e-3", "train.lr=.nan", "train.lr=-.inf", "stream.token_budget=1e9", "track.uri=x://",
    "\udcff=1", "run.name=\udcff", "model.init_from=a", "model.init_from=[a]",
)  # fmt: skip


@functools.cache
def bases() -> list[str]:
    """Return the texts of the bundled configs, and the smallest config of each task."""
    small = [
        f"task: {{name: {task}}}\ncorpus: {{input: a.csv, validation: b.csv}}\n"
        for task in components.names("task")
    ]
    return [path.read_text() for path in sorted(config.BUNDLED.glob("*.yaml"))] + small


@functools.cache
def keys() -> list[str]:
    return [*config.known_keys(), *[k.key for k in components.KINDS.values() if k.key]]


@functools.cache
def component_names() -> list[str]:
    return [name for kind in components.KINDS for name in components.names(kind)]


def run(rng: Random, folder: Path) -> Outcome:
    """Mutate a config in `folder` and load it."""
    path = folder / rng.choice(("config.yaml", "a b.yaml", "é.yaml", "x"))
    data = rng.choice(bases()).encode()
    if rng.random() < 0.7:
        data = _mutate_tree(rng, data)
    if rng.random() < 0.5:
        data = _mutate_text(rng, data)
    path.write_bytes(data)
    overrides = [_override(rng) for _ in range(rng.choice((0, 0, 0, 1, 2, 4)))]
    (folder / "overrides.txt").write_text("\n".join(map(ascii, overrides)))
    source = None if overrides and rng.random() < 0.1 else path
    try:
        loaded = config.load(source, overrides)
    except HeadraceError as error:
        return refused(error, folder)
    except Exception as error:
        return unexpected(error)
    return _check_dump(loaded, folder)


def _check_dump(loaded: config.Config, folder: Path) -> Outcome:
    """Return whether a config's dump loads back equal."""
    path = folder / "dumped.yaml"
    try:
        path.write_text(config.dump(loaded), encoding="utf-8")
        again = config.load(path)
    except HeadraceError as error:
        return Outcome(FINDING, f"the dump is refused: {error.lines[0][:200]!a}")
    except Exception as error:
        return unexpected(error)
    # the classes of composed sections may differ, their values may not
    before, after = loaded.model_dump(), again.model_dump()
    changed = [f"{s}.{k}" for s in before for k in before[s] if before[s][k] != after[s].get(k)]
    if changed:
        return Outcome(FINDING, f"{changed[0]} differs after dump and load")
    return Outcome(OK)


def _mutate_tree(rng: Random, data: bytes) -> bytes:
    """Change sections, keys and values."""
    tree: dict[str, Any] = yaml.safe_load(data)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        sections = [name for name, own in tree.items() if isinstance(own, dict) and own]
        action = rng.randrange(8)
        if action == 0 or not sections:  # a section that is no mapping
            tree[rng.choice(list(tree) or ["train"])] = value(rng)
            continue
        section = tree[rng.choice(sections)]
        key = rng.choice(list(section))
        if action == 1:
            del section[key]
        elif action == 2:  # a misspelled key, or one of no text
            changed = list(str(key))
            changed.insert(rng.randrange(len(changed) + 1), rng.choice("_xe. "))
            section[rng.choice(("".join(changed), *TEXTS[:9], 3, None))] = section.pop(key)
        elif action == 3:
            tree[rng.choice(sections)][key] = section.pop(key)
        elif action < 6:  # another key, of any component
            name, _, field = rng.choice(keys()).partition(".")
            own = tree.setdefault(name, {})
            if isinstance(own, dict):
                own[field] = _fitting(rng)
        else:
            section[key] = _fitting(rng)
    try:
        return yaml.safe_dump(tree, allow_unicode=rng.random() < 0.5).encode(
            "utf-8", "surrogatepass"
        )
    except (ValueError, yaml.YAMLError):
        return data


def _fitting(rng: Random) -> Any:
    """Return a value that may be the one of a key."""
    if rng.random() < 0.5:
        return value(rng)
    return rng.choice((1, 2, 8, 0.1, 0.5, True, False, "", [1, 2], ["a", "b"], {"a": "b"},
                       rng.choice(component_names()), [rng.choice(component_names())]))  # fmt: skip


def _mutate_text(rng: Random, data: bytes) -> bytes:
    """Change the text of the YAML."""
    kind = rng.random()
    if kind < 0.4:
        lines = data.splitlines(keepends=True)
        lines.insert(rng.randint(0, len(lines)), rng.choice(SNIPPETS).encode())
        return b"".join(lines)
    if kind < 0.5:
        return data.replace(
            rng.choice((b"  ", b": ", b"\n", b"[", b"}")),
            rng.choice((b"\t", b":", b"\r", b"", b"\0")),
        )
    if kind < 0.55:
        return data.decode("utf-8", "replace").encode(
            rng.choice(("utf-16", "utf-32", "utf-8-sig", "utf-16-le"))
        )
    return mutate(rng, data, text=True)


def _override(rng: Random) -> str:
    if rng.random() < 0.35:
        return rng.choice(OVERRIDES)
    key = rng.choice(keys()) if rng.random() < 0.9 else rng.choice(TEXTS)
    if rng.random() < 0.4:
        return f"{key}={rng.choice(TEXTS)}"
    text = yaml.safe_dump(_fitting(rng), default_flow_style=True, width=1 << 30)
    return f"{key}={text.removesuffix('...' + chr(10)).strip()}"
