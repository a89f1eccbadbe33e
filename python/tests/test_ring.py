"""What a ring does, beyond being a mapping."""

from __future__ import annotations

import dataclasses
import gc
import math
import os
import pickle
import threading
import time
from datetime import timedelta
from typing import Any

import pytest
from conftest import NODES, Cluster, cluster

import ringkv

BytesRing = ringkv.Ring[bytes, bytes]


def wait_until(condition: Any, seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.005)


def test_put_get_delete(ring: BytesRing) -> None:
    assert ring.put(b"k", b"v") is True
    assert ring.get(b"k") == b"v"
    assert ring.get(b"k", timeout=5, lookup="recursive") == b"v"
    assert ring.get(b"none") is None
    assert ring.get(b"none", b"default") == b"default"
    assert ring.delete(b"k") is True
    assert ring.delete(b"k", timeout=timedelta(seconds=5)) is False


def test_an_empty_value_is_a_value(ring: BytesRing) -> None:
    ring[b"empty"] = b""
    assert ring[b"empty"] == b""
    assert ring.get(b"empty", b"default") == b""
    assert b"empty" in ring
    assert ring.get_many([b"empty"]) == {b"empty": b""}


def test_large_keys_and_values(ring: BytesRing) -> None:
    value = os.urandom(1024) * 4096
    ring[b"\0" * 4096] = value
    assert ring[b"\0" * 4096] == value
    assert dict(ring.scan()) == {b"\0" * 4096: value}


def test_put_if_absent(ring: BytesRing) -> None:
    assert ring.put(b"k", b"first", if_absent=True) is True
    assert ring.put(b"k", b"second", if_absent=True) is False
    assert ring[b"k"] == b"first"
    assert ring.put_many({b"k": b"x", b"new": b"y"}, if_absent=True) == 1
    assert dict(ring) == {b"k": b"first", b"new": b"y"}


def test_a_value_expires(ring: BytesRing) -> None:
    ring.put(b"short", b"v", ttl=timedelta(milliseconds=40))
    ring.put(b"long", b"v", ttl=60)
    ring.put_many({b"many": b"v"}, ttl=0.04)
    wait_until(lambda: b"short" not in ring and b"many" not in ring)
    assert list(ring) == [b"long"]
    assert ring.put(b"short", b"again", if_absent=True) is True


def test_batches_longer_than_a_piece(ring: BytesRing) -> None:
    pairs = {b"key %d" % n: b"value %d" % n for n in range(10_000)}
    assert ring.put_many((key, value) for key, value in pairs.items()) == len(pairs)
    assert len(ring) == len(pairs)
    assert ring.get_many(iter(pairs)) == pairs
    assert ring.get_many([*pairs, b"missing"]) == pairs
    assert dict(ring.scan()) == pairs
    assert ring.delete_many([b"missing", *list(pairs)[:5000]]) == 5000
    assert len(ring) == 5000


def test_scan_by_prefix(ring: BytesRing) -> None:
    ring.update({b"a:%d" % n: b"x" for n in range(50)})
    ring.update({b"b:%d" % n: b"y" for n in range(50)})
    assert sorted(ring.scan_keys(b"a:")) == sorted(b"a:%d" % n for n in range(50))
    assert dict(ring.with_codec("utf8").scan("b:1")) == {f"b:1{n}": "y" for n in ["", *range(10)]}
    assert list(ring.scan(b"c")) == []
    assert len(list(ring.scan())) == 100


def test_views(ring: BytesRing) -> None:
    ring.update({b"a": b"1", b"b": b"2"})
    assert sorted(ring.items()) == [(b"a", b"1"), (b"b", b"2")]
    assert (b"a", b"1") in ring.items()
    assert (b"a", b"2") not in ring.items()
    assert sorted(ring.values()) == [b"1", b"2"]
    assert b"2" in ring.values()
    assert ring.keys() & {b"a", b"c"} == {b"a"}
    assert len(ring.items()) == len(ring.values()) == len(ring.keys()) == 2
    assert ring.copy() == {b"a": b"1", b"b": b"2"} == ring


def test_changing_the_ring_while_walking_over_it(ring: BytesRing) -> None:
    ring.update({b"%d" % n: b"" for n in range(1000)})
    for key in ring:
        del ring[key]
    assert len(ring) == 0


