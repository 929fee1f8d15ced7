"""Small matrices of every kind of column, and a small network of each kind over them."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from mlflow_core.spec import network as spec
from mlflow_core.train.data.preprocess import Feature, Preprocessing
from mlflow_core.train.networks.inputs import Inputs

PREPROCESSING = Preprocessing(
    (
        Feature("delay", "number", "double", mean=10.0, std=20.0),
        Feature("carrier", "category", "string", ("AA", "B6", "UA")),
        Feature("late", "bool", "bool", mean=0.3, std=0.46),
        Feature("legs", "number", "list<double>", length=4, mean=5.0, std=10.0),
        Feature("same", "number", "double", mean=7.0, std=0.0),
        Feature("planes", "category", "list<string>", ("N1", "N2"), length=2),
    )
)
INPUTS = Inputs.of(PREPROCESSING)
SLICES = PREPROCESSING.slices
LENGTHS = (SLICES["legs"].stop - 1, SLICES["planes"].stop - 1)

NETWORKS = {
    "mlp_plain": spec.MLP(hidden=(32, 32), numbers="plain"),
    "mlp_periodic": spec.MLP(hidden=(32, 32), numbers="periodic", embedding=8),
    "mlp_piecewise": spec.MLP(hidden=(32, 32), numbers="piecewise", embedding=8),
    "mlp_members": spec.MLP(hidden=(32, 32), numbers="periodic", embedding=4, members=4),
    "ft_transformer": spec.FTTransformer(blocks=2, width=16, heads=2),
    "gru": spec.GRU(hidden=16, head=(16,)),
    "gru_two_layers": spec.GRU(hidden=8, layers=2, head=(16,)),
    "tcn": spec.TCN(channels=(16, 16), kernel=2, head=(16,)),
    "autoencoder": spec.Autoencoder(hidden=(16,), bottleneck=3),
    "two_tower": spec.TwoTower(
        left=("delay", "carrier", "legs"), right=("late", "planes"), hidden=(16,), width=8
    ),
}


def rows(count: int, seed: int) -> NDArray[np.float32]:
    """Rows of ``PREPROCESSING``: missing values, unseen categories, sequences of all lengths, padding NaN."""
    random = np.random.default_rng(seed)
    out = np.empty((count, PREPROCESSING.width), dtype=np.float32)
    out[:, SLICES["delay"].start] = random.normal(10, 20, count)
    out[:, SLICES["carrier"].start] = random.integers(0, 3, count)
    out[:, SLICES["late"].start] = random.random(count) < 0.3
    out[:, SLICES["legs"]] = random.normal(5, 10, (count, 5))
    out[:, SLICES["same"].start] = 7
    out[:, SLICES["planes"]] = random.integers(0, 2, (count, 3))
    out[random.random(out.shape) < 0.1] = np.nan
    for name in ("legs", "planes"):
        place = SLICES[name]
        positions = place.stop - 1 - place.start
        length = random.integers(0, positions + 1, count)
        out[:, place.stop - 1] = length
        padded = np.arange(positions) < positions - length[:, None]
        out[:, place.start : place.stop - 1][padded] = np.nan
    return out


def tensor(count: int, seed: int) -> torch.Tensor:
    """``rows`` as a tensor."""
    return torch.from_numpy(rows(count, seed))


def padding(matrix: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Which cells are padding."""
    out = np.zeros(matrix.shape, dtype=bool)
    for name in ("legs", "planes"):
        place = SLICES[name]
        positions = place.stop - 1 - place.start
        out[:, place.start : place.stop - 1] = np.arange(positions) < positions - matrix[:, [place.stop - 1]]
    return out
