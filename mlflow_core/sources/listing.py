"""A source as it was found once: its columns, its parts and their fingerprint, told without reading rows.

Whoever needs more than one of these asks ``sources.open_source`` once, so that files are listed and footers read
once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from mlflow_core.sources.part import SourcePart, chosen, wrong
from mlflow_core.sources.spans import Between
from mlflow_core.spec import Source

__all__ = ["SourceListing"]


@dataclass(frozen=True, slots=True)
class SourceListing:
    """What a source held when it was opened.

    Attributes:
        source: The source.
        schema: Its columns under their names in the specs.
        found: All its parts in source order, those without rows too.
        fingerprint: As ``sources.snapshot``.
    """

    source: Source
    schema: pa.Schema
    found: tuple[SourcePart, ...]
    fingerprint: str

    def parts(self, between: Between | None = None) -> tuple[SourcePart, ...]:
        """Return the parts that can hold event times between two others, whole; see ``sources.parts``."""
        if not any(part.rows for part in self.found):
            n = len(self.found)
            raise wrong(self.source, f"is empty: {n} part{'s' * (n != 1)} without a row")
        return tuple(part for part in self.found if part.within(between) is not None)

    def read(self, columns: Sequence[str] | None = None, between: Between | None = None) -> pa.Table:
        """Read all parts, in source order; see ``sources.read_table``."""
        names = chosen(self.source, self.schema, columns)
        tables = [kept.read(names) for part in self.parts(between) if (kept := part.within(between))]
        return pa.concat_tables([pa.schema([self.schema.field(n) for n in names]).empty_table(), *tables])
