"""Components: classes that a config chooses by name, such as recurrent cells and optimizers.

Each kind of component has a key in the config, a base class, and a package whose modules hold one
built-in component each. The value of the key is one of

    lstm                    the component in the module `lstm` of the package, or an entry point of
                            an installed package: group `headrace.components`, name `cell.lstm`
    package.module:Class    a class of an installed package
    folder/file.py:Class    a class in a file

The keys that a component declares in its `Settings` are added to the section of its kind's key.
"""

from pipeline.components.base import Component, with_used
from pipeline.components.checking import describe, require
from pipeline.components.composition import belongs, chosen, compose, make, owners
from pipeline.components.kinds import KINDS, Kind, entry_points_of, names
from pipeline.components.loading import (
    Source,
    load,
    load_files,
    loaded_files,
    module_of,
    original_files,
    reference,
    source,
    temporary_copies,
    use_copy,
)

__all__ = [
    "KINDS",
    "Component",
    "Kind",
    "Source",
    "belongs",
    "chosen",
    "compose",
    "describe",
    "entry_points_of",
    "load",
    "load_files",
    "loaded_files",
    "make",
    "module_of",
    "names",
    "original_files",
    "owners",
    "reference",
    "require",
    "source",
    "temporary_copies",
    "use_copy",
    "with_used",
]
