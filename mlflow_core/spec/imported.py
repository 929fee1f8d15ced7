"""Declarations around a function of the user's: it travels as an import path and a digest of its code, never as code."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

from pydantic import PrivateAttr, SerializerFunctionWrapHandler, model_serializer, model_validator

from mlflow_core.spec.code import code_digest
from mlflow_core.spec.model import Spec

__all__ = ["Imported"]


class Imported(Spec):
    """A declaration of a function that other processes import.

    Args:
        import_path: ``module:name`` of the function.
        code: Digest of the code that was applied; empty where the function is at hand.
    """

    import_path: str
    code: str = ""
    _function: Callable[..., Any] | None = PrivateAttr(default=None)

    @model_validator(mode="after")
    def _importable(self) -> Self:
        module, _, name = self.import_path.partition(":")
        if "<" in self.import_path or not module or not name:
            raise ValueError(
                f"{self.import_path} cannot be imported by another process; "
                "define it with def at the top level of a module"
            )
        return self

    @model_serializer(mode="wrap")
    def _keep_kind(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {**handler(self), "code": self.current_code}

    @property
    def function(self) -> Callable[..., Any] | None:
        """The function, where it was declared in this process."""
        return self._function

    @property
    def current_code(self) -> str:
        """The digest of the code as it is here, or as it was applied where the function is not at hand."""
        # Not remembered: while its module is still being imported, the functions that it uses may be missing.
        return self.code if self._function is None else code_digest(self._function)

    def __eq__(self, other: object) -> bool:
        # The digest, which is no field while the function is at hand, is in the JSON.
        return type(self) is type(other) and self.canonical_json() == other.canonical_json()

    def __hash__(self) -> int:
        return super().__hash__()

    def __getstate__(self) -> dict[Any, Any]:
        # Another process imports the function by its path and compares the digest.
        state = super().__getstate__()
        fields = {**state["__dict__"], "code": self.current_code}
        hidden = {**state["__pydantic_private__"], "_function": None}
        return {**state, "__dict__": fields, "__pydantic_private__": hidden}
