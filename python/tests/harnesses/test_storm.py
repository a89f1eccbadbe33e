"""The storm programs: what their users type and see, and what they no longer suffer."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from console import HARNESSES, Console, free_ports
from storm_programs import BOUND, Fake, Storm, protocol, records, row, write_year

#: Real data, if it lies beside the repository.
REAL_DATA = HARNESSES.parents[2] / "shared/data/storm-events"


@pytest.fixture
def storm(tmp_path: Path) -> Iterator[Storm]:
    """A manager and no peers; the years 1950 (CR), 1951 (CR LF) and 1952 (LF), 60 events each."""
    for year, end in ((1950, "\r"), (1951, "\r\n"), (1952, "\n")):
        write_year(tmp_path, year, range(year * 1000, year * 1000 + 60), end)
    with Storm(tmp_path) as started:
        yield started


def wait_until(what: Callable[[], object], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "in vain"
        time.sleep(0.02)


@pytest.fixture
def fakes(storm: Storm) -> Iterator[list[Fake]]:
    """Five fake peers a0 ... a4; the first three are in a DHT whose setup is not complete."""
    made = [Fake(storm) for _ in range(5)]
    try:
        for n, fake in enumerate(made[:3]):
            fake.register(f"a{n}")
        assert made[0].says("setup-dht a0 3 1950").startswith('SUCCESS [["a0"')
        yield made
    finally:
        for fake in made:
            fake.endpoint.close()


# What users type and see


def test_a_session(storm: Storm) -> None:
    storm.register("n0", "n1", "n2", "n3", "n4", "n5")
    n0 = storm.peers["n0"]
    n0.type("setup-dht n0 4 1950")
    n0.match(
        r"^SUCCESS\n(Peer ID: [0-3], Record Count: \d+\n){4}60 of 60 records stored\n"
        r"sending dht-complete to manager\nSUCCESS\n"
    )
    manager = storm.manager
    manager.expect("Setting up DHT for peer: n0, N: 4, YYYY: 1950\nleader of current dht is n0\n")
    manager.match(r"^client list:\n(\{.*\}\n){6}peers in DHT:\n(\{.*\}\n){4}")
    manager.expect("DHT complete for peer: n0\n")
    dht = storm.listed("peers in DHT:")
    assert dht[0] == "n0" and len(set(dht)) == 4
    for identifier, name in enumerate(dht[1:], start=1):
        storm.peers[name].expect(f"identifier: {identifier}, name: {name}\n")
    counts = [int(line.split()[-1]) for line in n0.lines if line.startswith("Peer ID: ")]
    assert sum(counts) == 60
    asker, joiner = storm.free(dht)

    fields, way = storm.query(asker, 1950007)
    assert list(fields.values()) == row(1950007)
    assert len(set(way)) == len(way) <= 4 and set(way) <= {0, 1, 2, 3}
    storm.peers[asker].type(f"query-dht {asker} 77")
    storm.peers[asker].expect("event_id is 77\nStorm event 77 not found in the DHT\n")
    storm.peers[asker].type(f"query-dht {asker}")
    found = storm.peers[asker].match(r"event_id is (\d+)\nStorm event (\d+) not found in the DHT\n")
    assert found[1] == found[2] and found[1] in "5536849 2402920 5539287 55770111".split()

    leaving, heir = storm.peers[dht[1]], dht[2]
    leaving.type(f"leave-dht {dht[1]}")
    leaving.expect("Received SUCCESS from manager starting teardown\n")
    leaving.expect("waiting for dht-rebuilt response from manager\n")
    leaving.expect("dht-rebuilt response was a SUCCESS\n")
    manager.expect(f"leaving peer is {dht[1]} with id of 1\nnew leader will be {heir}\n")
    manager.expect("client list after teardown\n")
    manager.expect("waiting for dht-rebuilt\nreceived dht-rebuilt\n")
    storm.peers[heir].match(r"identifier: 0, name: .*\n(Peer ID: [0-2], Record Count: \d+\n){3}")
    manager.match(r"^current peers in DHT:\n(\{.*\}\n){3}")
    storm.refused(heir, f"leave-dht {heir}", "DHT wouldn't be at least three if one left")

    storm.peers[joiner].type(f"join-dht {joiner}")
    storm.peers[joiner].expect(f"identifier: 3, name: {joiner}\n")
    storm.peers[joiner].expect("dht-rebuilt response was a SUCCESS\n")
    manager.expect("sending success to joining peer\n")
    manager.expect("received teardown complete, sending SUCCESS\nreceived dht-rebuilt\n")
    manager.match(r"^current peers in DHT:\n(\{.*\}\n){4}")
    assert storm.listed("current peers in DHT:") == [heir, dht[3], "n0", joiner]
    for event in range(1950000, 1950060):
        assert list(storm.query(asker, event)[0].values()) == row(event)

    storm.refused("n0", "teardown-dht n0", "peer that sent teardown-dht is not the leader")
    assert "FAILURE\nmessage was FAILURE\n" in n0.text
    storm.peers[heir].type(f"teardown-dht {heir}")
    storm.peers[heir].expect("SUCCESS\nteardown-complete response: SUCCESS\n")
    # The same peers, another year: nothing of the first ring is in the way.
    storm.setup(asker, 6, 1951)
    storm.peers[asker].type(f"teardown-dht {asker}")
    storm.peers[asker].expect("SUCCESS\nteardown-complete response: SUCCESS\n")
    for name, peer in storm.peers.items():
        peer.type(f"deregister {name}")
        peer.expect("terminating...\n")
        peer.expect_end(0)
    manager.expect("updated client list:\n")


def test_refusals(storm: Storm, fakes: list[Fake]) -> None:
    said = fakes[3].says
    assert said("setup-dht a3 3 1950") == "FAILURE wait: setup-dht of a0 is not complete"
    assert fakes[0].says("dht-complete a0") == "SUCCESS"
    for text, reason in {
        "setup-dht a3 3 1950": "peer name is not registered",
        "query-dht a3": "client is not registered",
        "register a0 127.0.0.1 {port} 99": "peer name is not unique",
        "register a? 127.0.0.1 {port} 99": "a peer name has 1 to 32 letters, digits, '_', '-', '.'",
        "register a3 300.0.0.1 {port} 99": "no such address or ports",
        "register a3 127.0.0.1 {port} 65536": "no such address or ports",
        "register a3 127.0.0.1 {port} {port}": "no such address or ports",
        "register a3 127.0.0.1 {port} " + 9000 * "9": "no such address or ports",
        "register a3 127.0.0.1 4 99": "ip and m-port are not the peer's own: it sends from"
        " ('127.0.0.1', {port})",
        "register a3": "usage: register <name> <ipv4> <m-port> <p-port>",
        "leave-dht a0": "a0 is another peer's name",
        "leave-dht a0 a1": "usage: leave-dht <name>",
        "": "unknown command",
        "rm -rf": "unknown command",
    }.items():
        assert said(text.format(port=fakes[3].port)) == "FAILURE " + reason.format(
            port=fakes[3].port
        )
    storm.manager.expect("Unknown command: ['rm', '-rf']\n")
    fakes[3].register("a3")
    for n, text, reason in (
        (0, "setup-dht a0 2 1950", "n isn't at least 3"),
        (0, "setup-dht a0 x 1950", "n isn't at least 3"),
        (0, "setup-dht a0 99 1950", "there aren't 99 clients"),
        (0, "setup-dht a0 3 50", "YYYY isn't a year"),
        (3, "setup-dht a3 3 1950", "a dht has already been setup"),
        (0, "query-dht a0", "client is registered but not free"),
        (3, "leave-dht a3", "peer is not in the dht"),
        (1, "leave-dht a1", "DHT wouldn't be at least three if one left"),
        (1, "join-dht a1", "peer is in the dht already"),
        (1, "deregister a1", "peer was not free"),
        (1, "teardown-dht a1", "peer that sent teardown-dht is not the leader"),
        (1, "dht-rebuilt a1 a0", "nobody waits for a dht-rebuilt of this peer"),
        (1, "teardown-complete a1", "nobody waits for a teardown-complete of this peer"),
        (1, "dht-failed a1", "this peer has begun nothing"),
    ):
        assert fakes[n].says(text) == f"FAILURE {reason}"
        storm.manager.expect(f"{reason}\n")
    # After a refused setup-dht the DHT is what it was, so others can join it.
    assert json.loads(said("join-dht a3").removeprefix("SUCCESS "))[0][0] == "a0"
    assert said("teardown-complete a3") == said("dht-rebuilt a3 a0") == "SUCCESS"
    assert fakes[0].says("teardown-dht a0").startswith("SUCCESS [")
    assert fakes[0].says("teardown-complete a0") == "SUCCESS"
    for command in ("leave-dht", "join-dht", "teardown-dht"):
        assert said(f"{command} a3") == "FAILURE there is no dht setup"
    assert said("query-dht a3") == "FAILURE dht is not setup"


def test_other_commands_wait_for_a_change(storm: Storm, fakes: list[Fake]) -> None:
    """In the first program they were taken for the reply that the manager waited for."""
    refusal = "FAILURE wait: setup-dht of a0 is not complete"
    for command in (
        "query-dht a1",
        "leave-dht a1",
        "join-dht a1",
        "teardown-dht a1",
        "deregister a1",
        "setup-dht a1 3 1950",
        f"register a9 127.0.0.1 {fakes[1].port} 109",
    ):
        assert fakes[1].says(command) == refusal
    for command in ("dht-complete a1", "dht-rebuilt a1 a0", "teardown-complete a1"):
        assert fakes[1].says(command).startswith("FAILURE nobody waits for")
    assert fakes[0].says("dht-complete a0") == "SUCCESS"


def test_a_change_whose_peer_dies_is_undone(storm: Storm, fakes: list[Fake]) -> None:
    fakes[0].is_there = "FAILURE"
    storm.manager.expect("peer a0 is gone\n", "setup-dht of a0 failed\n")
    wait_until(lambda: "teardown" in fakes[1].asked and "teardown" in fakes[2].asked)
    fakes[3].register("a3")
    assert fakes[3].says("setup-dht a3 3 1951").startswith("SUCCESS [")


# What was typed wrongly


def test_what_is_typed_wrongly(storm: Storm) -> None:
    storm.register("n0", "n1", "n2")
    n0 = storm.peers["n0"]
    n0.type("")
    n0.expect("type a command: register, setup-dht, query-dht, leave-dht, join-dht, teardown-dht, ")
    n0.type("   ")
    n0.expect("type a command: ")
    for command, reason in {
        "fly n0": "unknown command",
        "dht-complete n0": "unknown command",
        "\x00\udcff{}".encode(errors="surrogateescape").decode(errors="replace"): "unknown command",
        "setup-dht n0 3": "usage: setup-dht <name> <n> <YYYY>",
        "query-dht": "usage: query-dht <name> [EVENT_ID]",
        "query-dht n0 1 2": "usage: query-dht <name> [EVENT_ID]",
        "query-dht n0 one": "event id 'one' is not a whole number",
        "setup-dht n0 3 ../x": "'../x' is not a year YYYY",
        "register n7 127.0.0.1 1 2": "the address and ports of this peer are 127.0.0.1 ",
        "setup-dht n1 3 1950": "n1 is another peer's name",
        "deregister n1": "n1 is another peer's name",
        "leave-dht n0": "there is no dht setup",
    }.items():
        n0.type(command)
        n0.match(rf"^(FAILURE|failed to deregister)\n{re.escape(reason)}")
    storm.manager.expect("Unknown command: ['fly', 'n0']\n")
    own = re.search(r"are (127.*)", n0.text)
    assert own is not None
    storm.refused("n0", f"register n7 {own[1]}", "this peer is registered as n0")
    storm.refused("n0", f"register n0 {own[1]}", "peer name is not unique")
    storm.refused("n0", "query-dht n0", "dht is not setup")
    assert "FAILURE - received failure from manager\n" in n0.text
    n0.type("x" * 3000)
    n0.expect("FAILURE\nunknown command\n")
    storm.setup("n0", 3, 1952)
    storm.peers["n1"].type("deregister n1")
    storm.peers["n1"].expect("failed to deregister\npeer was not free\n")


def test_a_year_that_cannot_be_read_changes_nothing(storm: Storm) -> None:
    storm.register("n0", "n1", "n2")
    reason = f"{storm.data / 'details-1960.csv'}: No such file or directory"
    storm.refused("n0", "setup-dht n0 3 1960", reason)
    storm.setup("n1", 3, 1950)


# What travels


def test_a_command_that_arrives_twice_is_executed_once(storm: Storm) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asker:
        asker.bind(("127.0.0.1", 0))
        asker.settimeout(30)
        asker.connect(("127.0.0.1", storm.port))
        text = f"?00000000000000ff register a0 127.0.0.1 {asker.getsockname()[1]} 99"
        answers = []
        for _ in range(3):
            asker.send(text.encode())
            answers.append(asker.recv(1000))
        assert answers == 3 * [b"!00000000000000ff SUCCESS"]


def test_datagrams_of_any_kind(storm: Storm) -> None:
    storm.register("n0", "n1", "n2", "n3")
    dht = storm.setup("n0", 3, 1950)
    ports = [storm.port, *storm.p_ports.values()]
    find = {"command": "find-event", "event_id": 1, "walk": 1, "asker": ["127.0.0.1", 9]}
    messages: list[object] = [
        None,
        [],
        {},
        {"command": None},
        {"command": []},
        {"command": "fly"},
        {"command": "set-id"},
        {"command": "teardown", "name": "n9"},
        {"command": "teardown", "name": "n1", "leave": 1},
        {"command": "set-id", "name": "n1", "identifier": -1},
        {"command": "set-id", "name": "n9", "identifier": 1},
        {"command": "reset-id", "name": "n1", "members": [["n1", 1, 1]]},
        {**find, "I": [[0, "n0"]], "id_seq": []},
        {**find, "I": [], "id_seq": [[]]},
        {**find, "I": [], "id_seq": [], "event_id": 2**64},
        {**find, "I": [], "id_seq": [], "event_id": True},
        {"command": "find-event-result", "walk": 1, "record": {"EVENT_ID": 1}, "id_seq": []},
    ]
    texts = [json.dumps(message) for message in messages] + ["", "x" * 50_000, 30_000 * "["]
    raw = [b"", b"\n", b"\xff\xfe", b"?", b"?123 x", b"!0123456789abcdef x", b"setup-dht n0 3 1950"]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for port in ports:
            for data in raw:
                sender.sendto(data, ("127.0.0.1", port))
    with ExitStack() as stack:
        bound = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        bound.bind(("127.0.0.1", 0))
        fake = protocol.Endpoint(bound)
        stack.callback(fake.close)
        for port in ports:
            for text in texts:
                answer = fake.request(("127.0.0.1", port), text)
                assert answer.startswith("FAILURE "), (port, text)
    (asker,) = storm.free(dht)
    assert storm.query(asker, 1950003)[0]["EVENT_ID"] == "1950003"
    for console in (storm.manager, *storm.peers.values()):
        assert "Traceback" not in console.text


def test_as_many_peers_as_there_are_ports(storm: Storm) -> None:
    """In the first program a peer now and then died at start: Address already in use."""
    (base,) = free_ports(1, together=10)
    started = [storm.start("--port-range", f"{base}-{base + 9}") for _ in range(4)]
    taken = set()
    for peer in started:
        found = peer.match(BOUND)
        taken |= {int(found[1]), int(found[2])}
    assert len(taken) == 8 and taken <= set(range(base, base + 10))
    late = storm.start("--ports", *sorted(taken)[:2])
    late.expect("client.py: no two free ports at 127.0.0.1\n")
    late.expect_end(1)


# What dies


def holds_all(storm: Storm, name: str, events: range) -> None:
    """Every record can be read, as it was written."""
    with storm.ring(name) as ring:
        found = ring.get_many(map(str, events))
    for event in events:
        assert list(found[str(event)].values()) == row(event)


def test_killed_peers_are_healed(storm: Storm) -> None:
    """The leader, who comes back, then all but one, one after the other."""
    storm.register("n0", "n1", "n2")
    dht = storm.setup("n0", 3, 1950)
    storm.register("asker")
    events = range(1950000, 1950060)
    storm.peers["n0"].kill()
    storm.register("n0")  # at once: the manager has to find out by itself
    storm.peers[dht[1]].expect(f"identifier: 0, name: {dht[1]}\nn0 is lost; its records are not\n")
    storm.peers["n0"].type("join-dht n0")
    storm.peers["n0"].expect("identifier: 2, name: n0\n", "dht-rebuilt response was a SUCCESS\n")
    dht = [*dht[1:], "n0"]
    while len(dht) > 1:
        victim = dht.pop(1)
        storm.peers[victim].kill()
        # A query meanwhile goes round the dead.
        assert storm.query("asker", 1950011)[0]["EVENT_ID"] == "1950011"
        storm.manager.expect(f"peer {victim} is gone\n")
        if len(dht) > 1:
            storm.peers[dht[0]].expect(f"{victim} is lost; its records are not\n")
        holds_all(storm, dht[0], events)
        for event in (events[0], events[-1]):
            assert list(storm.query("asker", event)[0].values()) == row(event)
    wait_until(lambda: storm.listed("peers in DHT:") == dht)


def begin_to_load(storm: Storm, rows: int) -> None:
    """Stops when n0 has stored some of so many rows in a DHT of four."""
    write_year(storm.data, 1999, range(rows))
    storm.register("n0", "n1", "n2", "n3")
    storm.peers["n0"].type("setup-dht n0 4 1999")
    storm.manager.expect("leader of current dht is n0\n")
    storm.peers["n3"].match(r"identifier: \d")
    with storm.ring("n0") as ring:
        wait_until(lambda: len(ring) > 0)


def test_a_leader_killed_in_mid_load(storm: Storm) -> None:
    begin_to_load(storm, rows=50_000)
    storm.peers["n0"].kill()
    storm.manager.expect("peer n0 is gone\n", "setup-dht of n0 failed\n")
    storm.refused("n1", "query-dht n1 1", "dht is not setup")
    # And a member that dies before it is in the ring.
    storm.register("n0")
    storm.peers["n3"].kill()
    storm.peers["n0"].type("setup-dht n0 4 1950")
    storm.peers["n0"].expect("SUCCESS\nFAILURE\nn3: 127.0.0.1:", " does not answer\n")
    storm.manager.expect("setup-dht of n0 failed\n", "peer n3 is gone\n")
    storm.setup("n1", 3, 1950)
    holds_all(storm, "n1", range(1950000, 1950060))


def test_a_member_killed_in_mid_load(storm: Storm) -> None:
    begin_to_load(storm, rows=50_000)
    storm.peers["n3"].kill()
    storm.peers["n0"].expect("50000 of 50000 records stored\n")
    storm.manager.expect("peer n3 is gone\n")
    holds_all(storm, "n0", range(50_000))


def test_a_peer_that_slept_knows_that_it_is_out(storm: Storm) -> None:
    storm.register("n0", "n1", "n2", "n3")
    storm.setup("n0", 4, 1952)
    storm.peers["n1"].process.send_signal(signal.SIGSTOP)
    storm.manager.expect("peer n1 is gone\n")
    storm.peers["n0"].expect("n1 is lost; its records are not\n")
    storm.peers["n1"].process.send_signal(signal.SIGCONT)
    storm.peers["n1"].expect("the others have dropped this peer from the DHT\n")
    storm.refused("n1", "join-dht n1", "peer name is not registered")
    holds_all(storm, "n0", range(1952000, 1952060))


def test_a_peer_that_ends_leaves_in_order(storm: Storm) -> None:
    storm.register("n0", "n1", "n2", "n3", "n4")
    dht = storm.setup("n0", 5, 1952)
    ends: tuple[Callable[[Console], None], ...] = (
        lambda peer: peer.end_input(),
        lambda peer: peer.process.send_signal(signal.SIGINT),
        lambda peer: peer.process.send_signal(signal.SIGTERM),
    )
    for end in ends:
        end(storm.peers[dht[0]])
        storm.peers[dht[0]].expect_end(0)
        storm.manager.expect(f"peer {dht[0]} is gone\n", f"new leader will be {dht[1]}\n")
        storm.peers[dht[1]].expect(f"identifier: 0, name: {dht[1]}\n")
        dht = dht[1:]
        with storm.ring(dht[0]) as ring:
            assert [member.state for member in ring.info().members] == len(dht) * ["up"]
        holds_all(storm, dht[0], range(1952000, 1952060))
    storm.manager.process.send_signal(signal.SIGTERM)
    storm.manager.expect_end(0)


def test_a_manager_that_is_killed(storm: Storm) -> None:
    storm.register("n0", "n1", "n2")
    storm.setup("n0", 3, 1950)
    storm.manager.kill()
    storm.refused("n1", "leave-dht n1", "the manager does not answer")
    holds_all(storm, "n2", range(1950000, 1950060))
    storm.start_manager()
    storm.refused("n1", "leave-dht n1", "peer name is not registered")
    for name in ("n0", "n1", "n2"):
        ports = re.search(BOUND, storm.peers[name].text)
        assert ports is not None
        storm.peers[name].type(f"register {name} 127.0.0.1 {ports[1]} {ports[2]}")
        storm.peers[name].expect("SUCCESS\n")
    storm.setup("n2", 3, 1951)  # nodes of the old DHT are in nobody's way
    holds_all(storm, "n1", range(1951000, 1951060))


# Through other doors, and at full size


def test_other_doors_and_the_way(storm: Storm) -> None:
    storm.register(*(f"n{n}" for n in range(8)))
    dht = storm.setup("n0", 7, 1950)
    (asker,) = storm.free(dht)
    at = f"127.0.0.1:{storm.p_ports['n0']}"
    got = subprocess.run(
        [sys.executable, "-m", "ringkv", "get", "1950042", "--ring", at],
        capture_output=True,
        check=True,
    )
    assert json.loads(got.stdout) == dict(zip(records.COLUMNS, row(1950042), strict=True))
    ways = []
    with storm.ring(dht[1]) as ring:
        # The copies know the last writes a moment after the primary.
        wait_until(lambda: sum(member.keys_held for member in ring.info().members) == 3 * 60)
        for event in range(1950000, 1950030):
            way = storm.query(asker, event)[1]
            holders = {holder.name for holder in ring.locate(str(event)).holders}
            assert dht[way[-1]] in holders
            assert not holders & {dht[each] for each in way[:-1]}
            ways.append(tuple(way))
        assert len(set(ways)) > 3 and max(map(len, ways)) > 1
        # What others put there is an answer, or it is not.
        ring["5"] = "not a record"
        ring["6"] = dict(ring["1950042"], EVENT_ID="6")
    storm.peers[asker].type(f"query-dht {asker} 5")
    storm.peers[asker].expect("Storm event 5 not found in the DHT\n")
    assert storm.query(asker, 6)[0]["EVENT_ID"] == "6"


@pytest.mark.skipif(not REAL_DATA.is_dir(), reason="the storm events are not there")
def test_every_row_of_1996(storm: Storm) -> None:
    """The first program lost 52 % of them, and reported success."""
    storm.data = REAL_DATA
    storm.register(*(f"n{n}" for n in range(6)))
    dht = storm.setup("n0", 5, 1996)
    assert "48561 of 48561 records stored\n" in storm.peers["n0"].text
    counts = [int(n) for n in re.findall(r"Record Count: (\d+)", storm.peers["n0"].text)]
    assert len(counts) == 5 and sum(counts) == 48_561
    expected = records.read_year(REAL_DATA, "1996")
    (asker,) = storm.free(dht)
    assert storm.query(asker, 5539287)[0] == expected["5539287"]

    def check() -> None:
        with storm.ring(dht[2]) as ring:
            assert dict(ring.scan()) == expected

    check()
    storm.peers[asker].type(f"join-dht {asker}")
    storm.peers[asker].expect("dht-rebuilt response was a SUCCESS\n")
    check()
    storm.peers[dht[1]].type(f"leave-dht {dht[1]}")
    storm.peers[dht[1]].expect("dht-rebuilt response was a SUCCESS\n")
    check()
    storm.peers[dht[3]].kill()
    storm.manager.expect(f"peer {dht[3]} is gone\n")
    check()
