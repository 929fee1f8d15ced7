"""What a network is told of its matrix, and what its input layer makes of a row."""

from __future__ import annotations

import json
import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from mlflow_core.errors import TrainError
from mlflow_core.train.data.preprocess import Feature, Preprocessing
from mlflow_core.train.networks.columns import Categories, Numbers, embedding_table
from mlflow_core.train.networks.embeddings import Flat, Periodic, Piecewise
from mlflow_core.train.networks.inputs import BINS, Inputs, Number
from mlflow_core.train.networks.steps import Steps
from tests.oracle import inputs as oracle
from tests.train.networks.cases import INPUTS, PREPROCESSING, rows, tensor

FLAT = INPUTS.flattened()
GREATEST = float(np.finfo(np.float32).max)

_values = st.one_of(
    st.floats(-100, 100, width=32),
    st.sampled_from([math.nan, 0.0, -1.0, 1.0, 2.0, 3.0, 4.0, 5.0, 7.0, 10.0, 99.0, GREATEST, -GREATEST]),
)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@settings(deadline=None, max_examples=150)
@given(st.lists(st.lists(_values, min_size=12, max_size=12), min_size=1, max_size=4))
def test_the_input_layer_equals_a_loop_over_rows_and_columns(matrix):
    x = torch.tensor(matrix, dtype=torch.float32)
    values, missing = Numbers(FLAT.numbers, FLAT.width)(x)
    layer = Categories(FLAT.categories, FLAT.width)
    codes = layer(x) - layer.starts - 1
    for place, row in enumerate(x.tolist()):
        truth = oracle.seen(PREPROCESSING, row)
        wanted = [truth[one.name] for one in FLAT.numbers]
        assert missing[place].tolist() == [absent for _, absent in wanted]
        assert_allclose(values[place], [value for value, _ in wanted], rtol=1e-5, atol=1e-5)
        found = [None if code < 0 else code for code in codes[place].tolist()]
        assert found == [truth[one.name] for one in FLAT.categories]


def test_a_description_survives_json():
    sampled = Inputs.of(PREPROCESSING, rows(500, 1))
    for one in (INPUTS, FLAT, sampled):
        assert Inputs.from_json(json.loads(json.dumps(one.to_json()))) == one
    assert sampled.without_edges() == INPUTS
    assert any(number.edges for number in sampled.numbers)


def test_every_column_of_the_matrix_is_described_once():
    places = sorted(one.column for one in (*FLAT.numbers, *FLAT.categories))
    assert places == list(range(PREPROCESSING.width))
    assert {one.name for one in (*FLAT.numbers, *FLAT.categories)} == set(PREPROCESSING.columns)


def test_lists_that_were_all_empty_leave_only_their_length():
    inputs = Inputs.of(Preprocessing((Feature("legs", "number", "list<double>", length=0),)))
    assert [one.name for one in inputs.numbers] == ["legs.length"]
    assert not inputs.sequences


def test_only_some_features_can_be_seen_and_an_unknown_one_is_refused():
    part = INPUTS.only(["delay", "planes"])
    assert [one.name for one in part.flattened().numbers] == ["delay", "planes.length"]
    assert [one.name for one in part.flattened().categories] == ["planes[0]", "planes[1]"]
    with pytest.raises(TrainError, match=r'reads "dealy".*Did you mean "delay"'):
        INPUTS.only(["dealy"])


def test_positions_of_one_sequence_share_their_part_of_the_table_and_features_do_not():
    layer = Categories(FLAT.categories, FLAT.width)
    assert layer.rows == (3 + 1) + (2 + 1)
    starts = dict(zip([one.name for one in FLAT.categories], layer.starts.tolist(), strict=True))
    assert starts["planes[0]"] == starts["planes[1]"] != starts["carrier"]
    table = embedding_table(layer, 4, generator())
    for start in layer.unseen:
        assert table.weight[start].abs().sum() == 0
    assert int((table.weight.abs().sum(dim=1) == 0).sum()) == 2


@pytest.mark.parametrize("mean", [0.0, 1e6, -3e38])
@pytest.mark.parametrize("std", [0.0, math.inf, math.nan, 1e-45])
def test_a_number_of_strange_spread_never_gives_nan(mean, std):
    layer = Numbers([Number("one", 0, mean, std)], 1)
    values, _ = layer(torch.tensor([[0.0], [math.nan], [GREATEST], [-GREATEST], [1.0]]))
    assert torch.isfinite(values).all()
    assert values.abs().max() <= oracle.LIMIT


def test_a_number_that_never_varied_is_ignored_even_if_it_differs_now():
    values, missing = Numbers([Number("same", 0, 7.0, 0.0)], 1)(torch.tensor([[7.0], [8.0], [math.nan]]))
    assert values.flatten().tolist() == [0, 0, 0]
    assert missing.flatten().tolist() == [False, False, True]


