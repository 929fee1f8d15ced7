"""A network's description that asks for more than its weights need is refused before anything is allocated."""

from __future__ import annotations

import pytest
import torch

from mlflow_core.errors import TrainError
from mlflow_core.spec import network as spec
from mlflow_core.train.models.network import NetworkScorer
from mlflow_core.train.networks.bounded import bounded
from mlflow_core.train.networks.build import build
from tests.train.networks.cases import INPUTS, NETWORKS, PREPROCESSING

GREAT = 1 << 20


def kept(name: str) -> NetworkScorer:
    state = build(NETWORKS[name], {}, INPUTS, 1, seed=8).state_dict()
    return NetworkScorer.of(NETWORKS[name], {}, INPUTS, 1, state, link="none")


@pytest.mark.parametrize(
    ("name", "asked"),
    [
        ("mlp_plain", {"hidden": [GREAT, GREAT]}),
        ("mlp_periodic", {"embedding": 1 << 40}),
        ("mlp_periodic", {"embedding": 1 << 62}),
        ("mlp_piecewise", {"embedding": 1 << 40}),
        ("mlp_members", {"members": 1 << 40}),
        ("ft_transformer", {"width": GREAT}),
        ("ft_transformer", {"blocks": 1 << 40}),
        ("gru", {"hidden": GREAT}),
        ("gru", {"layers": 1 << 40}),
        ("tcn", {"channels": [GREAT, GREAT]}),
        ("tcn", {"kernel": 1 << 40}),
        ("autoencoder", {"bottleneck": 1 << 40}),
        ("two_tower", {"width": 1 << 40}),
    ],
)
def test_a_folder_that_asks_for_huge_layers_is_refused_before_they_are_made(
    name: str, asked: dict[str, object]
) -> None:
    one = kept(name)
    facts = {**one.facts(), "module": one.facts()["module"] | asked}

    with pytest.raises(TrainError, match=r"here.*: it (asks for|cannot be made).*fetch the model again"):
        NetworkScorer.load(one.files(), facts, PREPROCESSING, place="here")


def test_a_folder_that_asks_for_a_huge_number_of_outputs_is_refused() -> None:
    one = kept("mlp_plain")

    with pytest.raises(TrainError, match="it asks for more memory than its weights can need"):
        NetworkScorer.load(one.files(), {**one.facts(), "outputs": 1 << 40}, PREPROCESSING, place="here")


@pytest.mark.parametrize("name", NETWORKS)
def test_what_was_kept_is_well_within_the_limit(name: str) -> None:
    one = kept(name)

    again = NetworkScorer.load(one.files(), one.facts(), PREPROCESSING, place="here")

    assert again == one


def test_the_limit_counts_what_is_made_in_all() -> None:
    weights = {"one": torch.ones(4)}

    with (
        pytest.raises(TrainError, match="more memory"),
        bounded(spec.MLP(), weights, place="here"),
    ):
        kept_alive = [torch.zeros(1 << 16) for _ in range(16)]
    assert "kept_alive" not in locals()


def test_a_module_of_a_users_is_not_limited() -> None:
    with bounded("my_project.networks:Tower", {}, place="here"):
        assert torch.zeros(1 << 20).numel() == 1 << 20


@pytest.mark.parametrize("positions", [1 << 40, -1 << 40])
def test_a_sequence_that_is_longer_than_the_matrix_is_refused(positions: int) -> None:
    one = kept("mlp_plain")
    inputs = one.facts()["inputs"]
    series = [each | {"positions": positions} for each in inputs["sequences"]]

    with pytest.raises(TrainError, match=r"cannot be read: ValueError: a feature ends at column"):
        NetworkScorer.load(
            one.files(),
            {**one.facts(), "inputs": inputs | {"sequences": series}},
            PREPROCESSING,
            place="here",
        )
