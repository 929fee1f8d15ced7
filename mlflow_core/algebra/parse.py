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

from mlflow_core.algebra.dialect import CLASSES, ELSEWHERE, MACROS, OPERATORS, WORLD
from mlflow_core.algebra.duck import connection
from mlflow_core.errors import PlanError, nearest

__all__ = ["Parsed", "Reference", "parse", "wrong_at"]

_SELECT = "SELECT "
_QUERY = "it is a query, where an expression of one row's columns is needed"
_MORE = re.compile(
    r"\b(from|where|group|having|qualify|window|order|limit|offset|union|intersect|except|into|distinct|using"
    r"|tablesample|values|select)\b",
    re.IGNORECASE,
)
_QUOTED = re.compile(r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|--[^\n]*|/\*.*?\*/", re.DOTALL)
_BRACKETS = re.compile(r'"(?:[^"\\]|\\.)*"|[\[{\]}]')
_DEEPEST = 180
_LEVELS = 3  # of JSON, for one call or operator
_SHOWN = 120  # characters of an expression that an error repeats on each side of what is wrong


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
        if reference.name.casefold() in WORLD:
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
    return PlanError(f"{what}, {where} `{_shown(expression, position)}`", object=title, hint=hint)


def _shown(expression: str, position: int | None) -> str:
    """An expression of a few lines whole, of a longer one what is around the position."""
    at = (position or 1) - 1
    low = max(0, at - _SHOWN) if len(expression) > 2 * _SHOWN else 0
    high = at + _SHOWN if len(expression) > 2 * _SHOWN else len(expression)
    return f"{'...' if low else ''}{expression[low:high]}{'...' if high < len(expression) else ''}"


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
    second = _place(expression, re.compile(";"))
    if second is not None:
        raise _Refused(second, "it is several statements")
    rows = connection().execute("SELECT json_serialize_sql(?::VARCHAR)", [_SELECT + expression]).fetchall()
    return _only_expression(expression, rows[0][0])


def _only_expression(expression: str, parsed: str) -> dict[str, Any]:
    """The one expression that DuckDB found, from its JSON."""
    if _depth(parsed) > _DEEPEST * _LEVELS:
        raise _Refused(
            None, f"it is nested more than {_DEEPEST} deep", "Name some of its parts in the view's columns."
        )
    answer = json.loads(parsed)
    if answer.get("error"):
        raise _unparsed(expression, answer)
    select = answer["statements"][0]["node"]
    plain = select["type"] == "SELECT_NODE" and select["from_table"]["type"] == "EMPTY"
    extra = ("modifiers", "where_clause", "group_expressions", "group_sets", "having", "sample", "qualify")
    if not plain or any(select[part] for part in extra):
        raise _Refused(_place(expression, _MORE), _QUERY)
    if len(select["select_list"]) != 1:
        second = select["select_list"][1].get("query_location")
        at = None if second is None else _character(expression, second)
        raise _Refused(at, f"it is {len(select['select_list'])} expressions")
    only: dict[str, Any] = select["select_list"][0]
    if only["alias"]:
        at = expression.rfind(only["alias"]) + 1 or None
        raise _Refused(at, f'it names itself "{only["alias"]}"; the name stands outside the expression')
    return only


def _unparsed(expression: str, answer: Mapping[str, Any]) -> _Refused:
    """Why DuckDB could not parse it as an expression."""
    position = _character(expression, int(answer["position"])) if "position" in answer else None
    if "serialized" in answer["error_message"]:  # it parsed, as another statement than SELECT
        return _Refused(_place(expression, _MORE), _QUERY)
    message = answer["error_message"].split('. Use "SET')[0]
    if "without selection list" in message:
        return _Refused(None, "it is empty")
    near = re.search(r'at or near "(.+)"', message, re.DOTALL)
    if position is None and near is not None and near[1] in expression:
        position = expression.rindex(near[1]) + 1
    return _Refused(position, message, _keyword_hint(expression, position))


def _depth(text: str) -> int:
    """How deep a JSON text is nested; reading one that is nested deeply would exhaust the stack."""
    deepest = depth = 0
    for mark in _BRACKETS.findall(text):
        depth += 1 if mark in "[{" else -1 if mark in "]}" else 0
        deepest = max(deepest, depth)
    return deepest


def _place(expression: str, pattern: re.Pattern[str]) -> int | None:
    """Where a pattern is first found outside texts, quoted names and comments."""
    found = pattern.search(_QUOTED.sub(lambda quoted: " " * len(quoted[0]), expression))
    return None if found is None else found.start() + 1


def _keyword_hint(expression: str, position: int | None) -> str | None:
    """Tell how to write a column that is called like a keyword: the word that is refused, or the one before it."""
    if position is None:
        return None
    start = position - 1
    near = (re.search(r"\w+(?=\s*\Z)", expression[:start]), re.match(r"\w+", expression[start:]))
    for word in (found[0] for found in near if found):
        if word.lower() in _keywords() - OPERATORS:
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
    if kind in CLASSES:
        raise _Refused(position, CLASSES[kind])
    if kind == "COLUMN_REF" and node["column_names"][0] not in bound:
        columns[Reference(node["column_names"][0], position or 1)] = None
    if kind == "FUNCTION":
        functions[Reference(node["function_name"], position or 1)] = None
        if node["function_name"].lower() == "age" and len(node["arguments"]) == 1:
            what = '"age" of one time looks at the time of day'
            raise _Refused(position, what, "Give it both times: age(later, earlier).")
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
    if name in ELSEWHERE or name.startswith("__internal"):
        what = ELSEWHERE.get(name, "is a piece of DuckDB's own")
        hint = "md5(text) gives the same for ever." if name == "hash" else None
        raise _Refused(function.position, f'"{function.name}" {what}', hint)
    if "unstable" in kinds[name]:
        raise _Refused(function.position, f'"{function.name}" gives another value each time it is asked')
    if "scalar" in kinds[name] or name in MACROS:
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
