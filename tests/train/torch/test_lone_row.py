"""Batch normalisation and parts of batches with one row: refused beforehand, with a size of a batch that goes."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from mlflow_core.errors import TrainError
from mlflow_core.spec.trainer import Torch
from mlflow_core.train.networks.inputs import Inputs, Number
from mlflow_core.train.torch.lone_row import check_lone_row, smallest_part
from tests.oracle.shuffle import shares
from tests.train.made import fit, table, write

LINEAR = "tests.train.torch.nets:Linear"
NORMED = Torch(module=LINEAR, arguments={"normed": True}, epochs=1, batch_size=64)
INPUTS = Inputs(("delay",), numbers=(Number("delay", 0, 10.0, 20.0),))


def test_a_last_batch_of_one_row_is_refused_with_a_size_that_goes(tmp_path: Path) -> None:
    data = write(tmp_path / "data", {"train": [table(129, 1)], "validate": [table(90, 3)]})

    with pytest.raises(TrainError, match="the last batch has 1 of 129 rows") as raised:
        fit(NORMED, data, workdir=tmp_path / "work")

    assert "Use batch_size=63, or nn.LayerNorm" in str(raised.value)
    fit(NORMED.model_copy(update={"batch_size": 63}), data, workdir=tmp_path / "work")


def test_without_batch_normalisation_a_last_batch_of_one_row_is_learned_from(tmp_path: Path) -> None:
    data = write(tmp_path / "data", {"train": [table(129, 1)], "validate": [table(90, 3)]})

    model = fit(Torch(module=LINEAR, epochs=1, batch_size=64), data, workdir=tmp_path / "work")

    assert len(model.history["loss"]) == 1


@pytest.mark.parametrize("workers", [1, 2, 3])
@pytest.mark.parametrize("accumulate", [1, 2, 5])
@pytest.mark.parametrize("rows", [3, 64, 65, 66, 70, 127, 130])
def test_the_smallest_part_is_what_the_loop_cuts(rows: int, accumulate: int, workers: int) -> None:
    trainer = Torch(module=LINEAR, batch_size=16, accumulate=accumulate, workers=workers)

    cut = []
    for ranks in shares(list(range(rows)), 16, workers):
        for share in filter(None, ranks):
            parts = min(accumulate, len(share))
            ends = [len(share) * part // parts for part in range(parts + 1)]
            cut += [end - start for start, end in pairwise(ends)]

    assert smallest_part(trainer, rows) == min(cut)


class OverSteps(nn.Module):
    """Normalised over the steps of a sequence as well, so that one row is enough."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(1)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x.unsqueeze(1).expand(-1, 1, 3)).mean(dim=2)


def test_a_network_that_can_learn_from_one_row_is_let_through_and_left_as_it_is() -> None:
    net = OverSteps()

    check_lone_row(net, INPUTS, NORMED, 129)

    assert torch.equal(net.norm.running_mean, torch.zeros(1))


def test_where_no_size_goes_only_another_network_is_proposed() -> None:
    with pytest.raises(TrainError, match=r"has 1 of 1 rows.*Use nn.LayerNorm\."):
        check_lone_row(nn.BatchNorm1d(1), INPUTS, NORMED, 1)
