"""How the programs of this folder talk: datagrams that are answered, sent again, and checked.

A datagram is one character, 16 hexadecimal digits, a blank and a text, as UTF-8:

====  ====================================================================
``?``  a request; the digits are its id, and it is sent again until answered
``!``  the answer to the request with this id
``~``  that request has arrived and is being worked on: go on waiting
====  ====================================================================

Whoever is asked remembers its last answers, so a request that arrives twice is executed once.
"""

from __future__ import annotations

import contextlib
import queue
import re
import secrets
import socket
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

Address = tuple[str, int]

#: Seconds until a program that says nothing at all is given up.
PATIENCE = 5.0
#: However often it says that it is working: no request takes longer than this.
PATIENCE_MAX = 60.0
_RESEND_AFTER = 0.05
_RESEND_AFTER_MAX = 0.8
_REQUESTS_WAITING_MAX = 64
_ANSWERS_KEPT = 512
_FRAME = re.compile(r"([?!~])([0-9a-f]{16}) (.*)", re.DOTALL)


class NoAnswerError(Exception):
    """The other program is gone, or out of reach."""


@dataclass(frozen=True)
class Request:
    """What another program asks. Whoever handles it calls ``answer`` once."""

    text: str
    sender: Address
    answer: Callable[[str], None]


@dataclass
class _Waiting:
    """A request of ours that has no answer yet."""

    to: Address
    deadline: float
    answers: queue.SimpleQueue[str] = field(default_factory=queue.SimpleQueue)


class Endpoint:
    """A UDP socket with a thread that reads it: asks others, and collects what others ask."""

    def __init__(self, bound: socket.socket) -> None:
        self._socket = bound
        self._waiting: dict[str, _Waiting] = {}
        self._answers: OrderedDict[tuple[Address, str], str | None] = OrderedDict()
        self._requests: queue.Queue[Request | None] = queue.Queue(_REQUESTS_WAITING_MAX)
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def address(self) -> Address:
        """Where it is bound."""
        host, port = self._socket.getsockname()
        return host, port

    def request(self, to: Address, text: str, patience: float = PATIENCE) -> str:
        """Asks, again and again, until there is an answer; ``NoAnswerError`` if there is none."""
        token = secrets.token_hex(8)
        start = time.monotonic()
        waiting = self._waiting[token] = _Waiting(to, start + patience)
        delay = _RESEND_AFTER
        try:
            while (now := time.monotonic()) < min(waiting.deadline, start + PATIENCE_MAX):
                self._send(to, "?", token, text)
                with contextlib.suppress(queue.Empty):
                    return waiting.answers.get(timeout=min(delay, waiting.deadline - now))
                delay = min(2 * delay, _RESEND_AFTER_MAX)
                if self._closed.is_set():
                    break
        finally:
            del self._waiting[token]
        raise NoAnswerError(f"{to[0]}:{to[1]} does not answer")

    def next_request(self, timeout: float | None = None) -> Request | None:
        """The next thing that others ask; ``None`` when the time is over or it was closed."""
        with contextlib.suppress(queue.Empty):
            if not self._closed.is_set():
                return self._requests.get(timeout=timeout)
        return None

    def serve(self, handle: Callable[[Request], None], threads: int) -> None:
        """Handles requests in threads of its own. A ``ValueError`` is what is wrong with one."""

        def work() -> None:
            while (request := self.next_request()) is not None:
                try:
                    handle(request)
                except ValueError as error:
                    request.answer(f"FAILURE {error}")
            self._wake()  # the next thread ends too

        for _ in range(threads):
            threading.Thread(target=work, daemon=True).start()

    def close(self) -> None:
        """Ends the threads and frees the port."""
        self._closed.set()
        with contextlib.suppress(OSError):
            self._socket.sendto(b"", self.address)  # wakes the reader
        self._reader.join()
        self._socket.close()
        self._wake()

    def _wake(self) -> None:
        with contextlib.suppress(queue.Full):
            self._requests.put_nowait(None)

    def _read(self) -> None:
        while not self._closed.is_set():
            try:
                data, sender = self._socket.recvfrom(65_535)
                frame = _FRAME.fullmatch(data.decode())
            except (OSError, UnicodeDecodeError):
                continue
            if frame is None:
                continue
            kind, token, text = frame.groups()
            if kind == "?":
                self._on_request(sender, token, text)
            else:
                self._on_answer(sender, kind, token, text)

    def _on_answer(self, sender: Address, kind: str, token: str, text: str) -> None:
        waiting = self._waiting.get(token)
        if waiting is None or waiting.to != sender:
            return
        if kind == "!":
            waiting.answers.put(text)
        else:
            waiting.deadline = max(waiting.deadline, time.monotonic() + PATIENCE)

    def _on_request(self, sender: Address, token: str, text: str) -> None:
        key = (sender, token)

        def answer(reply: str) -> None:
            with self._lock:
                self._answers[key] = reply
            self._send(sender, "!", token, reply)

        with self._lock:
            if key not in self._answers:
                with contextlib.suppress(queue.Full):  # it will be sent again
                    self._requests.put_nowait(Request(text, sender, answer))
                    self._answers[key] = None
                    while len(self._answers) > _ANSWERS_KEPT:
                        self._answers.popitem(last=False)
                return
            known = self._answers[key]
        self._send(sender, "~" if known is None else "!", token, known or "")

    def _send(self, to: Address, kind: str, token: str, text: str) -> None:
        with contextlib.suppress(OSError):  # as if it were lost on the way
            self._socket.sendto(f"{kind}{token} {text}".encode(), to)


def say(line: object) -> None:
    """Prints a line, whole, from any thread; silently if nobody reads any more."""
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()
