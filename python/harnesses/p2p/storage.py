"""What a peer asks of the ring. All of this blocks, so it is called in threads."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar

import ringkv

#: Keys are the four digits of a file's name, values what is in it.
Files = ringkv.Ring[bytes, bytes]

LEAVE_SECONDS: Final = 30.0
LEAVE_TRY_SECONDS: Final = 5.0
PATIENCE_SECONDS: Final = 20.0
RETRY_SECONDS: Final = 0.05

T = TypeVar("T")


def store_file(ring: Files, file: str) -> None:
    """Puts NNNN.pdf of the working directory into the ring."""
    path = Path(f"{file}.pdf")
    if path.is_file():
        with path.open("rb") as pdf:
            # One byte too many is enough for the ring to refuse a file that is too large.
            data = pdf.read(ring.info().params.value_bytes_max + 1)
    elif path.exists():
        raise OSError(f"{path} is not a file")
    else:
        data = f"Hello! This is file {file}".encode()
    patiently(lambda: ring.put(file.encode(), data))


def receive_file(ring: Files, file: str) -> str:
    """Writes what the ring has into received_NNNN.pdf; its SHA-256."""
    data = patiently(lambda: ring[file.encode()])
    path = Path(f"received_{file}.pdf")
    # Under another name until it is whole; each thread has its own.
    part = Path(f"{path}.{os.getpid()}.{threading.get_ident()}")
    try:
        part.write_bytes(data)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return hashlib.sha256(data).hexdigest()


def leave_ring(ring: Files, name: str) -> bool:
    """Drops the member after its copies have moved to others; False if there are no others."""
    deadline = time.monotonic() + LEAVE_SECONDS
    force = False
    while True:
        try:
            ring.drop_node(name, timeout=LEAVE_TRY_SECONDS, force=force)
            return True
        except ringkv.RingClosedError:
            raise
        except ringkv.RingError as error:
            others = living_beside(ring, name)
            if others is None:  # it has left, and the answer has been lost
                return True
            if not others:
                return False
            if time.monotonic() > deadline:
                raise
            # With so few members the ring would rather keep it, but its user decides. If all others
            # leave, too, it stays until they have handed over their files.
            force = force or isinstance(error, ringkv.RingRefusedError)
        time.sleep(RETRY_SECONDS)


def living_beside(ring: Files, name: str) -> list[str] | None:
    """The other living members; None if this one is no member any more."""
    try:
        members = ring.info().members
    except ringkv.RingUnavailableError:
        return None
    living = [member.node.name for member in members if member.state in ("up", "leaving")]
    return [other for other in living if other != name]


def patiently(call: Callable[[], T]) -> T:
    """Repeats what may succeed later. When peers have died, the ring refuses to write a file of
    which one copy is left, until it has made new copies a moment later. What may have taken effect
    is repeated, too: to store the same file once more changes nothing."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            return call()
        except ringkv.RingError as error:
            hopeful = error.retryable or error.maybe_applied
            if not hopeful or time.monotonic() > deadline:
                raise
        time.sleep(RETRY_SECONDS)
