"""One registry for everything that is chosen by name: shipped kinds, and those that other packages add."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import EntryPoint, PackageNotFoundError, entry_points, version
from typing import Generic, TypeVar

from surrogates.errors import SurrogatesError, UnknownChoiceError

T = TypeVar("T")


class DuplicateNameError(SurrogatesError):
    """Two packages claim the same name."""


@dataclass(frozen=True)
class Registry(Generic[T]):
    """Names of things that are imported only when they are asked for.

    Example:
        >>> Registry[type]("surrogate", "inverse_design.surrogates", {"mean": "my.models:Mean"}).names()
        ('mean',)
    """

    kind: str  # what a name names, for messages; ``"surrogate"``
    group: str  # entry-point group through which installed distributions add to the shipped names
    shipped: Mapping[str, str]  # from each shipped name to ``"module:attribute"``

    def names(self) -> tuple[str, ...]:
        """List what can be loaded; nothing is imported."""
        return tuple(sorted(self._entries()))

    def load(self, name: str) -> T:
        """Import what a name stands for."""
        entries = self._entries()
        if name not in entries:
            raise UnknownChoiceError.from_known(self.kind, name, entries)
        loaded: T = entries[name].load()
        return loaded

    def _entries(self) -> dict[str, EntryPoint]:
        shipped = [EntryPoint(name, value, self.group) for name, value in self.shipped.items()]
        entries: dict[str, EntryPoint] = {}
        for entry in (*shipped, *entry_points(group=self.group)):
            if entry.name in entries:
                raise DuplicateNameError(
                    f"{self.kind} {entry.name!r} is both {entries[entry.name].value} and {entry.value};"
                    " rename or uninstall one of them"
                )
            entries[entry.name] = entry
        return entries


def installed_version(distribution: str) -> str:
    """Name the installed version of a distribution."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return "not installed"
