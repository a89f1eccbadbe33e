"""The chord programs: what their users type and see, and what used to go wrong."""

from __future__ import annotations

import hashlib
import os
import pickle
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from console import HARNESSES, PATIENCE, Console, free_ports, load

import ringkv

CHORD = HARNESSES / "chord"
HOST = "127.0.0.1"
MENU = """\
Enter a command:
s --> Store
i --> Iterative Search
r --> Recursive Search
e --> exit

"""


def root(port: int) -> Console:
    return Console(CHORD / "dht_peer", "-m", 1, "-p", port, "-h", HOST)


def peer(port: int, of: int) -> Console:
    return Console(CHORD / "dht_peer", "-p", port, "-h", HOST, "-r", of, "-R", HOST)


def client(of: int) -> Console:
    return Console(CHORD / "dht_client", "-p", 6000, "-h", HOST, "-r", of, "-R", HOST)


class Peers:
    """The root and its peers, which have joined one after the other."""

    def __init__(self, stack: ExitStack, count: int) -> None:
        self._stack = stack
        self.ports = free_ports(count)
        self.at: dict[int, Console] = {}
        for port in self.ports:
            self.start(port)

    def start(self, port: int, of: int | None = None) -> Console:
        """Starts a peer, and waits until it has joined; the first one is the root."""
        first = of is None and port == self.ports[0]
        console = root(port) if first else peer(port, of or self.ports[0])
        self.at[port] = self._stack.enter_context(console)
        console.expect("Node joined successfully at:")
        return console

    def client(self) -> Console:
        console = self._stack.enter_context(client(self.ports[0]))
        console.expect("Welcome to CHORD\n", MENU)
        return console

    def look_in(self) -> ringkv.Ring[str, str]:
        """The ring as another program sees it."""
        return self._stack.enter_context(ringkv.connect(self.address(self.ports[0]), codec="utf8"))

    @staticmethod
    def address(port: int) -> str:
        return f"{HOST}:{port}"

    def circle(self) -> list[int]:
        """The ports in the order of the circle."""
        return sorted(self.at, key=lambda port: node_id(self.address(port)))

    def behind(self, port: int) -> int:
        circle = self.circle()
        return circle[(circle.index(port) + 1) % len(circle)]

    def before(self, port: int) -> int:
        circle = self.circle()
        return circle[circle.index(port) - 1]


@contextmanager
def peers(count: int) -> Iterator[Peers]:
    with ExitStack() as stack:
        yield Peers(stack, count)


def store_through_a_crash(console: Console, key: str, value: str) -> None:
    """Stores a pair. If the client says that it cannot know whether it was stored, as it may when
    the node that had it to store died with the request in hand, it is stored again."""
    console.type("s")
    console.type(key)
    console.type(value)
    found = console.match(f"Successfully stored {key} at|It may have been stored all the same")
    console.expect(MENU)
    if found[0].startswith("It"):
        store(console, key, value)


def node_id(name: str) -> str:
    return hashlib.sha1(name.encode()).hexdigest()[:16]


def pair(port: int) -> str:
    return f"('{HOST}', {port})"


def store(console: Console, key: str, value: str) -> str:
    """Stores a pair by the menu; at which node."""
    console.type("s")
    console.expect("Enter key:\n")
    console.type(key)
    console.expect("Enter value:\n")
    console.type(value)
    found = console.match(rf"Successfully stored {re.escape(key)} at host (\S+)\n")
    console.match(r"Key Hash:   [0-9a-f]{16}\n")
    console.expect(MENU)
    return found[1]


def ask(console: Console, mode: str, key: str) -> list[str]:
    """Retrieves a key by the menu; the lines of the answer."""
    name = {"i": "Iterative", "r": "Recursive"}[mode]
    console.type(mode)
    console.expect(f"You have selected {name} retrieve. Enter the key:\n")
    console.type(key)
    found = console.match(rf"((?:.*\n)*?){re.escape(MENU)}")
    return found[1].splitlines()


def absent(lines: list[str], key: str) -> bool:
    return lines[-2:] == [f"Could not find {key} in the ring...", "-1"]


def present(lines: list[str], key: str, value: str) -> bool:
    return lines[-2:] == [str((key, value)), ""]


@pytest.fixture(scope="module", autouse=True)
def idle() -> Iterator[tuple[Peers, float]]:
    """A ring that nobody talks to while the other tests run."""
    with peers(2) as ring:
        yield ring, time.monotonic()


