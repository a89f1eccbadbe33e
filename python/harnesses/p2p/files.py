"""Files of the working directory, and the same as values of the ring."""

from __future__ import annotations

import hashlib
import os
import threading
from pathlib import Path

import ringkv

#: Keys are the four digits of a file's name, values what is in it.
Files = ringkv.Ring[bytes, bytes]


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
    ring[file.encode()] = data


def receive_file(ring: Files, file: str) -> str:
    """Writes what the ring has into received_NNNN.pdf; its SHA-256."""
    data = ring[file.encode()]
    path = Path(f"received_{file}.pdf")
    # Under another name until it is whole; each thread has its own.
    part = Path(f"{path}.{os.getpid()}.{threading.get_ident()}")
    try:
        part.write_bytes(data)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return hashlib.sha256(data).hexdigest()
