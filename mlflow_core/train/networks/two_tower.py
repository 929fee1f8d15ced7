"""Two perceptrons, one over each side's features; how near their outputs are says how well the sides go together.

Yi, Yang, Hong, Cheng, Heldt, Kumthekar, Zhao, Wei, Chi (2019), Sampling-Bias-Corrected Neural Modeling for Large Corpus
Item Recommendations: outputs of length 1, a temperature, negatives from the batch.

It gives how near the two sides of each row are. What it learns from is ``towers``, both sides of all rows: the inner
product of one row's left side and another's right is the logit of that pair.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from mlflow_core.errors import TrainError
from mlflow_core.spec import network as spec
from mlflow_core.train.networks.embeddings import Flat
from mlflow_core.train.networks.inputs import Inputs
from mlflow_core.train.networks.perceptron import Perceptron

__all__ = ["Tower", "TwoTower"]


class Tower(nn.Module):
    """One side: (n, inputs.width) to (n, width) of length 1.

    Args:
        inputs: The columns it reads.
        settings: Its sizes.
        generator: Draws the first weights.
    """

    def __init__(self, inputs: Inputs, settings: spec.TwoTower, generator: torch.Generator) -> None:
        super().__init__()
        self.flat = Flat(inputs, generator)
        self.body = Perceptron(
            self.flat.width, settings.hidden, settings.width, 0.0, generator, flat=self.flat
        )

    def forward(self, x: Tensor) -> Tensor:
        """Forward."""
        side: Tensor = functional.normalize(self.body(self.flat(x)).float(), dim=1)
        return side


class TwoTower(nn.Module):
    """Both sides.

    Args:
        settings: Its sizes, and which features are whose.
        inputs: The matrix.
        outputs: 1.
        generator: Draws the first weights.

    Raises:
        TrainError: A side reads a feature that there is not, or it shall give more than one value.
    """

    def __init__(
        self, settings: spec.TwoTower, inputs: Inputs, outputs: int, generator: torch.Generator
    ) -> None:
        super().__init__()
        if outputs != 1:
            raise TrainError(
                f"it gives one value a row, not {outputs}",
                object="TwoTower",
                expected='the objective "retrieval"',
            )
        self.scale: float = settings.temperature**-0.5
        self.left = Tower(inputs.only(settings.left), settings, generator)
        self.right = Tower(inputs.only(settings.right), settings, generator)

    def forward(self, x: Tensor) -> Tensor:
        """(n, width) to (n, 1)."""
        sides = self.towers(x)
        return (sides[:, 0] * sides[:, 1]).sum(dim=1, keepdim=True)

    def towers(self, x: Tensor) -> Tensor:
        """Both sides, (n, 2, settings.width): inner products are cosines over the temperature."""
        sides = torch.stack([self.left(x), self.right(x)], dim=1)
        return sides * self.scale
