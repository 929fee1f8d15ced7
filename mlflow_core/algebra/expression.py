"""SQL expressions over the columns of one row: their types, and their values for whole tables.

DuckDB evaluates them, in its dialect, with the clock set to UTC. A NaN is a null, on the way in and on the way
out, as it is for aggregates; a number divided by zero is an infinity, 0 / 0 a null. Rows stay in their order. ``mlflow_core.algebra.parse``
decides what an expression may hold.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable, Mapping
from graphlib import CycleError, TopologicalSorter

import pyarrow as pa
import pyarrow.compute as pc

from mlflow_core.algebra.columns import settled, settled_schema, without_nan
from mlflow_core.algebra.duck import registered
from mlflow_core.algebra.parse import Parsed, parse, wrong_at
from mlflow_core.errors import EngineError, PlanError

__all__ = ["columns_used", "evaluate", "expression_types", "holds"]

_RESULT = "result of the expression"


def columns_used(
    schema_names: Iterable[str], expression: str, *, title: str = "expression"
) -> frozenset[str]:
    """Return the columns that an expression reads, as the schema spells them.

    Args:
        schema_names: The columns that exist.
        expression: SQL expression.
        title: What the expression is, for errors.

    Raises:
        PlanError: It does not parse, is not row-wise, or names a column that does not exist.

    Example:
        >>> sorted(columns_used(["dep_delay", "dest"], "coalesce(DEP_DELAY, 0) > 15"))
        ['dep_delay']
    """
    return frozenset(parse(expression, title=title).resolved(schema_names, title=title).values())


def expression_types(
    schema: pa.Schema, expressions: Mapping[str, str], *, title: str
) -> dict[str, pa.DataType]:
    """Type expressions without data.

    Args:
        schema: Columns and their types.
        expressions: SQL by name; one may use the others by name.
        title: Whose expressions they are, for errors.

    Returns:
        The type of each expression's values.

    Raises:
        PlanError: An expression does not parse, is not row-wise, or does not fit the columns' types.
    """
    empty = settled_schema(schema).empty_table()
    computed = evaluate(empty, expressions, title=title)
    return {name: computed.schema.field(name).type for name in expressions}


def evaluate(table: pa.Table, expressions: Mapping[str, str], *, title: str) -> pa.Table:
    """Add one column for each expression; rows and their order stay.

    Args:
        table: Columns of n rows.
        expressions: SQL by name; one may use the table's columns and other expressions, in any order. A name
            that is already a column replaces it for the others; in its own expression it is the column.
        title: Whose expressions they are, for errors.

    Returns:
        The table with the computed columns, shape (n, columns + expressions).

    Raises:
        PlanError: An expression does not parse, is not row-wise, or does not fit the columns' types; or some
            need each other in a circle.
        EngineError: A value cannot be computed, such as a text that is no number in a cast.

    Example:
        >>> delays = pa.table({"delay": [3, 20, None]})
        >>> evaluate(delays, {"late": "delay > 15", "on_time": "NOT late"}, title="flights").to_pydict()
        {'delay': [3, 20, None], 'late': [False, True, None], 'on_time': [True, False, None]}
    """
    made: dict[str, pa.ChunkedArray] = {}
    original = set(table.column_names)
    for name in _order(expressions, table.column_names, title):
        made[name] = _value(table, expressions[name], title=f'{title}: column "{name}"')
        table = _with(table, name, made[name])
    # In the order as written, whatever they were computed in.
    for name in expressions:
        if table.column_names[-1] != name and name not in original:
            table = table.drop_columns([name]).append_column(name, made[name])
    return table


def holds(table: pa.Table, condition: str, *, title: str) -> pa.BooleanArray:
    """Return for each row whether a condition is true; null is false.

    Args:
        table: Columns of n rows.
        condition: SQL expression that gives a boolean.
        title: What the condition is, for errors.

    Returns:
        Booleans without nulls, shape (n,).

    Raises:
        PlanError: The condition is not row-wise or gives no boolean.
    """
    column = _value(table, condition, title=title)
    if column.type != pa.bool_():
        raise PlanError(
            f"the condition gives {column.type}: `{condition}`",
            object=title,
            expected="a comparison, true or false",
        )
    combined = pc.fill_null(column, False).combine_chunks()
    return combined if isinstance(combined, pa.BooleanArray) else pa.array([], pa.bool_())


def _order(expressions: Mapping[str, str], columns: list[str], title: str) -> list[str]:
    """Put each expression after those that it uses, so that a spec's meaning does not hang on their order."""
    needs: dict[str, set[str]] = {}
    for name, expression in expressions.items():
        where = f'{title}: column "{name}"'
        known = [*columns, *(other for other in expressions if other not in columns and other != name)]
        used = parse(expression, title=where).resolved(known, title=where).values()
        needs[name] = {one for one in used if one in expressions and one != name}
    try:
        return list(TopologicalSorter(needs).static_order())
    except CycleError as error:
        raise PlanError(
            f"columns need each other in a circle: {' -> '.join(error.args[1])}", object=title
        ) from None


