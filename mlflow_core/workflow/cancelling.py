"""Cancel a run: its driver is asked to stop; where none is alive any more, the run is ended here."""

from __future__ import annotations

from mlflow_core.metadata import MetadataStore, Run
from mlflow_core.metadata.records import RunState
from mlflow_core.workflow.lease import driver_is_gone

__all__ = ["cancel_run"]


def cancel_run(metadata: MetadataStore, run_id: str, *, why: str = "") -> Run:
    """Ask a run to stop.

    Args:
        metadata: Where runs are written down.
        run_id: The run, as for ``MetadataStore.get_run``.
        why: The reason, for the record.

    Returns:
        The run: cancelled where nobody drives it, also where its driver was killed on this machine; else running until
        its driver has heard of it, which takes about two seconds.

    Raises:
        UnknownNameError: There is no such run.
        MetadataError: It has ended.
    """
    run = metadata.request_cancel(metadata.get_run(run_id).id, why=why)
    if run.state == RunState.RUNNING and driver_is_gone(run.lease_owner):
        why = f"cancelled by {run.cancel_requested_by}"
        return metadata.finish_run(run.id, RunState.CANCELLED, error=why, driver=run.lease_owner)
    return run
