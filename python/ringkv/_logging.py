"""The engine's log records in Python's ``logging``."""

from __future__ import annotations

import atexit
import logging
import os
import threading

from . import _ringkv
from .errors import RingUnsupportedError

_lock = threading.Lock()
_thread: threading.Thread | None = None


def enable_logging(level: int = logging.INFO) -> None:
    """Sends the engine's log records from ``level`` on to the logger ``ringkv`` and its children.

    One thread of Python does that, as the engine's own threads never wait for the interpreter. What
    you see depends, as always, on how ``logging`` is configured. After a fork the child has to call
    it again.

    >>> import logging
    >>> logging.basicConfig()
    >>> enable_logging(logging.WARNING)
    """
    global _thread
    with _lock:
        if not _ringkv.open_log(level):
            raise RingUnsupportedError(
                "something else in this process has claimed the engine's log"
            )
        if _thread is None:
            _thread = threading.Thread(target=_forward, name="ringkv-log", daemon=True)
            _thread.start()
            # Before the interpreter ends, so that the last records arrive and nobody waits in it.
            atexit.register(_stop)


def _forward() -> None:
    while (records := _ringkv.fetch_log()) is not None:
        for level, target, text in records:
            # `ringkv::node::worker` is the logger `ringkv.node.worker`.
            logging.getLogger(target.replace("::", ".")).log(level, "%s", text)


def _stop() -> None:
    with _lock:
        _ringkv.close_log()
        if _thread is not None:
            _thread.join(timeout=5)


def _forget() -> None:
    """In a forked child there is no such thread, and the lock may be another thread's for ever."""
    global _lock, _thread
    _lock, _thread = threading.Lock(), None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
