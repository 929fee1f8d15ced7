"""The built-in networks and their sizes; what they compute is in ``train.networks``, each with its paper."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from mlflow_core.spec.model import Spec

__all__ = ["GRU", "MLP", "TCN", "Autoencoder", "FTTransformer", "Network", "TwoTower"]

_Share = Annotated[float, Field(ge=0.0, lt=1.0)]
_Size = Annotated[int, Field(ge=1)]


class MLP(Spec):
    """A multilayer perceptron with embeddings of categories and, if asked for, of numbers.

    Args:
        hidden: Width of each hidden layer.
        dropout: Share of the hidden units left out in training.
        numbers: How a number enters: ``"plain"`` as it is, ``"periodic"`` (Gorishniy et al. 2022, PLR), or
            ``"piecewise"`` (the same, PLE).
        embedding: Width of a number's embedding.
        members: Networks that share most weights and are averaged (TabM, Gorishniy et al. 2025); 1 is a plain one.
    """

    kind: Literal["mlp"] = "mlp"
    hidden: tuple[_Size, ...] = (256, 256, 256)
    dropout: _Share = 0.1
    numbers: Literal["plain", "periodic", "piecewise"] = "periodic"
    embedding: _Size = 16
    members: _Size = 1


class FTTransformer(Spec):
    """A transformer over the features as tokens (Gorishniy et al. 2021).

    Args:
        blocks: How many layers.
        width: Width of a token; a multiple of ``heads``.
        heads: Attention heads.
        dropout: Share left out of attention and of the hidden units in training.
    """

    kind: Literal["ft_transformer"] = "ft_transformer"
    blocks: _Size = 3
    width: _Size = 96
    heads: _Size = 8
    dropout: _Share = 0.1


class GRU(Spec):
    """A gated recurrent network over sequences, beside a perceptron over the other features (Cho et al. 2014).

    Args:
        hidden: Width of its state.
        layers: How many layers.
        head: Width of each hidden layer after it.
        dropout: Share of the hidden units left out in training.
    """

    kind: Literal["gru"] = "gru"
    hidden: _Size = 64
    layers: _Size = 1
    head: tuple[_Size, ...] = (128,)
    dropout: _Share = 0.1


class TCN(Spec):
    """A temporal convolutional network over sequences, beside a perceptron over the others (Bai et al. 2018).

    Args:
        channels: Width of each level; the dilation doubles from level to level.
        kernel: Width of a convolution.
        head: Width of each hidden layer after it.
        dropout: Share of the hidden units left out in training.
    """

    kind: Literal["tcn"] = "tcn"
    channels: tuple[_Size, ...] = (64, 64, 64)
    kernel: Annotated[int, Field(ge=2)] = 3
    head: tuple[_Size, ...] = (128,)
    dropout: _Share = 0.1


class Autoencoder(Spec):
    """A network that rebuilds its own input through a narrow layer; the error tells how unusual a row is.

    Args:
        hidden: Width of each layer of the encoder; the decoder mirrors it.
        bottleneck: Width of the narrow layer.
        dropout: Share of the input left out in training (Vincent et al. 2008).
    """

    kind: Literal["autoencoder"] = "autoencoder"
    hidden: tuple[_Size, ...] = (128, 64)
    bottleneck: _Size = 8
    dropout: _Share = 0.1


class TwoTower(Spec):
    """Two perceptrons whose outputs' inner product says how well two things go together (Yi et al. 2019).

    Args:
        left: Features of the first tower.
        right: Features of the second.
        hidden: Width of each hidden layer of both.
        width: Width of their outputs.
        temperature: What the cosine is divided by.
    """

    kind: Literal["two_tower"] = "two_tower"
    left: tuple[str, ...] = Field(min_length=1)
    right: tuple[str, ...] = Field(min_length=1)
    hidden: tuple[_Size, ...] = (128,)
    width: _Size = 32
    temperature: float = Field(default=0.1, gt=0.0)


Network = Annotated[MLP | FTTransformer | GRU | TCN | Autoencoder | TwoTower, Field(discriminator="kind")]
