"""p2p: real peers at terminals, what their users type and see."""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest

import ringkv
from console import HARNESSES, Console, free_ports

P2P = HARNESSES / "p2p" / "p2p.py"
SEVEN = (2, 4, 5, 8, 9, 14, 19)
#: Rarely enough that pings are not in the way of what a test looks for.
RARELY = 600
GONE = "no longer alive"
DEPARTS = "will depart from the network"


class Network:
    """Peers of one base port, each in a directory of its own."""

    def __init__(self, directory: Path) -> None:
        self.base = free_ports(1, together=32)[0]
        self.peers: dict[int, Console] = {}
        self._directory = directory
        self._stack = ExitStack()

    def __enter__(self) -> Network:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()
        for peer, console in self.peers.items():  # pytest shows it with a failure
            print(f"--- {peer}: {' '.join(console.command)}\n{console.text}")

    def __getitem__(self, peer: int) -> Console:
        return self.peers[peer]

    def home(self, peer: int) -> Path:
        """The working directory of that peer."""
        home = self._directory / str(peer)
        home.mkdir(exist_ok=True)
        return home

    def start(self, kind: str, peer: int, *arguments: float) -> Console:
        """Starts a peer, which may take the place of one that has ended."""
        environment = {"P2P_BASE_PORT": str(self.base)}
        console = Console(
            P2P, kind, peer, *arguments, cwd=self.home(peer), environment=environment
        )
        self._stack.enter_context(console)
        self.peers[peer] = console
        return console

    def init(
        self, *peers: int, interval: float = RARELY, order: Iterable[int] | None = None
    ) -> None:
        """Starts peers that name each other, and waits until each has its successors."""
        for peer in peers if order is None else order:
            self.start("init", peer, *successors(peer, peers), interval)
        for peer in peers:
            self.expect_successors(peer, peers, new="")
        self.settle()

    def join(self, peer: int, known: int, interval: float = RARELY) -> None:
        self.start("join", peer, known, interval).expect("Join request has been accepted\n")

    def expect_successors(self, peer: int, ring: Sequence[int], new: str = "new ") -> None:
        first, second = successors(peer, ring)
        self[peer].expect(
            f"My {new}first successor is Peer {first}\nMy {new}second successor is Peer {second}\n"
        )

    def connect(self) -> ringkv.Ring[bytes, bytes]:
        """The ring as other programs see it."""
        return ringkv.connect([f"127.0.0.1:{self.base + peer}" for peer in self.peers], timeout=20)

    def settle(self) -> None:
        """Waits until all copies are where they belong."""
        with self.connect() as ring:
            ring.wait_settled(timeout=30)

    def holders(self, file: str) -> list[int]:
        with self.connect() as ring:
            return [int(node.name) for node in ring.locate(file.encode()).holders]


def successors(peer: int, ring: Sequence[int]) -> tuple[int, int]:
    at = ring.index(peer)
    return ring[(at + 1) % len(ring)], ring[(at + 2) % len(ring)]


def without(ring: Sequence[int], *gone: int) -> list[int]:
    return [peer for peer in ring if peer not in gone]


def store(network: Network, peer: int, file: str, owner: int) -> None:
    network[peer].type(f"store {file}")
    network[owner].expect(f"Store {file} request accepted\n")


def request(network: Network, peer: int, file: str) -> bytes:
    """What arrives when the user of that peer requests a file."""
    console = network[peer]
    console.type(f"request {file}")
    console.expect(f"File {file} received\n")
    shown = console.match(f"^SHA-256 of received_{file}.pdf: ([0-9a-f]{{64}})$")[1]
    received = network.home(peer) / f"received_{file}.pdf"
    data = received.read_bytes()
    assert hashlib.sha256(data).hexdigest() == shown
    received.unlink()
    return data


@pytest.fixture
def network(tmp_path: Path) -> Iterator[Network]:
    with Network(tmp_path) as network:
        yield network


# Places


