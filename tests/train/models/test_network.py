"""A network's scorer: kept as weights and facts, read back with all checks, asked from several threads."""

from __future__ import annotations

import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa
import pytest
import torch
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

from mlflow_core.errors import TrainError
from mlflow_core.spec import network as spec
from mlflow_core.train.data.preprocess import Feature, Preprocessing
from mlflow_core.train.models.model import Model
from mlflow_core.train.models.network import NetworkScorer
from mlflow_core.train.networks.build import build
from mlflow_core.train.networks.inputs import Inputs
from tests.train.networks.cases import INPUTS, NETWORKS, PREPROCESSING, rows, tensor

FILE = "weights.safetensors"


def scorer(name: str = "mlp_periodic", outputs: int = 1, link: str = "none", **more: float) -> NetworkScorer:
    inputs = Inputs.of(PREPROCESSING, rows(500, 99))
    network = build(NETWORKS[name], {}, inputs, outputs, seed=8)
    return NetworkScorer.of(NETWORKS[name], {}, inputs, outputs, network.state_dict(), link=link, **more)


def model(one: NetworkScorer, preprocessing: Preprocessing = PREPROCESSING) -> Model:
    return Model(preprocessing, "label", (), "regression", "regression", one)


def read(one: NetworkScorer, **other: object) -> NetworkScorer:
    files = {FILE: other.pop("weights", one.weights)}
    return NetworkScorer.load(files, {**one.facts(), **other}, PREPROCESSING, place="here")


@pytest.mark.parametrize("name", NETWORKS)
def test_a_model_that_is_saved_and_loaded_predicts_the_same_to_the_bit(name, tmp_path):
    saved = model(scorer(name))
    loaded = Model.load(saved.save(tmp_path / "model"))
    assert loaded == saved
    assert loaded.kind == "torch"
    assert {path.name for path in (tmp_path / "model").iterdir()} == {FILE, "model.json", "manifest.json"}
    matrix = rows(200, 1)
    assert np.array_equal(loaded.score(matrix), saved.score(matrix))
    again = model(scorer(name)).save(tmp_path / "again")
    assert (again / FILE).read_bytes() == (tmp_path / "model" / FILE).read_bytes()


def test_a_table_and_a_request_are_predicted_alike(tmp_path):
    columns = {
        "delay": [12.0, None, 3.5],
        "carrier": ["UA", "??", None],
        "late": [True, False, None],
        "legs": [[1.0, 2.0], None, [5.0, None, 7.0, 8.0, 9.0]],
        "same": [7.0, 8.0, None],
        "planes": [["N1", "N9"], [], None],
    }
    saved = model(scorer("gru"))
    found = Model.load(saved.save(tmp_path / "model")).predict_columns(columns)
    assert np.array_equal(found, saved.predict(pa.table(columns)))
    assert len(set(found.tolist())) == 3


@pytest.mark.parametrize(
    ("link", "outputs", "truth"),
    [
        ("none", 1, lambda raw: raw[:, 0]),
        ("none", 3, lambda raw: raw),
        ("sigmoid", 1, lambda raw: 1 / (1 + np.exp(-raw[:, 0]))),
        ("softmax", 3, lambda raw: np.exp(raw) / np.exp(raw).sum(axis=1, keepdims=True)),
        ("exp", 1, lambda raw: np.exp(raw[:, 0])),
    ],
)
def test_raw_values_become_predictions_by_scale_shift_and_link(link, outputs, truth):
    one = scorer("mlp_plain", outputs, link, scale=2.5, shift=-0.5)
    matrix = rows(100, 2)
    with torch.inference_mode():
        raw = one.network(torch.from_numpy(matrix)).double().numpy() * 2.5 - 0.5
        predicted = one.predicting(torch.from_numpy(matrix))
    found = one.score(matrix)
    assert found.dtype == np.float64
    assert found.shape == ((100,) if outputs == 1 else (100, outputs))
    assert np.allclose(found, truth(raw), rtol=1e-12, atol=1e-12)
    assert predicted.shape == (100, outputs)
    assert np.allclose(predicted.numpy().reshape(found.shape), found, atol=1e-5)


