"""MLflow in a process of its own: started for a while, asked one thing after another, ended whatever happens.

MLflow reads its settings from the environment, tries a dead server for minutes, prints, reports on its use and takes two
seconds to load. There it may; here a question has an answer or an error within a time that is known. Its reports to its
makers are switched off unless the environment says otherwise.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any, Final
from urllib.parse import parse_qsl, unquote, urlsplit, urlunsplit

from mlflow_core.config import Settings
from mlflow_core.config.secret import reveal
from mlflow_core.errors import WorkflowError
from mlflow_core.telemetry.logs import blotted

__all__ = ["Asked", "Server", "asking", "server_of", "without_secrets"]

_CHILD: Final = "mlflow_core.workflow.mirror.child"
_HINT: Final = 'Install the extra: pip install "mlflow-core[mlflow]".'
# What is set already wins.
_UNLESS_SET: Final = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "GIT_PYTHON_REFRESH": "quiet",
}
_LONGEST: Final = 300
_START_S: Final = 120.0  # to load MLflow, which asks no server anything


@dataclass(frozen=True)
class Server:
    """Where MLflow keeps what it is asked for, and as whom it is asked.

    Attributes:
        tracking_uri: The tracking server, or what else MLflow reads: ``sqlite:///...``, a folder.
        registry_uri: Where models are; the tracking server if None.
        folder: Where relative paths begin.
        environ: Variables for MLflow's process, such as ``MLFLOW_TRACKING_TOKEN``.
        secrets: Texts that must never appear.
        within_s: How long one answer may take.
    """

    tracking_uri: str = field(repr=False)
    registry_uri: str | None = field(default=None, repr=False)
    folder: Path = Path()
    environ: Mapping[str, str] = field(default_factory=dict, repr=False)
    secrets: tuple[str, ...] = field(default=(), repr=False)
    within_s: float = 60.0

    @property
    def shown(self) -> str:
        """The address without a user's name and password."""
        return self.hidden(without_secrets(self.tracking_uri))

    def hidden(self, text: str) -> str:
        """Blot the secrets out of a text."""
        return blotted(text, self.secrets)


def server_of(settings: Settings, *, tracking_uri: str | None = None, folder: Path | None = None) -> Server:
    """Say which server the settings mean.

    Args:
        settings: The project's.
        tracking_uri: Another one; what opens the settings' server is not shown to it, unless it is that one.
        folder: Where its relative paths begin; the project's folder if None.

    Raises:
        WorkflowError: None is set.
    """
    told = settings.mlflow
    own = reveal(told.tracking_uri or "")
    uri = own if tracking_uri is None else tracking_uri
    if not uri:
        raise WorkflowError(
            "there is no tracking server to copy runs to",
            object="[mlflow] tracking_uri",
            hint='Set it in mlcore.toml, e.g. tracking_uri = "http://127.0.0.1:5000".',
        )
    registry = None if uri != own or told.registry_uri is None else reveal(told.registry_uri)
    variables = (
        {"USERNAME": told.username, "PASSWORD": told.password, "TOKEN": told.token} if uri == own else {}
    )
    return Server(
        uri,
        registry,
        folder if folder is not None else settings.root,
        {f"MLFLOW_TRACKING_{name}": value.reveal() for name, value in variables.items() if value is not None},
        (*settings.secret_values(), *_password_in(uri), *_password_in(registry or "")),
        told.within_s,
    )


class Asked:
    """MLflow's process, while it can be asked.

    Args:
        process: It.
        errors: What it writes to its standard error.
        server: Where it works.
    """

    def __init__(self, process: subprocess.Popen[bytes], errors: IO[bytes], server: Server) -> None:
        self._process, self._errors, self._server = process, errors, server
        self._late = False

    def ask(self, request: Mapping[str, Any], *, within_s: float | None = None) -> Any:
        """Ask for something and wait for the answer.

        Args:
            request: JSON values; ``do`` says what.
            within_s: How long to wait; what the server says if None.

        Returns:
            JSON values.

        Raises:
            WorkflowError: MLflow or its server refused it, or gave no answer within the time.
        """
        sent, got = self._process.stdin, self._process.stdout
        assert sent is not None
        assert got is not None
        timer = threading.Timer(self._server.within_s if within_s is None else within_s, self._give_up)
        timer.start()
        try:
            with suppress(BrokenPipeError):  # then there is no answer either
                sent.write(json.dumps(request).encode() + b"\n")
                sent.flush()
            line = got.readline()
        finally:
            timer.cancel()
        if not line.endswith(b"\n"):
            raise self._lost()
        answer = json.loads(line)
        if "error" in answer:
            raise self._error(answer["error"])
        return answer["answer"]

    @property
    def is_gone(self) -> bool:
        """Whether the process has ended, so that it answers nothing more."""
        return self._process.poll() is not None

    def _give_up(self) -> None:
        self._late = True
        self._process.kill()

    def _lost(self) -> WorkflowError:
        self._process.wait()
        if self._late:
            return self._error(
                "gave no answer in time", hint="The key mlflow.within says how long to wait for it."
            )
        self._errors.seek(0)
        said = self._errors.read().decode(errors="replace").strip().rpartition("\n")[2]
        return self._error(f"its process ended with {self._process.returncode}: {said or 'it said nothing'}")

    def _error(self, what: str, *, hint: str | None = None) -> WorkflowError:
        text = " ".join(self._server.hidden(what).split())
        text = text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."
        return WorkflowError(text, object=f"MLflow at {self._server.shown}", hint=hint)


@contextmanager
def asking(server: Server) -> Iterator[Asked]:
    """Start MLflow's process for the time of a ``with`` block.

    Args:
        server: Where it works.

    Raises:
        WorkflowError: The extra is not installed.
    """
    if find_spec("mlflow") is None:
        raise WorkflowError("MLflow is not installed", hint=_HINT)
    environ = {**_UNLESS_SET, **os.environ, **server.environ}
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", _CHILD],  # a file json.py in its folder is none of Python's
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            cwd=server.folder,
            env=environ,
            start_new_session=True,  # a Ctrl-C in the terminal is ours to act on
        )
        try:
            asked = Asked(process, errors, server)
            # What it is told comes on its input: arguments can be seen by every user of the machine.
            opening = {
                "do": "open",
                "tracking_uri": server.tracking_uri,
                "registry_uri": server.registry_uri,
            }
            asked.ask(opening, within_s=max(server.within_s, _START_S))
            yield asked
        finally:
            process.kill()
            process.communicate()


def without_secrets(uri: str) -> str:
    """Leave the user's name and password out of an address, and its query, where databases take them too.

    Example:
        >>> without_secrets("https://ann:pw@mlflow.internal/x")
        'https://mlflow.internal/x'
        >>> without_secrets("postgresql://db/mlflow?password=pw")
        'postgresql://db/mlflow'
    """
    shown = uri.partition("?")[0]
    parts = urlsplit(shown)
    return (
        urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2])) if "@" in parts.netloc else shown
    )


def _password_in(uri: str) -> tuple[str, ...]:
    parts = urlsplit(uri)
    asked = dict(parse_qsl(parts.query)).get("password", "")
    return tuple(filter(None, (parts.password, unquote(parts.password or ""), asked)))
