"""Clusters that somebody else's machines run: jobs of a queue, pods of Kubernetes, a Dask Gateway.

Each profile is one library of Dask's, an extra, imported when it is asked for. Here our settings become its arguments,
checked by the library's own signatures, so that no option is passed on that nobody knows. Connecting to the cluster
and waiting for it is ``mlflow_core.engine.cluster.connect``.
"""

from __future__ import annotations

import importlib
import inspect
import shutil
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final

from mlflow_core.config.cluster import ClusterSettings
from mlflow_core.config.secret import reveal_in
from mlflow_core.engine.cluster.environment import WORKER_ENVIRONMENT
from mlflow_core.errors import ConfigError, EngineError, nearest

if TYPE_CHECKING:
    from distributed import Client, Security

__all__ = ["client_of_profile", "job_arguments", "pod_arguments"]

QUEUES: Final = {
    "slurm": "slurm.SLURMCluster",
    "pbs": "pbs.PBSCluster",
    "sge": "sge.SGECluster",
    "lsf": "lsf.LSFCluster",
    "moab": "moab.MoabCluster",
    "oar": "oar.OARCluster",
    "htcondor": "htcondor.HTCondorCluster",
    "jobqueue-local": "local.LocalCluster",
}
_NOT_OPTIONS: Final = {
    "self", "kwargs", "job_kwargs", "base_class_kwargs", "n_workers", "job_cls", "loop", "asynchronous", "scheduler",
    "scheduler_cls", "silence_logs", "config_name", "quiet", "host", "dashboard_address", "name", "security",
}  # fmt: skip
_REFUSALS: Final[tuple[type[Exception], ...]] = (TypeError, ValueError, OSError, RuntimeError)
_OF_THE_GATEWAY: Final = ("address", "proxy_address", "public_address", "auth", "username", "password")


@contextmanager
def client_of_profile(settings: ClusterSettings, security: Security | None) -> Iterator[Client]:
    """Start the cluster of a profile other than ``local``, and close it at the end.

    Args:
        settings: With a profile and how many workers.
        security: Certificates, or None.

    Yields:
        A client; the workers may still be on their way.

    Raises:
        ConfigError: The profile's extra is not installed, or an option is unknown, missing or wrong.
        EngineError: The queue's commands are not on this machine, or what starts clusters does not answer.
    """
    if settings.workers is None:
        raise ConfigError(
            "cluster.workers is not set",
            object=f'cluster profile "{settings.profile}"',
            expected="how many worker processes to ask for",
        )
    if settings.profile in QUEUES:
        yield from _jobs(settings, security)
    elif settings.profile == "kubernetes":
        yield from _pods(settings)
    else:
        yield from _gateway(settings)


def job_arguments(settings: ClusterSettings, kind: type[Any]) -> dict[str, Any]:
    """Say with which arguments a cluster class of dask-jobqueue is called.

    Args:
        settings: The cluster's settings.
        kind: The class, e.g. ``dask_jobqueue.SLURMCluster``.

    Raises:
        ConfigError: An option is none of the class's, or a job's memory is not said.
    """
    from dask.utils import parse_bytes

    options = _options(settings, _parameters((*kind.__mro__, *kind.job_cls.__mro__)))
    processes = int(options.setdefault("processes", 1))
    arguments: dict[str, Any] = {"cores": (settings.threads or 1) * processes}
    if settings.memory is not None:
        arguments["memory"] = f"{parse_bytes(settings.memory) * processes} B"
    scheduler = {"dashboard": False, "dashboard_address": ":0"}
    if (
        settings.profile == "jobqueue-local"
    ):  # its jobs are one command, not a script that could set variables
        scheduler["host"] = "127.0.0.1"
    else:
        exports = [f"export {name}={value}" for name, value in WORKER_ENVIRONMENT.items()]
        options["job_script_prologue"] = exports + list(options.get("job_script_prologue", ()))
    options["scheduler_options"] = scheduler | dict(options.get("scheduler_options", {}))
    arguments |= options
    if "memory" not in arguments:
        raise ConfigError(
            "cluster.memory is not set",
            object=f'cluster profile "{settings.profile}"',
            expected="the memory of a worker, or of a whole job as the option memory",
        )
    return arguments


def pod_arguments(settings: ClusterSettings, kind: type[Any]) -> dict[str, Any]:
    """Say with which arguments ``dask_kubernetes.operator.KubeCluster`` is called.

    Args:
        settings: The cluster's settings.
        kind: The class.

    Raises:
        ConfigError: An option is none of the class's, or there is no image.
    """
    options = _options(settings, _parameters((kind,)) | {"name"})
    name = {"name": f"mlcore-{uuid.uuid4().hex[:12]}"}
    if "custom_cluster_spec" in options:  # says all the rest itself
        return name | options
    if "image" not in options:
        raise ConfigError(
            "cluster.options.image is not set",
            object='cluster profile "kubernetes"',
            expected="an image with Dask and this package in it, of the versions that run here",
        )
    threads = settings.threads or 1
    size = {"cpu": str(threads)}
    if settings.memory is not None:
        from dask.utils import parse_bytes

        size["memory"] = str(parse_bytes(settings.memory))
    environment = options.pop("env", {})
    if isinstance(environment, Mapping):
        environment = WORKER_ENVIRONMENT | dict(environment)
    return {
        **name,
        "n_workers": settings.workers,
        "resources": {"requests": size, "limits": size},
        "env": environment,
        "worker_command": ["dask", "worker", "--nthreads", str(threads)],
    } | options


