"""The naive truth of erasures: a world of which the events of erased keys are simply not there.

A version that belongs to an erased key still replaces the versions before it, as a delete does: what was erased must
not bring back what had been corrected.
"""

from __future__ import annotations

from collections.abc import Iterable

from tests.oracle.features import Oracle


def is_erased(event, keys, erased) -> bool:
    """Whether an event, its time in microseconds, is one of an erased key's from before the erasure.

    ``erased`` are triples (columns, key, erased at); a key counts where the view's keys contain its columns.
    """
    return any(
        set(columns) <= set(keys)
        and event["t"] is not None
        and event["t"] <= erased_at
        and all(same(event[column], value) for column, value in zip(columns, key, strict=True))
        for columns, key, erased_at in erased
    )


def same(one, other) -> bool:
    return type(one) is type(other) and one == other


class OracleWithout(Oracle):
    """The oracle of a world from which keys were erased."""

    def __init__(self, view, events, clock: str, erased: Iterable) -> None:
        super().__init__(view, events, clock)
        self.erased = list(erased)

    def counting(self, key, T: int):
        return [e for e in super().counting(key, T) if not is_erased(e, self.view.keys, self.erased)]
