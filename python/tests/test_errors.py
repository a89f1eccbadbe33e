"""Every exception, raised by what really raises it where that can be arranged from here."""

from __future__ import annotations

import pickle
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from conftest import cluster

import ringkv
from ringkv import _ringkv, errors

BytesRing = ringkv.Ring[bytes, bytes]


@pytest.fixture(scope="module")
def alone() -> Iterator[BytesRing]:
    """A ring of one node that takes short values and little of them."""
    with ringkv.Node.start(value_bytes_max=1000, memory_bytes_max=200_000) as ring:
        yield ring


def test_every_status_has_its_exception() -> None:
    statuses = {code: rest for code, *rest in _ringkv.statuses() if code != 0}
    assert set(errors._CLASSES) == set(statuses)
    for code, (_, text, retryable, maybe_applied) in statuses.items():
        error = errors.from_status(code, text, retryable, maybe_applied)
        assert isinstance(error, ringkv.RingError)
        assert (error.status, error.retryable, error.maybe_applied) == (
            code,
            retryable,
            maybe_applied,
        )
        assert text in str(error)
    unknown = errors.from_status(-999, "from the future", True, False)
    assert type(unknown) is ringkv.RingError and unknown.status == -999


@pytest.mark.parametrize(
    ("error", "builtin"),
    [
        (ringkv.RingValueError, ValueError),
        (ringkv.RingUnsupportedError, NotImplementedError),
        (ringkv.RingKeyError, KeyError),
        (ringkv.RingClosedError, ValueError),
        (ringkv.RingTimeoutError, TimeoutError),
        (ringkv.RingConnectionError, ConnectionError),
        (ringkv.RingUnavailableError, ConnectionError),
        (ringkv.RingMemberError, LookupError),
        (ringkv.RingMemoryError, MemoryError),
        (ringkv.RingOSError, OSError),
        (ringkv.RingInternalError, RuntimeError),
    ],
)
def test_exceptions_are_also_the_built_in_ones(error: Any, builtin: Any) -> None:
    assert issubclass(error, builtin) and issubclass(error, ringkv.RingError)


def test_exceptions_can_be_pickled() -> None:
    for code, _, text, retryable, maybe_applied in _ringkv.statuses():
        error = errors.from_status(code, text, retryable, maybe_applied)
        again = pickle.loads(pickle.dumps(error))
        assert type(again) is type(error)
        assert str(again) == str(error)
        assert vars(again) == vars(error)


def test_missing_key(alone: BytesRing) -> None:
    for miss in (
        lambda: alone[b"none"],
        lambda: alone.pop(b"none"),
        lambda: alone.__delitem__(b"none"),
    ):
        with pytest.raises(ringkv.RingKeyError) as caught:
            miss()
        assert caught.value.args == (b"none",)
        assert str(caught.value) == "b'none'"
        assert caught.value.status == -201


@pytest.mark.parametrize(
    ("key", "value", "status"),
    [(b"", b"", -102), (b"k" * 4097, b"", -102), (b"k", b"v" * 1001, -103)],
)
def test_keys_and_values_over_the_limit(
    alone: BytesRing, key: bytes, value: bytes, status: int
) -> None:
    with pytest.raises(ringkv.RingValueError) as caught:
        alone[key] = value
    assert caught.value.status == status
    assert not caught.value.maybe_applied
    with pytest.raises(ringkv.RingValueError) as caught:
        alone.put_many([(b"fine", b"v"), (key, value)])
    assert {k: e.status for k, e in caught.value.failures.items()} == {key: status}
    assert caught.value.__notes__ == ["1 of 2 keys of this batch failed, see failures"]
    assert alone.pop(b"fine") == b"v"


@pytest.mark.parametrize("option", ["timeout", "ttl"])
@pytest.mark.parametrize("bad", [-1, float("nan"), float("-inf")])
def test_bad_durations(alone: BytesRing, option: str, bad: float) -> None:
    options: Any = {option: bad}
    with pytest.raises(ringkv.RingValueError, match=f"{option}: .* is not a duration") as caught:
        alone.put(b"k", b"v", **options)
    assert caught.value.status == -101
    with pytest.raises(TypeError, match=option):
        alone.put(b"k", b"v", **{option: "soon"})  # type: ignore[arg-type]


