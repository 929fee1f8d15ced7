"""Networks as ONNX: each built-in one with numbers, categories, sequences and missing values; a user's that cannot be."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from mlflow_core.errors import TrainError
from mlflow_core.spec.network import GRU, MLP, TCN, Autoencoder, FTTransformer, Network, TwoTower
from mlflow_core.train.data.preprocess import Feature, Preprocessing
from mlflow_core.train.models.network import Link, NetworkScorer
from mlflow_core.train.models.onnx.network import network_graph
from mlflow_core.train.models.onnx.scorer import OnnxScorer
from mlflow_core.train.networks.build import build
from mlflow_core.train.networks.inputs import Inputs

PREPROCESSING = Preprocessing(
    (
        Feature("delay", "number", "double", mean=3.0, std=2.0),
        Feature("carrier", "category", "string", ("AA", "B6", "UA")),
        Feature("late", "bool", "bool", mean=0.3, std=0.4),
        Feature("legs", "number", "list<double>", length=4, mean=1.0, std=3.0),
    )
)


class Fickle(torch.nn.Module):
    """Does one thing or another, as the values say."""

    def __init__(self, inputs: Inputs, outputs: int) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(inputs.width, outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.nan_to_num(x)
        return self.layer(x) if x.sum().item() > 0 else self.layer(-x)


def rows(seed: int, count: int) -> NDArray[np.float32]:
    random = np.random.default_rng(seed)
    found = random.normal(2.0, 3.0, size=(count, PREPROCESSING.width))
    found[:, 1], found[:, 2] = random.integers(0, 3, count), random.integers(0, 2, count)
    found[:, :3][random.random((count, 3)) < 0.15] = np.nan
    lengths = random.integers(0, 5, count)
    found[:, 7] = lengths
    for position in range(4):
        found[4 - position > lengths, 3 + position] = np.nan
    return found.astype(np.float32)


def scorer_of(module: Network | str, outputs: int, link: Link) -> NetworkScorer:
    inputs = Inputs.of(PREPROCESSING, rows(1, 500))
    state = build(module, {}, inputs, outputs, seed=5).state_dict()
    return NetworkScorer.of(module, {}, inputs, outputs, state, link=link, scale=2.0, shift=0.5)


CASES: dict[str, tuple[Network, int, Link]] = {
    "mlp": (MLP(hidden=(16,), embedding=4), 1, "sigmoid"),
    "mlp of members": (MLP(hidden=(16,), embedding=4, members=3, numbers="piecewise"), 3, "softmax"),
    "ft-transformer": (FTTransformer(blocks=1, width=16, heads=2), 1, "sigmoid"),
    "gru": (GRU(hidden=8, head=(8,)), 1, "exp"),
    "tcn": (TCN(channels=(8, 8), head=(8,)), 2, "none"),
    "autoencoder": (Autoencoder(hidden=(16,), bottleneck=4), 1, "none"),
    "two towers": (
        TwoTower(left=("delay", "late"), right=("carrier", "legs"), hidden=(8,), width=4),
        1,
        "none",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_a_network_predicts_the_same_as_onnx_for_any_number_of_rows(name: str) -> None:
    scorer = scorer_of(*CASES[name])
    outputs = tuple("abc"[: scorer.outputs]) if scorer.outputs > 1 else ()

    exported = OnnxScorer(PREPROCESSING, outputs, network_graph(scorer).SerializeToString())

    for count in (1, 2, 700):
        matrix = rows(2, count)
        ours = scorer.score(matrix)
        np.testing.assert_allclose(exported.score(matrix), ours, atol=1e-5 * np.abs(ours).max())
    assert len(np.unique(scorer.score(rows(2, 700)).round(5), axis=0)) > 50


def test_a_module_that_looks_at_values_to_decide_is_refused_with_the_way_out() -> None:
    scorer = scorer_of("tests.train.models.test_onnx_networks:Fickle", 1, "none")

    with pytest.raises(TrainError, match=r"torch cannot write the network as ONNX.*Use the native format"):
        network_graph(scorer)