OWNERS = {"4103": 8, "2067": 19, "2012": 2, "0159": 2, "0000": 2, "9999": 19, "1890": 2}


def test_files_are_where_the_first_program_put_them(network: Network) -> None:
    network.init(*SEVEN, order=reversed(SEVEN))
    with network.connect() as ring:
        assert [member.position >> 56 for member in ring.info().members] == list(SEVEN)
    for file, owner in OWNERS.items():
        assert network.holders(file)[0] == owner
        store(network, 4, file, owner)
    # A new peer gets its files, and their copies are those of the next two.
    network.join(15, 4)
    network.settle()
    assert network.holders("9999")[0] == 15 and set(network.holders("9999")) == {15, 19, 2}
    network[2].type("request 9999")
    network[15].expect("File 9999 is stored here\n", "The file has been sent\n")
    network[2].expect("Peer 15 had File 9999\n", "File 9999 received\n")


# Entering


def test_the_ring_knows_better_than_its_peers(network: Network) -> None:
    """5 and 8 do not know each other; the user of 2 is wrong, too."""
    for peer, first, second in ((2, 8, 9), (5, 9, 2), (8, 9, 2), (9, 2, 5)):
        network.start("init", peer, first, second, RARELY)
    ring = (2, 5, 8, 9)
    for peer in ring:
        network[peer].match("^My (new )?second successor")
    network.settle()
    for peer in ring:
        network[peer].type("status")
        network[peer].expect(f"Peer {peer} on port {network.base + peer}\n")
        network.expect_successors(peer, ring, new="")
        network[peer].expect(f"My predecessor is Peer {ring[ring.index(peer) - 1]}\n")


def test_a_peer_joins_by_a_walk_to_its_place(network: Network) -> None:
    network.init(*SEVEN, order=(8, 2, 19, 5, 14, 4, 9))
    grown = [*SEVEN[:-1], 15, 19]
    network.join(15, 4)
    network.expect_successors(15, grown, new="")
    for peer in (4, 5, 8, 9):
        network[peer].expect("Peer 15 Join request forwarded to my successor\n")
    network[14].expect("Peer 15 Join request received\n")
    network.expect_successors(14, grown)
    network[9].expect("Successor Change request received\n")
    network.expect_successors(9, grown)
    # The known peer is the right predecessor: the first program left 14's predecessor untold.
    grown = [*SEVEN[:-1], 15, 17, 19]
    network.join(17, 15)
    network[15].expect("Peer 17 Join request received\n")
    network.expect_successors(15, grown)
    network[14].expect("Successor Change request received\n")
    network.expect_successors(14, grown)
    # It leaves before anybody has pinged it.
    network[17].type("quit")
    network[17].expect_end()
    for peer in (15, 14):
        network[peer].expect(f"Peer 17 {DEPARTS}\n")
        network.expect_successors(peer, without(grown, 17))
    for peer in (2, 19):
        assert "Join" not in network[peer].text and "Change" not in network[peer].text


def test_an_id_is_there_once(network: Network) -> None:
    network.init(2, 9)
    for arguments in (("join", 9, 2, RARELY), ("init", 9, 2, 9, RARELY)):
        first = network[9]
        second = network.start(*arguments)
        second.expect(f"Peer 9 is there already: port {network.base + 9} is in use\n")
        second.expect_end(1)
        network.peers[9] = first
    store(network, 9, "0009", 9)


def test_nobody_there(network: Network) -> None:
    joins = network.start("join", 7, 9, 1)
    waits = network.start("init", 8, 9, 11, 1)
    joins.expect(f"can not connect to port: {network.base + 9}\n")
    joins.expect_end(1)
    waits.interrupt()
    waits.expect_end(130)


