"""Each built-in network learns a small known function, well below what knowing nothing gives."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from mlflow_core.spec import network as spec
from mlflow_core.train.data.preprocess import Feature, Preprocessing
from mlflow_core.train.networks.build import build
from mlflow_core.train.networks.inputs import Inputs

SEED = 20
ROWS = 3000


def trained(network: nn.Module, x: torch.Tensor, loss, steps: int, rate: float = 5e-3) -> nn.Module:
    """A few steps of AdamW over random batches."""
    torch.manual_seed(SEED)
    optimiser = torch.optim.AdamW(network.parameters(), lr=rate, weight_decay=0.0)
    network.train()
    for _ in range(steps):
        rows = torch.randint(0, len(x), (128,))
        optimiser.zero_grad()
        loss(network, rows).backward()
        optimiser.step()
    return network.eval()


def squared(x: torch.Tensor, y: torch.Tensor):
    def loss(network: nn.Module, rows: torch.Tensor) -> torch.Tensor:
        out = network(x[rows]).squeeze(-1)
        wanted = y[rows] if out.dim() == 1 else y[rows, None]
        return ((out - wanted) ** 2).mean()

    return loss


def error(network: nn.Module, x: torch.Tensor, y: torch.Tensor) -> float:
    """Mean squared error over the label's variance: 1 is what predicting the mean gives."""
    with torch.inference_mode():
        return float(((network(x)[:, 0] - y) ** 2).mean() / y.var())


def table(seed: int) -> tuple[Inputs, torch.Tensor, torch.Tensor]:
    """A label of a product, of a category, of a value that is missing, and of a wave."""
    random = np.random.default_rng(seed)
    a, b, c = random.normal(50, 5, ROWS), random.normal(0, 0.1, ROWS), random.normal(-3, 1, ROWS)
    code = random.integers(0, 4, ROWS).astype(float)
    gone = random.random(ROWS) < 0.2
    y = (a - 50) / 5 * b / 0.1 + np.array([0.0, 1.0, -1.0, 2.0])[code.astype(int)] + 1.5 * gone
    c[gone] = np.nan
    features = (
        Feature("a", "number", "double", mean=50.0, std=5.0),
        Feature("b", "number", "double", mean=0.0, std=0.1),
        Feature("c", "number", "double", mean=-3.0, std=1.0),
        Feature("code", "category", "string", ("p", "q", "r", "s")),
    )
    x = np.column_stack([a, b, c, code]).astype(np.float32)
    return Inputs.of(Preprocessing(features), x), torch.from_numpy(x), torch.from_numpy(y.astype(np.float32))


def legs(seed: int) -> tuple[Inputs, torch.Tensor, torch.Tensor]:
    """A label of the newest step, of the one before it, and of how many there are: order and length matter."""
    random = np.random.default_rng(seed)
    length = random.integers(0, 6, ROWS)
    steps = random.normal(0, 1, (ROWS, 5))
    steps[np.arange(5) < 5 - length[:, None]] = np.nan
    known = np.nan_to_num(steps)
    hour = random.normal(0, 1, ROWS)
    y = known[:, -1] - 0.5 * known[:, -2] + 0.3 * length + 0.5 * hour
    features = (
        Feature("hour", "number", "double"),
        Feature("legs", "number", "list<double>", length=5),
    )
    x = np.column_stack([hour, steps, length]).astype(np.float32)
    return Inputs.of(Preprocessing(features)), torch.from_numpy(x), torch.from_numpy(y.astype(np.float32))


@pytest.mark.parametrize(
    "settings",
    [
        spec.MLP(hidden=(64, 64), numbers="plain", dropout=0),
        spec.MLP(hidden=(64, 64), numbers="periodic", embedding=8, dropout=0),
        spec.MLP(hidden=(64, 64), numbers="piecewise", embedding=8, dropout=0),
        spec.MLP(hidden=(64, 64), numbers="plain", members=4, dropout=0),
        spec.FTTransformer(blocks=2, width=32, heads=4, dropout=0.05),
    ],
    ids=["mlp_plain", "mlp_periodic", "mlp_piecewise", "mlp_members", "ft_transformer"],
)
def test_a_network_over_a_row_learns_products_categories_and_missing(settings):
    inputs, x, y = table(1)
    network = build(settings, {}, inputs, 1, seed=SEED)
    assert error(network.eval(), x, y) > 0.8
    trained(network, x, squared(x, y), 250)
    _, other, wanted = table(2)
    assert error(network, other, wanted) < 0.25


