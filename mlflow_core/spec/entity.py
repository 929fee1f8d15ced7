"""What features are about: a carrier, a route, a machine."""

from __future__ import annotations

from typing import Any

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

    @model_validator(mode="before")
    @classmethod
    def _default_key(cls, data: Any) -> Any:
        if isinstance(data, dict) and "keys" not in data and "name" in data:
            return {**data, "keys": (data["name"],)}
        return data

    @model_validator(mode="after")
    def _distinct_keys(self) -> Entity:
        if not self.keys:
            raise ValueError('field "keys" is empty; an entity needs at least one key column')
        if len(set(self.keys)) != len(self.keys):
            raise ValueError(f'field "keys" names a column twice: {", ".join(self.keys)}')
        return self