def test_a_peer_alone(network: Network) -> None:
    console = network.start("init", 5, 5, 5, 0.1)
    console.expect("My first successor is Peer 5\n")
    store(network, 5, "0123", 5)
    assert request(network, 5, "0123") == b"Hello! This is file 0123"
    assert "Ping" not in console.text
    network.join(8, 5)
    console.expect("Peer 8 Join request received\n", "My new first successor is Peer 8\n")
    console.expect("Ping requests sent to Peer 8\n", "Ping response received from Peer 8\n")
    network[8].type("quit")
    network[8].expect_end()
    console.expect("Peer 8 will depart", "My new first successor is Peer 5\n")
    console.type("quit")
    console.expect_end()


# Pings


def test_pings_are_answered_by_whom_they_asked(network: Network) -> None:
    network.init(2, 4, 5, 8, interval=0.3)
    network.join(6, 2, interval=0.3)
    network[6].expect("Ping requests sent to Peers 8 and 2\n")
    for peer in (8, 2):
        network[6].match(f"^Ping response received from Peer {peer}$")
    network.expect_successors(4, (2, 4, 5, 6, 8))
    network[4].expect("Ping requests sent to Peers 5 and 6\n")
    network[6].match("^Ping request message received from Peer [45]$")
    network[5].type("quit")
    network[5].expect_end()
    network.expect_successors(4, (2, 4, 6, 8))
    network[4].expect("Ping requests sent to Peers 6 and 8\n")
    since = len(network[4].text)
    network[4].expect("Ping requests sent", "Ping requests sent")
    assert "Peer 5" not in network[4].text[since:]


def test_lost_pings_are_a_death_where_the_ring_cannot_decide(network: Network) -> None:
    network.init(2, 9, interval=0.2)
    network[9].process.send_signal(signal.SIGSTOP)
    network[2].expect("Peer 9 is no longer alive\n", "My new first successor is Peer 2\n")
    network[9].process.send_signal(signal.SIGCONT)
    network[2].expect("My new first successor is Peer 9\n")


# Leaving


@pytest.mark.parametrize("how", ["quit", "Ctrl-C", "SIGTERM"])
def test_a_peer_leaves_and_its_files_stay(network: Network, how: str) -> None:
    network.init(2, 5, 8, 9)
    store(network, 9, "0008", 8)
    match how:
        case "quit":
            network[8].type("Quit")
        case "Ctrl-C":
            network[8].interrupt()
        case _:
            network[8].process.terminate()
    network[8].expect_end(0)
    remaining = (2, 5, 9)
    for peer in (5, 2):
        network[peer].expect(f"Peer 8 {DEPARTS}\n")
        network.expect_successors(peer, remaining)
    network[9].type("status")
    network[9].expect("My predecessor is Peer 5\n", "Files of mine: 1  0008\n")
    assert request(network, 2, "0008") == b"Hello! This is file 0008"
    assert DEPARTS not in network[9].text and GONE not in network[9].text


def test_all_leave_at_once(network: Network) -> None:
    network.init(2, 4, 5, 8)
    store(network, 2, "0001", 2)
    for console in network.peers.values():
        console.process.terminate()
    for console in network.peers.values():
        console.expect_end(0, timeout=60)


def test_a_second_signal_ends_it_at_once(network: Network) -> None:
    network.init(2, 4, 5)
    for peer in (2, 4):
        network[peer].process.send_signal(signal.SIGSTOP)
    while "can not leave in order, the others will notice: " not in network[5].text:
        network[5].interrupt()
        time.sleep(0.5)  # two signals at once would be one
    network[5].expect_end(1)


def test_somebody_else_drops_a_peer(network: Network) -> None:
    network.init(2, 4, 5)
    with network.connect() as ring:
        ring.drop_node("4")
    network[4].expect("this peer is not part of the network any more")
    network[4].expect_end(1)
    network[2].expect(f"Peer 4 {DEPARTS}\n")


