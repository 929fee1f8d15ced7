"""Pydantic's list of what is wrong, said in the words of the fields: one short sentence each, all of them at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, get_args, get_origin

from pydantic import BaseModel, ValidationError

from mlflow_core.errors import MlcoreError, nearest

__all__ = ["what_is_wrong"]

_KINDS = {
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "bytes_type": "bytes",
    "callable_type": "a function",
    "datetime_type": "a time",
    "dict_type": "a dictionary",
    "float_parsing": "a number",
    "float_type": "a number",
    "int_from_float": "a whole number",
    "int_parsing": "a whole number",
    "int_type": "a whole number",
    "list_type": "a list",
    "string_type": "a text",
    "tuple_type": "a list",
}
_UNION = ("model_attributes_type", "union_tag_invalid", "union_tag_not_found")


def what_is_wrong(error: ValidationError, kind: type[BaseModel]) -> str:
    """Say everything that is wrong with a declaration.

    Args:
        error: What pydantic found.
        kind: The class of the declaration.

    Returns:
        Sentences without a final stop, separated by semicolons.
    """
    sentences: dict[str, list[str]] = {}
    for item in error.errors(include_url=False):
        where = _path(item["loc"], kind)
        expected = list(_expected(dict(item), kind))
        if expected:
            # A value that fits no member of a union is reported once for each; here they are one sentence.
            known = sentences.setdefault(f'field "{where}" must be {{}}, not {_shown(item["input"])}', [])
            known += [one for one in expected if one not in known]
        else:
            sentences.setdefault(_sentence(dict(item), where, kind), [])
    return "; ".join(text.format(" or ".join(parts)) if parts else text for text, parts in sentences.items())


def _path(location: Sequence[int | str], kind: type[BaseModel]) -> str:
    """``("features", 1, "Agg")`` is ``features[1]``, ``("tags", "a")`` is ``tags.a``; the rest names union members."""
    field = kind.model_fields.get(str(location[0])) if location else None
    has_keys = field is not None and get_origin(field.annotation) is dict
    path = ""
    for place, part in enumerate(location):
        if isinstance(part, int):
            path += f"[{part}]"
        elif place == 0:
            path = part
        elif place == 1 and has_keys:
            path += f".{part}"
    return path


def _expected(item: dict[str, Any], kind: type[BaseModel]) -> Iterator[str]:
    if item["type"] in _KINDS:
        yield _KINDS[item["type"]]
    elif item["type"] == "model_type":
        yield _a(item["ctx"]["class_name"])
    elif item["type"] in _UNION:
        field = kind.model_fields.get(str(item["loc"][0]))
        yield from (_a(name) for name in _models(field.annotation if field else None))
    elif item["type"] == "literal_error":
        yield item["ctx"]["expected"]


def _models(annotation: Any) -> list[str]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation.__name__]
    return [name for part in get_args(annotation) for name in _models(part)]


def _sentence(item: dict[str, Any], where: str, kind: type[BaseModel]) -> str:
    if item["type"] == "extra_forbidden":
        known = [field.alias or name for name, field in kind.model_fields.items() if name != "kind"]
        return f'there is no field "{where}". {nearest(where, known)}'.rstrip(".")
    if item["type"] == "missing":
        return f'field "{where}" is missing'
    given = _shown(item["input"])
    cause = item.get("ctx", {}).get("error")
    if isinstance(cause, MlcoreError):
        # Its own place and object are those of a part; the whole is named once, in front.
        parts = [cause.what, f"expected {cause.expected}" if cause.expected else "", cause.hint or ""]
        message = ". ".join(part.rstrip(".") for part in parts if part)
    elif cause is not None:
        message = str(cause)
    else:
        message = item["msg"].replace("Input should be", "must be").replace("Input must", "must")
        message = f"{message[0].lower()}{message[1:]}"
    if not where or given.strip("'\"") in message:
        return f'field "{where}": {message}' if where else message
    return f'field "{where}": {message} (given: {given})'


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _a(noun: str) -> str:
    return f"an {noun}" if noun[0] in "AEIOU" else f"a {noun}"
