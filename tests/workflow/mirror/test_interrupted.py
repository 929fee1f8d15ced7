"""A copy that was killed at any point is completed by the next one, and nothing of it is there twice."""

from __future__ import annotations

import pytest
from mlflow import MlflowClient

from mlflow_core.workflow.mirror.parcel import pack
from mlflow_core.workflow.mirror.sending import send_run
from tests.workflow.mirror.conftest import VALUES, a_run, register

POINTS = (
    ("create_run", 1),
    ("log_batch", 1),
    ("log_batch", 2),
    ("log_batch", 3),
    ("log_artifacts", 1),
    ("create_registered_model", 1),
    ("create_model_version", 1),
    ("set_terminated", 1),
)


class Killed(BaseException):
    """The process ends here."""


def dying_after(point: str, call: int, uri: str) -> MlflowClient:
    """A client whose process is gone once a call has come back for the nth time: the server has done it."""
    left = [call]

    class Dying(MlflowClient):
        def __getattribute__(self, name):
            found = super().__getattribute__(name)
            if name != point:
                return found

            def once(*arguments, **more):
                done = found(*arguments, **more)
                left[0] -= 1
                if left[0] == 0:
                    raise Killed
                return done

            return once

    return Dying(uri)


@pytest.mark.parametrize(("point", "call"), POINTS)
def test_a_copy_that_was_killed_is_completed_once(
    open_stores, server, mlflow, experiment, tmp_path, point, call
):
    stores = open_stores(tracking_uri=server.url, experiment=experiment, models="true", within="5m")
    run = a_run(stores)
    register(stores, run, tmp_path / "model")
    folder = tmp_path / "parcel"
    folder.mkdir()
    request = pack(
        stores.metadata,
        stores.artifacts,
        run,
        folder,
        project="default/parcels",
        experiment=experiment,
        models=True,
    ).request
    renamed = {**request, "model": {**request["model"], "name": experiment}}
    with pytest.raises(Killed):
        send_run(dying_after(point, call, server.url), renamed)

    done = send_run(mlflow, renamed)

    found = mlflow.get_experiment_by_name(experiment)
    (copy,) = mlflow.search_runs([found.experiment_id])
    assert done["made"]
    assert done["run"] == copy.info.run_id
    assert copy.info.status == "FINISHED"
    steps = sorted(one.step for one in mlflow.get_metric_history(copy.info.run_id, "loss"))
    assert steps == list(range(len(VALUES)))
    assert {one.path for one in mlflow.list_artifacts(copy.info.run_id)} == {
        "mlcore.json",
        "model",
        "model_card.md",
        "report.html",
    }
    versions = mlflow.search_model_versions(f"name='{experiment}'")
    assert [one.version for one in versions] == [done["version"]]
    assert send_run(mlflow, renamed)["made"] is False
