"""How a declaration shows itself: as the call that would make it, and with the signature of that call."""

from __future__ import annotations

from inspect import Parameter, Signature
from typing import Any

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

__all__ = ["represented", "signature_of"]


def represented(spec: BaseModel, positional: tuple[str, ...]) -> str:
    """Write a declaration as its call, defaults left out; named parts are shortened to their names.

    Args:
        spec: The declaration.
        positional: The fields that are given by position.
    """
    fields = type(spec).model_fields
    shown = {
        field.alias or name: _value(getattr(spec, name))
        for name, field in fields.items()
        if name != "kind" and getattr(spec, name) != field.default
    }
    first = [shown.pop(name) for name in positional if name in shown]
    return (
        f"{type(spec).__name__}({', '.join([*first, *(f'{name}={text}' for name, text in shown.items())])})"
    )


def signature_of(cls: type[BaseModel], positional: tuple[str, ...]) -> Signature:
    """Return the signature that a declaration's class is called with.

    Args:
        cls: The class; its fields are complete.
        positional: The fields that are given by position.
    """
    fields = {field.alias or name: field for name, field in cls.model_fields.items() if name != "kind"}
    order = [
        *(name for name in positional if name in fields),
        *(n for n in fields if n not in positional),
    ]
    return Signature(
        [
            Parameter(
                name,
                Parameter.POSITIONAL_OR_KEYWORD if name in positional else Parameter.KEYWORD_ONLY,
                default=Parameter.empty
                if fields[name].default is PydanticUndefined
                else fields[name].default,
                annotation=fields[name].annotation,
            )
            for name in order
        ]
    )


def _value(value: Any) -> str:
    if isinstance(value, BaseModel) and "owner" in type(value).model_fields:  # declared for itself, elsewhere
        return f"{type(value).__name__}({value.__dict__['name']!r})"
    if isinstance(value, tuple | list):
        return f"[{', '.join(_value(one) for one in value)}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key!r}: {_value(one)}' for key, one in value.items())}}}"
    return (
        repr(str(value))
        if isinstance(value, int | str) and not isinstance(value, bool) and _is_text(value)
        else repr(value)
    )


def _is_text(value: Any) -> bool:
    # Durations and types are written as texts, though one is an int and the other an enum.
    return isinstance(value, str) or hasattr(value, "text")