def test_the_end_of_the_input_is_not_the_end_of_the_peer(network: Network) -> None:
    network.init(2, 4, 5)
    network[4].end_input()
    environment = {**os.environ, "P2P_BASE_PORT": str(network.base)}
    command = [sys.executable, str(P2P), "join", "7", "2", "0.5"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
    ) as background:
        assert background.stdin is not None and background.stdout is not None
        try:
            background.stdin.write(b"\xff\xfe\0\n\nstore 0007")
            background.stdin.close()
            lines = iter(background.stdout.readline, b"")
            for wanted in (b"Command invalid\n", b"Store 0007 request forwarded to my successor\n"):
                assert wanted in lines
            background.stdout.close()  # the next lines have nowhere to go
            network[2].match("(?s)(Ping request message received from Peer 7.*){3}")
        finally:
            background.terminate()
        assert background.wait(30) == 0
    network.expect_successors(5, (2, 4, 5, 7))
    network.expect_successors(5, (2, 4, 5))
    store(network, 2, "0004", 4)


# Dying


def test_a_killed_peer_is_noticed_and_its_files_stay(network: Network) -> None:
    interval = 1
    network.init(*SEVEN, interval=interval)
    store(network, 2, "0005", 5)
    network.settle()
    begun = time.monotonic()
    network[5].kill()
    remaining = without(SEVEN, 5)
    for peer in (4, 2):
        network[peer].expect(f"Peer 5 is {GONE}\n")
        network.expect_successors(peer, remaining)
    assert request(network, 19, "0005") == b"Hello! This is file 0005"
    seconds = time.monotonic() - begun
    print(f"healed after {seconds:.2f} s")
    assert seconds < 1 + interval
    network[8].expect("File 0005 is stored here\n")
    for peer in (8, 9, 14, 19):
        assert GONE not in network[peer].text
    # It comes back under its id.
    network.join(5, 9)
    for peer in (2, 4):
        network.expect_successors(peer, SEVEN)
    network.settle()
    assert network.holders("0005")[0] == 5


def test_two_neighbours_are_killed_in_mid_load(network: Network) -> None:
    network.init(*SEVEN)
    files = [f"{number:04}" for number in range(300)]
    for file in files[:100]:
        network[2].type(f"store {file}")
    wait_for_files(network, 100)
    network.settle()
    for file in files[100:]:
        network[2].type(f"store {file}")
        network[9].type(f"request {files[int(file) % 100]}")
        if file == "0200":
            network[4].kill()
            network[5].kill()
    network[2].expect(f"Peer 4 is {GONE}\n")
    network.expect_successors(2, without(SEVEN, 4, 5))
    wait_for_files(network, 300)
    for file in files[:100]:
        wait_for(lambda: f"File {file} received" in network[9].text)
    assert "can not" not in network[2].text + network[9].text
    with network.connect() as ring:
        found = ring.get_many([file.encode() for file in files])
    assert len(found) == 300


def test_the_creator_comes_back(network: Network) -> None:
    """The peer that creates the ring joins it when it is started once more."""
    network.init(2, 9, 19)
    store(network, 2, "0015", 19)
    network.settle()
    network[19].kill()
    network[9].expect(f"Peer 19 is {GONE}\n", "My new first successor is Peer 2\n")
    network.start("init", 19, 2, 9, RARELY)
    network.expect_successors(19, (2, 9, 19), new="")
    network.expect_successors(9, (2, 9, 19))
    assert request(network, 19, "0015") == b"Hello! This is file 0015"


# Files


def test_contents_travel_whole(network: Network) -> None:
    network.init(2, 4, 5, 8)
    pdf = random.Random(4103).randbytes(500_000)
    (network.home(2) / "4103.pdf").write_bytes(pdf)
    store(network, 2, "4103", 8)
    for peer in (4, 5):
        network[peer].expect("Store 4103 request forwarded to my successor\n")
    network[4].type("Request 4103")
    network[4].expect(
        "File request for 4103 has been sent to my successor\n",
        "Peer 8 had File 4103\n",
        "Receiving File 4103 from Peer 8\n",
        "File 4103 received\n",
        f"SHA-256 of received_4103.pdf: {hashlib.sha256(pdf).hexdigest()}\n",
    )
    network[5].expect(
        "Request for File 4103 has been received, but the file is not stored here\n"
    )
    network[8].expect(
        "File 4103 is stored here\n", "Sending file 4103 to Peer 4\n", "The file has been sent\n"
    )
    assert [path.name for path in network.home(4).iterdir()] == ["received_4103.pdf"]
    assert (network.home(4) / "received_4103.pdf").read_bytes() == pdf
    # Its owner asks for it; a second file of that name takes the place of the first.
    (network.home(8) / "4103.pdf").write_bytes(b"")
    assert request(network, 8, "4103") == pdf
    store(network, 8, "4103", 8)
    assert request(network, 5, "4103") == b""


