"""What is said to PostgreSQL: one statement for each thing an online store does, and the arrays it is given.

A value is replaced by the rule in ``backend``, which stands in the upsert itself. Arrays go as binary, built here:
psycopg's own way of building them costs more than the server's work on them.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, ClassVar

from psycopg.abc import AdaptContext
from psycopg.adapt import Dumper
from psycopg.pq import Format

from mlflow_core.online.backend import Ask, Found
from mlflow_core.online.head import KIND_AT, SCHEMA_AT, VERSION_BYTES, Kind
from mlflow_core.online.rows import Row, greatest

__all__ = ["Blobs", "Numbers", "Slots", "Statements", "Texts", "chunks", "register_arrays"]

_CHUNK_ROWS, _CHUNK_BYTES = 10_000, 16 * 2**20


class Statements:
    """The statements on the tables of one schema.

    Args:
        schema: Its name, one that needs no quotes.
    """

    def __init__(self, schema: str) -> None:
        def on(text: str) -> bytes:
            return text.replace("$", schema).encode()

        self.read = on(_READ)
        self.upsert = on(_UPSERT)
        self.current = on("SELECT current FROM $.views WHERE project = %s AND name = %s")
        self.seen = on("SELECT current, %b = ANY(seen) FROM $.views WHERE project = %s AND name = %s")
        self.define = on(_DEFINE)
        self.name_views = on(_NAME_VIEWS)
        self.bury_unknown = on(_BURY_UNKNOWN)
        self.bury = on(_BURY)
        self.keys_from = on(_KEYS.format(">="))
        self.keys_after = on(_KEYS.format(">"))
        self.views = on("SELECT name FROM $.views WHERE project = %s")
        self.unlist = on(_UNLIST)
        self.clear_some = on(_CLEAR_SOME)
        self.forget_cleared = on(_FORGET_CLEARED)
        self.begin = on(_BEGIN)
        self.finish = on(
            "UPDATE $.views SET unfinished = NULL WHERE project = %s AND name = %s AND unfinished <= %s"
        )
        self.unfinished = on(
            "SELECT name, unfinished FROM $.views WHERE project = %s AND unfinished IS NOT NULL"
        )


class Blobs(list[bytes]):
    """Sent as ``bytea[]``."""


class Texts(list[str]):
    """Sent as ``text[]``."""


class Numbers(list[int]):
    """Sent as ``integer[]``."""


class Slots:
    """Where what a read finds belongs: each (ask, key, view) has a slot, counted in this order.

    Args:
        asks: What is wanted.
    """

    def __init__(self, asks: Sequence[Ask]) -> None:
        self._asks = asks
        self._keys: Blobs = Blobs()
        self._names: Texts = Texts()
        self._slots: tuple[Numbers, ...] = tuple(Numbers() for _ in range(4))
        base = 0
        for ask in asks:
            first, width = len(self._keys) + 1, len(ask.views)
            if not width or not ask.keys:
                continue
            self._keys += ask.keys
            self._names += ask.views
            for column in range(width):
                for numbers, value in zip(
                    self._slots, (base + column, width, first, len(self._keys)), strict=True
                ):
                    numbers.append(value)
            base += width * len(ask.keys)
        self.count = base

    def parameters(self, project: str) -> tuple[object, ...]:
        """Return what ``Statements.read`` takes."""
        return self._names, *self._slots, project, self._keys

    def filled(self, rows: Sequence[tuple[int, bytes]]) -> list[Found]:
        """Return what was found, in the order of the asks.

        Args:
            rows: Slots and what belongs there, in any order.
        """
        values: list[bytes | None] = [None] * self.count
        for slot, value in rows:
            values[slot] = value
        found: list[Found] = []
        rest = iter(values)
        for ask in self._asks:
            width = len(ask.views)
            found.append([tuple(islice(rest, width)) for _ in ask.keys])
        return found


def chunks(rows: Sequence[Row]) -> Iterator[tuple[Blobs, Blobs]]:
    """Give keys and values in the order of the keys, the greatest version of each, a few megabytes at once."""
    keys, values, size = Blobs(), Blobs(), 0
    for key, value in sorted(greatest(rows)):
        keys.append(key)
        values.append(value)
        size += len(key) + len(value)
        if len(keys) == _CHUNK_ROWS or size >= _CHUNK_BYTES:
            yield keys, values
            keys, values, size = Blobs(), Blobs(), 0
    if keys:
        yield keys, values


def register_arrays(connection: AdaptContext) -> None:
    """Teach a connection to send ``Blobs``, ``Texts`` and ``Numbers``."""
    connection.adapters.register_dumper(Blobs, _BlobsDumper)
    connection.adapters.register_dumper(Texts, _TextsDumper)
    connection.adapters.register_dumper(Numbers, _NumbersDumper)


class _BlobsDumper(Dumper):
    format = Format.BINARY
    oid = 1001
    element: ClassVar[int] = 17

    def dump(self, obj: Any) -> bytes:
        return _array(self.element, obj)


class _TextsDumper(_BlobsDumper):
    oid = 1009
    element = 25

    def dump(self, obj: Any) -> bytes:
        return _array(self.element, [text.encode() for text in obj])


class _NumbersDumper(_BlobsDumper):
    oid = 1007
    element = 23

    def dump(self, obj: Any) -> bytes:
        return _array(self.element, [_INT.pack(number) for number in obj])


_INT = struct.Struct(">i")


def _array(element: int, items: Sequence[bytes]) -> bytes:
    # Source: array_recv in PostgreSQL's src/backend/utils/adt/arrayfuncs.c.
    if not items:
        return struct.pack(">iii", 0, 0, element)
    pack = _INT.pack
    parts = [struct.pack(">iiiii", 1, 0, element, len(items), 1)]
    for item in items:
        parts += (pack(len(item)), item)
    return b"".join(parts)


_TOMBSTONE = f"'\\x{Kind.TOMBSTONE:02x}'::bytea"


def _bytes_of(value: str, first: int, count: int) -> str:
    return f"substring({value} from {first + 1} for {count})"  # SQL counts from 1


def _version(value: str) -> str:
    return _bytes_of(value, 0, VERSION_BYTES)


def _kind(value: str) -> str:
    return _bytes_of(value, KIND_AT, 1)


def _schema(value: str) -> str:
    return _bytes_of(value, SCHEMA_AT.start, SCHEMA_AT.stop - SCHEMA_AT.start)


_READ = """
SELECT v.base + (k.number - 1)::integer * v.width, r.value
FROM unnest(%b::text[], %b::integer[], %b::integer[], %b::integer[], %b::integer[])
    AS v(name, base, width, first, last)
