"""What an SQL expression is made of, found with DuckDB's own parser, and what may not be in one.

An expression stands for one value of one row. What looks at other rows (aggregates, window functions,
subqueries), at the world (files, settings, the time of day) or at chance is refused here, with its position.
Positions count characters of the expression, from 1.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from mlflow_core.algebra.duck import connection
from mlflow_core.errors import PlanError, nearest

__all__ = ["Parsed", "Reference", "parse", "wrong_at"]

_SELECT = "SELECT "
_QUERY = "it is a query, where an expression of one row's columns is needed"
_CLASSES = {
    "SUBQUERY": "a subquery looks at other rows",
    "WINDOW": "a window function looks at other rows",
    "STAR": "an expression gives one value, not all columns",
    "PARAMETER": "there are no parameters to fill in",
    "POSITIONAL_REFERENCE": "columns are called by name, not by number",
    "DEFAULT": "there is no default here",
}
_MACROS = frozenset(
    [
        "array_append",
        "array_pop_back",
        "array_pop_front",
        "array_prepend",
        "array_push_back",
        "array_push_front",
        "array_reverse",
        "array_to_string",
        "array_to_string_comma_default",
        "date_add",
        "days_in_month",
        "fdiv",
        "fmod",
        "if",
        "json",
        "list_any_value",
        "list_append",
        "list_avg",
        "list_bit_and",
        "list_bit_or",
        "list_bit_xor",
        "list_bool_and",
        "list_bool_or",
        "list_count",
        "list_entropy",
        "list_first",
        "list_histogram",
        "list_kurtosis",
        "list_last",
        "list_mad",
        "list_max",
        "list_median",
        "list_min",
        "list_mode",
        "list_prepend",
        "list_product",
        "list_reverse",
        "list_sem",
        "list_skewness",
        "list_stddev_pop",
        "list_stddev_samp",
        "list_string_agg",
        "list_sum",
        "list_var_pop",
        "list_var_samp",
        "map_contains_entry",
        "map_contains_value",
        "md5_number_lower",
        "md5_number_upper",
        "nullif",
        "pg_typeof",
        "split_part",
    ]
)
# Keywords that stand in expressions by right, so that a column of that name is not what was meant.
_OPERATORS = frozenset(
    [
        "and",
        "as",
        "asc",
        "between",
        "case",
        "cast",
        "else",
        "false",
        "ilike",
        "in",
        "is",
        "like",
        "not",
        "null",
        "or",
        "over",
        "similar",
        "then",
        "true",
        "when",
    ]
)
# DuckDB reads these names as functions where no column is called so.
_WORLD = frozenset(
    [
        "current_date",
        "current_time",
        "current_timestamp",
        "localtime",
        "localtimestamp",
        "current_user",
        "session_user",
        "user",
        "current_role",
        "current_catalog",
        "current_schema",
    ]
)


@dataclass(frozen=True, slots=True)
class Reference:
    """A name in an expression and its position, in characters from 1."""

    name: str
    position: int


@dataclass(frozen=True, slots=True)
class Parsed:
    """A row-wise expression.

    Attributes:
        text: The expression as written.
        columns: Names that must be columns, in order of appearance.
        functions: The functions called, in order of appearance.
    """

    text: str
    columns: tuple[Reference, ...]
    functions: tuple[Reference, ...]

    def resolved(self, known: Iterable[str], *, title: str) -> Mapping[str, str]:
        """Find each column among the known names: as written, else whatever its case, as SQL does.

        Args:
            known: Names of the columns that exist.
            title: What the expression is, for errors.

        Returns:
            The known column for each name that the expression uses.

        Raises:
            PlanError: A column does not exist, or its case decides between two.
        """
        names = list(known)
        return {reference.name: self._one(reference, names, title) for reference in self.columns}

    def _one(self, reference: Reference, names: list[str], title: str) -> str:
        if reference.name in names:
            return reference.name
        alike = [name for name in names if name.casefold() == reference.name.casefold()]
        if len(alike) == 1:
            return alike[0]
        if alike:
            what = f'"{reference.name}" could be any of {", ".join(alike)}'
            raise wrong_at(self.text, reference.position, what, title=title)
        if reference.name.casefold() in _WORLD:
            what = f'"{reference.name}" differs from run to run and from reader to reader'
            raise wrong_at(self.text, reference.position, what, title=title)
        what = f'there is no column "{reference.name}"'
        raise wrong_at(self.text, reference.position, what, title=title, hint=nearest(reference.name, names))


def parse(expression: str, *, title: str) -> Parsed:
    """Parse an expression and refuse what is more than a value of one row.

    Args:
        expression: SQL in DuckDB's dialect.
        title: What the expression is, e.g. ``FeatureView "delays": column "late"``.

    Raises:
        PlanError: It does not parse, or is not row-wise; names the position.
    """
    found = _parsed(expression)
    if isinstance(found, Parsed):
        return found
    position, what, hint = found
    raise wrong_at(expression, position, what, title=title, hint=hint)


def wrong_at(
    expression: str, position: int | None, what: str, *, title: str, hint: str | None = None
) -> PlanError:
    """Make the error of an expression: what it is, where in it, and what is wrong."""
    where = "in" if position is None else f"at character {position} of"
    return PlanError(f"{what}, {where} `{expression}`", object=title, hint=hint)


class _Refused(Exception):
    def __init__(self, position: int | None, what: str, hint: str | None = None) -> None:
        super().__init__(what)
        self.problem = (position, what, hint)


@functools.lru_cache(maxsize=4096)
def _parsed(expression: str) -> Parsed | tuple[int | None, str, str | None]:
    """Parse without a title, so that one expression in many views is parsed once."""
    try:
        node = _statement(expression)
        columns: dict[Reference, None] = {}
        functions: dict[Reference, None] = {}
        _walk(node, expression, frozenset(), columns, functions)
        for function in functions:
            _allowed(function)
    except _Refused as refused:
        return refused.problem
    return Parsed(expression, tuple(columns), tuple(functions))


def _statement(expression: str) -> dict[str, Any]:
    if not expression.strip():
        raise _Refused(None, "it is empty")
    rows = connection().execute("SELECT json_serialize_sql(?::VARCHAR)", [_SELECT + expression]).fetchall()
    answer = json.loads(rows[0][0])
    if answer.get("error"):
        position = _character(expression, int(answer["position"])) if "position" in answer else None
        if "serialized" in answer["error_message"]:  # it parsed, as another statement than SELECT
            raise _Refused(None, _QUERY)
        raise _Refused(position, answer["error_message"], _keyword_hint(expression, position))
    if len(answer["statements"]) != 1:
        raise _Refused(None, "it is several statements")
    select = answer["statements"][0]["node"]
    plain = select["type"] == "SELECT_NODE" and select["from_table"]["type"] == "EMPTY"
    extra = ("modifiers", "where_clause", "group_expressions", "group_sets", "having", "sample", "qualify")
    if not plain or any(select[part] for part in extra):
        raise _Refused(None, _QUERY)
    if len(select["select_list"]) != 1:
        raise _Refused(None, f"it is {len(select['select_list'])} expressions")
    only: dict[str, Any] = select["select_list"][0]
    if only["alias"]:
        raise _Refused(None, f'it names itself "{only["alias"]}"; the name stands outside the expression')
    return only


def _keyword_hint(expression: str, position: int | None) -> str | None:
    """Tell how to write a column that is called like a keyword: the word that is refused, or the one before it."""
    if position is None:
        return None
    start = position - 1
    near = (re.search(r"\w+(?=\s*\Z)", expression[:start]), re.match(r"\w+", expression[start:]))
    for word in (found[0] for found in near if found):
        if word.lower() in _keywords() - _OPERATORS:
            return f'If {word} is a column, write "{word}", in double quotes: it is also a word of SQL.'
    return None


@functools.lru_cache(maxsize=1)
def _keywords() -> frozenset[str]:
    """The words that DuckDB does not take for a column's name everywhere."""
    words = connection().execute("SELECT keyword_name, keyword_category FROM duckdb_keywords()").fetchall()
    return frozenset(word for word, kind in words if kind in ("reserved", "type_function"))


