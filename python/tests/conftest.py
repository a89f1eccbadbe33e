"""Rings to test on: three nodes in this process unless a test says otherwise."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

import ringkv

NODES = 3


class Cluster:
    """Some nodes in this process that form one ring, and clients of it."""

    def __init__(self, nodes: int = NODES, **options: Any) -> None:
        self.nodes: list[ringkv.Ring[bytes, bytes]] = [ringkv.Node.start(**options)]
        self._clients: list[ringkv.Ring[bytes, bytes]] = []
        try:
            for _ in range(nodes - 1):
                self.grow()
        except BaseException:
            self.close()
            raise

    def grow(self, **options: Any) -> ringkv.Ring[bytes, bytes]:
        """One more node."""
        node = ringkv.Node.start(standby=True, **options)
        self.nodes.append(node)
        self.nodes[0].add_node(node, timeout=60)
        return node

    def client(self) -> ringkv.Ring[bytes, bytes]:
        """A client of the ring, closed with it."""
        client = ringkv.connect(self.nodes[0].address)
        self._clients.append(client)
        return client

    def close(self) -> None:
        for handle in self._clients + self.nodes[::-1]:
            handle.close()


@contextmanager
def cluster(nodes: int = NODES, **options: Any) -> Iterator[Cluster]:
    """A cluster that is closed at the end."""
    made = Cluster(nodes, **options)
    try:
        yield made
    finally:
        made.close()


@pytest.fixture(scope="session")
def shared() -> Iterator[Cluster]:
    """One ring for all tests that leave it as they found it: empty."""
    with cluster() as made:
        yield made


@pytest.fixture(params=["node", "client"])
def ring(shared: Cluster, request: pytest.FixtureRequest) -> Iterator[ringkv.Ring[bytes, bytes]]:
    """An empty ring, once seen through a node and once through a client."""
    handle = shared.nodes[-1] if request.param == "node" else shared.client()
    handle.clear()
    yield handle
    handle.clear()
