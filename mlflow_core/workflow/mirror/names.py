"""Names and values as MLflow takes them: what it would refuse is written otherwise, and told. Knows no server.

The rules are those of ``mlflow.utils.validation`` in 3.17: letters, digits and ``_ - . / : space``, at most 250 of them,
and no name that is another one when it is read as a path.
"""

from __future__ import annotations

import hashlib
import posixpath
import re
from collections.abc import Iterable
from typing import Final

from mlflow_core.metadata.canonical import canonical

__all__ = ["LONGEST_NAME", "LONGEST_PARAM", "LONGEST_TAG", "accepted_names", "param_of_text", "text_of_param"]

LONGEST_NAME: Final = 250
LONGEST_PARAM: Final = 6_000
LONGEST_TAG: Final = 8_000
"""The most characters that MLflow takes of a name, of a param's value and of a tag's."""

_REFUSED: Final = re.compile(r"[^/\w.\- :]")
_HASHED: Final = 8


def accepted_names(names: Iterable[str]) -> dict[str, str]:
    """Say under which name MLflow gets each of ours.

    Args:
        names: Of params, or of metrics, of one run.

    Returns:
        Our name -> MLflow's, which is the same wherever MLflow takes it. No two are alike, and which name another one
        gets does not depend on what else there is, unless that has taken it.

    Example:
        >>> accepted_names(["auc", "recall@5", "/x"])
        {'auc': 'auc', 'recall@5': 'recall_5', '/x': '_x'}
    """
    given = sorted(set(names), key=lambda name: (_changed(name) != name, name))
    taken: set[str] = set()
    found = {}
    for name in given:
        new = _changed(name)
        if new in taken:
            new = _with_hash(new, name)
        taken.add(new)
        found[name] = new
    return {name: found[name] for name in names}


def text_of_param(value: object) -> str:
    """Write a param as MLflow's text: texts as they are, all else as JSON.

    Example:
        >>> text_of_param("hist"), text_of_param(0.1), text_of_param([1, 2])
        ('hist', '0.1', '[1,2]')
    """
    return value if isinstance(value, str) else canonical(value)


def param_of_text(text: str) -> str | int | float | bool:
    """Read a param that MLflow has as a text: a number or truth value where that is written as the very same text.

    Example:
        >>> param_of_text("0.1"), param_of_text("True"), param_of_text("007"), param_of_text("hist")
        (0.1, True, '007', 'hist')
    """
    if text in ("True", "False"):
        return text == "True"
    for kind in (int, float):
        try:
            value = kind(text)
        except ValueError:
            continue
        if str(value) == text and text not in ("nan", "inf", "-inf"):
            return value
    return text


def _changed(name: str) -> str:
    new = _REFUSED.sub("_", name)
    if _is_another_path(new):
        new = new.replace("/", "_")
    if _is_another_path(new):  # nothing, or dots alone at its beginning
        new = f"_{new.lstrip('.')}"
    return new if len(new) <= LONGEST_NAME else _with_hash(new, name)


def _is_another_path(name: str) -> bool:
    plain = posixpath.normpath(name)
    return plain != name or plain == "." or plain.startswith(("..", "/"))


def _with_hash(new: str, name: str) -> str:
    tail = hashlib.sha256(name.encode()).hexdigest()[:_HASHED]
    return f"{new[: LONGEST_NAME - _HASHED - 1]}-{tail}"