def test_many_rows_are_predicted_as_a_few_are():
    one, matrix = scorer(), rows(3000, 3)
    parts = np.concatenate([one.score(matrix[start : start + 50]) for start in range(0, 3000, 50)])
    assert np.allclose(one.score(matrix), parts, atol=1e-6)


def test_memory_does_not_grow_with_rows():
    settings = spec.MLP(hidden=(64,), numbers="periodic", embedding=16)
    preprocessing = Preprocessing(tuple(Feature(f"f{k}", "number", "double") for k in range(40)))
    inputs = Inputs.of(preprocessing)
    state = build(settings, {}, inputs, 1).state_dict()
    one = NetworkScorer.of(settings, {}, inputs, 1, state, link="none")
    asked: list[int] = []
    one.network.register_forward_pre_hook(lambda _, given: asked.append(len(given[0])))
    one.score(np.zeros((10_000, 40), dtype=np.float32))
    assert max(asked) <= 1024
    assert sum(asked) == 10_000


def test_a_strided_or_read_only_matrix_is_taken():
    one, matrix = scorer(), rows(100, 4)
    wanted = one.score(matrix)
    wide = np.zeros((100, 2 * matrix.shape[1]), dtype=np.float32)
    wide[:, ::2] = matrix
    matrix.flags.writeable = False
    assert np.array_equal(one.score(matrix), wanted)
    assert np.array_equal(one.score(wide[:, ::2]), wanted)
    assert np.array_equal(one.score(np.asfortranarray(matrix)), wanted)


def test_threads_may_ask_at_once_and_torch_s_threads_are_left_alone():
    one = scorer("gru")
    matrices = [rows(count, count) for count in (1, 7, 64, 65, 500)] * 8
    wanted = [one.score(matrix) for matrix in matrices]
    before = torch.get_num_threads()
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(one.score, matrices))
    assert all(np.allclose(a, b, atol=1e-6) for a, b in zip(found, wanted, strict=True))
    assert torch.get_num_threads() == before


def test_a_few_rows_are_predicted_by_one_thread():
    one, seen = scorer(), []
    one.network.register_forward_pre_hook(lambda *_: seen.append(torch.get_num_threads()))
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        one.score(rows(3, 5))
        one.score(rows(300, 5))
    finally:
        torch.set_num_threads(before)
    assert seen == [1, 2]


def test_the_weights_are_the_scorer_s_own():
    network = build(NETWORKS["mlp_plain"], {}, INPUTS, 1)
    one = NetworkScorer.of(NETWORKS["mlp_plain"], {}, INPUTS, 1, network.state_dict(), link="none")
    before = one.score(rows(20, 6))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.fill_(3.0)
    assert np.array_equal(one.score(rows(20, 6)), before)
    assert not any(parameter.requires_grad for parameter in one.network.parameters())
    assert not one.network.training


def test_edges_of_bins_are_kept_among_the_weights_only():
    one = scorer("mlp_piecewise")
    assert all(not number["edges"] for number in one.facts()["inputs"]["numbers"])
    unsampled = build(NETWORKS["mlp_piecewise"], {}, INPUTS, 1, seed=8).eval()
    with torch.inference_mode():
        other = unsampled(tensor(50, 7))[:, 0].numpy()
    assert not np.allclose(one.score(rows(50, 7)), other, atol=1e-4)
    assert np.array_equal(read(one).score(rows(50, 7)), one.score(rows(50, 7)))


def changed(one: NetworkScorer, change) -> bytes:
    state = load_tensors(one.weights)
    change(state)
    return save_tensors(state)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("body.layers.0.bias"), '"body.layers.0.bias" is missing'),
        (lambda state: state.update(more=torch.zeros(2)), '"more" is not in the network'),
        (
            lambda state: state.update({"body.layers.0.bias": torch.zeros(31)}),
            r'"body.layers.0.bias" is \(31,\) torch.float32, not \(32,\) torch.float32',
        ),
        (
            lambda state: state.update({"body.layers.0.bias": torch.zeros(32, dtype=torch.float16)}),
            r'"body.layers.0.bias" is \(32,\) torch.float16, not \(32,\) torch.float32',
        ),
    ],
)
def test_weights_of_another_network_are_refused_with_what_differs(change, message):
    one = scorer()
    with pytest.raises(TrainError, match=rf"here/{FILE}: the weights are of another network: {message}"):
        read(one, weights=changed(one, change))


