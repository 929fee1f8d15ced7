"""How far a view has been materialised, kept in the store beside its rows, so that both are lost or dropped together.

It is a value of the view's own table under a key that no entity can have. So it carries the view's schema: after a new
definition it is not read any more, as the rows are not. A store that was emptied does not have it, and the next run
writes all entities. Each note replaces the one before by a greater version, which is a count, whatever it says.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import orjson

from mlflow_core.errors import StoreError
from mlflow_core.online.backend import Ask, OnlineBackend, OnlineTable
from mlflow_core.online.head import KIND_AT, LAYOUT, LAYOUT_AT, SCHEMA_AT, Kind, version_bytes, version_of

__all__ = ["MARK", "Reached", "note_reached", "read_reached"]

MARK = b"\x00reached"
"""The key; an entity's begins with the type of its first value, which is never 0, or is empty."""

_ATTEMPTS = 8


@dataclass(frozen=True, slots=True)
class Reached:
    """How far a view has come.

    Attributes:
        boundary: All entities are there as of this boundary or a later one, microseconds since epoch, UTC; None
            while all of them are being written again.
        fingerprint: Of the view's declaration, transforms and source included.
        parts: The source's parts at that time, as the engine names them.
    """

    boundary: int | None
    fingerprint: str
    parts: tuple[str, ...] = ()


def read_reached(backend: OnlineBackend, table: OnlineTable, schema_hash: bytes) -> Reached | None:
    """Return how far a view has been materialised; None where this store does not know of it.

    Args:
        backend: The online store.
        table: The view.
        schema_hash: Of its current definition.

    Raises:
        StoreError: The store cannot be read.
    """
    value = _value(backend, table)
    if value is None or value[SCHEMA_AT] != schema_hash or value[LAYOUT_AT] != LAYOUT:
        return None
    found = orjson.loads(value[SCHEMA_AT.stop :])
    return Reached(found["boundary"], found["fingerprint"], tuple(found["parts"]))


def note_reached(backend: OnlineBackend, table: OnlineTable, schema_hash: bytes, reached: Reached) -> None:
    """Note how far a view has been materialised, whatever was noted before.

    Args:
        backend: The online store.
        table: The view.
        schema_hash: Of its current definition.
        reached: How far.

    Raises:
        StoreError: The store cannot be written, or the definition is no longer the current one.
    """
    for _ in range(_ATTEMPTS):
        before = _value(backend, table)
        count = 1 if before is None else version_of(before)[0] + 1
        head = version_bytes(count, 0) + bytes([LAYOUT, Kind.ROW]) + schema_hash
        if backend.write(table, [(MARK, head + orjson.dumps(asdict(reached)))]):
            return
    raise StoreError(
        "how far it has come could not be noted: others kept noting the same",
        object=f'view "{table.view}"',
        hint="Let one materialisation of a view run at a time.",
    )


def _value(backend: OnlineBackend, table: OnlineTable) -> bytes | None:
    value = backend.read([Ask(table.keys, (table.view,), [MARK])])[0][0][0]
    return None if value is None or value[KIND_AT] != Kind.ROW else value
