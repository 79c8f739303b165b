"""Unknown labels and tags in evaluated data, which count as wrong."""

from collections.abc import Sequence

from pipeline.corpus.fields.label_names import NameIndex
from pipeline.errors import InputError


class OpenNameIndex(NameIndex):
    """Name -> index. The n unknown names have the indices C, ..., C + n - 1 after the C known
    names, in the order in which they are checked."""

    def __init__(self, names: Sequence[str], settings: object = None) -> None:
        super().__init__(names, settings)
        self._known = len(names)
        self.unknown_names: list[str] = []

    def check(self, name: str, where: str) -> None:
        if name in self:
            return
        try:
            super().check(name, where)
        except InputError:
            self[name] = self._known + len(self.unknown_names)
            self.unknown_names.append(name)

    def is_unknown(self, name: str) -> bool:
        """Return whether a checked name is unknown."""
        return self[name] >= self._known
