"""Fingerprints: two declarations have the same one if they mean the same values.

A fingerprint is a Merkle tree: that of a service holds those of its views, that of a view its source's. What only
people read (description, owner, tags), when a pipeline is started, how often its steps are tried again, and fields left
at their defaults take no part, nor does the order in which expressions are written. The code of on-demand functions and
of transforms does, by ``mlflow_core.spec.code``.
"""

from __future__ import annotations

import hashlib
from datetime import datetime
from typing import Any

import orjson

from mlflow_core.spec import Duration, OnDemand, Spec, Step, TrainingPipeline, Transform
from mlflow_core.spec.code import code_digest

__all__ = ["fingerprint"]

_FOR_PEOPLE = frozenset({"description", "owner", "tags"})
_FOR_THE_CLOCK = frozenset({"schedule"})  # when something is computed changes nothing of it
_FOR_THE_RUNNER = frozenset({"retries", "timeout"})  # of a step or a training
_CODE = frozenset({"function", "code"})  # takes part below, by its digest


def fingerprint(spec: Spec, code: bool = True) -> str:
    """Return the fingerprint of a declaration and of all that it is made of.

    Args:
        spec: Any declaration.
        code: Whether the code of on-demand functions, transforms and steps takes part; without it only their import path does.

    Returns:
        ``sha256:`` and 64 hexadecimal digits.

    Example:
        >>> from mlflow_core.spec import Entity
        >>> fingerprint(Entity("origin")) == fingerprint(Entity("origin", description="An airport."))
        True
        >>> fingerprint(Entity("origin")) == fingerprint(Entity("origin", keys=["airport"]))
        False
    """
    fields = {
        name: _meaning(getattr(spec, name), code)
        for name, field in type(spec).model_fields.items()
        if name not in _FOR_PEOPLE | _FOR_THE_CLOCK
        and name not in _CODE
        and getattr(spec, name) != field.default
    }
    if isinstance(spec, OnDemand) and code:
        fields["code"] = code_digest(spec.function)
    if isinstance(spec, Step | TrainingPipeline):
        fields = {name: value for name, value in fields.items() if name not in _FOR_THE_RUNNER}
    if isinstance(spec, Transform | Step) and code:
        fields["code"] = spec.current_code
    text = orjson.dumps([type(spec).__name__, fields], option=orjson.OPT_SORT_KEYS)
    return f"sha256:{hashlib.sha256(text).hexdigest()}"


def _meaning(value: Any, code: bool) -> Any:
    if isinstance(value, Spec):
        return fingerprint(value, code)
    if isinstance(value, Duration):
        return str(value)  # default column names are made of the text
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, dict):
        return {str(key): _meaning(one, code) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_meaning(one, code) for one in value]
    return value