def test_other_programs_look_in(network: Network) -> None:
    network.init(2, 9)
    store(network, 9, "0159", 2)
    with network.connect() as ring:
        assert ring[b"0159"] == b"Hello! This is file 0159"
        ring[b"0160"] = b"\0from elsewhere\n"
    assert request(network, 9, "0160") == b"\0from elsewhere\n"


def test_the_asker_hears_of_an_absent_file(network: Network) -> None:
    network.init(2, 4, 9)
    network[4].type("request 1234")
    for peer in (4, 2):
        network[peer].expect("There is no such file\n")


def test_files_that_cannot_be_taken_or_written(network: Network) -> None:
    network.init(2, 9)
    home = network.home(2)
    with (home / "1000.pdf").open("wb") as sparse:
        sparse.truncate((64 << 20) + 1)
    (home / "1001.pdf").mkdir()
    (home / "received_0009.pdf").mkdir()
    (home / "received_0009.pdf" / "inside").touch()
    for command, answer in (
        ("store 1000", "File 1000 can not be stored: the value has 67108865 bytes"),
        ("store 1001", "File 1001 can not be stored: 1001.pdf is not a file"),
        ("store 0009", "Store 0009 request forwarded"),
        ("request 0009", "File 0009 can not be received: "),
        ("request 1000", "There is no such file"),
    ):
        network[2].type(command)
        network[2].expect(answer)
    assert sorted(path.name for path in home.iterdir()) == [
        "1000.pdf",
        "1001.pdf",
        "received_0009.pdf",
    ]


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def wait_for_files(network: Network, count: int) -> None:
    with network.connect() as ring:
        wait_for(lambda: len(ring) == count)


def test_a_thousand_stores_and_two_hundred_requests(network: Network) -> None:
    network.init(*SEVEN)
    begun = time.monotonic()
    for number in range(1000):
        network[2].type(f"store {number:04}")
    wait_for(
        lambda: sum(peer.text.count(" accepted\n") for peer in network.peers.values()) == 1000
    )
    seconds = time.monotonic() - begun
    print(f"1000 stores in {seconds:.2f} s")
    assert seconds < 6.3 / 2, "the first program took 6.3 s, on a quiet machine"
    begun = time.monotonic()
    for number in range(0, 1000, 5):
        network[9].type(f"request {number:04}")
    wait_for(lambda: network[9].text.count(" received\n") == 200)
    print(f"200 requests in {time.monotonic() - begun:.2f} s")
    for number in range(0, 1000, 5):
        received = network.home(9) / f"received_{number:04}.pdf"
        assert received.read_bytes() == f"Hello! This is file {number:04}".encode()


# Bad input


@pytest.mark.parametrize(
    "line",
    [
        "",
        "init",
        "init 2 4 5",
        "init 2 4 5 30 30",
        "init 2 4 256 30",
        "init -1 4 5 30",
        "init 2 4 x 30",
        "init 2 4 5 0",
        "init 2 4 5 -3",
        "init 2 4 5 nan",
        "init 2 4 5 inf",
        "init 2 4 5 soon",
        "init ² 4 5 30",
        "join 2 4",
        "join 2 2 30",
        "join 2 4 5 30",
        "leave 2 4 30",
        "--help",
    ],
)
def test_wrong_arguments(line: str) -> None:
    ended = subprocess.run(
        [sys.executable, str(P2P), *line.split()], capture_output=True, text=True, timeout=60
    )
    assert ended.returncode == 0
    assert ended.stdout == "Invalid arguments\n"
    assert ended.stderr.startswith("usage: ")


