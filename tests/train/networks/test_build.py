"""A user's module by import path, and what is said of one that cannot be used."""

from __future__ import annotations

import textwrap
import threading

import pytest
import torch

from mlflow_core.errors import TrainError
from mlflow_core.spec import network as spec
from mlflow_core.train.networks.build import build, trial_rows
from tests.train.networks.cases import INPUTS, NETWORKS, tensor

MODULE = """
    import torch
    from torch import nn

    class Tower(nn.Module):
        def __init__(self, inputs, outputs, width=4, fill=0.0):
            super().__init__()
            self.fill = fill
            self.layers = nn.Sequential(nn.Linear(inputs.width, width), nn.BatchNorm1d(width), nn.Linear(width, outputs))

        def forward(self, x):
            return self.layers(torch.nan_to_num(x, nan=self.fill))

    def tower(inputs, outputs, width=4):
        return Tower(inputs, outputs, width)

    class Flat(Tower):
        def forward(self, x):
            return super().forward(x)[:, 0]

    class Whole(Tower):
        def forward(self, x):
            return super().forward(x).long()

    class Several(Tower):
        def forward(self, x):
            return super().forward(x), x

    class Falls(Tower):
        def forward(self, x):
            raise KeyError("delay")

    class Other:
        pass

    def number(inputs, outputs):
        return 3

    constant = 4
"""


@pytest.fixture(autouse=True)
def _package(tmp_path, monkeypatch):
    (tmp_path / "their_networks.py").write_text(textwrap.dedent(MODULE))
    (tmp_path / "their_broken.py").write_text("import a_library_that_is_not_there\n")
    (tmp_path / "their_falling.py").write_text("raise RuntimeError('no licence')\n")
    (tmp_path / "their_typo.py").write_text("class Tower(:\n")
    monkeypatch.syspath_prepend(tmp_path)


def made(path: str, outputs: int = 1, seed: int = 0, **arguments: object) -> torch.nn.Module:
    return build(path, arguments, INPUTS, outputs, seed=seed)


def test_a_user_s_class_is_called_with_inputs_outputs_and_arguments():
    network = made("their_networks:Tower", 3, width=7)
    assert network.layers[0].out_features == 7
    assert network.training
    assert network(tensor(5, 1)).shape == (5, 3)


def test_the_trial_leaves_a_user_s_network_as_it_was():
    network = made("their_networks:Tower")
    assert network.layers[1].num_batches_tracked == 0
    assert network.layers[1].running_mean.abs().sum() == 0


def test_a_user_s_first_weights_follow_from_the_seed_and_torch_s_generator_is_left_alone():
    before = torch.random.get_rng_state()
    first, again, other = (made("their_networks:Tower", seed=seed) for seed in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.equal(first.layers[0].weight, again.layers[0].weight)
    assert not torch.equal(first.layers[0].weight, other.layers[0].weight)


def test_two_threads_that_build_at_once_do_not_disturb_each_other():
    alone = made("their_networks:Tower", width=500, seed=3).layers[0].weight
    found: list[torch.Tensor] = []

    def several() -> None:
        for _ in range(10):
            found.append(made("their_networks:Tower", width=500, seed=3).layers[0].weight)

    threads = [threading.Thread(target=several) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 30
    assert all(torch.equal(one, alone) for one in found)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        (
            "their_netwerks:Tower",
            r'module "their_netwerks:Tower": cannot be imported: ModuleNotFoundError.*PYTHONPATH',
        ),
        (
            "their_broken:Tower",
            "cannot be imported: ModuleNotFoundError: No module named 'a_library_that_is_not_there'",
        ),
        ("their_falling:Tower", "cannot be imported: RuntimeError: no licence"),
        ("their_typo:Tower", "cannot be imported: SyntaxError"),
        ("their_networks:Towr", r'"their_networks" has no "Towr".*Did you mean "Tower"'),
        ("their_networks:Other", r"is no torch.nn.Module. Expected a class that extends torch.nn.Module"),
        ("their_networks:constant", "is no torch.nn.Module"),
        ("their_networks:number", "is no torch.nn.Module"),
        ("their_networks:tower", "is no torch.nn.Module"),
        ("their_networks:Tower.forward", "is no import path"),
        ("their networks:Tower", "is no import path"),
        ("their_networks", "is no import path"),
        (
            "their_networks:Flat",
            r"gives \(2,\) torch.float32 of two trial rows. Expected \(n, 1\) floats of \(n, 12\)",
        ),
        ("their_networks:Whole", r"gives \(2, 1\) torch.int64 of two trial rows"),
        ("their_networks:Several", "gives tuple of two trial rows"),
        ("their_networks:Falls", "fails on two trial rows: KeyError: 'delay'"),
    ],
)
def test_what_is_wrong_with_a_user_s_module_is_said(path, message):
    with pytest.raises(TrainError, match=message) as caught:
        made(path)
    assert path in str(caught.value)


def test_the_user_s_own_error_is_kept_as_the_cause():
    with pytest.raises(TrainError) as caught:
        made("their_networks:Falls")
    assert isinstance(caught.value.__cause__, KeyError)


def test_arguments_that_a_module_does_not_take_are_named():
    with pytest.raises(
        TrainError, match=r"cannot be made: TypeError.*'depth'.*Tower\(inputs, outputs, depth=3\)"
    ):
        made("their_networks:Tower", depth=3)


def test_trial_rows_are_one_as_usual_and_one_with_everything_missing():
    usual, missing = trial_rows(INPUTS)
    assert not usual.isnan().any()
    assert usual[0] == 10.0
    lengths = [one.length for one in INPUTS.sequences]
    assert missing[lengths].tolist() == [0, 0]
    assert missing.isnan().sum() == INPUTS.width - 2


@pytest.mark.parametrize("name", NETWORKS)
def test_a_built_in_network_takes_the_trial_rows(name):
    network = build(NETWORKS[name], {}, INPUTS, 1).eval()
    assert torch.isfinite(network(trial_rows(INPUTS))).all()


def test_every_declared_network_can_be_built_with_its_defaults():
    for kind in (spec.MLP, spec.FTTransformer, spec.GRU, spec.TCN, spec.Autoencoder):
        assert build(kind(), {}, INPUTS, 1).training
    assert build(spec.TwoTower(left=("delay",), right=("late",)), {}, INPUTS, 1).training
