"""What tells one training from another: settings that decide what is learned, and a user's code; not how it runs."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from mlflow_core.spec import MLP, Family, Recovery, Torch, XGBoost
from mlflow_core.spec.trainer import Trainer
from mlflow_core.train.identity import identity_of

NET = Torch(module=MLP())


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (XGBoost(), XGBoost(recovery=Recovery(restarts=3), memory_per_worker="2GiB")),
        (NET, Torch(module=MLP(), workers=2, device="cpu", checkpoint_every=7, memory_per_worker="1MB")),
        (
            Family(trainer=NET, by=("key",)),
            Family(trainer=Torch(module=MLP(), recovery=Recovery(shrink=False)), by=("key",)),
        ),
    ],
)
def test_how_it_runs_is_not_of_it(one: Trainer, other: Trainer) -> None:
    assert identity_of(one) == identity_of(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (XGBoost(), XGBoost(seed=1)),
        (XGBoost(), XGBoost(checkpoint_every=7)),  # the segments' seeds are of the booster
        (NET, Torch(module=MLP(members=2))),
        (Family(trainer=XGBoost(), by=("key",)), Family(trainer=XGBoost(seed=1), by=("key",))),
        (Family(trainer=XGBoost(), by=("key",)), XGBoost()),
    ],
)
def test_what_decides_the_model_is(one: Trainer, other: Trainer) -> None:
    assert identity_of(one) != identity_of(other)


def test_a_module_of_a_user_s_counts_by_the_text_of_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    file = tmp_path / "net_of_a_user.py"
    file.write_text("class Net: ...\n")
    trainer = Torch(module="net_of_a_user:Net")

    before = identity_of(trainer)
    assert identity_of(trainer) == before
    file.write_text("class Net: 'changed'\n")

    assert identity_of(trainer) != before
    assert "net_of_a_user" not in sys.modules
    assert identity_of(Torch(module="nowhere_at_all:Net")) != before
