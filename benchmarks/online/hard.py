"""Hard data: nulls, unknown keys, values older than their TTL, odd strings and integers that a double cannot hold.

Nobody is timed on it; wrong or lost values are counted, cell by cell, against what the rows say.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from feast import Entity, FeatureService, FeatureView, Field, FileSource
from feast.types import Float64, Int64, String
from feast.value_type import ValueType

from benchmarks.online.world import TIME

__all__ = ["KINDS", "Hard", "make_hard"]

KEY, SERVICE = "code", "hard"
KINDS = ("null", "unknown key", "expired", "string", "integer", "float")
N = 300
TTL = timedelta(days=1)
# Without a NUL character, which PostgreSQL's text fields refuse and so Feast's writer fails as a whole.
STRINGS = ("", "a", "ü" * 40, "tab\there", '"quoted"\\', "日本", "null", "0")
# Not the last ones of int64: with nulls beside them Feast's writer goes through doubles and fails as a whole.
INTEGERS = (2**53 + 1, -(2**53) - 1, 2**60 + 1, 0, -1)
FLOATS = (math.inf, -math.inf, math.nan, -0.0, 5e-324, 0.1)
FEATURES: Mapping[str, Any] = {"price": Float64, "label": String, "count": Int64}
Cell = tuple[Any, str, str]


@dataclass(frozen=True)
class Hard:
    """The rows, and what each cell must be: value, status and which kind of trouble it is."""

    folder: Path
    cells: Mapping[str, Mapping[str, Cell]]

    def objects(self) -> list[Any]:
        """Return what a repository applies."""
        entity = Entity(name="coded", join_keys=[KEY], value_type=ValueType.STRING)
        view = FeatureView(
            name="hard",
            entities=[entity],
            ttl=TTL,
            schema=[
                Field(name=KEY, dtype=String),
                *(Field(name=one, dtype=kind) for one, kind in FEATURES.items()),
            ],
            source=FileSource(
                name="hard_source",
                path=str(self.folder / "hard.parquet"),
                timestamp_field="event_timestamp",
            ),
        )
        return [entity, view, FeatureService(name=SERVICE, features=[view])]

    def asked(self) -> list[list[str]]:
        """Return the keys of each request: known, expired and unknown ones together, in no order."""
        keys = list(self.cells)
        order = np.random.default_rng(3).permutation(len(keys)).tolist()
        return [[keys[place] for place in order[start : start + 20]] for start in range(0, len(keys), 20)]

    def body(self, keys: Sequence[str]) -> bytes:
        """Return a request."""
        return json.dumps({"feature_service": SERVICE, "entities": {KEY: list(keys)}}).encode()

    def wrong(self, keys: Sequence[str], found: Mapping[str, Sequence[tuple[Any, str]]]) -> dict[str, int]:
        """Count the cells that are not what they must be, by kind.

        Args:
            keys: What was asked.
            found: (value, status) of each row by column, as a server answered; a column that is missing is lost whole.
        """
        counted = dict.fromkeys(KINDS, 0)
        for feature in FEATURES:
            column = found.get(feature, ())
            for place, key in enumerate(keys):
                value, status, kind = self.cells[key][feature]
                given = column[place] if place < len(column) else None
                if given is None or not same_cell(given, (value, status)):
                    counted[kind] += 1
        return counted


def same_cell(found: tuple[Any, str], truth: tuple[Any, str]) -> bool:
    """Say whether a value and its status are right; NaN equals itself, and -0.0 is not 0."""
    (value, status), (true, said) = found, truth
    if status != said:
        return False
    if isinstance(true, float) and isinstance(value, str):
        value = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}.get(value, value)
    if isinstance(true, int) and isinstance(value, str) and value.lstrip("-").isdigit():
        value = int(value)  # the way to say an integer to a reader that has only doubles
    if isinstance(true, float) and isinstance(value, float):
        return np.float64(true).tobytes() == np.float64(value).tobytes() or (true != true and value != value)
    return type(value) is type(true) and value == true


def make_hard(folder: Path) -> Hard:
    """Write the rows, or only tell what they are where they are there already."""
    rng = np.random.default_rng(5)
    rows: list[dict[str, Any]] = []
    cells: dict[str, dict[str, Cell]] = {}
    path = folder / "hard.parquet"
    folder.mkdir(parents=True, exist_ok=True)
    now = datetime.now(UTC)
    for number in range(N):
        key = f"key {number} {'é' if number % 7 == 0 else ''}"
        expired = number % 5 == 0
        given = {
            "price": (FLOATS[number % len(FLOATS)], "float"),
            "label": (STRINGS[number % len(STRINGS)], "string"),
            "count": (INTEGERS[number % len(INTEGERS)], "integer"),
        }
        row: dict[str, Any] = {KEY: key, "event_timestamp": now - (30 * TTL if expired else TTL / 24)}
        cells[key] = {}
        for name, (value, kind) in given.items():
            null = not expired and bool(rng.random() < 0.2)
            row[name] = None if null else value
            null |= isinstance(value, float) and math.isnan(value)  # which is a null
            cells[key][name] = (
                (None, "OUTSIDE_MAX_AGE", "expired")
                if expired
                else (None, "NULL_VALUE", "null")
                if null
                else (value, "PRESENT", kind)
            )
        rows.append(row)
        if number % 4 == 0:
            cells[f"nobody {number}"] = dict.fromkeys(FEATURES, (None, "NOT_FOUND", "unknown key"))
    if not path.exists():
        schema = pa.schema(
            [
                (KEY, pa.string()),
                ("event_timestamp", TIME),
                ("price", pa.float64()),
                ("label", pa.string()),
                ("count", pa.int64()),
            ]
        )
        pq.write_table(pa.Table.from_pylist(rows, schema), path)
    return Hard(folder, cells)
