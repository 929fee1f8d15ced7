"""Machines made of network namespaces: a bridge, and behind it namespaces with an address each, whose links can be cut."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import pytest


@dataclass(frozen=True)
class Host:
    """One namespace.

    Attributes:
        name: Its name.
        address: Its address on the bridge.
        link: The end of its cable that is in the root namespace.
    """

    name: str
    address: str
    link: str

    @property
    def inside(self) -> Sequence[str]:
        """The words before a command that is to run in it."""
        return ("ip", "netns", "exec", self.name)

    def cut_off(self) -> None:
        """Pull the cable."""
        ip("link", "set", self.link, "down")


@contextmanager
def network(count: int) -> Iterator[tuple[Host, ...]]:
    """Make namespaces on one bridge for a ``with`` block; skip the test where the kernel forbids it."""
    if shutil.which("ip") is None or os.geteuid() != 0:
        pytest.skip("network namespaces need root and the command ip (package iproute2)")
    tag = f"mlt{os.getpid()}"
    net = f"10.213.{os.getpid() % 250}"
    hosts = tuple(Host(f"{tag}-{i}", f"{net}.{i + 2}", f"{tag}v{i}") for i in range(count))
    try:
        refused = try_ip("link", "add", tag, "type", "bridge") or try_ip("netns", "add", hosts[0].name)
        if refused:
            pytest.skip(f"the kernel forbids network namespaces: {refused}")
        ip("addr", "add", f"{net}.1/24", "dev", tag)
        ip("link", "set", tag, "up")
        for host in hosts:
            connect(host, tag, made=host is hosts[0])
        yield hosts
    finally:
        for host in hosts:
            try_ip("link", "del", host.link)
            try_ip("netns", "del", host.name)
        try_ip("link", "del", tag)


def connect(host: Host, bridge: str, *, made: bool) -> None:
    """Make a namespace and its cable to the bridge."""
    if not made:
        ip("netns", "add", host.name)
    ip("link", "add", host.link, "type", "veth", "peer", "name", "eth0", "netns", host.name)
    ip("link", "set", host.link, "master", bridge)
    ip("link", "set", host.link, "up")
    ip("-n", host.name, "addr", "add", f"{host.address}/24", "dev", "eth0")
    for device in ("eth0", "lo"):
        ip("-n", host.name, "link", "set", device, "up")


def ip(*words: str) -> None:
    """Run ``ip``; it must work."""
    refused = try_ip(*words)
    assert refused is None, f"ip {' '.join(words)}: {refused}"


def try_ip(*words: str) -> str | None:
    """Run ``ip`` and return why it did not work."""
    done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
    return None if done.returncode == 0 else done.stderr.strip() or f"exit code {done.returncode}"
