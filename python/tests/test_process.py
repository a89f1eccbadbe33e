"""Forks, the end of the interpreter, and the package as a whole."""

from __future__ import annotations

import inspect
import logging
import os
import signal
import subprocess
import sys
from typing import Any

import pytest
from conftest import Cluster

import ringkv


def in_child(check: Any) -> str:
    """What `check` returns in a forked child."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            answer = str(check())
        except BaseException as error:
            answer = f"{type(error).__name__}: {error}"
        os.write(writer, answer.encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        answer = pipe.read()
    assert os.waitpid(child, 0)[1] == 0
    return answer


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_a_ring_is_dead_in_a_forked_child(shared: Cluster) -> None:
    node = shared.nodes[0]
    client = shared.client()
    client[b"k"] = b"v"
    walk = client.scan()

    for use in (
        lambda: client[b"k"],
        lambda: node.put(b"k", b"child"),
        lambda: node.info(),
        lambda: list(walk),
    ):
        answer = in_child(use)
        assert answer.startswith("RingForkedError: "), answer
        assert "parent" in answer
    assert "parent process" in in_child(lambda: repr(node))
    assert in_child(lambda: (node.close(), client.close())) == "(None, None)"

    def start_and_use() -> bytes:
        with ringkv.Node.start() as mine:
            mine[b"k"] = b"mine"
            return mine[b"k"]

    assert in_child(start_and_use) == "b'mine'"
    address = node.address
    assert in_child(lambda: ringkv.connect(address)[b"k"]) == "b'v'"
    # The parent did not notice anything.
    assert node[b"k"] == client[b"k"] == b"v"
    assert list(walk) == [(b"k", b"v")]
    client.clear()


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_dropping_a_ring_in_a_forked_child_waits_for_nothing(shared: Cluster) -> None:
    program = """
import os, ringkv, gc
ring = ringkv.Node.start()
ring[b"k"] = b"v"
child = os.fork()
if child == 0:
    del ring
    gc.collect()
    raise SystemExit(3)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 3
assert ring[b"k"] == b"v"
ring.close()
"""
    done = subprocess.run(
        [sys.executable, "-c", program], timeout=30, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("ending", ["", "raise SystemExit(0)", "import os; os._exit(0)"])
def test_a_program_ends_although_a_ring_is_open(ending: str) -> None:
    program = f"""
import ringkv, threading
ring = ringkv.Node.start()
client = ringkv.connect(ring.address)
def work():
    while True:
        client[b"k"] = b"v"
threading.Thread(target=work, daemon=True).start()
while b"k" not in ring: pass
{ending}
"""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program],
        timeout=30,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_logging_is_silent_unless_asked_for() -> None:
    handlers = logging.getLogger("ringkv").handlers
    assert any(isinstance(handler, logging.NullHandler) for handler in handlers)


def test_the_engine_logs_to_python() -> None:
    program = """
import logging, os, ringkv, socket, sys
logging.basicConfig(stream=sys.stdout, format="%(name)s %(levelname)s", level=logging.DEBUG)
ringkv.enable_logging(logging.DEBUG)
ringkv.enable_logging(logging.DEBUG)
def use():
    with ringkv.Node.start() as node, socket.create_connection(node.address.split(":")) as peer:
        peer.sendall(b"no frame of ours" * 100)
        peer.settimeout(20)
        try:
            while peer.recv(4096): pass
        except ConnectionError: pass
use()
child = os.fork()
if child == 0:
    use()  # without a log
    raise SystemExit(0)
assert os.waitpid(child, 0)[1] == 0
"""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program],
        timeout=60,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert any(line.startswith("ringkv.") for line in done.stdout.splitlines()), done.stdout


def run_command(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ringkv", *arguments],
        timeout=60,
        capture_output=True,
        text=True,
        check=False,
        **options,
    )


def test_the_command_line() -> None:
    assert run_command("--version").stdout == f"ringkv {ringkv.__version__}\n"
    assert run_command("no-such-command").returncode == 2
    with ringkv.Node.start() as ring:
        assert run_command("put", "--ring", ring.address, "ключ", "значение").returncode == 0
        assert ring["ключ".encode()] == "значение".encode()
        found = run_command("get", "--ring", ring.address, "ключ")
        assert (found.returncode, found.stdout.rstrip("\n")) == (0, "значение")
        assert run_command("get", "--ring", ring.address, "nothing").returncode == 1


def test_ctrl_c_ends_a_node_of_the_command_line() -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "ringkv", "node", "--listen", "127.0.0.1:0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as node:
        assert node.stdout is not None
        assert node.stdout.readline()
        node.send_signal(signal.SIGINT)
        try:
            node.wait(timeout=20)
        finally:
            node.kill()


def test_everything_public_is_there_and_documented() -> None:
    for name in ringkv.__all__:
        public = getattr(ringkv, name)
        if inspect.isclass(public) or inspect.isfunction(public):
            assert public.__doc__, name
    for name, method in vars(ringkv.Ring).items():
        if not name.startswith("_") and callable(method):
            assert method.__doc__, name
