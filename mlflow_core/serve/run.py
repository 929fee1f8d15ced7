"""Running the server: one application a process under uvicorn, any number of processes on one port.

Worker processes are started afresh and build their own application, so what it is built from travels to them as
text in the environment; nothing is inherited. Binds to the loopback unless told otherwise.
"""

from __future__ import annotations

import gc
import os
import socket
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import orjson
import uvicorn
from uvicorn.supervisors import Multiprocess

from mlflow_core.artifacts import ArtifactStore
from mlflow_core.config import Principal, Settings, SystemClock, load_settings, parse_clock
from mlflow_core.config.principal import Established
from mlflow_core.engine.layouts.cache import Cache
from mlflow_core.errors import ServeError
from mlflow_core.feast.kept_rows import layout_caches
from mlflow_core.feast.registry import read_config
from mlflow_core.metadata import MetadataStore
from mlflow_core.serve.app import Application, Limits
from mlflow_core.serve.connection import Connection
from mlflow_core.serve.erasing import Kept
from mlflow_core.serve.features import Features, make_importable
from mlflow_core.serve.issued import IssuedTokens
from mlflow_core.serve.predict import Models, Predictor
from mlflow_core.serve.tokens import Tokens
from mlflow_core.serve.writes import WriteAccess
from mlflow_core.telemetry import configure_logging

__all__ = ["SERVER", "Served", "application", "serve"]

_HANDED_OVER = "_MLFLOW_CORE_SERVED"
_KEEP_ALIVE_S = 75  # longer than callers keep idle connections, so that none is closed as it is used again
SERVER: dict[str, Any] = {
    "http": Connection,
    "log_level": "warning",
    "access_log": False,
    "server_header": False,
    "proxy_headers": False,  # nothing here depends on where a caller is
    "lifespan": "on",
    "timeout_keep_alive": _KEEP_ALIVE_S,
}
"""How uvicorn runs an application."""


@dataclass(frozen=True)
class Served:
    """What a server serves and how, as text that another process can be given.

    Args:
        root: The project's folder.
        env: The settings' overlay, or None.
        clock: What "now" means; see ``mlflow_core.config.parse_clock``.
        principal: Who runs it.
        established: How that is known.
        allow_registry_code: Run native on-demand transformations, whose code is in the registry.
        verbosity: How much is logged.
        limits: How much it takes on.
        shared_metrics: The folder where worker processes of one port add up their numbers, or None.
    """

    root: str
    env: str | None = None
    clock: str = "system"
    principal: str = "serve"
    established: Established = "os"
    allow_registry_code: bool = False
    verbosity: int = 0
    limits: Limits = field(default_factory=Limits)
    shared_metrics: str | None = None

    def to_json(self) -> str:
        """Return it as text."""
        return orjson.dumps(asdict(self)).decode()

    @classmethod
    def from_json(cls, text: str) -> Served:
        """Read it back."""
        fields = orjson.loads(text)
        return cls(**{**fields, "limits": Limits(**fields["limits"])})


def application(served: Served) -> Application:
    """Build the application of this process.

    Args:
        served: What to serve.

    Raises:
        ConfigError: A setting is wrong.
        RegistryError: There is no registry, or it cannot be read.
        MetadataError: The metadata database cannot be used.
    """
    settings = load_settings(Path(served.root), served.env)
    configure_logging(served.verbosity, redact=settings.secret_values())
    clock = parse_clock(served.clock)
    make_importable(settings.root)
    features = Features.open(
        settings.feature_repo_path(), clock, allow_registry_code=served.allow_registry_code
    )
    config = read_config(settings.feature_repo_path())

    def metadata_of(principal: Principal) -> MetadataStore:
        return MetadataStore(
            settings.metadata_url(),
            clock,
            principal,
            project=config.project,
            namespace=settings.project.namespace,
        )

    metadata, artifacts = (
        metadata_of(Principal(served.principal, served.established)),
        ArtifactStore(settings.artifact_location()),
    )
    own = Cache(Path(settings.cache.location), settings.cache.limit)
    caches = {cache.folder.resolve(): cache for cache in (own, *layout_caches(config))}
    issued = _issued_tokens(served, settings, config.project)
    access = WriteAccess(
        Tokens({name: token.reveal() for name, token in settings.serve.tokens.items()}, issued),
        Kept(metadata, metadata_of, artifacts, tuple(caches.values())),
    )
    predictor = Predictor(features, Models(metadata, artifacts))
    shared = None if served.shared_metrics is None else Path(served.shared_metrics)
    return Application(features, predictor, served.limits, shared, access)


def _issued_tokens(served: Served, settings: Settings, project: str) -> IssuedTokens:
    """The tokens of the namespace, which end by the time that it is: what is served may be of another day."""
    clock = SystemClock()
    kept = MetadataStore(
        settings.metadata_url(),
        clock,
        Principal(served.principal, served.established),
        project=project,
        namespace=settings.project.namespace,
    )
    issued = IssuedTokens(kept.tokens_in_force, clock, close=kept.close, holds_s=served.limits.tokens_hold_s)
    issued.refresh()
    return issued


def application_of_environment() -> Application:
    """Build the application of a worker process from what its parent has handed over."""
    return _settled(application(Served.from_json(os.environ[_HANDED_OVER])))


def serve(
    served: Served,
    *,
    host: str,
    port: int,
    workers: int = 1,
    announce: Callable[[str], None] | None = None,
) -> None:
    """Serve until the process is told to end (SIGTERM, SIGINT); requests being answered are finished first.

    Args:
        served: What to serve.
        host: Address to listen on.
        port: Port; 0 takes a free one.
        workers: Processes that share the port.
        announce: Told the address when the port is bound.

    Raises:
        ConfigError, RegistryError, MetadataError: As for ``application``.
        ServeError: The port is taken, or the address is none of this machine.
    """
    with _bound(host, port) as listening, TemporaryDirectory(prefix="mlcore-metrics-") as folder:
        if workers == 1:
            config = uvicorn.Config(_settled(application(served)), **SERVER)
        else:
            application(served).close()  # what is wrong is said here once, not by each worker
            os.environ[_HANDED_OVER] = replace(served, shared_metrics=folder).to_json()
            target = f"{__name__}:{application_of_environment.__name__}"
            config = uvicorn.Config(target, factory=True, workers=workers, **SERVER)
        if announce is not None:
            announce(_url(host, listening))
        if workers == 1:
            uvicorn.Server(config).run(sockets=[listening])
        else:
            Multiprocess(config, sockets=[listening]).run()


def _settled(ready: Application) -> Application:
    """Take all that was imported and compiled out of the garbage collector's rounds, which would stop requests."""
    gc.collect()
    gc.freeze()
    return ready


def _bound(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.listen(2048)  # callers wait in line from now on, while workers start
    except OSError as error:
        listening.close()
        raise ServeError(
            f"cannot listen on {host}:{port}: {error.strerror or error}",
            hint="Name another port with --port.",
        ) from error
    listening.set_inheritable(True)
    return listening


def _url(host: str, listening: socket.socket) -> str:
    shown = f"[{host}]" if ":" in host else host
    return f"http://{shown}:{listening.getsockname()[1]}"