# The six scenarios of the test table


def test_1_root_and_client() -> None:
    with peers(1) as ring:
        port = ring.ports[0]
        here = ring.address(port)
        console = ring.client()
        assert store(console, "k1", "v1") == here
        assert ask(console, "i", "k1") == [
            f"Asking {here} for k1",
            f"Found k1 at {here}",
            "('k1', 'v1')",
            "",
        ]
        assert ask(console, "r", "k1") == [
            f"Asking {here} for k1",
            f"Retrieved k1 at {here}",
            "('k1', 'v1')",
            "",
        ]
        console.type("e")
        console.expect_end(0)
        assert ring.at[port].lines[:10] == [
            f"The node ID of the node is  {node_id(here)}",
            f"Created a new ring at:  {pair(port)}",
            f"setting predecessor to:  {pair(port)}",
            f"setting successor to:  {pair(port)}",
            f"Node joined successfully at:  {pair(port)} {pair(port)}",
            "UPDATE",
            f"Hostname:     {here}",
            f"ID:           {node_id(here)}",
            f"Successor:    {here}",
            f"Predecessor:  {here}",
        ]
        ring.at[port].expect("Keys:         0\n", "Keys here:  1\n")


def test_2_an_unknown_key_is_not_found() -> None:
    with peers(1) as ring:
        console = ring.client()
        here = ring.address(ring.ports[0])
        for mode in "ir":  # also when nothing was ever stored
            assert ask(console, mode, "zzz") == [
                f"Asking {here} for zzz",
                f"Could not find zzz at {here}",
                "Could not find zzz in the ring...",
                "-1",
            ]
        store(console, "k1", "v1")
        assert absent(ask(console, "i", "zzz"), "zzz")
        assert present(ask(console, "r", "k1"), "k1", "v1")


def test_3_a_peer_waits_for_its_root() -> None:
    first, second = free_ports(2)
    with peer(second, first) as early:
        early.expect(f"Joining the ring of:  {pair(first)}\n")
        with root(first) as late:
            late.expect("Node joined successfully at:")
            early.expect(f"Node joined successfully at:  {pair(first)} {pair(first)}\n")
            # The peer may be there before the root looks around for the first time.
            wait_for_update(late, Peers.address(second), Peers.address(second))
            assert f"setting predecessor to:  {pair(second)}" in late.lines
            assert f"setting successor to:  {pair(second)}" in late.lines


def test_4_root_and_one_peer() -> None:
    words = ["alpha", "beta", "gamma", "delta", "epsilon", "zeta"]
    with peers(2) as ring:
        console = ring.client()
        places = {word: store(console, word, word.upper()) for word in words}
        # Both arcs of this circle are so long that a seventh word is found for either.
        words += [f"word {n}" for n in range(40)]
        places |= {word: store(console, word, word.upper()) for word in words[6:]}
        assert set(places.values()) == set(map(ring.address, ring.ports)) or short_arc(ring)
        for word in words[:8]:
            for mode in "irr":
                assert present(ask(console, mode, word), word, word.upper())
        assert absent(ask(console, "r", "zzz"), "zzz")
        assert absent(ask(console, "i", "zzz"), "zzz")


def short_arc(ring: Peers) -> bool:
    """Whether one node has so small a part of the circle that forty keys may miss it."""
    with ringkv.connect(ring.address(ring.ports[0])) as seen:
        members = seen.info().members
        return min(m.primaries for m in members) < sum(m.primaries for m in members) // 5


def test_5_root_and_three_peers() -> None:
    with peers(4) as ring:
        for port, console in ring.at.items():
            before, behind = ring.before(port), ring.behind(port)
            wait_for_update(console, ring.address(behind), ring.address(before))
            assert f"setting successor to:  {pair(behind)}" in console.lines
            assert f"setting predecessor to:  {pair(before)}" in console.lines
        ring.look_in().wait_settled(timeout=PATIENCE)  # no key changes hands while it is asked for
        console = ring.client()
        for n in range(10):
            where = store(console, f"k{n}", f"v{n}")
            for mode, verb in (("i", "Found"), ("r", "Retrieved")):
                lines = ask(console, mode, f"k{n}")
                assert present(lines, f"k{n}", f"v{n}")
                assert lines[-3] == f"{verb} k{n} at {where}"
                first = ring.address(ring.ports[0])
                assert lines[0] == f"Asking {first} for k{n}"
                if where != first and mode == "i":
                    assert lines[1:3] == [
                        f"Could not find k{n} at {first}",
                        f"Asking {where} for k{n}",
                    ]
                elif where != first:
                    assert lines[1] == f"{first} asks {where} for k{n}"