def _walk(
    node: Any,
    expression: str,
    bound: frozenset[str],
    columns: dict[Reference, None],
    functions: dict[Reference, None],
) -> None:
    if isinstance(node, list):
        for one in node:
            _walk(one, expression, bound, columns, functions)
        return
    if not isinstance(node, dict):
        return
    kind = node.get("class")
    position = _character(expression, node["query_location"]) if "query_location" in node else None
    if kind in _CLASSES:
        raise _Refused(position, _CLASSES[kind])
    if kind == "COLUMN_REF" and node["column_names"][0] not in bound:
        columns[Reference(node["column_names"][0], position or 1)] = None
    if kind == "FUNCTION":
        functions[Reference(node["function_name"], position or 1)] = None
    if kind == "LAMBDA" and node.get("syntax_type") != "SINGLE_ARROW":
        bound |= frozenset(_names(node["lhs"]))
    for child in node.values():
        _walk(child, expression, bound, columns, functions)


def _names(node: Any) -> Iterator[str]:
    """The parameters of a lambda: one column reference, or a row of them."""
    if isinstance(node, dict):
        if node.get("class") == "COLUMN_REF":
            yield node["column_names"][0]
        for child in node.values():
            yield from _names(child)
    elif isinstance(node, list):
        for one in node:
            yield from _names(one)


def _character(expression: str, location: int) -> int | None:
    """Translate DuckDB's byte position in the statement to a character of the expression, from 1."""
    at = location - len(_SELECT)
    text = expression.encode()
    return len(text[:at].decode(errors="ignore")) + 1 if 0 <= at <= len(text) else None


def _allowed(function: Reference) -> None:
    kinds = _catalogue()
    name = function.name.lower()
    if name not in kinds:
        known = [one for one, what in kinds.items() if "scalar" in what and one.isidentifier()]
        guess = nearest(function.name, known).split(" Known:")[0]
        raise _Refused(
            function.position,
            f'there is no function "{function.name}"',
            guess if guess.startswith("Did") else None,
        )
    if "unstable" in kinds[name]:
        raise _Refused(function.position, f'"{function.name}" gives another value each time it is asked')
    if "scalar" in kinds[name] or name in _MACROS:
        return
    if "aggregate" in kinds[name] or "window" in kinds[name]:
        raise _Refused(
            function.position,
            f'"{function.name}" looks at many rows',
            'Windows over events are declared with Agg(..., over="24h").',
        )
    raise _Refused(function.position, f'"{function.name}" is not a function of one row\'s values')


@functools.lru_cache(maxsize=1)
def _catalogue() -> Mapping[str, frozenset[str]]:
    """DuckDB's functions by name, and what kinds each name has."""
    rows = (
        connection()
        .execute("SELECT function_name, function_type, stability FROM duckdb_functions()")
        .fetchall()
    )
    kinds: dict[str, set[str]] = {}
    for name, kind, stability in rows:
        unstable = kind == "scalar" and stability != "CONSISTENT"
        kinds.setdefault(name.lower(), set()).add("unstable" if unstable else kind)
    kinds["count_star"] = {"aggregate"}
    return {name: frozenset(what) for name, what in kinds.items()}
