"""What a function of a user computes, as a digest of its code: comments, docstrings and layout take no part.

The functions, classes and constants of the user's own package that it uses by name take part too, since a change in
one changes the values, and so do the values of its defaults. Libraries do not: their versions are recorded with a run.
A value takes part only as far as every process writes it alike: of what is no constant, container, function or class
it is the type.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
import re
import textwrap
from collections.abc import Callable, Iterator
from datetime import date, time, timedelta
from decimal import Decimal
from types import CodeType, FunctionType, ModuleType
from typing import Any

__all__ = ["code_digest"]

_CONSTANTS = (bool, int, float, complex, str, bytes, date, time, timedelta, Decimal)
_CONTAINERS = (list, tuple, dict, set, frozenset)


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
    # Defaults are written as names, which the module gave values to.
    defaults = (*(plain.__defaults__ or ()), *(plain.__kwdefaults__ or {}).values())
    for number, value in enumerate(defaults):
        yield from _value(f"{name} default {number}", value, package, plain.__code__, seen)
    for used in sorted(_names(plain.__code__)):
        yield from _value(used, plain.__globals__.get(used), package, plain.__code__, seen)


def _value(name: str, value: Any, package: str, code: CodeType, seen: set[str]) -> Iterator[tuple[str, str]]:
    if isinstance(value, (*_CONSTANTS, *_CONTAINERS, re.Pattern)):
        yield name, _written(value)
        for one in _inside(value):
            yield from _value(name, one, package, code, seen)
    elif isinstance(value, FunctionType) and value.__module__.partition(".")[0] == package:
        yield from _used(value, seen)
    elif isinstance(value, type) and value.__module__.partition(".")[0] == package:
        yield from _members(value, package, code, seen)
    elif isinstance(value, ModuleType) and value.__name__.partition(".")[0] == package:
        for attribute in sorted(_names(code)):
            yield from _value(attribute, vars(value).get(attribute), package, code, seen)


def _members(owner: type, package: str, code: CodeType, seen: set[str]) -> Iterator[tuple[str, str]]:
    if f"{owner.__module__}.{owner.__qualname__}" in seen:
        return
    seen.add(f"{owner.__module__}.{owner.__qualname__}")
    for name, value in sorted(vars(owner).items()):
        plain = getattr(value, "fget", None) or getattr(value, "__func__", value)
        if isinstance(plain, FunctionType):
            # What a decorator generates follows from the fields.
            if not plain.__code__.co_filename.startswith("<"):
                yield from _used(plain, seen)
        elif not name.startswith("__"):
            yield from _value(f"{owner.__qualname__}.{name}", plain, package, code, seen)


def _written(value: Any) -> str:
    """A value as text that is the same in every process: ``repr`` of a set has another order, of an object an address."""
    if isinstance(value, dict):
        return f"{{{', '.join(f'{_written(key)}: {_written(one)}' for key, one in value.items())}}}"
    if isinstance(value, set | frozenset):
        return f"{{{', '.join(sorted(_written(one) for one in value))}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(_written(one) for one in value)}]"
    if isinstance(value, re.Pattern):
        return f"{value.pattern!r} {value.flags}"
    return repr(value) if value is None or isinstance(value, _CONSTANTS) else type(value).__qualname__


def _inside(value: Any) -> Iterator[Any]:
    """What a container holds that has code, however deep."""
    held = (*value, *value.values()) if isinstance(value, dict) else value
    for one in held if isinstance(value, _CONTAINERS) else ():
        if isinstance(one, _CONTAINERS):
            yield from _inside(one)
        elif isinstance(one, FunctionType | type):
            yield one


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