def wait_for_update(console: Console, successor: str, predecessor: str) -> None:
    """Waits until the last UPDATE block has these neighbours."""
    block = f"Successor:    {successor}\nPredecessor:  {predecessor}\n"
    deadline = time.monotonic() + PATIENCE
    while block not in console.text.rpartition("UPDATE\n")[2]:
        assert time.monotonic() < deadline, console.text
        time.sleep(0.01)


def test_6_a_peer_leaves_and_the_rest_goes_on() -> None:
    with peers(3) as ring:
        console = ring.client()
        for n in range(12):
            store(console, f"k{n}", f"v{n}")
        leaving = ring.ports[1]
        before, behind = ring.before(leaving), ring.behind(leaving)
        ring.at[leaving].interrupt()
        ring.at[leaving].expect("Leaving the ring\n", "Left the ring\n")
        ring.at[leaving].expect_end(0)
        for port in (before, behind):
            ring.at[port].expect(f"Node left:  {pair(leaving)}\n")
        assert "crashed" not in ring.at[before].text + ring.at[behind].text
        wait_for_update(ring.at[before], ring.address(behind), ring.address(behind))
        store(console, "late", "comer")
        assert present(ask(console, "r", "late"), "late", "comer")
        for n in range(12):
            assert present(ask(console, "i", f"k{n}"), f"k{n}", f"v{n}")


# Crashes


@pytest.mark.parametrize("which", range(4), ids=["root", "peer 1", "peer 2", "peer 3"])
def test_a_crash_under_load_loses_nothing(which: int) -> None:
    with peers(4) as ring:
        console = ring.client()
        dead = ring.ports[which]
        before, behind = ring.before(dead), ring.behind(dead)
        ring.look_in().wait_settled(timeout=PATIENCE)  # three copies of everything
        for n in range(10):
            store(console, f"k{n}", f"v{n}")
        ring.at[dead].process.kill()
        for n in range(10, 40):
            store_through_a_crash(console, f"k{n}", f"v{n}")
        for n in range(40):
            assert present(ask(console, "ir"[n % 2], f"k{n}"), f"k{n}", f"v{n}")

        ring.at[before].expect(
            f"{ring.address(dead)} failed: Stabilizing...\n",
            "Successor node crashed! Fixing the ring!\n",
            f"setting successor to:  {pair(behind)}\n",
        )
        ring.at[behind].expect(
            "Predecessor node crashed! Fixing the ring!\n",
            f"setting predecessor to:  {pair(before)}\n",
        )
        # It comes back into its old place: a peer by the same command, the root as a peer.
        ring.start(dead, of=behind)
        for port in (before, behind):
            ring.at[port].match(rf"Node (is back|joined):  {re.escape(pair(dead))}\n")
        wait_for_update(ring.at[before], ring.address(dead), ring.address(ring.before(before)))
        assert present(ask(console, "i", "k0"), "k0", "v0")


def test_a_peer_that_sleeps_is_told_from_one_that_left() -> None:
    with peers(3) as ring:
        sleeper = ring.ports[1]
        ring.at[sleeper].process.send_signal(signal.SIGSTOP)
        ring.at[ring.before(sleeper)].expect("Successor node crashed! Fixing the ring!\n")
        ring.at[sleeper].process.send_signal(signal.SIGCONT)
        ring.at[ring.before(sleeper)].expect(
            f"Node is back:  {pair(sleeper)}\n", f"setting successor to:  {pair(sleeper)}\n"
        )


def test_a_silent_heartbeat_is_told_once() -> None:
    with peers(2) as ring:
        first, second = ring.ports
        ring.at[first].kill()  # of two, the second cannot know whether the first is dead
        ring.at[second].expect(f"heartbeat:  {pair(first)} silent\n")
        ring.at[second].interrupt()
        ring.at[second].expect("Nobody stays: the ring ends here\n")
        ring.at[second].expect_end(0)
        assert ring.at[second].text.count("heartbeat:") == 1


# Joining and leaving


