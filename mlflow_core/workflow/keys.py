"""What a step's output is found by: a digest of everything that decides it, kept in parts so that it can be explained.

Five parts are known before anything runs: the code, the settings that the step reads, the definitions of the features,
what the sources hold, and the environment. The digests of its inputs come with them when the steps before it have
ended. So a step whose inputs are the same again is not run, even though a step before it was.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mlflow_core.metadata.canonical import canonical, plain, sha256

__all__ = ["Changed", "KeyParts", "cache_key", "content_of", "difference", "rewritten", "written"]

_VERSION = 1
PARTS = ("code", "params", "features", "data", "inputs", "environment")


@dataclass(frozen=True)
class KeyParts:
    """What decides a step's output, as far as it is known before the run.

    Attributes:
        code: Digest by name: the package's own sources, and each function of the project that the step calls.
        params: The settings that the step reads, and no others.
        features: Fingerprint of each definition of features that it computes with.
        data: What each source held, as ``rewritten.remembered`` says it, and whatever else comes from outside.
        environment: Digest of Python's version and all installed packages.
    """

    code: Mapping[str, str] = field(default_factory=dict)
    params: Mapping[str, Any] = field(default_factory=dict)
    features: Mapping[str, str] = field(default_factory=dict)
    data: Mapping[str, str] = field(default_factory=dict)
    environment: str = ""


@dataclass(frozen=True)
class Changed:
    """One thing that differs between two keys.

    Attributes:
        part: Which part it is of: code, params, features, data, inputs or environment.
        name: What it is called there; for nested settings with dots.
        before: What it was; None where it was not there.
        after: What it is; None where it is no more there.
    """

    part: str
    name: str
    before: Any
    after: Any

    def describe(self) -> str:
        """The difference in a few words; digests are not repeated, they say nothing to a person."""
        what = f"{self.part}: {self.name}" if self.name else self.part
        if self.before is None or self.after is None:
            return f"{what} {'is new' if self.before is None else 'is gone'}"
        if self.part == "data" and rewritten(self.before, self.after):
            return f"{what}, whose files were touched or written again"
        if _is_digest(self.before) or _is_digest(self.after):
            return what
        return f"{what} {_short(self.before)} -> {_short(self.after)}"


def written(parts: KeyParts, inputs: Mapping[str, str]) -> dict[str, Any]:
    """The parts as they are kept with a step, JSON-able.

    Args:
        parts: What was known before the run.
        inputs: Digest of the output of each step that it needs.

    Raises:
        MetadataError: A setting has no JSON form.
    """
    told: dict[str, Any] = plain({name: getattr(parts, name) for name in PARTS if name != "inputs"})
    return {**told, "inputs": dict(inputs)}


def cache_key(parts: KeyParts, inputs: Mapping[str, str]) -> str:
    """The digest that a step's output is found by.

    Args:
        parts: What was known before the run.
        inputs: Digest of the output of each step that it needs.

    Returns:
        ``sha256:`` and 64 hexadecimal digits.

    Example:
        >>> one = KeyParts(params={"rounds": 5, "depth": 3})
        >>> cache_key(one, {}) == cache_key(KeyParts(params={"depth": 3, "rounds": 5}), {})
        True
        >>> cache_key(one, {"dataset": "sha256:a"}) == cache_key(one, {"dataset": "sha256:b"})
        False
    """
    return sha256(canonical({"version": _VERSION, **written(parts, inputs)}))


def difference(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[Changed, ...]:
    """Say in what two keys differ.

    Args:
        before: The parts of one, as ``written`` gave them.
        after: Those of the other.

    Returns:
        The differences in the order of the parts; settings one by one, as deep as they are nested.

    Example:
        >>> a = written(KeyParts(params={"trainer": {"rounds": 5}}), {})
        >>> b = written(KeyParts(params={"trainer": {"rounds": 6}}), {})
        >>> [one.describe() for one in difference(a, b)]
        ['params: trainer.rounds 5 -> 6']
    """
    found: list[Changed] = []
    for part in PARTS:
        found += _changes(part, "", before.get(part), after.get(part))
    return tuple(found)


def content_of(told: str | None) -> str | None:
    """What the part ``data`` says of a source and would say on any machine: without which files there hold it.

    Example:
        >>> content_of("sha256:a sha256:b") == content_of("sha256:a")
        True
    """
    return None if told is None else told.partition(" ")[0]


def rewritten(before: str | None, after: str | None) -> bool:
    """Whether the part ``data`` says the same content of a source, in files that were written again since.

    Example:
        >>> rewritten("sha256:a", "sha256:a sha256:c"), rewritten("sha256:a", "sha256:b")
        (True, False)
    """
    return before != after and content_of(before) == content_of(after)


def _changes(part: str, name: str, before: Any, after: Any) -> list[Changed]:
    if before == after:
        return []
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        inside: list[Changed] = []
        for key in sorted({*before, *after}):
            inside += _changes(part, f"{name}.{key}" if name else key, before.get(key), after.get(key))
        return inside
    return [Changed(part, name, before, after)]


def _is_digest(value: Any) -> bool:
    return isinstance(value, str) and (value.startswith("sha256:") or (len(value) == 64 and " " not in value))


def _short(value: Any) -> str:
    text = canonical(value).strip('"')
    return text if len(text) <= 40 else f"{text[:37]}..."
