"""A scheduler that is killed and started again under a pipeline: its steps lose an attempt, and the run goes on by itself."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mlflow_core.config.cluster import ClusterSettings
from mlflow_core.engine.cluster.connect import open_cluster
from mlflow_core.errors import ClusterLost
from mlflow_core.workflow.project import open_workspace
from mlflow_core.workflow.training import fitting, run_pipeline
from tests.chaos.hosts import ROOT, free_port, kill, machines
from tests.workflow.conftest import copied
from tests.workflow.projects import edit, enlarge

pytestmark = pytest.mark.chaos

HOST = "127.0.0.1"
AWAY_S = 1.0


def first_time(act: Callable[[], None], work: Callable[..., Any]) -> Callable[..., Any]:
    """Do something just after a function has worked for the first time."""
    left = [act]

    def disturbed(*arguments: Any, **named: Any) -> Any:
        found = work(*arguments, **named)
        if left:
            left.pop()()
        return found

    return disturbed


@pytest.mark.parametrize(
    ("step", "work"), [("dataset", "build_for_pipeline"), ("search", "search_settings"), ("train", "fit")]
)
@pytest.mark.parametrize("retries", [0, 1])
def test_a_step_that_lost_its_scheduler_is_tried_again_as_often_as_the_pipeline_says(
    step: str, work: str, retries: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = enlarge(copied(ROOT, tmp_path / "project"))
    edit(project / "training" / "breakdown.py", "seed=1)", "seed=1, workers=1)")
    edit(
        project / "training" / "breakdown.py",
        "        **more,",
        f"        retries={retries},\n        **more,",
    )
    if step == "search":
        edit(
            project / "training" / "breakdown.py",
            'pipeline("worn", machine_wear)',
            'pipeline("worn", machine_wear, search=ml.Search(trials=2, space={"max_depth": ml.Int(2, 4)}))',
        )
    settings = project / "mlcore.toml"
    settings.write_text(settings.read_text() + '\n[cluster]\nlarger_than = "1B"\n')
    port = free_port(HOST)
    address = f"tcp://{HOST}:{port}"
    with machines(tmp_path / "machines") as cluster:
        lost = [cluster.scheduler(HOST, port), cluster.worker(address, HOST)]

        def restart() -> None:
            cluster.scheduler(HOST, port)
            cluster.worker(address, HOST)

        back = threading.Timer(AWAY_S, restart)

        def lose() -> None:
            while lost:
                kill(lost.pop(0))
            back.start()

        work_before = getattr(fitting, work)

        def armed(*arguments: Any, **named: Any) -> Any:
            """The step's work, whose first task on the cluster loses it."""
            if lost:
                client.submit = first_time(lose, client.submit)
            return work_before(*arguments, **named)

        monkeypatch.setattr(fitting, work, armed)
        workspace = open_workspace(project)
        try:
            with open_cluster(ClusterSettings(address=address)) as client:
                client.wait_for_workers(1, timeout=60)
                if retries:
                    run_pipeline(workspace, "worn", client=client)
                else:
                    with pytest.raises(ClusterLost, match="went away"):
                        run_pipeline(workspace, "worn", client=client)
            attempts = [
                one.state.value for one in workspace.metadata.list_steps("latest") if one.name == step
            ]
        finally:
            back.cancel()
            if back.ident is not None:
                back.join()  # what it starts is to end with the test
            workspace.metadata.close()
    assert attempts == ["crashed", *["succeeded"] * retries]