@pytest.mark.parametrize("keep", [0, 5, 100, -1])
def test_weights_that_were_cut_short_are_refused(keep):
    one = scorer()
    with pytest.raises(TrainError, match=f"{FILE}: the weights are damaged.*Fetch the model again"):
        read(one, weights=one.weights[:keep])


def test_facts_that_do_not_fit_are_refused():
    one = scorer()
    with pytest.raises(TrainError, match=r"no weights\.safetensors, so this is not a model's folder"):
        NetworkScorer.load({}, one.facts(), PREPROCESSING, place="here")
    with pytest.raises(TrainError, match=r'the link is "sigmoyd".*Did you mean "sigmoid"'):
        read(one, link="sigmoyd")
    with pytest.raises(TrainError, match="what it says of the network cannot be read"):
        read(one, module={"kind": "mlq"})
    with pytest.raises(TrainError, match="what it says of the network cannot be read: KeyError: 'numbers'"):
        read(one, inputs={"columns": []})
    other = Preprocessing(PREPROCESSING.features[1:])
    with pytest.raises(TrainError, match="the network reads other features than the model says"):
        NetworkScorer.load(one.files(), one.facts(), other, place="here")


def test_a_user_s_module_is_kept_by_its_import_path_and_must_be_there(tmp_path, monkeypatch):
    code = """
import torch
from torch import nn

class Plain(nn.Module):
    def __init__(self, inputs, outputs, width):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(inputs.width, width), nn.ReLU(), nn.Linear(width, outputs))
        self.register_buffer("limit", torch.full((inputs.width,), 1e6))

    def forward(self, x):
        return self.layers(torch.minimum(torch.nan_to_num(x), self.limit))
"""
    (tmp_path / "their_plain.py").write_text(code)
    with monkeypatch.context() as patched:
        patched.syspath_prepend(tmp_path)
        network = build("their_plain:Plain", {"width": 5}, INPUTS, 1)
        one = NetworkScorer.of(
            "their_plain:Plain", {"width": 5}, INPUTS, 1, network.state_dict(), link="sigmoid"
        )
        folder = model(one).save(tmp_path / "model")
        assert np.array_equal(Model.load(folder).score(rows(30, 8)), one.score(rows(30, 8)))
        with pytest.raises(TrainError, match=r"another network: .*layers.0.bias.* is \(5,\)"):
            read(one, arguments={"width": 6})
    del sys.modules["their_plain"]
    with pytest.raises(TrainError, match='module "their_plain:Plain": cannot be imported'):
        Model.load(folder)


def test_weights_that_a_user_s_module_uses_twice_or_transposed_are_kept(tmp_path, monkeypatch):
    code = """
import torch
from torch import nn

class Tied(nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        self.there, self.back = nn.Linear(inputs.width, 4), nn.Linear(inputs.width, 4)
        self.back.weight = self.there.weight
        self.turned = nn.Parameter(torch.randn(outputs, 4).t())

    def forward(self, x):
        x = torch.nan_to_num(x).clamp(-5, 5)
        return (self.there(x) * self.back(x)) @ self.turned
"""
    (tmp_path / "their_tied.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    network = build("their_tied:Tied", {}, INPUTS, 2, seed=5)
    one = NetworkScorer.of("their_tied:Tied", {}, INPUTS, 2, network.state_dict(), link="none")
    with torch.no_grad():
        assert np.allclose(one.score(rows(20, 8)), network(tensor(20, 8)).numpy(), atol=1e-5)
    assert np.array_equal(read(one).score(rows(20, 8)), one.score(rows(20, 8)))


def test_loading_many_times_in_threads_gives_equal_scorers(tmp_path):
    folder = model(scorer()).save(tmp_path / "model")
    wanted, found = scorer().score(rows(10, 9)), []
    threads = [
        threading.Thread(target=lambda: found.append(Model.load(folder).score(rows(10, 9)))) for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 6
    assert all(np.array_equal(one, wanted) for one in found)
