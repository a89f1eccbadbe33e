"""Calls that block: they let other threads run, and Ctrl-C ends them."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import threading
import time

import pytest

import ringkv


def test_a_blocking_call_lets_other_threads_run() -> None:
    """The peer that the call waits for is a thread of this very process: were the interpreter not
    released, it could not even accept the connection before the call has ended."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        ended: list[BaseException] = []

        def call() -> None:
            try:
                ringkv.connect("127.0.0.1:%d" % silent.getsockname()[1], timeout=1)
            except ringkv.RingError as error:
                ended.append(error)

        caller = threading.Thread(target=call)
        caller.start()
        peer, _ = silent.accept()
        with peer:
            assert ended == [] and caller.is_alive()
            turns = 0
            while caller.is_alive() and turns < 1000:
                turns += 1
            assert turns > 10
            caller.join()
    assert isinstance(ended[0], (TimeoutError, ConnectionError))


# A signal that arrives at the jump back of a loop is raised by CPython 3.11 at the instruction
# before the loop. Were the loop the first thing in the `try`, that would be outside of it.
WAITS = """
import ringkv, socket, sys, time
silent = socket.create_server(("127.0.0.1", 0))
address = "127.0.0.1:%d" % silent.getsockname()[1]
ring = ringkv.Node.start()
{setup}
print("ready", flush=True)
try:
    start = time.monotonic()
    {call}
except {expected}:
    print("interrupted", time.monotonic() - start < 30)
ring[b"k"] = b"v"
assert ring[b"k"] == b"v"
ring.close()
"""


@pytest.mark.parametrize(
    "call",
    [
        "ring.add_node(address, timeout=60)",
        "while True: ring[b'key'] = b'value'",
        "while True: ring.put_many({b'%d' % n: b'v' for n in range(1000)})",
    ],
)
@pytest.mark.parametrize(
    ("setup", "expected"),
    [
        ("", "KeyboardInterrupt"),
        (
            "import signal\n"
            "class Mine(Exception): pass\n"
            "def handler(*_): raise Mine\n"
            "signal.signal(signal.SIGINT, handler)",
            "Mine",
        ),
    ],
)
def test_ctrl_c_ends_a_blocking_call(setup: str, call: str, expected: str) -> None:
    program = WAITS.format(setup=setup, call=call, expected=expected)
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        time.sleep(0.2)  # into the call; should the signal come earlier, it ends the call as well
        child.send_signal(signal.SIGINT)
        try:
            output, _ = child.communicate(timeout=20)
        finally:
            child.kill()
    assert output == "interrupted True\n"
    assert child.returncode == 0


def test_a_signal_handler_that_does_not_raise_does_not_end_the_call() -> None:
    got: list[int] = []
    before = signal.signal(signal.SIGALRM, lambda number, frame: got.append(number))
    try:
        with socket.create_server(("127.0.0.1", 0)) as silent:
            signal.setitimer(signal.ITIMER_REAL, 0.05)
            start = time.monotonic()
            with pytest.raises((TimeoutError, ConnectionError)):
                ringkv.connect("127.0.0.1:%d" % silent.getsockname()[1], timeout=0.5)
            assert time.monotonic() - start >= 0.4
    finally:
        signal.signal(signal.SIGALRM, before)
    assert got == [signal.SIGALRM]
