"""A source whose rows are made by the user's transform: the same listing, with each part read through it.

A part's fingerprint carries the function's path and code, so what was kept of it is not used after a change. Its
span of event times is unknown, because the function may change them. Reads everything that a part holds, because
nobody knows which columns the function looks at.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import pyarrow as pa

from mlflow_core.algebra.transform import apply_transform, transformed_schema
from mlflow_core.errors import EngineError, PlanError
from mlflow_core.sources.listing import SourceListing
from mlflow_core.sources.part import SourcePart, chosen, wrong
from mlflow_core.sources.spans import Between, Span
from mlflow_core.spec import Source

__all__ = ["TransformedPart", "schema_after", "snapshot_after", "transformed"]


@dataclass(frozen=True, slots=True)
class TransformedPart:
    """A part read through its source's transform.

    Attributes:
        part: What is read.
        source: The source, with its transform.
        schema: What the transform gives.
    """

    part: SourcePart
    source: Source
    schema: pa.Schema

    @property
    def name(self) -> str:
        """The part's own name."""
        return self.part.name

    @property
    def rows(self) -> int:
        """How many rows are read; the transform may drop some."""
        return self.part.rows

    @property
    def bytes(self) -> int:
        """About how many bytes are read."""
        return self.part.bytes

    @property
    def span(self) -> Span | None:
        """Nobody knows without reading."""
        return None

    @property
    def fingerprint(self) -> str:
        """The part's own, with the function's path and code."""
        return _digest(self.source, self.part.fingerprint, str(self.schema))

    def within(self, between: Between | None) -> TransformedPart | None:  # noqa: ARG002
        """This part: which event times it holds is known only after the transform."""
        return self

    def read(self, columns: Sequence[str] | None = None) -> pa.Table:
        """Read all columns, apply the transform, and return those wanted; see ``SourcePart``.

        Raises:
            SourceError: As ``SourcePart``; or the transform fails or breaks its contract.
        """
        names = chosen(self.source, self.schema, columns)
        assert self.source.transform is not None
        try:
            made = apply_transform(
                self.source.transform, self.part.read(), self.schema, title=self.source.title
            )
        except EngineError as error:
            raise wrong(
                self.source, f"{self.part.name}: {error.what}", expected=error.expected, hint=error.hint
            ) from error
        return made.select(names)


def transformed(listing: SourceListing) -> SourceListing:
    """Return a listing whose parts are read through the source's transform; the same one where it has none.

    Raises:
        PlanError: The transform cannot be imported, or fails without rows.
    """
    if listing.source.transform is None:
        return listing
    schema = schema_after(listing.source, listing.schema)
    parts = tuple(TransformedPart(part, listing.source, schema) for part in listing.found)
    return replace(
        listing,
        schema=schema,
        found=parts,
        fingerprint=snapshot_after(listing.source, listing.fingerprint),
    )


def schema_after(source: Source, schema: pa.Schema) -> pa.Schema:
    """Return the columns of a source after its transform, if it has one."""
    if source.transform is None:
        return schema
    try:
        return transformed_schema(source.transform, schema, title=source.title)
    except PlanError as error:
        if error.place is not None:
            raise
        raise PlanError(
            error.what,
            object=error.object,
            place=source.place,
            expected=error.expected,
            hint=error.hint,
        ) from error


def snapshot_after(source: Source, snapshot: str) -> str:
    """Return the fingerprint of what would be read through the transform, if there is one."""
    return snapshot if source.transform is None else _digest(source, snapshot)


def _digest(source: Source, *of: str) -> str:
    assert source.transform is not None
    text = "\n".join((*of, source.transform.import_path, source.transform.current_code))
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"
