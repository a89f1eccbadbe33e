"""What the user sees and types."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from typing import Final

_LINE_BYTES_MAX: Final = 1024


def say(line: str) -> None:
    """Prints a line at once."""
    try:
        print(line, flush=True)
    except OSError:  # The terminal is gone, but the others still count on this peer.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def typed_lines() -> Iterator[str]:
    """The lines of the input until it ends, overlong ones cut.

    It reads without Python's buffer: a thread that waits with the lock of that buffer would be in
    the way when the program ends.
    """
    if sys.stdin is None:  # closed: the descriptor belongs to somebody else by now
        return
    rest = b""
    while piece := _read(sys.stdin.fileno()):
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            yield line[:_LINE_BYTES_MAX].decode(errors="replace")
        rest = rest[:_LINE_BYTES_MAX]
    if rest:
        yield rest.decode(errors="replace")


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 65536)
    except OSError:  # how Linux says that the terminal is gone
        return b""
