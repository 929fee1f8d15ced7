"""What features are about: a carrier, a route, a machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pydantic import model_validator

from mlflow_core.spec.model import Named

__all__ = ["Entity"]


class Entity(Named):
    """Something that features describe, known by one or more key columns.

    Args:
        name: The entity's name.
        keys: The key columns; by default one column of the entity's own name.

    Example:
        >>> Entity("route", keys=["origin", "dest"]).keys
        ('origin', 'dest')
    """

    keys: tuple[str, ...]

    if TYPE_CHECKING:

        def __init__(
            self,
            name: str,
            *,
            keys: Sequence[str] = ...,
            description: str = "",
            owner: str = "",
            tags: Mapping[str, str] = ...,
        ) -> None: ...

    @model_validator(mode="before")
    @classmethod
    def _default_key(cls, data: Any) -> Any:
        if isinstance(data, dict) and "keys" not in data:
            name = data.get("name")
            return {
                **data,
                "keys": (name if isinstance(name, str) else "unnamed",),
            }  # the name's error is enough
        return data

    @model_validator(mode="after")
    def _distinct_keys(self) -> Entity:
        if not self.keys:
            raise ValueError('field "keys" is empty; an entity needs at least one key column')
        if len(set(self.keys)) != len(self.keys):
            raise ValueError(f'field "keys" names a column twice: {", ".join(self.keys)}')
        return self
