"""The process that speaks to MLflow: a request in JSON a line on its input, an answer a line on its output.

It ends when whoever started it is gone, also in the middle of a request: another one may be at the same copy by then.
What MLflow prints goes to standard error.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import IO, Any, Final

__all__ = ["main"]

Work = Mapping[str, Callable[[Mapping[str, Any]], Any]]
"""What can be asked for."""

_LOOK_S: Final = 0.5


def main() -> None:
    """Answer requests until there are no more."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    threading.Thread(target=_end_after, args=(os.getppid(),), daemon=True).start()
    # MLflow's first request would load all of Feast, for a plug-in that does nothing but in Feast's server.
    sys.modules["feast"] = None  # type: ignore[assignment]  # which is how Python is told that there is none
    work: Work = {}
    for line in sys.stdin:
        request = json.loads(line)
        if request["do"] == "open":
            work = _answered(answers, partial(_opened, request), shown=False) or work
        else:
            _answered(answers, partial(_done, work, request))


def _end_after(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_LOOK_S)
    os._exit(1)


def _done(work: Work, request: Mapping[str, Any]) -> Any:
    return work[request["do"]](request)


def _opened(request: Mapping[str, Any]) -> Work:
    from mlflow.tracking import MlflowClient, set_tracking_uri

    from mlflow_core.workflow.mirror.reading import ended_runs, read_run
    from mlflow_core.workflow.mirror.sending import send_run

    set_tracking_uri(request["tracking_uri"])  # by which MLflow finds the files of a logged model
    client = MlflowClient(request["tracking_uri"], request["registry_uri"])
    return {
        "look": lambda _: client.search_experiments(max_results=1) and None,
        "send": lambda asked: send_run(client, asked),
        "list": lambda asked: ended_runs(client, asked["experiment"]),
        "read": lambda asked: read_run(client, asked["run"], asked["folder"], request["tracking_uri"]),
    }


def _answered(answers: IO[str], work: Callable[[], Any], *, shown: bool = True) -> Any:
    """Write down what some work gave, or why it gave nothing: the other side says that to a person."""
    done = None
    try:
        done = work()
        answer: dict[str, Any] = {"answer": done if shown else None}
    except Exception as error:
        text = str(error).strip() or type(error).__name__
        answer = {
            "error": text if type(error).__name__ == "MlflowException" else f"{type(error).__name__}: {text}"
        }
    answers.write(json.dumps(answer) + "\n")
    answers.flush()
    return done


if __name__ == "__main__":
    main()