def test_a_ttl_of_zero_is_refused_and_an_endless_timeout_is_not(alone: BytesRing) -> None:
    with pytest.raises(ringkv.RingValueError, match="more than 0"):
        alone.put(b"k", b"v", ttl=0)
    assert alone.put(b"k", b"v", timeout=float("inf"), ttl=float("inf"))
    assert alone.delete(b"k")


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"weight": -1}, ringkv.RingValueError, "weight: "),
        ({"copies": 300}, ringkv.RingValueError, "copies: "),
        ({"copies": 8}, ringkv.RingValueError, "cop"),
        ({"copies": 0}, ringkv.RingValueError, "cop"),
        ({"partitions": 1000}, ringkv.RingValueError, "partitions"),
        ({"workers": 0}, ringkv.RingValueError, "workers"),
        ({"hash": "md5"}, ringkv.RingValueError, "'md5' is not one of murmur3"),
        ({"placement": "random"}, ringkv.RingValueError, "'random' is not one of balanced"),
        ({"timeout": -1}, ringkv.RingValueError, "timeout"),
        ({"join": "127.0.0.1:1", "standby": True}, ringkv.RingValueError, "exclude each other"),
        ({"listen": "nonsense"}, ringkv.RingValueError, "nonsense"),
        ({"listen": "0.0.0.0:0"}, ringkv.RingError, "public|loopback"),
        ({"name": 5}, TypeError, "name: "),
        ({"colour": "red"}, TypeError, "unknown option of a node: colour"),
    ],
)
def test_bad_options_of_a_node(options: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        ringkv.Node.start(**options).close()


def test_unknown_lookup(alone: BytesRing) -> None:
    with pytest.raises(ringkv.RingValueError, match="'psychic' is not one of direct"):
        alone.get(b"k", lookup="psychic")  # type: ignore[call-overload]


def test_memory_limit(alone: BytesRing) -> None:
    with pytest.raises(ringkv.RingMemoryError) as caught:
        alone.put_many((b"%d" % n, b"v" * 1000) for n in range(1000))
    assert caught.value.status == -308
    assert not caught.value.maybe_applied
    assert len(alone) > 10
    alone.clear()
    assert len(alone) == 0


def test_address_in_use(alone: BytesRing) -> None:
    with pytest.raises(ringkv.RingOSError, match="in use") as caught:
        ringkv.Node.start(listen=alone.address)
    assert caught.value.status == -403


def test_nobody_listens() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = "127.0.0.1:%d" % free.getsockname()[1]
        with pytest.raises(ringkv.RingConnectionError) as caught:
            ringkv.connect(address, timeout=0.5)
        assert caught.value.retryable
        with cluster(1) as ring, pytest.raises(ringkv.RingConnectionError):
            ring.nodes[0].add_node(address, timeout=0.5)


def test_unknown_host() -> None:
    with pytest.raises(ringkv.RingConnectionError, match="no-such-host.invalid") as caught:
        ringkv.connect("no-such-host.invalid:7000", timeout=2)
    assert caught.value.status == -405


def test_bad_addresses() -> None:
    for address in ("", "nonsense", "127.0.0.1:port", "127.0.0.1:70000"):
        with pytest.raises(ringkv.RingValueError):
            ringkv.connect(address, timeout=1)


def test_a_peer_that_speaks_something_else() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        import threading

        def answer() -> None:
            for _ in range(3):
                try:
                    peer, _ = server.accept()
                except OSError:
                    return
                with peer:
                    peer.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n" * 10)

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        with pytest.raises(ringkv.RingConnectionError):
            ringkv.connect("127.0.0.1:%d" % server.getsockname()[1], timeout=1)
        server.shutdown(socket.SHUT_RDWR)
        thread.join()


def test_timeout() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        with pytest.raises((ringkv.RingTimeoutError, ringkv.RingConnectionError)) as caught:
            ringkv.connect("127.0.0.1:%d" % silent.getsockname()[1], timeout=0.2)
        assert caught.value.retryable


def test_dropping_the_last_copy_is_refused(alone: BytesRing) -> None:
    with pytest.raises(ringkv.RingRefusedError) as caught:
        alone.drop_node(alone, timeout=5)
    assert caught.value.status == -306
    alone[b"still"] = b"here"
    assert alone.pop(b"still") == b"here"


def test_no_such_member(alone: BytesRing) -> None:
    with pytest.raises(ringkv.RingMemberError, match="nobody") as caught:
        alone.drop_node("nobody", timeout=5)
    assert caught.value.status == -309


def test_a_member_of_another_ring_is_refused(alone: BytesRing) -> None:
    with ringkv.Node.start() as other:
        other[b"k"] = b"v"
        with pytest.raises(ringkv.RingRefusedError):
            alone.add_node(other, timeout=5)
        assert other[b"k"] == b"v"


def test_a_progress_callback_ends_the_waiting() -> None:
    with cluster(1) as ring, ringkv.Node.start(standby=True) as standby:
        ring.nodes[0].put_many((b"%d" % n, b"v" * 1000) for n in range(20_000))
        with pytest.raises(ringkv.RingAbortedError):
            ring.nodes[0].add_node(standby, progress=lambda progress: False)
        ring.nodes[0].wait_settled(timeout=60)
        assert len(standby) == 20_000

        class Stop(Exception):
            pass

        def stop(progress: ringkv.Progress) -> None:
            raise Stop

        with pytest.raises(Stop):
            ring.nodes[0].drop_node(standby, progress=stop, force=True)
        ring.nodes[0].wait_settled(timeout=60)
        assert len(ring.nodes[0]) == 20_000