@pytest.mark.parametrize("base", ["", "x", "80", "-5", "65535", "99999999999"])
def test_a_wrong_base_port(base: str) -> None:
    environment = {**os.environ, "P2P_BASE_PORT": base}
    command = [sys.executable, str(P2P), "INIT", "2", "4", "5", "30"]
    ended = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60)
    assert ended.returncode == 2
    assert ended.stderr.startswith("P2P_BASE_PORT must be from 1024 to ")


def test_wrong_commands(network: Network) -> None:
    network.init(2, 9)
    for line, answer in (
        ("store", "invalid file name"),
        ("store abcd", "invalid file name"),
        ("request abcd", "invalid file name"),
        ("request 123", "invalid file name"),
        ("request 12345", "invalid file name"),
        ("request -123", "invalid file name"),
        ("request ١٢٣٤", "invalid file name"),
        ("store 1234 5678", "invalid file name"),
        ("../../etc/passwd", "Command invalid"),
        ("fetch 1234", "Command invalid"),
        ("quit now", "Command invalid"),
        ("x" * 3000, "Command invalid"),
        ("help", "leaves the network in order"),
    ):
        network[2].type(line)
        network[2].expect(f"{answer}\n")
    network[2].type("  ")
    store(network, 2, "0009", 9)
    assert network[2].text.count("Command invalid") == 4


def test_wrong_datagrams_are_not_believed(network: Network) -> None:
    network.init(2, 9)
    here = network.base + 2
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
        stranger.bind(("127.0.0.1", network.base + 20))
        stranger.settimeout(20)
        good = ["notices", 20, 2, [["store", "0009", 20, 0]]]
        for wrong in (
            b"",
            b"scsor1 4",
            b"\xff\xfe",
            b"[" * 8000,
            b"9" * 8000,
            b"x" * 60000,
            b"null",
            b'{"kind": "ping"}',
            b"cos\nsystem\n(S'true'\ntR.",
            json.dumps(["ping", 9, 1, []]).encode(),  # somebody else's name
            json.dumps(["ping", 300, 1, []]).encode(),
            json.dumps(["ping", 20, -1, []]).encode(),
            json.dumps(["ping", 20, 1.5, []]).encode(),
            json.dumps(["ping", 20, True, []]).encode(),
            json.dumps(["ping", 20, 10**400, []]).encode(),
            json.dumps(["ping", 20, 1]).encode(),
            json.dumps(["reply", 20, 1, []]).encode(),
            json.dumps(["notices", 20, 1, []]).encode(),
            json.dumps(["notices", 20, 1, [["store", "0009", 20, 0]] * 101]).encode(),
            json.dumps(["notices", 20, 1, [["store", "../x", 20, 0]]]).encode(),
            json.dumps(["notices", 20, 1, [["store", 9, 20, 0]]]).encode(),
            json.dumps(["notices", 20, 1, [["store", "0009", 256, 0]]]).encode(),
            json.dumps(["notices", 20, 1, [["quit", "", 20, 0]]]).encode(),
            json.dumps(["notices", 20, 1, [["join", "0009", 20, 0]]]).encode(),
            json.dumps(["notices", 20, 1, [*good[3], 5]]).encode(),  # type: ignore[misc]
        ):
            stranger.sendto(wrong, ("127.0.0.1", here))
        # None of these was answered. What is right is answered each time, and heard once.
        for _ in range(2):
            stranger.sendto(json.dumps(good).encode(), ("127.0.0.1", here))
            assert json.loads(stranger.recv(100)) == ["reply", 2, 2, []]
    network[9].expect("Store 0009 request accepted\n")
    store(network, 2, "0265", 9)
    for peer in (2, 9):
        assert network[peer].text.count("0009") == 1
        assert "Traceback" not in network[peer].text
