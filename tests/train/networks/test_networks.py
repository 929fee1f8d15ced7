"""Laws that every built-in network keeps."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch
from torch import nn

from mlflow_core.errors import TrainError
from mlflow_core.spec import network as spec
from mlflow_core.train.data.preprocess import Feature, Preprocessing
from mlflow_core.train.networks.build import build
from mlflow_core.train.networks.inputs import Inputs
from tests.train.networks.cases import INPUTS, LENGTHS, NETWORKS, PREPROCESSING, SLICES, padding, rows, tensor

GREATEST = float(np.finfo(np.float32).max)
every = pytest.mark.parametrize("name", NETWORKS)
SEQUENTIAL = ("gru", "gru_two_layers", "tcn")


def made(name: str, seed: int = 1, inputs: Inputs = INPUTS) -> nn.Module:
    return build(NETWORKS[name], {}, inputs, 1, seed=seed)


def stirred(network: nn.Module, seed: int = 9) -> nn.Module:
    """The network with all weights moved, those that start as zeros among them; asked, not trained."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.empty_like(parameter).normal_(0, 0.1, generator=generator))
    return network.eval()


def asked(network: nn.Module, x: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        return network(x)


@every
def test_it_gives_one_finite_value_a_row(name):
    found = asked(made(name).eval(), tensor(100, 1))
    assert found.shape == (100, 1)
    assert found.dtype == torch.float32
    assert torch.isfinite(found).all()
    assert len(found.unique()) > 50


@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.parametrize("name", [one for one in NETWORKS if one not in ("autoencoder", "two_tower")])
def test_it_gives_as_many_values_as_it_is_asked_for(name, outputs):
    network = build(NETWORKS[name], {}, INPUTS, outputs, seed=1)
    many = getattr(network, "members", 1)
    assert network(tensor(7, 1)).shape == ((7, outputs) if many == 1 else (7, many, outputs))
    assert asked(network.eval(), tensor(7, 1)).shape == (7, outputs)


@every
def test_padding_never_matters(name):
    network, x = stirred(made(name)), rows(200, 2)
    before = asked(network, torch.from_numpy(x))
    random = np.random.default_rng(5)
    for content in (0.0, 1.0, 1e30, random.normal(0, 100, x.shape)):
        other = np.where(padding(x), content, x).astype(np.float32)
        assert np.isnan(x[padding(x)]).all()
        assert torch.equal(asked(network, torch.from_numpy(other)), before)


@every
def test_a_missing_value_inside_a_sequence_is_not_padding(name):
    network = stirred(made(name))
    x = rows(50, 3)
    x[:, SLICES["legs"]] = [1.0, 2.0, 3.0, 4.0, 4.0]
    inside, shorter = x.copy(), x.copy()
    inside[:, SLICES["legs"].start] = np.nan
    shorter[:, SLICES["legs"]] = [np.nan, 2.0, 3.0, 4.0, 3.0]
    a, b = asked(network, torch.from_numpy(inside)), asked(network, torch.from_numpy(shorter))
    assert (a - b).abs().max() > 1e-4


@pytest.mark.parametrize("name", [one for one in NETWORKS if one != "autoencoder"])
def test_missing_is_told_apart_from_zero_and_from_the_mean(name):
    network, x = stirred(made(name)), rows(50, 4)
    found = []
    for value in (np.nan, 0.0, 10.0):
        x[:, SLICES["delay"].start] = value
        found.append(asked(network, torch.from_numpy(x)))
    assert (found[0] - found[1]).abs().max() > 1e-4
    assert (found[0] - found[2]).abs().max() > 1e-4


@pytest.mark.parametrize("name", ["mlp_plain", "gru", "tcn", "two_tower"])
def test_a_number_that_was_never_missing_counts_as_its_mean_when_it_is(name):
    network, x = made(name).eval(), rows(50, 5)
    x[:, SLICES["delay"].start] = np.nan
    missing = asked(network, torch.from_numpy(x))
    x[:, SLICES["delay"].start] = 10.0
    assert torch.allclose(asked(network, torch.from_numpy(x)), missing, atol=1e-6)


@every
def test_an_unseen_category_is_a_missing_one_and_no_known_one(name):
    network, x = stirred(made(name)), rows(100, 6)
    found = {}
    for code in (np.nan, 3.0, -1.0, 70_000.0, 0.0, 1.0):
        x[:, SLICES["carrier"].start] = code
        found[code] = asked(network, torch.from_numpy(x))
    missing, *unseen, first, second = found.values()
    assert all(torch.equal(one, missing) for one in unseen)
    assert (first - missing).abs().max() > 1e-4
    assert (first - second).abs().max() > 1e-4


@every
def test_a_row_s_value_does_not_depend_on_the_other_rows(name):
    network, x = stirred(made(name)), tensor(64, 7)
    together = asked(network, x)
    order = torch.randperm(64, generator=torch.Generator().manual_seed(1))
    assert torch.allclose(asked(network, x[order]), together[order], atol=1e-5)
    assert torch.allclose(torch.cat([asked(network, one[None]) for one in x[:8]]), together[:8], atol=1e-5)


@every
def test_gradients_are_finite_and_reach_every_weight(name):
    network, x = made(name), rows(300, 8)
    x[0] = np.nan
    x[1, :], x[2, :] = GREATEST, -GREATEST
    x[3, list(LENGTHS)] = 0
    torch.manual_seed(0)
    given = network.towers(torch.from_numpy(x)) if name == "two_tower" else network(torch.from_numpy(x))
    ((given - 0.5) ** 2).mean().backward()
    for weight, parameter in network.named_parameters():
        assert parameter.grad is not None, weight
        assert torch.isfinite(parameter.grad).all(), weight


@every
def test_first_weights_follow_from_the_seed_alone(name):
    before = torch.random.get_rng_state()
    first = made(name, seed=4).state_dict()
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.rand(17)
    again, other = made(name, seed=4).state_dict(), made(name, seed=5).state_dict()
    assert all(torch.equal(value, again[key]) for key, value in first.items())
    assert any(not torch.equal(value, other[key]) for key, value in first.items())


def test_first_weights_do_not_depend_on_what_other_threads_draw():
    alone = made("gru").state_dict()
    stop = threading.Event()

    def draw() -> None:
        while not stop.is_set():
            torch.rand(100)

    thread = threading.Thread(target=draw)
    thread.start()
    try:
        beside = [made("gru").state_dict() for _ in range(20)]
    finally:
        stop.set()
        thread.join()
    assert all(torch.equal(value, one[key]) for one in beside for key, value in alone.items())


@every
def test_its_state_makes_another_network_of_its_kind_equal(name):
    network, other = stirred(made(name)), made(name, seed=77).eval()
    x = tensor(30, 10)
    assert not torch.equal(asked(other, x), asked(network, x))
    other.load_state_dict(network.state_dict())
    assert torch.equal(asked(other, x), asked(network, x))


@every
def test_mixed_precision_gives_nearly_the_same(name):
    network, x = made(name).eval(), tensor(64, 11)
    full = asked(network, x)
    with torch.autocast("cpu", torch.bfloat16):
        half = asked(network, x)
        network.train()
        loss = (network(x).float() ** 2).mean()
    loss.backward()
    assert torch.isfinite(loss)
    assert (half.float() - full).abs().max() <= 0.03 * full.abs().max() + 0.03


@pytest.mark.parametrize("name", SEQUENTIAL)
def test_a_sequence_gives_the_same_in_a_wider_matrix(name):
    wide = Preprocessing(
        tuple(
            Feature(
                one.name, one.kind, one.type, one.categories, one.length and one.length + 3, one.mean, one.std
            )
            for one in PREPROCESSING.features
        )
    )
    narrow_network = stirred(made(name))
    wide_network = made(name, inputs=Inputs.of(wide)).eval()
    wide_network.load_state_dict(narrow_network.state_dict())
    x = rows(100, 12)
    other = np.full((100, wide.width), np.nan, dtype=np.float32)
    for feature in PREPROCESSING.features:
        old = x[:, PREPROCESSING.slices[feature.name]]
        stop = wide.slices[feature.name].stop
        other[:, stop - old.shape[1] : stop] = old
    a, b = asked(narrow_network, torch.from_numpy(x)), asked(wide_network, torch.from_numpy(other))
    assert torch.allclose(a, b, atol=1e-5)


@pytest.mark.parametrize("name", SEQUENTIAL)
def test_a_recurrent_network_sees_the_order_of_its_steps(name):
    network, x = stirred(made(name)), rows(50, 13)
    x[:, SLICES["legs"]] = [1.0, 12.0, 3.0, 40.0, 4.0]
    other = x.copy()
    other[:, SLICES["legs"]] = [12.0, 1.0, 3.0, 40.0, 4.0]
    a, b = asked(network, torch.from_numpy(x)), asked(network, torch.from_numpy(other))
    assert (a - b).abs().max() > 1e-4


@pytest.mark.parametrize("name", ["gru", "tcn"])
def test_of_no_steps_at_all_nothing_is_said(name):
    network, x = stirred(made(name)), rows(20, 17)
    for place in (SLICES["legs"], SLICES["planes"]):
        x[:, place], x[:, place.stop - 1] = np.nan, 0
    before = asked(network, torch.from_numpy(x))
    with torch.no_grad():
        for part in (network.recurrent, network.steps) if name == "gru" else (network.levels, network.steps):
            for parameter in part.parameters():
                parameter.add_(1.0)
    assert torch.equal(asked(network, torch.from_numpy(x)), before)


def test_attention_never_overlooks_everything():
    inputs = Inputs.of(Preprocessing((Feature("delay", "number", "double"),)))
    settings = spec.FTTransformer(blocks=2, width=8, heads=2, dropout=0.9)
    torch.manual_seed(0)
    assert torch.isfinite(build(settings, {}, inputs, 1)(torch.randn(200, 1))).all()


@pytest.mark.parametrize("settings", [spec.GRU(), spec.TCN()])
def test_a_network_over_sequences_needs_one(settings):
    inputs = Inputs.of(Preprocessing((Feature("delay", "number", "double"),)))
    with pytest.raises(TrainError, match=r"there is no sequence among the features.*last\(10\).*Use an MLP"):
        build(settings, {}, inputs, 1)


def test_what_a_network_cannot_be_made_of_is_said():
    codes = Inputs.of(Preprocessing((Feature("carrier", "category", "string", ("AA",)),)))
    with pytest.raises(TrainError, match="no number among the features to rebuild"):
        build(spec.Autoencoder(), {}, codes, 1)
    with pytest.raises(TrainError, match="one error a row, not 2 values"):
        build(spec.Autoencoder(), {}, INPUTS, 2)
    with pytest.raises(TrainError, match=r'reads "dely".*Did you mean "delay"'):
        build(spec.TwoTower(left=("dely",), right=("late",)), {}, INPUTS, 1)
    with pytest.raises(TrainError, match="30 wide, which 4 heads do not divide"):
        build(spec.FTTransformer(width=30, heads=4), {}, INPUTS, 1)
    with pytest.raises(TrainError, match="no feature to read"):
        build(spec.MLP(), {}, Inputs(()), 1)


def test_an_autoencoder_s_score_is_the_error_of_the_known_numbers():
    network = stirred(made("autoencoder"))
    x = tensor(40, 14)
    with torch.inference_mode():
        wanted, missing = network.wanted(x)
        rebuilt = network.rebuilt(x)
    found = asked(network, x)[:, 0].tolist()
    for row in range(40):
        known = [k for k in range(wanted.shape[1]) if not missing[row, k]]
        errors = [float(rebuilt[row, k] - wanted[row, k]) ** 2 for k in known]
        assert found[row] == pytest.approx(sum(errors) / max(len(errors), 1), rel=1e-4)
    nothing = Inputs.of(Preprocessing((Feature("delay", "number", "double"),)))
    alone = build(NETWORKS["autoencoder"], {}, nothing, 1).eval()
    assert asked(alone, torch.tensor([[float("nan")]])).tolist() == [[0.0]]


def test_the_two_sides_meet_in_their_inner_product():
    network = stirred(made("two_tower"))
    x = tensor(20, 15)
    with torch.inference_mode():
        sides = network.towers(x)
    assert torch.allclose((sides[:, 0] * sides[:, 1]).sum(1), asked(network, x)[:, 0], atol=1e-5)
    assert torch.allclose(sides.norm(dim=2), torch.full((20, 2), 0.1**-0.5), atol=1e-4)
    x[:, SLICES["delay"].start] += 30
    with torch.inference_mode():
        moved = network.towers(x)
    assert torch.equal(moved[:, 1], sides[:, 1])
    assert not torch.equal(moved[:, 0], sides[:, 0])


def test_members_start_apart_and_share_most_weights():
    alone = build(spec.MLP(hidden=(64, 64), numbers="plain"), {}, INPUTS, 1)
    shared = build(spec.MLP(hidden=(64, 64), numbers="plain", members=8), {}, INPUTS, 1)
    count = [sum(one.numel() for one in network.parameters()) for network in (alone, shared)]
    assert count[1] < 2 * count[0]
    with torch.no_grad():  # their last layers made equal: what is left is the first layer's
        shared.body.weight.copy_(shared.body.weight[:1].clone().expand_as(shared.body.weight))
        shared.body.bias.copy_(shared.body.bias[:1].clone().expand_as(shared.body.bias))
    values = shared(tensor(30, 16))[:, :, 0]
    assert values.std(dim=1).min() > 1e-3
    quiet = build(NETWORKS["mlp_members"].model_copy(update={"dropout": 0.0}), {}, INPUTS, 1)
    each = quiet(tensor(30, 16)).detach()
    assert torch.allclose(asked(quiet.eval(), tensor(30, 16)), each.mean(dim=1), atol=1e-6)
