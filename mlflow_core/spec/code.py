"""What a function of a user computes, as a digest of its code: comments, docstrings and layout take no part.

The functions and constants of the user's own package that it uses by name take part too, since a change in one
changes the values. Libraries do not: their versions are recorded with a run.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
import textwrap
from collections.abc import Callable, Iterator
from types import CodeType, FunctionType, ModuleType
from typing import Any

__all__ = ["code_digest"]

_CONSTANTS = (bool, int, float, str, bytes, type(None))


def code_digest(function: Callable[..., Any]) -> str:
    """Return the digest of a function's code and of what it uses from its own package.

    Args:
        function: A function; where its source cannot be read, its bytecode stands for it.

    Returns:
        64 hexadecimal digits.
    """
    lines = [f"{name}={text}" for name, text in sorted(_used(function, set()))]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _used(function: Any, seen: set[str]) -> Iterator[tuple[str, str]]:
    plain = inspect.unwrap(function)
    if not isinstance(plain, FunctionType):
        return
    # Without the module's name: a function that only moves still computes the same.
    name = plain.__qualname__
    if f"{plain.__module__}.{name}" in seen:
        return
    seen.add(f"{plain.__module__}.{name}")
    yield name, _text(plain)
    package = plain.__module__.partition(".")[0]
    for used in sorted(_names(plain.__code__)):
        yield from _value(used, plain.__globals__.get(used), package, plain.__code__, seen)


def _value(name: str, value: Any, package: str, code: CodeType, seen: set[str]) -> Iterator[tuple[str, str]]:
    if isinstance(value, _CONSTANTS) and value is not None:
        yield name, repr(value)
    elif isinstance(value, list | tuple | dict | set | frozenset):
        yield name, repr(sorted(value, key=repr) if isinstance(value, set | frozenset) else value)
    elif isinstance(value, FunctionType) and value.__module__.partition(".")[0] == package:
        yield from _used(value, seen)
    elif isinstance(value, ModuleType) and value.__name__.partition(".")[0] == package:
        for attribute in sorted(_names(code)):
            yield from _value(attribute, vars(value).get(attribute), package, code, seen)


def _names(code: CodeType) -> set[str]:
    """The global names and attributes that a function and those inside it use."""
    inner = (one for one in code.co_consts if isinstance(one, CodeType))
    return set(code.co_names).union(*(_names(one) for one in inner))


def _text(function: FunctionType) -> str:
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    except (OSError, TypeError, SyntaxError):
        code = function.__code__
        return f"{code.co_code.hex()} {code.co_names} {[c for c in code.co_consts if not isinstance(c, CodeType)]}"
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            node.decorator_list = []  # what they declare is in the spec
            first = node.body[0]
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and len(node.body) > 1:
                node.body = node.body[1:]
    return ast.dump(tree)
