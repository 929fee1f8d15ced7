"""Transforms: a user's function of Arrow batches, held to its contract wherever it is applied.

The contract is row by row: a row's outcome does not depend on the other rows of its batch, so that a source may be
cut in any parts. That cannot be proven; it is tried on the first rows of each batch, and what a function must not
do at all (more rows, other columns than it told) is refused. SQL expressions are ``mlflow_core.algebra.expression``.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import pyarrow as pa

from mlflow_core.algebra.columns import settled_schema, settled_table, without_nan
from mlflow_core.errors import EngineError, MlcoreError, PlanError, nearest
from mlflow_core.spec import Transform

__all__ = ["apply_transform", "load_transform", "transformed_schema"]

_TRIED = 64  # rows, of each batch


def load_transform(transform: Transform) -> Callable[[Any], Any]:
    """Return the function of a transform, imported by its path where it is not at hand.

    Raises:
        PlanError: It cannot be imported, is no transform, or is not the code that was applied.
    """
    if transform.function is not None:
        return transform.function
    module_name, _, name = transform.import_path.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise PlanError(
            f"cannot import {module_name}: {error}",
            object=transform.title,
            hint="The project's folder must be on the import path of every process that reads the source.",
        ) from error
    found = getattr(module, name, None)
    if not isinstance(found, Transform) or found.function is None:
        known = [key for key, value in vars(module).items() if isinstance(value, Transform)]
        raise PlanError(f'module {module_name} has no transform "{name}"', hint=nearest(name, known))
    if transform.code and found.current_code != transform.code:
        raise PlanError(
            "is not the code that was applied",
            object=transform.title,
            place=found.place,
            hint="Run: mlcore apply. Or run the version of the code that was applied.",
        )
    return found.function


def transformed_schema(transform: Transform, schema: pa.Schema, *, title: str) -> pa.Schema:
    """Return the columns that a transform gives, by calling it on no rows.

    Args:
        transform: The declaration.
        schema: The columns that it gets.
        title: Whose transform it is, for errors.

    Raises:
        PlanError: It cannot be imported, fails without rows, returns no table, or a column has no type.
    """
    try:
        made = _called(transform, settled_schema(schema).empty_table(), title)
    except EngineError as error:
        what = f"{error.what}, given no rows"
        raise PlanError(what, object=error.object, expected=error.expected, hint=error.hint) from error
    for field in made.schema:
        if pa.types.is_null(field.type):
            raise PlanError(
                f'{transform.title} gives column "{field.name}" no type when it is given no rows',
                object=title,
                hint="Name its type, as in pa.array(values, pa.float64()).",
            )
    if made.num_rows:
        raise PlanError(f"{transform.title} makes {made.num_rows} rows of none", object=title)
    return settled_schema(made.schema)


def apply_transform(transform: Transform, batch: pa.Table, schema: pa.Schema, *, title: str) -> pa.Table:
    """Apply a transform to some rows of a source.

    Args:
        transform: The declaration.
        batch: All columns of the rows, (n,).
        schema: What it gives, from ``transformed_schema``.
        title: Whose rows they are, for errors.

    Returns:
        The rows that it leaves, in columns of the schema.

    Raises:
        EngineError: It fails, adds rows, gives other columns than it did without rows, or other values where the
            batch is cut in two.
        PlanError: It cannot be imported.
    """
    _tried_row_by_row(transform, batch.slice(0, _TRIED), schema, title)
    return _conforming(transform, batch, schema, title)


def _called(transform: Transform, batch: pa.Table, title: str) -> pa.Table:
    function = load_transform(transform)
    try:
        made = function(batch)
    except MlcoreError:
        raise
    except Exception as error:
        raise EngineError(
            f"{transform.title} fails with {type(error).__name__}: {error}", object=title
        ) from error
    if isinstance(made, pa.RecordBatch):
        made = pa.Table.from_batches([made])
    if not isinstance(made, pa.Table):
        raise EngineError(
            f"{transform.title} returns {type(made).__name__}", object=title, expected="a pyarrow.Table"
        )
    twice = [name for name in made.column_names if made.column_names.count(name) > 1]
    if twice:
        raise EngineError(f'{transform.title} returns two columns "{twice[0]}"', object=title)
    return made


def _conforming(transform: Transform, batch: pa.Table, schema: pa.Schema, title: str) -> pa.Table:
    made = settled_table(_called(transform, batch, title))
    if made.num_rows > batch.num_rows:
        raise EngineError(
            f"{transform.title} makes {made.num_rows} rows of {batch.num_rows}",
            object=title,
            expected="the same rows or fewer",
        )
    if sorted(made.column_names) != sorted(schema.names):
        differing = sorted(set(made.column_names) ^ set(schema.names))
        raise EngineError(
            f"{transform.title} gives other columns than without rows: {', '.join(differing)}", object=title
        )
    made = made.select(schema.names)
    for field in schema:
        kind = made.schema.field(field.name).type
        if kind != field.type and not pa.types.is_null(kind):
            raise EngineError(
                f'{transform.title} gives column "{field.name}" as {kind}',
                object=title,
                expected=f"{field.type}, as without rows",
            )
    return made.cast(schema)


def _tried_row_by_row(transform: Transform, head: pa.Table, schema: pa.Schema, title: str) -> None:
    if head.num_rows < 2:
        return
    half = head.num_rows // 2
    whole = _conforming(transform, head, schema, title)
    cut = [_conforming(transform, one, schema, title) for one in (head.slice(0, half), head.slice(half))]
    halves = pa.concat_tables(cut)
    for name in schema.names:
        if not without_nan(whole[name]).equals(without_nan(halves[name])):
            raise EngineError(
                f'{transform.title} gives other values of "{name}" where a batch is cut in two',
                object=title,
                expected="an outcome of each row that no other row takes part in",
                hint="Sums, ranks, duplicates and the like belong in the view's features, or where data are made.",
            )