def test_info(shared: Cluster, ring: BytesRing) -> None:
    ring.update({b"%d" % n: b"12345678" for n in range(300)})
    ring.wait_settled(timeout=60)  # a node that a busy machine has stalled is being let in again
    info = ring.info()
    assert len(info.members) == NODES
    assert {m.node.address for m in info.members} == {node.address for node in shared.nodes}
    assert info.keys == 300 == sum(m.keys for m in info.members)
    assert info.bytes == sum(len(k) + len(v) for k, v in ring.items())
    assert all(m.state == "up" and m.reachable for m in info.members)
    assert sum(m.coordinator for m in info.members) == 3
    assert sum(m.primaries for m in info.members) == info.params.partitions == 4096
    assert math.isclose(sum(m.share for m in info.members), 1)
    assert info.params.copies == 3
    assert info.required == min(2, NODES)
    assert (info.under_replicated, info.lost, info.moving) == (0, 0, None)
    assert len(info.cluster) == 32
    first, last = info.members[0], info.members[-1]
    assert info.successor(last.node.name) == first == info.member(first.node.address)
    assert info.predecessor(first.node.name) == last
    with pytest.raises(KeyError):
        info.member("nobody")
    with pytest.raises(dataclasses.FrozenInstanceError):
        info.keys = 1  # type: ignore[misc]


def test_locate(shared: Cluster, ring: BytesRing) -> None:
    ring.wait_settled(timeout=60)
    location = ring.locate(b"key")
    assert 0 <= location.partition < 4096
    assert len(location.holders) == NODES
    assert {node.address for node in location.holders} == {n.address for n in shared.nodes}
    assert location == dataclasses.replace(shared.nodes[0].locate(b"key"), hops=location.hops)
    for lookup in ("direct", "iterative", "recursive"):
        assert ring.locate(b"key", lookup=lookup).hops[-1] == location.holders[0]


def test_health(ring: BytesRing) -> None:
    health = ring.health()
    assert health.unwritable == 0
    assert bool(health) == health.ok


def test_plans(shared: Cluster, ring: BytesRing) -> None:
    ring.put_many((b"%d" % n, b"v" * 100) for n in range(1000))
    ring.wait_settled(timeout=60)
    adding = ring.plan_add("127.0.0.1:1", name="next")
    assert len(adding.shares_after) == NODES + 1 == len(adding.shares_before) + 1
    assert [share.name for share in adding.shares_after if share.name == "next"]
    assert 0 < adding.keys <= 3 * 1000 and 0 < adding.partitions_moved <= 3 * 4096
    assert adding.ideal_bytes <= adding.bytes * 1.2
    heavier = ring.plan_add("127.0.0.1:1", weight=3)
    assert heavier.partitions_moved > adding.partitions_moved
    dropping = ring.plan_drop(shared.nodes[0])
    assert sorted(share.share > 0 for share in dropping.shares_after) == [False, True, True]
    assert sum(share.share for share in dropping.shares_before) == pytest.approx(1)
    assert len(ring.info().members) == NODES  # nothing has changed
    with pytest.raises(ringkv.RingMemberError):
        ring.plan_drop("nobody")


def test_nodes_come_and_go_while_the_ring_is_used() -> None:
    pairs = {b"key %d" % n: b"value %d" % n for n in range(2000)}
    with cluster(2) as ring:
        first = ring.nodes[0]
        first.put_many(pairs)
        stop = threading.Event()
        failures: list[BaseException] = []

        def use() -> None:
            client = ring.client()
            try:
                while not stop.is_set():
                    for key in list(pairs)[:50]:
                        assert client[key] == pairs[key]
                        client[b"mine"] = key
                        assert client[b"mine"] == key
            except BaseException as error:
                failures.append(error)

        user = threading.Thread(target=use)
        user.start()
        seen: list[ringkv.Progress] = []
        third = ringkv.Node.start(standby=True, name="third")
        ring.nodes.append(third)
        first.add_node(third, progress=seen.append, timeout=60)
        assert len(first.info().members) == 3
        assert first.info().member("third").share > 0.2
        first.drop_node(ring.nodes[1], timeout=60)
        assert len(first.info().members) == 2
        first.wait_settled(timeout=60)
        stop.set()
        user.join()
        assert failures == []
        assert all(isinstance(p, ringkv.Progress) and 0 <= p.fraction <= 1 for p in seen)
        assert first.delete(b"mine")
        assert third.copy() == pairs


def test_a_node_joins_by_itself() -> None:
    with cluster(1) as ring:
        ring.nodes[0][b"k"] = b"v"
        joined = ringkv.Node.start(join=ring.nodes[0].address, name="joined", weight=2)
        ring.nodes.append(joined)
        assert joined[b"k"] == b"v"
        assert ring.nodes[0].info().member("joined").weight == 2