@pytest.mark.parametrize(
    "settings",
    [
        spec.GRU(hidden=32, head=(32,), dropout=0),
        spec.TCN(channels=(32, 32), kernel=2, head=(32,), dropout=0),
        spec.MLP(hidden=(64, 64), numbers="plain", dropout=0),
    ],
    ids=["gru", "tcn", "mlp"],
)
def test_a_network_over_sequences_learns_order_and_length(settings):
    inputs, x, y = legs(3)
    network = build(settings, {}, inputs, 1, seed=SEED)
    trained(network, x, squared(x, y), 250)
    _, other, wanted = legs(4)
    assert error(network, other, wanted) < 0.1


def test_periodic_embeddings_learn_a_wave_sooner_than_plain_numbers():
    random = np.random.default_rng(6)
    x = random.uniform(-1.7, 1.7, (ROWS, 1)).astype(np.float32)
    y = np.sin(7 * x[:, 0]).astype(np.float32)
    inputs = Inputs.of(Preprocessing((Feature("a", "number", "float"),)), x)
    x, y = torch.from_numpy(x), torch.from_numpy(y)
    found = {}
    for numbers in ("plain", "periodic", "piecewise"):
        network = build(spec.MLP(hidden=(32,), numbers=numbers, dropout=0), {}, inputs, 1, seed=SEED)
        found[numbers] = error(trained(network, x, squared(x, y), 200), x, y)
    assert max(found["periodic"], found["piecewise"]) < 0.5 * found["plain"], found


def test_an_autoencoder_learns_what_goes_together_and_finds_what_does_not():
    random = np.random.default_rng(7)
    hidden = random.normal(0, 1, (ROWS, 2))
    x = hidden @ random.normal(0, 1, (2, 6))
    features = tuple(
        Feature(f"f{k}", "number", "double", mean=float(x[:, k].mean()), std=float(x[:, k].std()))
        for k in range(6)
    )
    x = torch.from_numpy(x.astype(np.float32))
    settings = spec.Autoencoder(hidden=(32,), bottleneck=3, dropout=0.05)
    network = build(settings, {}, Inputs.of(Preprocessing(features)), 1, seed=SEED)
    trained(network, x, lambda network, rows: network(x[rows]).mean(), 300)
    shuffled = torch.stack([x[torch.randperm(ROWS), k] for k in range(6)], dim=1)
    with torch.inference_mode():
        usual, unusual = network(x)[:, 0], network(shuffled)[:, 0]
    assert usual.mean() < 0.15  # a standardised number's own variance is 1
    assert (unusual[:, None] > usual[None, :]).float().mean() > 0.9


def test_two_towers_learn_who_goes_with_whom():
    random = np.random.default_rng(8)
    left = random.normal(0, 1, (ROWS, 4))
    right = left @ np.linalg.qr(random.normal(0, 1, (4, 4)))[0] + random.normal(0, 0.05, (ROWS, 4))
    x = torch.from_numpy(np.hstack([left, right]).astype(np.float32))
    names = [f"left{k}" for k in range(4)] + [f"right{k}" for k in range(4)]
    inputs = Inputs.of(Preprocessing(tuple(Feature(name, "number", "double") for name in names)))
    settings = spec.TwoTower(left=tuple(names[:4]), right=tuple(names[4:]), hidden=(32,), width=8)
    network = build(settings, {}, inputs, 1, seed=SEED)

    def loss(network: nn.Module, rows: torch.Tensor) -> torch.Tensor:
        sides = network.towers(x[rows])
        return functional.cross_entropy(sides[:, 0] @ sides[:, 1].t(), torch.arange(len(rows)))

    chance = math.log(256)
    with torch.no_grad():
        before = float(loss(network, torch.arange(256)))
    trained(network, x, loss, 200)
    with torch.no_grad():
        after = float(loss(network, torch.arange(256)))
    assert before > 0.8 * chance
    assert after < 0.3 * chance
    pairs = torch.cat([x[:500, :4], x[500:1000, 4:]], dim=1)
    with torch.inference_mode():
        assert network(x[:500]).mean() > network(pairs).mean() + 3