def test_edges_are_quantiles_of_the_sample_and_of_a_normal_distribution_without_one():
    sample = np.random.default_rng(3).gamma(1.0, 2.0, (20_000, 1)).astype(np.float32)
    single = Preprocessing((Feature("gust", "number", "float", mean=2.0, std=2.0),))
    (number,) = Inputs.of(single, sample).numbers
    counts, _ = np.histogram(sample, number.edges)
    assert len(number.edges) == BINS + 1
    assert counts.max() - counts.min() <= 2
    (without,) = Inputs.of(single).numbers
    assert without.edges == ()
    assert_allclose(without.scaled_edges, [-one for one in reversed(without.scaled_edges)], atol=1e-9)


def test_edges_of_values_beyond_all_measure_stay_finite():
    sample = np.random.default_rng(4).normal(size=(2000, 1)).astype(np.float32)
    sample[:200], sample[200:400], sample[400:500] = GREATEST, -GREATEST, np.nan
    inputs = Inputs.of(Preprocessing((Feature("gust", "number", "float"),)), sample)
    layer = Piecewise(inputs.numbers, 8, generator())
    values, _ = Numbers(inputs.numbers, 1)(torch.from_numpy(sample))
    assert torch.isfinite(layer(values)).all()


def test_a_sample_without_two_values_gives_no_edges():
    sample = np.array([[1.0], [np.nan], [1.0]], dtype=np.float32)
    single = Preprocessing((Feature("gust", "number", "float"),))
    assert Inputs.of(single, sample).numbers[0].edges == ()


def test_piecewise_linear_encoding_equals_the_paper_s_formula():
    numbers = [Number("a", 0, edges=(-1.0, 0.0, 2.0, 3.0)), Number("b", 1, edges=(0.0, 1.0)), Number("c", 2)]
    layer = Piecewise(numbers, BINS, generator())
    with (
        torch.no_grad()
    ):  # the linear layer after it made the identity, shifted so that ReLU keeps everything
        layer.weight.copy_(torch.eye(BINS).expand(3, -1, -1))
        layer.bias.fill_(1000.0)
    values = torch.tensor([[-3.0, -0.5, 0.2], [-0.5, 0.25, -4.0], [1.0, 7.0, 0.0], [5.0, 0.0, 9.0]])
    found = layer(values) - 1000.0
    for place, number in enumerate(numbers):
        edges = number.scaled_edges
        for row, value in enumerate(values[:, place].tolist()):
            wanted = [0.0] * BINS
            for one, (low, high) in enumerate(pairwise(edges)):
                share = (value - low) / (high - low)
                if one > 0:
                    share = max(share, 0.0)
                if one < len(edges) - 2:
                    share = min(share, 1.0)
                wanted[one] = share
            assert_allclose(found[place, row].detach(), wanted, atol=2e-3)


def test_periodic_embeddings_equal_a_loop_over_features():
    layer = Periodic(3, 5, generator())
    values = torch.linspace(-3, 3, 12).reshape(4, 3)
    found = layer(values).detach()
    for feature in range(3):
        for row in range(4):
            angles = [
                2 * math.pi * c * float(values[row, feature]) for c in layer.frequency[feature, 0].tolist()
            ]
            waves = [math.sin(a) for a in angles] + [math.cos(a) for a in angles]
            linear = (
                np.array(waves) @ layer.weight[feature].detach().numpy()
                + layer.bias[feature, 0].detach().numpy()
            )
            assert_allclose(found[feature, row], np.maximum(linear, 0), atol=1e-5)


@pytest.mark.parametrize("numbers", ["plain", "periodic", "piecewise"])
def test_the_flat_vector_is_as_wide_as_it_says_and_finite(numbers):
    flat = Flat(INPUTS, generator(), numbers=numbers, embedding=4)
    made = flat(tensor(50, 2))
    assert made.shape == (50, flat.width)
    assert torch.isfinite(made).all()


def test_steps_stand_oldest_first_with_their_newest_together():
    steps = Steps(INPUTS, generator())
    x = torch.full((2, PREPROCESSING.width), math.nan)
    legs, planes = PREPROCESSING.slices["legs"], PREPROCESSING.slices["planes"]
    x[0, legs] = torch.tensor([99.0, 99.0, 5.0, 15.0, 2.0])  # two real legs, of 0 and 1 standard deviations
    x[0, planes] = torch.tensor([0.0, 1.0, 1.0])
    x[1, legs.stop - 1], x[1, planes.stop - 1] = 0, 0
    made, real = steps(x)
    assert real.tolist() == [[False, False, True, True], [False] * 4]
    assert made[0, :, 0].tolist() == [0, 0, 0, 1]
    assert made[1].abs().sum() == 0
    second = steps.table.weight[2]
    assert torch.equal(made[0, 3, 2:], second)
    left, many = steps.left(made, real)
    assert many.tolist() == [2, 0]
    assert left[0, :2, 0].tolist() == [0, 1]
    assert torch.equal(left[0, 1], made[0, 3])