def test_ten_peers_join_at_once() -> None:
    with ExitStack() as stack:
        ring = Peers(stack, 1)
        ports = [port for port in free_ports(11) if port not in ring.ports][:10]
        for port in ports:
            ring.at[port] = stack.enter_context(peer(port, ring.ports[0]))
        for port in ports:
            ring.at[port].expect("Node joined successfully at:", timeout=60)
        for port, console in ring.at.items():
            behind, before = ring.behind(port), ring.before(port)
            wait_for_update(console, ring.address(behind), ring.address(before))
        assert len(ring.look_in().info().members) == 11
        console = ring.client()
        for n in range(5):
            store(console, f"k{n}", f"v{n}")
            assert present(ask(console, "i", f"k{n}"), f"k{n}", f"v{n}")


def test_keys_move_when_a_peer_joins_and_leaves() -> None:
    with peers(1) as ring:
        seen = ring.look_in()
        seen.put_many((f"key {n}", f"value {n}") for n in range(1000))
        ring.at[ring.ports[0]].expect("Keys here:  1000\n")
        port = next(port for port in free_ports(2) if port not in ring.ports)
        ring.start(port)
        seen.wait_settled(timeout=30)
        owned = sum(
            seen.locate(f"key {n}").holders[0].address == ring.address(port) for n in range(1000)
        )
        assert 0 < owned < 1000
        ring.at[port].match(rf"Keys(?: here)?: +{owned}\n")
        ring.at[ring.ports[0]].match(rf"Keys(?: here)?: +{1000 - owned}\n")

        # The root may go as well as any other, and what it had stays.
        ring.at[ring.ports[0]].process.terminate()
        ring.at[ring.ports[0]].expect("Left the ring\n")
        ring.at[ring.ports[0]].expect_end(0)
        ring.at[port].match(r"Keys(?: here)?: +1000\n")
        with ringkv.connect(ring.address(port), codec="utf8") as other:
            assert other.copy() == {f"key {n}": f"value {n}" for n in range(1000)}
        ring.at[port].process.terminate()
        ring.at[port].expect("Nobody stays: the ring ends here\n")
        ring.at[port].expect_end(0)


def test_all_leave_at_once() -> None:
    with peers(4) as ring:
        for console in ring.at.values():
            console.interrupt()
        for console in ring.at.values():
            console.match("Left the ring\n|Nobody stays: the ring ends here\n")
            console.expect_end(0)


def test_a_peer_without_input_goes_on_until_it_is_told(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    command = [sys.executable, str(CHORD / "dht_peer"), "-m1", f"-p{port}", f"-h{HOST}"]
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, cwd=tmp_path
    ) as process:
        try:
            assert process.stdout is not None
            assert any(line.startswith("Node joined successfully") for line in process.stdout)
            with client(port) as console:
                console.expect(MENU)
                store(console, "k1", "v1")
            assert process.poll() is None
            process.terminate()
            assert process.wait(PATIENCE) == 0
        finally:
            process.kill()
    assert list(tmp_path.iterdir()) == []  # nothing is written, so nothing can collide


def test_a_peer_that_another_program_drops_says_so() -> None:
    with peers(3) as ring:
        dropped = ring.ports[2]
        ring.look_in().drop_node(ring.address(dropped), timeout=30)
        ring.at[dropped].match("dht_peer: (another program has dropped|this node stands by).*\n")
        ring.at[dropped].expect_end(1)


def test_a_root_that_never_comes_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    program = load(CHORD / "dht_peer")
    monkeypatch.setattr(program, "JOIN_SECONDS", 0.3)
    port, nobody = free_ports(2)
    me = f"{HOST}:{port}"
    options = program.parse(["-p", str(port), "-h", HOST, "-r", str(nobody), "-R", HOST])
    with pytest.raises(ringkv.RingTimeoutError, match="nobody listens there"):
        program.start(me, options)


def test_who_waits_for_the_root_can_be_interrupted() -> None:
    second, nobody = free_ports(2)
    with peer(second, nobody) as waiting:
        waiting.expect("Joining the ring of:")
        waiting.interrupt()
        waiting.expect_end(130)
        assert "Traceback" not in waiting.text


def test_a_port_in_use() -> None:
    with peers(1) as ring:
        with root(ring.ports[0]) as second:
            second.match(rf"dht_peer: .*{ring.ports[0]}.*\n")
            second.expect_end(1)
            assert "Traceback" not in second.text


def test_a_client_without_a_ring() -> None:
    with client(free_ports(1)[0]) as console:
        console.match(r"dht_client: cannot connect to .*: nobody listens there\n")
        console.expect_end(1)


# What is typed


