"""What a program sees and does when nodes die. A node that is closed without being dropped has
crashed for the others."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from conftest import Cluster, cluster

import ringkv

BytesRing = ringkv.Ring[bytes, bytes]
PATIENCE = 60.0


def until(events: Iterator[ringkv.Event], kind: str, name: str | None = None) -> ringkv.Event:
    """The next event of that kind, about that member."""
    for event in events:
        assert event.text and event.time_ms > 0
        if event.kind == kind and (name is None or (event.member and event.member.name == name)):
            return event
    raise AssertionError(f"{kind} does not happen")


def wait_for(condition: Callable[[], bool]) -> None:
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < PATIENCE
        time.sleep(0.01)


# Compare and swap, counters


def test_a_value_is_swapped_only_if_it_is_the_expected_one(ring: BytesRing) -> None:
    assert not ring.cas(b"k", b"old", b"new")
    assert ring.cas(b"k", None, b"")
    assert not ring.cas(b"k", None, b"new")
    assert ring.cas(b"k", b"", b"one")
    assert ring.cas(b"k", b"one", b"two", timeout=5)
    assert ring[b"k"] == b"two"
    assert ring.cas(b"k", b"two", b"three", ttl=0.02)
    wait_for(lambda: b"k" not in ring)
    with pytest.raises(ringkv.RingValueError):
        ring.cas(b"", None, b"x")


def test_of_many_swaps_at_once_each_sees_the_one_before(ring: BytesRing) -> None:
    ring[b"n"] = b"0"

    def add() -> None:
        for _ in range(50):
            while True:
                now = ring[b"n"]
                if ring.cas(b"n", now, b"%d" % (int(now) + 1)):
                    break

    threads = [threading.Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ring[b"n"] == b"200"


def test_numbers_are_added_to(ring: BytesRing) -> None:
    assert ring.incr(b"n") == 1
    assert ring.incr(b"n", -43) == -42
    assert ring[b"n"] == b"-42"
    assert ring.with_codec("json")["n"] == -42
    assert ring.with_codec("utf8").incr("n", 2) == -40
    with pytest.raises(ringkv.RingValueError, match="64 bits"):
        ring.incr(b"n", -(2**63))
    with pytest.raises((ringkv.RingValueError, OverflowError)):
        ring.incr(b"n", 2**63)
    ring[b"n"] = b"many"
    with pytest.raises(ringkv.RingValueError):
        ring.incr(b"n")
    assert ring[b"n"] == b"many"


def test_a_codec_is_respected(ring: BytesRing) -> None:
    documents = ring.with_codec("json")
    assert documents.cas("d", None, {"a": [1]})
    assert documents.cas("d", {"a": [1]}, {"a": [2]})
    assert not documents.cas("d", {"a": [1]}, {"a": [3]})
    assert documents["d"] == {"a": [2]}


# Events


@pytest.mark.parametrize("kind", ["node", "client"])
def test_events_tell_who_comes_and_goes(kind: str) -> None:
    with cluster(1, partitions=64) as ring:
        observer = ring.nodes[0] if kind == "node" else ring.client()
        events = observer.events(timeout=PATIENCE)
        ring.grow(name="second")
        ring.grow(name="third")
        assert until(events, "joined", "second").member is not None
        until(events, "joined", "third")
        settled = until(events, "settled")
        assert settled.done == settled.total > 0
        ring.nodes[1].close()
        until(events, "down", "second")
        assert until(events, "under_replicated").partitions == 64
        ring.nodes[0].drop_node("second", force=True)
        until(events, "left", "second")
        assert until(events, "recovered").partitions == 0


def test_the_iterator_ends_in_silence_and_with_the_ring() -> None:
    with cluster(1, partitions=64) as ring:
        assert list(ring.nodes[0].events(timeout=0.02)) == []
        endless = ring.client().events()
        told = ring.nodes[0].events()
        closer = threading.Timer(0.1, ring.nodes[0].close)
        closer.start()
        assert list(told) == []
        closer.join()
    assert list(itertools.islice(endless, 1)) == []


# Dropping, losing, resetting


def test_a_drop_below_the_wanted_copies_needs_force() -> None:
    with cluster(2, partitions=64) as ring:
        with pytest.raises(ringkv.RingRefusedError, match="add a node first"):
            ring.nodes[0].drop_node(ring.nodes[1])
        with pytest.raises(ringkv.RingRefusedError, match="not being dropped"):
            ring.nodes[0].abort_drop(ring.nodes[1])
        assert ring.nodes[0].drop_node(ring.nodes[1], force=True) == 0
        with pytest.raises(ringkv.RingRefusedError):
            ring.nodes[0].drop_node(ring.nodes[0], force=True)


def crash_the_only_holder(ring: Cluster) -> int:
    """Kills a node of a ring without spare copies and gives it up; how many partitions it had."""
    first, victim = ring.nodes[0], ring.nodes[1]
    name = victim.address
    victim.close()
    wait_for(lambda: first.info().member(name).state == "down")
    with pytest.raises(ringkv.RingRefusedError, match="the only copy of"):
        first.drop_node(name)
    return first.drop_node(name, force=True)


def test_lost_keys_say_so_until_they_are_reset() -> None:
    with cluster(3, partitions=64, copies=1, min_insync=1, leases=False) as ring:
        first, client = ring.nodes[0], ring.client()
        assert first.info().params.leases is False
        keys = [b"%d" % n for n in range(100)]
        client.put_many((key, b"v") for key in keys)
        lost = crash_the_only_holder(ring)
        assert 0 < lost < 64
        health = client.health()
        assert not health
        assert health.unwritable == lost
        assert any("ringkv reset" in reason for reason in health.reasons)
        gone = []
        for key in keys:
            try:
                assert client[key] == b"v"
            except ringkv.RingDataLostError as error:
                assert "ringkv reset" in str(error)
                gone.append(key)
        assert gone
        with pytest.raises(ringkv.RingDataLostError):
            first[gone[0]] = b"w"
        assert client.reset_lost() == lost
        assert client.reset_lost(timeout=5) == 0
        assert client.health()
        assert all(client.get(key) is None for key in gone)
        first[gone[0]] = b"w"
        assert client[gone[0]] == b"w"
