"""The same on GPUs: one rank to a device, nccl between them, bf16. None of it can run where there is no GPU."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from distributed import Client

from mlflow_core.errors import TrainError
from mlflow_core.spec.network import MLP, FTTransformer
from mlflow_core.spec.recovery import Recovery
from mlflow_core.spec.trainer import Torch
from mlflow_core.train.gang.gang import run_gang
from mlflow_core.train.torch.rendezvous import StoreRendezvous
from tests.train.made import fit, training_set
from tests.train.torch.programs import Trains

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU"),
]

TRAINER = Torch(
    module=MLP(hidden=(64,), dropout=0.0), epochs=4, batch_size=128, learning_rate=3e-3, device="cuda"
)
RENDEZVOUS = StoreRendezvous(("tests.train.torch.programs",))


@pytest.mark.parametrize(
    "module", [MLP(hidden=(64,), dropout=0.0), FTTransformer(blocks=1, width=32, dropout=0.0)]
)
def test_a_gpu_learns_what_the_processor_learns(tmp_path: Path, module: MLP | FTTransformer) -> None:
    data = training_set(tmp_path / "data")
    trainer = TRAINER.model_copy(update={"module": module})

    there = fit(trainer, data, workdir=tmp_path / "gpu")
    here = fit(trainer.model_copy(update={"device": "cpu"}), data, workdir=tmp_path / "cpu")

    np.testing.assert_allclose(there.history["loss"], here.history["loss"], rtol=5e-3)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_mixed_precision_on_a_gpu_is_nearly_as_good(tmp_path: Path, precision: str) -> None:
    data = training_set(tmp_path / "data")

    mixed = fit(TRAINER.model_copy(update={"precision": precision}), data, workdir=tmp_path / "mixed")
    exact = fit(TRAINER, data, workdir=tmp_path / "exact")

    np.testing.assert_allclose(mixed.history["loss"], exact.history["loss"], rtol=0.02)


def test_an_interrupted_training_on_a_gpu_goes_on(tmp_path: Path) -> None:
    data = training_set(tmp_path / "data")
    trainer = TRAINER.model_copy(update={"checkpoint_every": 5, "ema": 0.9})
    undisturbed = fit(trainer, data, workdir=tmp_path / "undisturbed")

    class Stopping:
        def params(self, params: object) -> None:
            pass

        def metrics(self, metrics: dict[str, float], *, step: int | None = None) -> None:
            if step is not None and step > 40:
                raise KeyboardInterrupt

        def artifact(self, name: str, path: Path) -> None:
            pass

    with pytest.raises(KeyboardInterrupt):
        fit(trainer, data, workdir=tmp_path / "work", recorder=Stopping())
    resumed = fit(trainer, data, workdir=tmp_path / "work")

    np.testing.assert_allclose(resumed.history["loss"], undisturbed.history["loss"], rtol=1e-3)


def test_a_loss_that_is_no_number_on_a_gpu_names_the_step(tmp_path: Path) -> None:
    data = training_set(tmp_path / "data")
    trainer = Torch.model_validate(
        TRAINER.model_dump()
        | {"module": "tests.train.torch.nets:Fragile", "arguments": {"limit": 60.0}, "checkpoint_every": 1}
    )

    with pytest.raises(TrainError, match=r"the loss is not a finite number in step \d+ of epoch 0"):
        fit(trainer, data, workdir=tmp_path / "work")


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="there are not two GPUs")
def test_two_ranks_over_nccl_learn_what_one_learns(tmp_path: Path, two: Client) -> None:
    one = run_gang(
        two,
        Trains(TRAINER, tmp_path / "1", None, "cuda"),
        ranks=1,
        recovery=Recovery(),
        rendezvous=RENDEZVOUS,
    )
    both = run_gang(
        two,
        Trains(TRAINER, tmp_path / "2", None, "cuda"),
        ranks=2,
        recovery=Recovery(),
        rendezvous=RENDEZVOUS,
    )

    assert {one["device"] for one in both.results} == {"cuda:0", "cuda:1"}
    np.testing.assert_allclose(one.results[0]["history"], both.results[0]["history"], rtol=1e-3)


@pytest.mark.skipif(torch.cuda.device_count() != 1, reason="there is not one GPU")
def test_two_ranks_do_not_share_a_gpu(tmp_path: Path, two: Client) -> None:
    data = training_set(tmp_path / "data")

    with pytest.raises(TrainError, match="has 1 GPUs for 2 ranks"):
        fit(TRAINER.model_copy(update={"workers": 2}), data, workdir=tmp_path / "work", client=two)
