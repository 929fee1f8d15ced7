"""A driver of one step in a process of its own, to be killed: ``python -m tests.workflow.calling.driving ROOT STORE AT [ADDRESS]``."""

from __future__ import annotations

import sys

from mlflow_core.workflow.calling import StepCall, call_step


def main(root: str, store: str, at: str, address: str | None = None) -> None:
    """Call the step that ignores TERM, here or on the cluster at an address."""
    call = StepCall("stays", "jobs.steps:stays", store, params={"at": at}, project=(root,))
    if address is None:
        call_step(call)
    else:
        from distributed import Client

        with Client(address) as client:
            call_step(call, client=client)


if __name__ == "__main__":
    main(*sys.argv[1:])