def test_other_programs_see_what_was_stored() -> None:
    with peers(1) as ring:
        console = ring.client()
        store(console, "k1", "v1")
        address = ring.address(ring.ports[0])
        get = [sys.executable, "-m", "ringkv", "get", "k1", "--ring", address]
        assert subprocess.run(get, capture_output=True, text=True).stdout == "v1"
        ring.look_in()["theirs"] = "value"
        assert present(ask(console, "r", "theirs"), "theirs", "value")


def test_bad_input_at_the_prompts() -> None:
    with peers(1) as ring:
        console = ring.client()
        for odd in ("x", "", "store", "\x01", "ä"):
            console.type(odd)
            console.expect("Enter correct instruction\n", MENU)
        console.type("s")
        console.type("")
        console.type("value")
        console.expect("Error: the key is empty\n", MENU)
        for key, value in ((",", ","), ("it's", '"'), ("('a', 'b')", "\\x00"), ("a b", "")):
            store(console, key, value)
            assert present(ask(console, "i", key), key, value)
            assert present(ask(console, "r", key), key, value)
        ring.look_in().with_codec("bytes")[b"binary"] = b"\xff"
        console.type("i")
        console.type("binary")
        console.match(r"Error: .*UTF-8.*\n")
        console.end_input()
        console.expect_end(0)


def test_input_that_no_terminal_can_type() -> None:
    with peers(1) as ring:
        command = [sys.executable, str(CHORD / "dht_client"), "-r", str(ring.ports[0]), "-R", HOST]
        odd = [b"\xff\xfe", b"s", b"k" * 100_000, b"v", b"s", b"nul\0", b"w", b"r", b"nul\0"]
        typed = b"\n".join([b"s", *odd])
        done = subprocess.run(command, input=typed, capture_output=True)
        assert (done.returncode, done.stderr) == (0, b"")
        assert b"Error: that is not UTF-8 text\n" in done.stdout
        assert re.search(rb"\nError: .*key.*\n", done.stdout)
        assert b"('nul\\x00', 'w')\n" in done.stdout
        for text in (b"s", b"s\nk", b"i", b"i\nk"):  # the input ends at each prompt
            done = subprocess.run(command, input=text, capture_output=True)
            assert (done.returncode, done.stderr) == (0, b"")
        closed = subprocess.run(["sh", "-c", '"$@" <&-', "sh", *command], capture_output=True)
        assert (closed.returncode, closed.stderr) == (0, b"")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_client_is_interrupted(number: signal.Signals) -> None:
    with peers(1) as ring:
        console = ring.client()
        console.type("s")
        console.expect("Enter key:\n")
        console.process.send_signal(number)
        console.expect_end(130)
        assert "Traceback" not in console.text


def test_nobody_reads_what_is_printed() -> None:
    with peers(1) as ring:
        reader, writer = os.pipe()
        os.close(reader)
        try:
            command = [sys.executable, str(CHORD / "dht_client"), "-r", str(ring.ports[0])]
            done = subprocess.run(
                [*command, "-R", HOST], input=b"e\n", stdout=writer, stderr=subprocess.PIPE
            )
        finally:
            os.close(writer)
        assert (done.returncode, done.stderr) == (141, b"")


# The network


class Trap:
    """Whoever unpickles it makes a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self._folder),)


def test_nothing_from_the_network_is_unpickled(tmp_path: Path) -> None:
    trap = tmp_path / "sprung"
    with peers(1) as ring:
        port = ring.ports[0]
        for junk in (pickle.dumps(Trap(trap)), b"\xff" * 5000, b"GET / HTTP/1.1\r\n\r\n", b""):
            with socket.create_connection((HOST, port), timeout=10) as stream:
                stream.sendall(junk)
            for at in (port, port + 1, port + 2):  # where the first program listened by UDP
                with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagram:
                    datagram.sendto(junk, (HOST, at))
        console = ring.client()
        store(console, "k1", "v1")
        assert present(ask(console, "i", "k1"), "k1", "v1")
        assert "Traceback" not in ring.at[port].text
    assert not trap.exists()


# Last, so that the other tests have taken most of the time.


def test_nobody_ends_because_it_is_idle(idle: tuple[Peers, float]) -> None:
    ring, since = idle
    time.sleep(max(0.0, since + 11 - time.monotonic()))  # the first program gave up after 10 s
    assert all(console.process.poll() is None for console in ring.at.values())
    console = ring.client()
    store(console, "k1", "v1")
    assert present(ask(console, "r", "k1"), "k1", "v1")
