"""The comparison inside Redis is Python's comparison of bytes, for any bytes."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlflow_core.online.head import LAYOUT, SCHEMA_AT, Kind, is_tombstone
from mlflow_core.online.redis.scripts import ERASE, STORE
from tests.servers.redis import redis_server


@pytest.fixture(scope="module")
def client():
    with redis_server() as server, server.client() as client:
        yield client


EDGES = [0, 1, 2, 127, 128, 254, 255]
versions = st.one_of(
    st.binary(min_size=16, max_size=16),
    st.lists(st.sampled_from(EDGES), min_size=16, max_size=16).map(bytes),
)
bodies = st.one_of(
    st.just(bytes([LAYOUT, Kind.TOMBSTONE])),
    st.tuples(st.sampled_from([b"schema-A", b"schema-B", bytes(8)]), st.binary(max_size=80)).map(
        lambda parts: bytes([LAYOUT, Kind.ROW]) + parts[0] + parts[1]
    ),
)


@st.composite
def pairs(draw):
    """An old value and a new row, whose versions often differ in one bit only, or not at all."""
    old = draw(versions)
    near = bytearray(old)
    near[draw(st.integers(0, 15))] ^= draw(st.sampled_from([0, 1, 0x80, 0xFF]))
    new = bytes(near) if draw(st.booleans()) else draw(versions)
    schema = draw(st.sampled_from([b"schema-A", b"schema-B"]))
    return old + draw(bodies), new + bytes([LAYOUT, Kind.ROW]) + schema + draw(st.binary(max_size=80))


def stays(old, new):
    """The rule in Python: see ``online.backend``."""
    replaces = new[:16] > old[:16] or (not is_tombstone(old) and old[SCHEMA_AT] != new[SCHEMA_AT])
    return new if replaces else old


def store(client, names, values):
    return client.eval(STORE.text, len(names), *names, "view", *values)


@given(st.lists(pairs(), min_size=1, max_size=40))
def test_what_stays_is_what_the_rule_says(client, drawn):
    client.flushall()
    names = [b"k%d" % i for i in range(len(drawn))]
    for name, (old, _) in zip(names, drawn, strict=True):
        client.hset(name, "view", old)
    changed = store(client, names, [new for _, new in drawn])
    expected = [stays(old, new) for old, new in drawn]
    assert [client.hget(name, "view") for name in names] == expected
    assert changed == sum(after != old for after, (old, _) in zip(expected, drawn, strict=True))


def test_every_single_bit_of_a_version_counts(client):
    rng = random.Random(20130101)
    for bit in range(128):
        low = bytearray(rng.randbytes(16))
        low[bit // 8] &= ~(0x80 >> bit % 8)
        high = bytearray(low)
        high[bit // 8] |= 0x80 >> bit % 8
        body = bytes([LAYOUT, Kind.ROW]) + b"schema-A"
        small, great = bytes(low) + body, bytes(high) + body
        client.delete("k")
        assert [store(client, ["k"], [value]) for value in (small, great, small, great)] == [1, 1, 0, 0]
        assert client.hget("k", "view") == great


@given(versions, bodies, versions, st.booleans())
def test_a_grave_is_never_younger_than_what_it_buries(client, old, body, now, everything):
    """And with a limit it leaves alone what is later."""
    client.flushall()
    client.hset("k", "view", old + body)
    grave = now[:8] + b"\xff" * 8 + bytes([LAYOUT, Kind.TOMBSTONE])
    taken = client.eval(ERASE.text, 1, "k", grave, int(everything), "view", "other")
    stays = old[:8] > now[:8] and not everything
    buried = max(old[:8], now[:8]) + grave[8:]
    assert client.hget("k", "view") == (old + body if stays else buried)
    assert client.hget("k", "other") == grave
    assert taken == (not is_tombstone(old + body) and not stays)
