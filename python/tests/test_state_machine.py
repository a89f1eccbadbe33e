"""Random sequences of operations on a ring and on a dict: both must always agree."""

from __future__ import annotations

from typing import Any

import hypothesis.strategies as st
from conftest import Cluster, cluster
from hypothesis import HealthCheck, settings
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule

import ringkv

KEYS = st.binary(min_size=1, max_size=8) | st.sampled_from([b"a", b"b", b"a\0"])
VALUES = st.binary(max_size=64)


class RingIsLikeDict(RuleBasedStateMachine):
    """Each operation goes through a random handle: any node, or a client."""

    rings: Cluster
    client: ringkv.Ring[bytes, bytes]

    keys = Bundle("keys")

    def __init__(self) -> None:
        super().__init__()
        self.client.clear()
        self.model: dict[bytes, bytes] = {}

    def at(self, which: int) -> ringkv.Ring[bytes, bytes]:
        handles = [*self.rings.nodes, self.client]
        return handles[which % len(handles)]

    @rule(target=keys, key=KEYS)
    def a_key(self, key: bytes) -> bytes:
        return key

    @rule(target=keys)
    def the_longest_key(self) -> bytes:
        return b"\xff" * 4096

    @rule(key=keys, size=st.sampled_from([1, 70_000, 300_000]), which=st.integers(0, 3))
    def assign_much(self, key: bytes, size: int, which: int) -> None:
        self.assign(key, b"x" * size, which)

    @rule(key=keys, value=VALUES, which=st.integers(0, 3))
    def assign(self, key: bytes, value: bytes, which: int) -> None:
        self.at(which)[key] = value
        self.model[key] = value

    @rule(key=keys, which=st.integers(0, 3))
    def look_up(self, key: bytes, which: int) -> None:
        assert self.at(which).get(key) == self.model.get(key)
        assert (key in self.at(which)) == (key in self.model)

    @rule(key=keys, which=st.integers(0, 3))
    def delete(self, key: bytes, which: int) -> None:
        assert self.at(which).delete(key) == (self.model.pop(key, None) is not None)

    @rule(key=keys, value=VALUES, which=st.integers(0, 3))
    def put_if_absent(self, key: bytes, value: bytes, which: int) -> None:
        stored = self.at(which).put(key, value, if_absent=True)
        assert stored == (key not in self.model)
        self.model.setdefault(key, value)

    @rule(key=keys, which=st.integers(0, 3))
    def pop(self, key: bytes, which: int) -> None:
        assert self.at(which).pop(key, None) == self.model.pop(key, None)

    @rule(key=keys, value=VALUES, which=st.integers(0, 3))
    def setdefault(self, key: bytes, value: bytes, which: int) -> None:
        assert self.at(which).setdefault(key, value) == self.model.setdefault(key, value)

    @rule(pairs=st.dictionaries(KEYS, VALUES, max_size=20), which=st.integers(0, 3))
    def put_many(self, pairs: dict[bytes, bytes], which: int) -> None:
        assert self.at(which).put_many(pairs) == len(pairs)
        self.model.update(pairs)

    @rule(keys=st.lists(keys, max_size=20), which=st.integers(0, 3))
    def get_many(self, keys: list[bytes], which: int) -> None:
        expected = {key: self.model[key] for key in keys if key in self.model}
        assert self.at(which).get_many(keys) == expected

    @rule(keys=st.lists(keys, max_size=5, unique=True), which=st.integers(0, 3))
    def delete_many(self, keys: list[bytes], which: int) -> None:
        there = sum(self.model.pop(key, None) is not None for key in keys)
        assert self.at(which).delete_many(keys) == there

    @rule(prefix=st.binary(max_size=1), which=st.integers(0, 3))
    def scan(self, prefix: bytes, which: int) -> None:
        expected = {k: v for k, v in self.model.items() if k.startswith(prefix)}
        found = list(self.at(which).scan(prefix))
        assert dict(found) == expected
        assert len(found) == len(expected)  # nobody writes meanwhile: each key once
        assert sorted(self.at(which).scan_keys(prefix)) == sorted(expected)

    @rule(which=st.integers(0, 3))
    def popitem(self, which: int) -> None:
        if self.model:
            key, value = self.at(which).popitem()
            assert self.model.pop(key) == value

    @invariant()
    def same_length(self) -> None:
        assert len(self.client) == len(self.model)


def test_a_ring_is_like_a_dict() -> None:
    with cluster(partitions=64) as rings:

        class OnThisRing(RingIsLikeDict):
            pass

        OnThisRing.rings, OnThisRing.client = rings, rings.client()
        _run(OnThisRing)


def _run(machine: Any) -> None:
    from hypothesis.stateful import run_state_machine_as_test

    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=60,
            stateful_step_count=40,
            deadline=None,
            derandomize=True,  # the same runs everywhere; explore with `derandomize=False`
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
