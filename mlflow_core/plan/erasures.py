"""Erasures: whose events must not be seen any more, and up to when. Values that plans carry to whoever reads events.

An erasure names an entity by its key columns and their values. Every view whose key columns contain these is affected:
a person's number inside a composite key is still that person. Where the list is kept is ``mlflow_core.metadata``'s
business; how rows are told apart, ``mlflow_core.engine.events.erasing``'s.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias
from uuid import UUID

__all__ = ["NOTHING_ERASED", "Erasure", "Erasures", "KeyValue"]

KeyValue: TypeAlias = int | str | bytes | UUID


@dataclass(frozen=True, slots=True)
class Erasure:
    """One entity that was erased.

    Attributes:
        columns: Its key columns.
        key: Their values, in the same order.
        erased_at: Events up to this time, inclusive, are not seen; microseconds since epoch, UTC.
    """

    columns: tuple[str, ...]
    key: tuple[KeyValue, ...]
    erased_at: int


@dataclass(frozen=True)
class Erasures:
    """What was erased, in one order whatever order it was told in; of one key's erasures the last.

    Attributes:
        entries: The erasures; see ``of``.
    """

    entries: tuple[Erasure, ...] = ()

    @classmethod
    def of(cls, erasures: Iterable[Erasure]) -> Erasures:
        """Collect erasures.

        Args:
            erasures: In any order, their columns in any order, keys repeated or not.

        Example:
            >>> both = [Erasure(("b", "a"), (2, 1), 5), Erasure(("a", "b"), (1, 2), 9)]
            >>> Erasures.of(both).entries
            (Erasure(columns=('a', 'b'), key=(1, 2), erased_at=9),)
        """
        latest: dict[tuple[tuple[str, ...], tuple[KeyValue, ...]], int] = {}
        for one in erasures:
            pairs = sorted(zip(one.columns, one.key, strict=True), key=lambda pair: pair[0])
            place = (tuple(column for column, _ in pairs), tuple(value for _, value in pairs))
            latest[place] = max(one.erased_at, latest.get(place, one.erased_at))
        found = (Erasure(columns, key, at) for (columns, key), at in latest.items())
        return cls(tuple(sorted(found, key=lambda one: (one.columns, repr(one.key)))))

    def __bool__(self) -> bool:
        return bool(self.entries)

    def within(self, keys: Iterable[str]) -> Erasures:
        """Return those that concern rows with these key columns: whose own columns are all among them.

        Args:
            keys: Key columns.

        Example:
            >>> erased = Erasures.of([Erasure(("carrier",), ("UA",), 0), Erasure(("origin",), ("EWR",), 0)])
            >>> [one.key for one in erased.within(["carrier", "flight"]).entries]
            [('UA',)]
        """
        if not self.entries:
            return self
        there = set(keys)
        return Erasures(tuple(one for one in self.entries if there.issuperset(one.columns)))

    def renamed(self, names: Iterable[tuple[str, str]]) -> Erasures:
        """Return them under the names that rows have for key columns.

        Args:
            names: Pairs of key column and the rows' column, as in ``ViewRead.keys``; all columns are among the first.
        """
        called = dict(names)
        return Erasures.of(
            Erasure(tuple(called[column] for column in one.columns), one.key, one.erased_at)
            for one in self.entries
        )

    def by_columns(self) -> Mapping[tuple[str, ...], Mapping[tuple[KeyValue, ...], int]]:
        """Return key -> until when, for each set of key columns."""
        found: dict[tuple[str, ...], dict[tuple[KeyValue, ...], int]] = {}
        for one in self.entries:
            found.setdefault(one.columns, {})[one.key] = one.erased_at
        return found

    def since(self, before: Erasures) -> Erasures:
        """Return those that have come, or were asked for again, since others were looked at.

        Args:
            before: What there was then.

        Example:
            >>> before = Erasures.of([Erasure(("a",), (1,), 5)])
            >>> Erasures.of([*before.entries, Erasure(("a",), (2,), 7)]).since(before).entries
            (Erasure(columns=('a',), key=(2,), erased_at=7),)
        """
        known = set(before.entries)
        return Erasures(tuple(one for one in self.entries if one not in known))

    @cached_property
    def digest(self) -> str:
        """A hash of all of them: what was made without these rows is known by it."""
        text = "\n".join(repr((one.columns, one.key, one.erased_at)) for one in self.entries)
        return hashlib.sha256(text.encode()).hexdigest()


NOTHING_ERASED = Erasures()
"""No erasures: nothing is looked for, and nothing costs."""
