"""How torch's ranks find each other: a store that listens in the caller before any rank starts, at a port the system chose.

Nothing has a fixed port, and nothing listens on other addresses than the one at which the workers see the caller.
Each rank first says which host, process and devices it has; once all have, each decides alike where they compute
(one device a rank), joins the process group, and leaves it again, whatever happened in between.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

import torch
from torch import distributed
from torch._C._distributed_c10d import PrefixStore, TCPStore  # where they are typed

from mlflow_core.errors import MachineError, TrainError
from mlflow_core.telemetry.logs import get_logger
from mlflow_core.train.gang.rank import Disrupted, Rank
from mlflow_core.train.torch.peers import ANSWER_WITHIN, Peers

__all__ = ["Device", "StoreRendezvous", "met"]

_log = get_logger(__name__)

Device = Literal["auto", "cpu", "cuda"]

_MEET_WITHIN = timedelta(seconds=60)
_PORTS_TRIED = 5


class StoreRendezvous:
    """A store in the caller's process, and what workers import before an attempt starts.

    Args:
        modules: What workers import besides torch and this package, such as the module of a user's network.
    """

    def __init__(self, modules: Sequence[str] = ()) -> None:
        self._modules = tuple(modules)

    @property
    def modules(self) -> tuple[str, ...]:
        """What workers import."""
        return (*self._modules, "torch.distributed")

    @contextmanager
    def open(self, ranks: int, host: str) -> Iterator[Mapping[str, Any]]:  # noqa: ARG002 the protocol's
        """Listen; see ``Rendezvous``.

        Raises:
            TrainError: There is no port to listen at.
        """
        store = _listening(host)
        try:
            yield {"host": host, "port": store.port}
        finally:
            del store  # which ends its thread and closes the port, without waiting for anyone


@contextmanager
def met(rank: Rank, wanted: Device) -> Iterator[Peers]:
    """Meet the other ranks, and part from them at the end.

    Args:
        rank: Which one this is, and where the others are met.
        wanted: Where to compute.

    Yields:
        The peers, connected.

    Raises:
        TrainError: There is no such device, or fewer than ranks on a host, or two ranks share a process.
        Disrupted: A peer does not come.
    """
    if rank.count == 1:
        yield Peers(device=_device(rank, wanted, [_own_facts()]))
        return
    store = _connected(rank)
    facts = _all_facts(rank, store)
    device = _device(rank, wanted, facts)
    with _group(rank, store, device):
        beside = len({one["machine"] for one in facts}) == 1
        peers = Peers(rank.index, rank.count, device, beside)
        try:
            yield peers
        finally:
            peers.close()


def _listening(host: str) -> TCPStore:
    tried = ""
    for _ in range(_PORTS_TRIED):
        # Bound here and handed over: torch's own would listen on every address of this machine.
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with socket.socket(family, socket.SOCK_STREAM) as listener:
            try:
                listener.bind((host, 0))
                listener.listen(128)
                port = listener.getsockname()[1]
                store = TCPStore(
                    host,
                    port,
                    is_master=True,
                    wait_for_workers=False,
                    timeout=_MEET_WITHIN,
                    master_listen_fd=os.dup(listener.fileno()),
                )
            except (OSError, RuntimeError) as error:
                tried = str(error).strip().splitlines()[0]
                _log.debug("no store at %s: %s", host, tried)
                continue
            return store
    raise TrainError(
        f"no port to listen at for the ranks: {tried}",
        object=f"address {host}",
        hint="This process must be reachable from the workers at the address from which it reaches the scheduler.",
    )


def _connected(rank: Rank) -> TCPStore:
    host, port = rank.rendezvous["host"], rank.rendezvous["port"]
    try:
        return TCPStore(host, port, is_master=False, timeout=_MEET_WITHIN)
    except RuntimeError as error:
        raise Disrupted(f"rank {rank.index} does not reach the store at {host}:{port}: {error}") from None


def _own_facts() -> dict[str, Any]:
    return {
        "host": socket.gethostname(),
        "machine": _machine(),
        "process": os.getpid(),
        "cuda": torch.cuda.device_count() if torch.cuda.is_available() else 0,
        "visible": os.environ.get("CUDA_VISIBLE_DEVICES", ""),
    }


def _machine() -> str:
    """Name the machine within which a number is one process.

    A host's name alone does not: containers of one name may be on two machines, or beside each other, where each counts
    its processes from one.
    """
    boot, space = Path("/proc/sys/kernel/random/boot_id"), Path("/proc/self/ns/pid")
    found = (boot.read_text().strip(), str(space.readlink())) if space.exists() else ()
    return " ".join([socket.gethostname(), *found])


def _all_facts(rank: Rank, store: TCPStore) -> list[dict[str, Any]]:
    try:
        store.set(f"rank/{rank.index}", json.dumps(_own_facts()))
        return [json.loads(store.get(f"rank/{one}")) for one in range(rank.count)]
    except RuntimeError as error:
        raise Disrupted(f"rank {rank.index} waited for the others: {error}") from None


def _device(rank: Rank, wanted: Device, facts: Sequence[Mapping[str, Any]]) -> torch.device:
    """Where this rank computes; decided alike by all, because all know the same."""
    own = facts[rank.index] if len(facts) > 1 else facts[0]
    places = [(one["machine"], one["process"]) for one in facts]
    if len(set(places)) < len(places):
        raise TrainError(
            "two ranks are in one process, where torch has room for one",
            hint="Use workers that are processes: processes=True, or the profile local.",
        )
    if wanted == "cpu" or (wanted == "auto" and any(not one["cuda"] for one in facts)):
        return torch.device("cpu")
    for number, one in enumerate(facts):
        if not one["cuda"]:
            raise MachineError(
                f'the device "cuda" was asked for, but rank {number} on the host {one["host"]} has none',
                hint='Use device="cpu" or "auto"; or workers with a GPU, and torch built for it.',
            )
    beside = [one for one in facts if (one["machine"], one["visible"]) == (own["machine"], own["visible"])]
    if len(beside) > own["cuda"]:
        raise MachineError(
            f"the host {own['host']} has {own['cuda']} GPUs for {len(beside)} ranks",
            expected="one for each rank",
            hint="Use fewer workers, or give each its own CUDA_VISIBLE_DEVICES.",
        )
    return torch.device("cuda", next(n for n, one in enumerate(beside) if one is own))


@contextmanager
def _group(rank: Rank, store: TCPStore, device: torch.device) -> Iterator[None]:
    if distributed.is_initialized():
        raise Disrupted(f"the worker of rank {rank.index} is still in another process group")
    if device.type == "cuda":
        torch.cuda.set_device(device)
    try:
        with _interface(rank.rendezvous["host"]):
            distributed.init_process_group(
                "nccl" if device.type == "cuda" else "gloo",
                store=PrefixStore("group", store),
                rank=rank.index,
                world_size=rank.count,
                timeout=ANSWER_WITHIN,
                device_id=device if device.type == "cuda" else None,
            )
    except RuntimeError as error:
        raise Disrupted(f"rank {rank.index} does not join the others: {error}") from None
    try:
        yield
    finally:
        # Closes the connections: whoever waits for this rank in a sum learns at once that it will not come.
        distributed.destroy_process_group()


@contextmanager
def _interface(host: str) -> Iterator[None]:
    """Let gloo use the network interface from which the caller is reached: a host's own name may mean its loopback."""
    import psutil

    name = "GLOO_SOCKET_IFNAME"
    if name in os.environ:
        yield
        return
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((host, 1))
        own = probe.getsockname()[0]
    found = [
        interface
        for interface, addresses in psutil.net_if_addrs().items()
        if any(one.address == own for one in addresses)
    ]
    if not found:
        yield
        return
    os.environ[name] = found[0]
    try:
        yield
    finally:
        os.environ.pop(name, None)
