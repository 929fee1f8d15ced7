"""A limit on what a network may allocate while it is made from a description that anyone may have written.

A model's folder says how large its network is, and holds the weights of that network: a description that needs much
more than they take is not theirs. It is refused when it asks for the first tensor beyond that, before there is one. It
does not limit a user's own module, whose code may do anything.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode  # torch's own documented way to see each operation

from mlflow_core.errors import TrainError
from mlflow_core.spec import network as spec

__all__ = ["bounded"]

_ROOM, _TIMES = 1 << 20, 4
_ops = torch.ops.aten
_MAKING = frozenset(
    (_ops.empty, _ops.empty_like, _ops.zeros, _ops.ones, _ops.full, _ops.randint, _ops.arange)
)


@contextmanager
def bounded(module: spec.Network | str, weights: Mapping[str, Tensor], *, place: str) -> Iterator[None]:
    """While a network is made whose weights are known already.

    Args:
        module: What is made.
        weights: The weights that are to fit it, by name.
        place: The file that says how large it is, for errors.

    Raises:
        TrainError: It asks for far more memory, or layers, than such weights need.

    Example:
        >>> with bounded(spec.MLP(), {"weight": torch.ones(2, 2)}, place="model.json"):
        ...     small = torch.empty(4)
        >>> len(small)
        4
    """
    if isinstance(module, str):
        yield
        return
    layers = max(getattr(module, "blocks", 1), getattr(module, "layers", 1))
    if layers > len(weights):
        raise _refused(module, f"it asks for {layers:,} layers", f"at most {len(weights)}", place)
    most = _ROOM + _TIMES * sum(one.numel() * one.element_size() for one in weights.values())
    try:
        with _Bounded(most):
            yield
    except _TooMuchError:
        expected = f"less than {most:,} bytes"
        raise _refused(module, "it asks for more memory than its weights can need", expected, place) from None
    except RuntimeError as error:  # torch's own, of sizes whose product is no number any more
        first = str(error).splitlines()[0]
        raise _refused(module, f"it cannot be made: {first}", "the sizes of its weights", place) from error


class _TooMuchError(Exception):
    """A tensor beyond the limit was asked for."""


class _Bounded(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of the tensors that are made, and stops before they are too many."""

    def __init__(self, most: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._left = most

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        given = kwargs or {}
        if func.overloadpacket in _MAKING and torch.device(given.get("device") or "cpu").type != "meta":
            self._left -= 4 * _elements(args)
            if self._left < 0:
                raise _TooMuchError
        return func(*args, **given)


def _elements(args: tuple[Any, ...]) -> int:
    if isinstance(args[0], Tensor):
        return args[0].numel()
    sizes = [one for one in args if isinstance(one, list | tuple)]
    if sizes:
        return math.prod(sizes[0])
    return math.ceil(max(float(one) for one in args[:2]))  # arange: up to its end


def _refused(module: spec.Network, what: str, expected: str, place: str) -> TrainError:
    return TrainError(
        what,
        object=type(module).__name__,
        place=place,
        expected=expected,
        hint="The folder's description and its weights are not of one network: fetch the model again.",
    )
