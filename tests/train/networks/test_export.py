"""Every built-in network can be written as ONNX and gives the same there, for any number of rows."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest

from mlflow_core.train.data.preprocess import Feature, Preprocessing
from mlflow_core.train.models.network import NetworkScorer
from mlflow_core.train.models.onnx.network import network_graph
from mlflow_core.train.networks.build import build
from mlflow_core.train.networks.inputs import Inputs
from tests.train.networks.cases import LENGTHS, NETWORKS, PREPROCESSING, SLICES, rows
from tests.train.networks.test_networks import stirred

GREATEST = float(np.finfo(np.float32).max)


def strange(count: int) -> np.ndarray:
    """Rows with whatever a request can hold."""
    x = rows(count, 21)
    x[0] = np.nan
    x[1, SLICES["carrier"].start] = 70_000
    x[2, SLICES["delay"].start], x[3, SLICES["delay"].start] = GREATEST, -GREATEST
    x[4, list(LENGTHS)] = 0
    x[5, list(LENGTHS)] = 9
    x[6] = 0
    return x


def asked(scorer: NetworkScorer, matrix: np.ndarray) -> np.ndarray:
    graph = network_graph(scorer)
    assert next(one.version for one in graph.opset_import if one.domain == "") >= 17
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    runtime = onnxruntime.InferenceSession(graph.SerializeToString(), options)
    (given,) = runtime.get_inputs()
    whole = runtime.run(None, {given.name: matrix})[0]
    for count in (1, 2, 7):
        assert np.allclose(runtime.run(None, {given.name: matrix[:count]})[0], whole[:count], atol=1e-5)
    return whole


@pytest.mark.parametrize("name", NETWORKS)
def test_the_graph_gives_what_the_network_gives(name):
    outputs, link = (1, "none") if name in ("autoencoder", "two_tower") else (3, "softmax")
    inputs = Inputs.of(PREPROCESSING, rows(500, 99))
    network = stirred(build(NETWORKS[name], {}, inputs, outputs, seed=8))
    scorer = NetworkScorer.of(NETWORKS[name], {}, inputs, outputs, network.state_dict(), link=link)
    matrix = strange(100)
    wanted = scorer.score(matrix).reshape(100, -1)
    assert np.isfinite(wanted).all()
    assert np.abs(asked(scorer, matrix) - wanted).max() < 1e-4 * max(1.0, np.abs(wanted).max())


def test_columns_in_the_matrix_s_own_order_are_exported_too():
    """Nothing has to be picked then, which is another way through the input layer."""
    preprocessing = Preprocessing(
        tuple(Feature(f"f{k}", "number", "double", mean=k, std=2.0) for k in range(5))
    )
    inputs = Inputs.of(preprocessing)
    state = build(NETWORKS["mlp_plain"], {}, inputs, 1).state_dict()
    scorer = NetworkScorer.of(
        NETWORKS["mlp_plain"], {}, inputs, 1, state, link="sigmoid", scale=3.0, shift=1.0
    )
    matrix = np.random.default_rng(1).normal(0, 5, (50, 5)).astype(np.float32)
    matrix[matrix > 6] = np.nan
    assert np.abs(asked(scorer, matrix)[:, 0] - scorer.score(matrix)).max() < 1e-4
