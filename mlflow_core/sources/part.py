"""One piece of a source that can be read by itself, anywhere, and how its columns are called and typed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

import pyarrow as pa

from mlflow_core.errors import SourceError, nearest
from mlflow_core.sources.spans import Between, Span
from mlflow_core.spec import Source

__all__ = ["SourcePart", "chosen", "renamed", "wrong"]


class SourcePart(Protocol):
    """A piece of a source: small, picklable, and readable where the source's storage can be reached."""

    @property
    def name(self) -> str:
        """Which piece it is, for progress and errors, e.g. a file's path."""
        ...

    @property
    def rows(self) -> int:
        """How many rows it has, as far as can be told without reading it."""
        ...

    @property
    def bytes(self) -> int:
        """About how many bytes it takes in memory."""
        ...

    @property
    def span(self) -> Span | None:
        """Least and greatest event time, microseconds since epoch, UTC; None where nobody knows without reading."""
        ...

    @property
    def fingerprint(self) -> str:
        """What makes up its content, in one digest: another content, or the same in other types, has another.

        Made of where it is, its size and version, its row groups, and the names and types of its columns. Two
        parts of one fingerprint read the same; the same data written anew may have another.
        """
        ...

    def within(self, between: Between | None) -> SourcePart | None:
        """Leave out what is proven to hold no event time between two others.

        Args:
            between: Event times wanted, microseconds since epoch, UTC, both ends included; None is no bound.

        Returns:
            This part, a smaller one, or None where nothing is left. Rows of other times may remain; rows without a
            time may be left out.
        """
        ...

    def read(self, columns: Sequence[str] | None = None) -> pa.Table:
        """Read it.

        Args:
            columns: The columns wanted, under their names in the specs; all by default.

        Returns:
            The columns in the order asked for: dictionaries decoded, times in microseconds UTC.

        Raises:
            SourceError: It cannot be read, or is not what it was when the source was listed.
        """
        ...


def wrong(source: Source, what: str, *, expected: str | None = None, hint: str | None = None) -> SourceError:
    """Make an error that names a source and the place of its declaration."""
    return SourceError(what, object=source.title, place=source.place, expected=expected, hint=hint)


def renamed(source: Source, names: Sequence[str]) -> Mapping[str, str]:
    """Return for each column of the data its name in the specs.

    Args:
        source: The source with its ``rename``.
        names: The columns as the data calls them.

    Raises:
        SourceError: ``rename`` names a column that the data lacks, or makes two columns of one name.
    """
    for old in source.rename:
        if old not in names:
            raise wrong(source, f'field "rename": there is no column "{old}"', hint=nearest(old, names))
    pairs = {name: source.rename.get(name, name) for name in names}
    for old, new in source.rename.items():
        twins = [name for name, called in pairs.items() if called == new and name != old]
        if twins:
            raise wrong(source, f'field "rename": "{old}" and "{twins[0]}" would both be called "{new}"')
    return pairs


def chosen(source: Source, schema: pa.Schema, columns: Iterable[str] | None) -> list[str]:
    """Return the columns to read, each once; all of the schema by default.

    Raises:
        SourceError: A column does not exist.
    """
    if columns is None:
        return list(schema.names)
    names = list(dict.fromkeys(columns))
    for name in names:
        if name not in schema.names:
            raise wrong(source, f'there is no column "{name}"', hint=nearest(name, schema.names))
    return names
