"""Conditions that a trial must keep, written as comparisons: ``steps <= 300``, ``params.gamma * 2 < max_depth``.

The text is read, never evaluated as code: numbers, names, the four operations, and comparisons of them. A name is a
setting of the trial, a fact of its training, or a metric; which, is known before anything runs.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from mlflow_core.errors import nearest
from mlflow_core.spec.search import Search

__all__ = ["FACTS", "Condition", "conditions_of"]

FACTS = ("seconds", "steps", "value")
"""What a condition may ask of a training: how long it took, the rounds or epochs of its model, what it reached."""

_OPERATIONS = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/"}
_WRITE = 'Write a comparison such as "steps <= 300".'


@dataclass(frozen=True)
class Condition:
    """A condition.

    Args:
        text: As it was written.
        names: The names in it.
    """

    text: str
    names: frozenset[str]

    def excess(self, values: Mapping[str, float]) -> float:
        """By how much it is missed: at most 0 where it is kept; infinity where it cannot be computed.

        Args:
            values: Number by name, at least ``names``.
        """
        compare = ast.parse(self.text, mode="eval").body
        assert isinstance(compare, ast.Compare)
        try:
            sides = [_number(one, values) for one in (compare.left, *compare.comparators)]
        except ZeroDivisionError:
            return math.inf
        most = max(
            _excess(operator, left, right)
            for operator, left, right in zip(compare.ops, sides[:-1], sides[1:], strict=True)
        )
        return math.inf if math.isnan(most) else most


def conditions_of(
    search: Search, settings: Collection[str], metrics: Collection[str]
) -> tuple[Condition, ...]:
    """Read a search's constraints.

    Args:
        search: The search.
        settings: Names of the settings that have a number.
        metrics: Names of the metrics that can be measured.

    Raises:
        SpecError: One is not a comparison, or names something unknown.
    """
    found = []
    for text in search.constraints:
        try:
            body = ast.parse(text, mode="eval").body
        except SyntaxError as error:
            raise search.wrong(f'the constraint "{text}" cannot be read: {error.msg}', hint=_WRITE) from None
        if not isinstance(body, ast.Compare):
            raise search.wrong(f'the constraint "{text}" is not a comparison', hint=_WRITE)
        for operator in body.ops:
            if not isinstance(operator, ast.Lt | ast.LtE | ast.Gt | ast.GtE):
                raise search.wrong(f'the constraint "{text}" may only compare with <, <=, > and >=')
        names: set[str] = set()
        for side in (body.left, *body.comparators):
            _collect(search, text, side, names)
        known = {*settings, *metrics, *FACTS}
        for name in sorted(names):
            if name not in known:
                raise search.wrong(f'the constraint "{text}" names "{name}"', hint=nearest(name, known))
        found.append(Condition(text, frozenset(names)))
    return tuple(found)


def _collect(search: Search, text: str, node: ast.expr, names: set[str]) -> None:
    dotted = _dotted(node)
    if dotted is not None:
        names.add(dotted)
    elif isinstance(node, ast.BinOp) and type(node.op) in _OPERATIONS:
        _collect(search, text, node.left, names)
        _collect(search, text, node.right, names)
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        _collect(search, text, node.operand, names)
    elif not (isinstance(node, ast.Constant) and type(node.value) in (int, float)):
        raise search.wrong(
            f'the constraint "{text}" holds "{ast.unparse(node)}"', expected="numbers, names, + - * /"
        )


def _dotted(node: ast.expr) -> str | None:
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and (before := _dotted(node.value)) is not None:
        return f"{before}.{node.attr}"
    return None


def _number(node: ast.expr, values: Mapping[str, float]) -> float:
    dotted = _dotted(node)
    if dotted is not None:
        return float(values[dotted])
    if isinstance(node, ast.UnaryOp):
        return -_number(node.operand, values)
    if isinstance(node, ast.BinOp):
        left, right = _number(node.left, values), _number(node.right, values)
        match _OPERATIONS[type(node.op)]:
            case "+":
                return left + right
            case "-":
                return left - right
            case "*":
                return left * right
            case _:
                return left / right
    assert isinstance(node, ast.Constant)
    return float(node.value)  # type: ignore[arg-type]


def _excess(operator: ast.cmpop, left: float, right: float) -> float:
    beyond = left - right if isinstance(operator, ast.Lt | ast.LtE) else right - left
    strict = isinstance(operator, ast.Lt | ast.Gt)
    return math.ulp(0.0) if strict and beyond == 0 else beyond