JOIN $.views AS w ON w.project = %s AND w.name = v.name
CROSS JOIN LATERAL unnest((%b::bytea[])[v.first:v.last]) WITH ORDINALITY AS k(key, number)
JOIN $.rows AS r ON r.view = w.id AND r.key = k.key
"""
# The rows are locked in the order of the arrays, which is that of the keys, so that writers do not wait in a circle.
_UPSERT = f"""
INSERT INTO $.rows AS old (view, key, value)
SELECT v.id, new.key, new.value
FROM $.views AS v, unnest(%b::bytea[], %b::bytea[]) AS new(key, value)
WHERE v.project = %s AND v.name = %s AND v.current = %b
ON CONFLICT (view, key) DO UPDATE SET value = excluded.value
WHERE {_version("excluded.value")} > {_version("old.value")}
   OR ({_kind("old.value")} <> {_TOMBSTONE} AND {_schema("old.value")} <> {_schema("excluded.value")})
"""
_DEFINE = """
INSERT INTO $.views AS v (project, name, current, seen) VALUES (%s, %s, %b, ARRAY[%b::bytea])
ON CONFLICT (project, name) DO UPDATE SET current = excluded.current,
    seen = CASE WHEN excluded.current = ANY(v.seen) THEN v.seen ELSE v.seen || excluded.current END
"""
# Looked up first: a number that a conflict throws away is gone for ever.
_NAME_VIEWS = """
INSERT INTO $.views (project, name)
SELECT %s, n.name FROM unnest(%b::text[]) AS n(name)
WHERE NOT EXISTS (SELECT FROM $.views AS v WHERE v.project = %s AND v.name = n.name)
ORDER BY n.name
ON CONFLICT (project, name) DO NOTHING
"""
_BURY_UNKNOWN = """
INSERT INTO $.rows (view, key, value)
SELECT v.id, k.key, %b
FROM $.views AS v, unnest(%b::bytea[]) AS k(key)
WHERE v.project = %s AND v.name = ANY(%b::text[])
ORDER BY v.id, k.key
ON CONFLICT (view, key) DO NOTHING
"""
# A tombstone's sequence is the greatest there is: of two versions only the times have to be compared.
_BURY = f"""
WITH found AS (
    SELECT r.view, r.key, r.value
    FROM $.views AS v, unnest(%b::bytea[]) AS k(key), $.rows AS r
    WHERE v.project = %s AND v.name = ANY(%b::text[]) AND r.view = v.id AND r.key = k.key
      AND (%s::boolean OR {_bytes_of("r.value", 0, 8)} <= {_bytes_of("%b::bytea", 0, 8)})
    ORDER BY r.view, r.key
    FOR UPDATE OF r
)
UPDATE $.rows AS r
SET value = greatest({_bytes_of("found.value", 0, 8)}, {_bytes_of("t.value", 0, 8)}) || substring(t.value from 9)
FROM found, (SELECT %b::bytea AS value) AS t
WHERE r.view = found.view AND r.key = found.key
RETURNING {_kind("found.value")} <> {_TOMBSTONE}
"""
_KEYS = """
SELECT r.key FROM $.rows AS r JOIN $.views AS v ON v.id = r.view
WHERE v.project = %s AND v.name = %s AND r.key {} %b::bytea
ORDER BY r.key LIMIT %s
"""
_UNLIST = """
WITH gone AS (DELETE FROM $.views WHERE project = %s AND name = ANY(%b::text[]) RETURNING id)
INSERT INTO $.dropped (view) SELECT id FROM gone
"""
_CLEAR_SOME = """
DELETE FROM $.rows WHERE ctid = ANY(ARRAY(
    SELECT r.ctid FROM $.dropped AS d JOIN $.rows AS r ON r.view = d.view LIMIT %s
))
"""
_FORGET_CLEARED = """
DELETE FROM $.dropped AS d WHERE NOT EXISTS (SELECT FROM $.rows AS r WHERE r.view = d.view)
"""
_BEGIN = """
INSERT INTO $.views AS v (project, name, unfinished) VALUES (%s, %s, %s)
ON CONFLICT (project, name) DO UPDATE SET unfinished = greatest(v.unfinished, excluded.unfinished)
"""