def _with(table: pa.Table, name: str, column: pa.ChunkedArray) -> pa.Table:
    if name in table.column_names:
        return table.set_column(table.column_names.index(name), name, column)
    return table.append_column(name, column)


def _value(table: pa.Table, expression: str, *, title: str) -> pa.ChunkedArray:
    import duckdb

    parsed = parse(expression, title=title)
    used = sorted(set(parsed.resolved(table.column_names, title=title).values()))
    names = used or table.column_names[:1]
    if not names:
        raise PlanError("there are no columns to compute from", object=title)
    rows = pa.table([without_nan(table.column(name)) for name in names], names=names)
    try:
        with registered(rows) as (duck, name):
            relation = duck.sql(f'SELECT (\n{expression}\n) AS "{_RESULT}" FROM {name}')
            kind, result = str(relation.types[0]), relation.to_arrow_table().column(0)
    except duckdb.Error as error:
        raise _explained(error, parsed, rows.num_rows, title) from None
    return _as_feature(result, kind, expression, title)


def _as_feature(result: pa.ChunkedArray, kind: str, expression: str, title: str) -> pa.ChunkedArray:
    if kind == "UUID":
        parsed = [None if one is None else uuid.UUID(one).bytes for one in result.to_pylist()]
        storage = pa.array(parsed, pa.binary(16))
        return pa.chunked_array([pa.ExtensionArray.from_storage(pa.uuid(), storage)])
    if kind in ('"NULL"', "NULL"):
        raise PlanError(
            f"is always null: `{expression}`", object=title, hint="Give the null a type: NULL::DOUBLE."
        )
    if kind.startswith(("INTERVAL", "TIME ", "STRUCT", "UNION", "BIT")) or kind in ("TIME", "VARIANT"):
        raise PlanError(
            f"the expression gives {kind.lower()}, which no feature can have: `{expression}`",
            object=title,
            hint="Make a number of it, e.g. epoch(landed - departed) for seconds."
            if "INTERVAL" in kind
            else None,
        )
    if pa.types.is_struct(result.type):
        raise PlanError(
            f"the expression gives a struct, which no feature can have: `{expression}`", object=title
        )
    try:
        return without_nan(settled(result))
    except pa.ArrowInvalid as error:
        raise EngineError(
            f"a value does not fit: {error}, in `{expression}`",
            object=title,
            hint="Cast it to BIGINT or DOUBLE.",
        ) from None


def _explained(error: Exception, parsed: Parsed, rows: int, title: str) -> PlanError | EngineError:
    """Put DuckDB's message in one line with the position; with rows at hand it may be a value's fault."""
    import duckdb

    first = str(error).split("\n")[0].strip()
    what = re.sub(r"^[A-Z][A-Za-z ]* Error: ", "", first)
    called = re.search(r"types '(\S+?)\(", what)
    position = next((one.position for one in parsed.functions if called and one.name == called[1]), None)
    of_values = isinstance(
        error, duckdb.ConversionException | duckdb.OutOfRangeException | duckdb.InvalidInputException
    )
    if rows and of_values:
        return EngineError(f"{what}, in `{parsed.text}`", object=title)
    return wrong_at(parsed.text, position, what.rstrip("."), title=title)