def _jobs(settings: ClusterSettings, security: Security | None) -> Iterator[Client]:
    from distributed import Client

    module, name = QUEUES[settings.profile].split(".")
    kind = getattr(_library(settings, f"dask_jobqueue.{module}", "jobqueue"), name)
    arguments = job_arguments(settings, kind)
    command = str(getattr(kind.job_cls, "submit_command", "") or "").split()
    if command and shutil.which(command[0]) is None:
        raise EngineError(
            f"the command {command[0]} is not on this machine",
            object=f'cluster profile "{settings.profile}"',
            hint="Start from a machine that may hand in jobs, or give the address of a running scheduler.",
        )
    if security is not None:
        arguments |= {"security": security, "protocol": "tls://"}
    with _refusals(settings):
        cluster = kind(**arguments)
    with cluster:
        cluster.scale(n=settings.workers)
        with Client(cluster) as client:
            yield client


def _pods(settings: ClusterSettings) -> Iterator[Client]:
    from distributed import Client

    kind = _library(settings, "dask_kubernetes.operator", "kubernetes").KubeCluster
    arguments = pod_arguments(settings, kind)
    with _refusals(settings):
        cluster = kind(**arguments, quiet=True)
    with cluster, Client(cluster) as client:
        yield client


def _gateway(settings: ClusterSettings) -> Iterator[Client]:
    library = _library(settings, "dask_gateway", "gateway")
    if settings.threads is not None or settings.memory is not None:
        raise ConfigError(
            "cluster.threads and cluster.memory are for the gateway to decide",
            object='cluster profile "gateway"',
            hint="Use the options that your gateway offers, e.g. worker_cores and worker_memory.",
        )
    options = reveal_in(settings.options)
    connection = {name: options[name] for name in _OF_THE_GATEWAY[:3] if name in options}
    http = importlib.import_module("aiohttp")  # what dask-gateway asks with
    refusals = (library.GatewayClusterError, library.GatewayServerError, http.ClientError)
    with _refusals(settings, *refusals):
        gateway = library.Gateway(**connection, auth=_gateway_auth(library, options))
    with gateway:
        with _refusals(settings, *refusals):
            offered = gateway.cluster_options()
        wanted = {name: value for name, value in options.items() if name not in _OF_THE_GATEWAY}
        _check_options(settings, wanted, [*_OF_THE_GATEWAY, *offered])
        with _refusals(settings, *refusals):
            cluster = gateway.new_cluster(**wanted)
        with cluster:
            cluster.scale(settings.workers)
            with cluster.get_client() as client:
                yield client


def _gateway_auth(library: ModuleType, options: Mapping[str, Any]) -> Any:
    kind = options.get("auth")
    if kind == "basic" and ("username" in options or "password" in options):
        return library.BasicAuth(options.get("username"), options.get("password"))
    return kind


def _library(settings: ClusterSettings, module: str, extra: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] != module.split(".", maxsplit=1)[0]:
            raise
        raise ConfigError(
            f"the package {module.split('.', maxsplit=1)[0].replace('_', '-')} is not installed",
            object=f'cluster profile "{settings.profile}"',
            hint=f"Run: pip install 'mlflow-core[{extra}]'",
        ) from error


def _parameters(kinds: Iterable[type[Any]]) -> set[str]:
    names = {
        name for kind in kinds if kind is not object for name in inspect.signature(kind.__init__).parameters
    }
    return names - _NOT_OPTIONS


def _options(settings: ClusterSettings, known: set[str]) -> dict[str, Any]:
    _check_options(settings, settings.options, known)
    revealed: dict[str, Any] = reveal_in(settings.options)
    return revealed


def _check_options(settings: ClusterSettings, wanted: Iterable[str], known: Iterable[str]) -> None:
    for name in wanted:
        if name not in known:
            raise ConfigError(
                f'there is no option "{name}"',
                place="cluster.options",
                object=f'cluster profile "{settings.profile}"',
                hint=nearest(name, known, limit=40),
            )


@contextmanager
def _refusals(settings: ClusterSettings, *kinds: type[Exception]) -> Iterator[None]:
    """Say a library's own refusal as one of ours; what the work itself raises is not its business."""
    try:
        yield
    except (*_REFUSALS, *kinds) as error:
        raise EngineError(
            f"cannot be started: {type(error).__name__}: {error}",
            object=f'cluster profile "{settings.profile}"',
            hint="Look at cluster.options, and at the service that starts clusters.",
        ) from error
