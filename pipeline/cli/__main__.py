"""`python -m pipeline.cli COMMAND` and the `headrace` command."""

import sys
from importlib import import_module

from pipeline import __version__
from pipeline.cli import common
from pipeline.errors import ConfigError

COMMANDS = {
    "inspect": "describe data files, and suggest a task and a config",
    "init": "write this config to a file",
    "prepare": "prepare the dataset of a config",
    "train": "train, or resume training, in one process (several: torchrun -m pipeline.cli train)",
    "evaluate": "evaluate a run on raw labeled data",
    "predict": "predict with a run, from tables or lines of text",
    "export": "export a run's model to ONNX or for the Hugging Face Hub",
    "serve": "serve a run over HTTP, with a page to try it",
    "report": "write report.html, a page about a run",
    "clean": "delete the files of a run that only training needs",
}


SEVERAL = ("predict", "train")
"""Commands that torchrun can start in several processes."""


def main() -> None:
    """Run the command that the first argument names."""
    name, *arguments = sys.argv[1:] or [""]
    common.run(
        lambda: _dispatch(name, arguments),
        distributed=name in SEVERAL,
        finalizes=name != "train",
    )


def _dispatch(name: str, arguments: list[str]) -> None:
    if name in ("-h", "--help"):
        print(_usage())
    elif name == "--version":
        print(f"headrace {__version__}")
    elif name in COMMANDS:
        import_module(f"pipeline.cli.{name}").main(arguments)
    elif name:
        raise ConfigError(f"{name}: no such command; use one of {', '.join(COMMANDS)}")
    else:
        raise ConfigError(f"no command is given; use one of {', '.join(COMMANDS)}, or --help")


def _usage() -> str:
    lines = [f"  {name:10} {text}" for name, text in COMMANDS.items()]
    return "\n".join(
        [
            "usage: headrace COMMAND [options] [key=value ...]",
            "",
            *lines,
            "",
            "headrace COMMAND --help shows a command's options and all keys.",
        ]
    )


if __name__ == "__main__":
    main()
