"""A trained network: its weights as safetensors, how to build it again as JSON; never a pickle.

The raw values of a network (logits) become predictions by a scale, a shift and a link. A built-in network is built
from its declaration; a user's module is imported by its path, so its code has to be where the model is loaded.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor, nn

from mlflow_core.errors import TrainError, nearest
from mlflow_core.spec.network import Network
from mlflow_core.train.data.preprocess import Preprocessing
from mlflow_core.train.networks.bounded import bounded
from mlflow_core.train.networks.build import build
from mlflow_core.train.networks.inputs import Inputs

__all__ = ["Link", "NetworkScorer", "Predicting"]

Link = Literal["none", "sigmoid", "softmax", "exp"]
"""How raw values become predictions: as they are, a probability, one for each class, a positive quantity."""

_FILE = "weights.safetensors"
_LINKS = ("none", "sigmoid", "softmax", "exp")
_BATCH, _FEW_ROWS = 1024, 64
_NETWORK: TypeAdapter[Network] = TypeAdapter(Network)


class Predicting(nn.Module):
    """A network with what turns its raw values into predictions: (n, width) float32 to (n, outputs), for export.

    Args:
        network: Gives the raw values.
        scale: What they are multiplied by first.
        shift: What is then added.
        link: What is done then.
    """

    def __init__(self, network: nn.Module, scale: float, shift: float, link: Link) -> None:
        super().__init__()
        self.network, self.scale, self.shift, self.link = network, scale, shift, link

    def forward(self, x: Tensor) -> Tensor:
        """Predict."""
        return self.linked(self.network(x))

    def linked(self, raw: Tensor) -> Tensor:
        """Raw values as predictions."""
        if (self.scale, self.shift) != (1.0, 0.0):
            raw = raw * self.scale + self.shift
        match self.link:
            case "none":
                return raw
            case "sigmoid":
                return torch.sigmoid(raw)
            case "softmax":
                return torch.softmax(raw, dim=1)
            case "exp":
                return torch.exp(raw)


@dataclass(frozen=True)
class NetworkScorer:
    """A network that was trained.

    Args:
        module: The built-in network, or a user's import path.
        arguments: Arguments of the latter.
        inputs: The matrix that it reads.
        outputs: Values a row.
        link: How raw values become predictions.
        scale: What raw values are multiplied by before the link: the label's standard deviation where it was
            standardised.
        shift: What is added then: the label's mean.
        weights: The state as safetensors.
    """

    module: Network | str
    arguments: Mapping[str, Any]
    inputs: Inputs = field(repr=False)
    outputs: int
    link: Link
    scale: float
    shift: float
    weights: bytes = field(repr=False)
    _predicting: Predicting = field(repr=False, compare=False)

    @classmethod
    def of(
        cls,
        module: Network | str,
        arguments: Mapping[str, Any],
        inputs: Inputs,
        outputs: int,
        state: Mapping[str, Tensor],
        *,
        link: Link,
        scale: float = 1.0,
        shift: float = 0.0,
    ) -> Self:
        """Keep what was learned.

        Args:
            module: What was trained.
            arguments: Its arguments, if it is a user's.
            inputs: What it was built with.
            outputs: Values a row.
            state: Its ``state_dict``, on any device; copied.
            link: How raw values become predictions.
            scale: What raw values are multiplied by before the link.
            shift: What is added then.

        Raises:
            TrainError: The state is not one of this module.
        """
        inputs = inputs.without_edges()
        kept = {name: value.detach().to("cpu", copy=True).contiguous() for name, value in state.items()}
        return cls._of(
            module, arguments, inputs, outputs, link, scale, shift, save_tensors(kept), place="the network"
        )

    @classmethod
    def load(
        cls,
        files: Mapping[str, bytes],
        facts: Mapping[str, Any],
        preprocessing: Preprocessing,
        *,
        place: str,
    ) -> Self:
        """Read it back; see ``load_scorer``."""
        if _FILE not in files:
            raise TrainError(f"there is no {_FILE}, so this is not a model's folder", place=place)
        try:
            inputs = Inputs.from_json(facts["inputs"])
            given = facts["module"]
            module = given if isinstance(given, str) else _NETWORK.validate_python(given)
            link, outputs = facts["link"], int(facts["outputs"])
            scale, shift = float(facts["scale"]), float(facts["shift"])
        except (KeyError, TypeError, ValueError, ValidationError) as error:
            raise TrainError(
                f"what it says of the network cannot be read: {type(error).__name__}: {error}",
                place=str(Path(place) / "model.json"),
                hint="Fetch the model again.",
            ) from error
        if link not in _LINKS:
            raise TrainError(f'the link is "{link}"', place=place, hint=nearest(str(link), _LINKS))
        if inputs.columns != tuple(preprocessing.columns):
            raise TrainError("the network reads other features than the model says", place=place)
        return cls._of(
            module,
            facts["arguments"],
            inputs,
            outputs,
            link,
            scale,
            shift,
            files[_FILE],
            place=str(Path(place) / _FILE),
        )

    @classmethod
    def _of(
        cls,
        module: Network | str,
        arguments: Mapping[str, Any],
        inputs: Inputs,
        outputs: int,
        link: Link,
        scale: float,
        shift: float,
        weights: bytes,
        *,
        place: str,
    ) -> Self:
        given = _given(weights, place)
        with bounded(module, given, place=place):
            network = build(module, arguments, inputs, outputs)
        network.load_state_dict(_checked(given, network, place))
        network.eval().requires_grad_(False)
        predicting = Predicting(network, scale, shift, link).eval()
        return cls(module, arguments, inputs, outputs, link, scale, shift, weights, predicting)

    @property
    def kind(self) -> str:
        """``torch``."""
        return "torch"

    @property
    def network(self) -> nn.Module:
        """The network itself, which gives raw values; for reading only."""
        return self._predicting.network

    @property
    def predicting(self) -> Predicting:
        """The network with its scale, shift and link: (n, width) float32 to (n, outputs), what ``score`` gives."""
        return self._predicting

    def score(self, matrix: NDArray[np.float32]) -> NDArray[np.float64]:
        """Predict rows, (n_rows, width), some at a time."""
        with torch.inference_mode(), _threads_for(len(matrix)):
            raw = [self.network(rows) for rows in _batches(matrix)]
            found: NDArray[np.float64] = self._predicting.linked(torch.cat(raw).to(torch.float64)).numpy()
        return found[:, 0] if self.outputs == 1 else found

    def files(self) -> Mapping[str, bytes]:
        """``weights.safetensors``."""
        return {_FILE: self.weights}

    def facts(self) -> Mapping[str, Any]:
        """How the network is built, what it reads and how its values become predictions."""
        return {
            "module": self.module if isinstance(self.module, str) else self.module.model_dump(mode="json"),
            "arguments": dict(self.arguments),
            "inputs": self.inputs.to_json(),
            "outputs": self.outputs,
            "link": self.link,
            "scale": self.scale,
            "shift": self.shift,
        }

    def importance(self) -> Mapping[str, float]:
        """Empty: a network does not say; permutation importance does."""
        return {}


@contextmanager
def _threads_for(rows: int) -> Iterator[None]:
    """One thread for a few rows: others are no faster, and on a busy machine waiting for them is far slower.

    torch's number of threads is one of the calling thread; a thread that begins meanwhile starts with one.
    """
    before = torch.get_num_threads()
    if rows > _FEW_ROWS or before == 1:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _batches(matrix: NDArray[np.float32]) -> Iterator[Tensor]:
    """Rows a few at a time: memory does not grow with rows, and what is computed stays in the processor's cache."""
    for start in range(0, len(matrix), _BATCH):
        rows = np.ascontiguousarray(matrix[start : start + _BATCH], dtype=np.float32)
        yield torch.from_numpy(rows if rows.flags.writeable else rows.copy())


def _given(weights: bytes, place: str) -> dict[str, Tensor]:
    """The weights that a file holds."""
    try:
        given: dict[str, Tensor] = load_tensors(weights)
    except SafetensorError as error:
        raise TrainError(
            f"the weights are damaged: {error}", place=place, hint="Fetch the model again."
        ) from None
    return given


def _checked(given: dict[str, Tensor], network: nn.Module, place: str) -> dict[str, Tensor]:
    """Weights, if they are those of this network."""
    wanted = network.state_dict()
    for name in sorted(wanted.keys() | given.keys()):
        if name not in given:
            raise _other(f'"{name}" is missing', place)
        if name not in wanted:
            raise _other(f'"{name}" is not in the network', place)
        a, b = given[name], wanted[name]
        if a.shape != b.shape or a.dtype != b.dtype:
            raise _other(f'"{name}" is {tuple(a.shape)} {a.dtype}, not {tuple(b.shape)} {b.dtype}', place)
    return given


def _other(what: str, place: str) -> TrainError:
    return TrainError(
        f"the weights are of another network: {what}",
        place=place,
        hint="A user's module has to be the one that was trained: its code may have changed since.",
    )