@pytest.mark.parametrize(
    ("option", "value", "found"),
    [
        ("partitions", 128, lambda info: info.params.partitions),
        ("hash", "integer", lambda info: info.params.hash),
        ("seed", 7, lambda info: info.params.seed),
        ("placement", "successor", lambda info: info.params.placement),
        ("copies", 5, lambda info: info.params.copies),
        ("min_insync", 1, lambda info: info.params.min_insync),
        ("value_bytes_max", 1000, lambda info: info.params.value_bytes_max),
        ("name", "nämä", lambda info: info.members[0].node.name),
        ("zone", "cellar", lambda info: info.members[0].zone),
        ("weight", 3, lambda info: info.members[0].weight),
        ("position", 2**63 + 1, lambda info: info.members[0].position),
    ],
)
def test_every_option_of_a_node_has_an_effect(option: str, value: Any, found: Any) -> None:
    options: Any = {option: value}
    with ringkv.Node.start(**options) as ring:
        assert found(ring.info()) == value


def test_a_node_listens_where_it_is_told(tmp_path: Any) -> None:
    with ringkv.Node.start(also_listen=[f"unix:{tmp_path}/ring.sock"], workers=2) as ring:
        ring[b"k"] = b"v"
        with ringkv.connect(f"unix:{tmp_path}/ring.sock") as client:
            assert client[b"k"] == b"v"
        with ringkv.connect(["127.0.0.1:1", ring.address], timeout=timedelta(seconds=5)) as client:
            assert client[b"k"] == b"v"


def test_close_is_idempotent_and_final(shared: Cluster) -> None:
    client = ringkv.connect(shared.nodes[0].address)
    view = client.with_codec("utf8")
    walk = client.scan()
    assert repr(client).startswith("<ringkv.Ring at ")
    with client as same:
        assert same is client
    client.close()
    assert client.closed and view.closed
    assert repr(view) == "<ringkv.Ring, closed>"
    for use in (
        lambda: client[b"k"],
        lambda: view.put("k", "v"),
        lambda: client.scan(),
        lambda: list(walk),
        lambda: client.info(),
        lambda: client.get_many([b"k"]),
        lambda: client.add_node("127.0.0.1:1"),
        lambda: b"k" in client,
    ):
        with pytest.raises(ringkv.RingClosedError) as caught:
            use()
        assert isinstance(caught.value, ValueError)


def test_a_ring_cannot_be_pickled(ring: BytesRing) -> None:
    with pytest.raises(TypeError, match="pass on its address"):
        pickle.dumps(ring)


def threads_of_this_process() -> int:
    return len(os.listdir("/proc/self/task"))


def test_a_forgotten_ring_warns_and_is_closed() -> None:
    before = threads_of_this_process()
    ring = ringkv.Node.start()
    ring[b"k"] = b"v"
    assert threads_of_this_process() >= before
    with pytest.warns(ResourceWarning, match="was not closed"):
        del ring
        gc.collect()
    wait_until(lambda: threads_of_this_process() <= before)


def test_starting_and_closing_leaks_nothing() -> None:
    def cycle() -> None:
        with ringkv.Node.start(partitions=64) as node, ringkv.connect(node.address) as client:
            client[b"k"] = b"v"
            assert list(client.scan()) == [(b"k", b"v")]

    cycle()
    gc.collect()
    files, threads = len(os.listdir("/proc/self/fd")), threads_of_this_process()
    objects = len(gc.get_objects())
    for _ in range(25):
        cycle()
    gc.collect()
    assert len(gc.get_objects()) < objects + 250
    wait_until(lambda: threads_of_this_process() <= threads)
    wait_until(lambda: len(os.listdir("/proc/self/fd")) <= files)


def test_threads_share_a_ring(ring: BytesRing) -> None:
    def write(worker: int) -> None:
        for n in range(200):
            ring[b"%d:%d" % (worker, n)] = b"%d" % n

    workers = [threading.Thread(target=write, args=(worker,)) for worker in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert ring.copy() == {b"%d:%d" % (w, n): b"%d" % n for w in range(8) for n in range(200)}


def test_competing_pops_get_each_key_once(ring: BytesRing) -> None:
    ring.update({b"%d" % n: b"" for n in range(150)})
    got: list[bytes] = []

    def drain() -> None:
        while True:
            try:
                got.append(ring.popitem()[0])
            except KeyError:
                return

    workers = [threading.Thread(target=drain) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert sorted(got) == sorted(b"%d" % n for n in range(150))
