"""What one program stored, others find: through the command line, a plain client, or each other."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from console import HARNESSES, PATIENCE, Console, free_ports

import ringkv

ROOT = Path(__file__).resolve().parents[3]
C_EXAMPLES = ROOT / "c_examples"
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
#: The C programs' rings listen that much above their own ports.
RING = 10_000


def shell(*arguments: str, ring: int) -> str:
    """What the command line prints."""
    command = [sys.executable, "-m", "ringkv", *arguments, "--ring", f"127.0.0.1:{ring}"]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the C library. The Rust tests have built it, unless they did not run."""
    subprocess.run(["cargo", "build", "--quiet", "--lib"], cwd=ROOT, check=True)
    folder = tmp_path_factory.mktemp("library")
    for name in ("libringkv.so", "libringkv.so.0"):
        (folder / name).symlink_to((TARGET / "debug" / "libringkv.so").resolve())
    return folder


def compile_c(library: Path, out: Path, folder: str, program: str, *others: str) -> Path:
    made = out / program
    command = ["cc", "-std=c11", "-D_POSIX_C_SOURCE=200809L", f"-I{ROOT / 'include'}"]
    command += [f"{C_EXAMPLES / folder / name}.c" for name in (program, *others)]
    command += ["-o", str(made), "-pthread", f"-L{library}", "-lringkv", f"-Wl,-rpath,{library}"]
    subprocess.run(command, check=True)
    return made


@contextmanager
def running(*command: object, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """A program that runs until the block ends."""
    arguments = [str(argument) for argument in command]
    with subprocess.Popen(
        arguments, env={**os.environ, **environment}, stdout=subprocess.DEVNULL
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def until_it_prints(wanted: str, *command: object, **environment: str) -> None:
    """Runs a client again until it prints that: the servers take a moment to start."""
    deadline = time.monotonic() + PATIENCE
    while True:
        done = subprocess.run(
            [str(argument) for argument in command],
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            timeout=60,
        )
        if wanted in done.stdout:
            return
        if time.monotonic() > deadline:
            raise AssertionError(f"{command}: {done.stdout!r} {done.stderr!r}, not {wanted!r}")
        time.sleep(0.05)


@contextmanager
def chord_client(ring: int) -> Iterator[Console]:
    """The menu of `dht_client`, at any ring."""
    client = Console(
        HARNESSES / "chord" / "dht_client", "-p", 6000, "-h", "127.0.0.1", "-r", ring,
        "-R", "127.0.0.1",
    )  # fmt: skip
    with client:
        client.expect("Welcome to CHORD", "e --> exit")
        yield client


def test_kvstore(library: Path, tmp_path: Path) -> None:
    server, node, client = (
        compile_c(library, tmp_path, "kvstore", program, "kvstore")
        for program in ("server", "node", "client")
    )
    door, port = free_ports(2)
    environment = {"KVSTORE_PORT": str(door)}
    at = f"localhost:{door}"
    with (
        running(node, port, at, **environment),
        running(server, 1, f"localhost:{port}", **environment),
    ):
        until_it_prints("successful", client, at, "put", "hello", "world")
        assert shell("get", "hello", ring=port + RING) == "world"
        with chord_client(port + RING) as chord:
            chord.type("i")
            chord.expect("Enter the key:")
            chord.type("hello")
            chord.expect("('hello', 'world')")
            chord.type("s")
            chord.expect("Enter key:")
            chord.type("from")
            chord.expect("Enter value:")
            chord.type("chord")
            chord.expect("Successfully stored")
        until_it_prints("received 'chord'", client, at, "get", "from")


def test_tracker(library: Path, tmp_path: Path) -> None:
    main, server, client = (
        compile_c(library, tmp_path, "tracker", program, "tracker", "table")
        for program in ("mainServer", "server", "client")
    )
    (port,) = free_ports(1, together=6)
    environment = {"TRACKER_PORT": str(port)}
    with running(main, **environment), running(server, 3, **environment):
        until_it_prints("SUCCESSFUL", client, "insert", "5", "50", **environment)
        assert shell("get", "5", ring=port + RING) == "50"
        with ringkv.connect(f"127.0.0.1:{port + RING}", codec="utf8") as ring:
            ring["-7"] = "70"
        until_it_prints("KEY: <-7> RETRIEVED VALUE: <70>", client, "search", "-7", **environment)


def test_chord_and_p2p(tmp_path: Path) -> None:
    """Files that `p2p.py` stored, read by `dht_client`; text that that one stored, as a file."""
    (base,) = free_ports(1, together=8)
    environment = {"P2P_BASE_PORT": str(base)}
    p2p = HARNESSES / "p2p" / "p2p.py"
    circle = ((2, 4, 5), (4, 5, 2), (5, 2, 4))
    with ExitStack() as stack:
        peers = [
            stack.enter_context(
                Console(p2p, "init", *who, 30, cwd=tmp_path, environment=environment)
            )
            for who in circle
        ]
        for peer in peers:
            peer.expect("My second successor is Peer")
        peers[0].type("store 4103")
        # 4103 modulo 256 is 7: behind the highest peer comes the lowest, the one that asks.
        peers[0].expect("Store 4103 request forwarded", "Store 4103 request accepted")
        with chord_client(base + 4) as chord:
            chord.type("r")
            chord.expect("Enter the key:")
            chord.type("4103")
            chord.expect("('4103', 'Hello! This is file 4103')")
            chord.type("s")
            chord.expect("Enter key:")
            chord.type("0159")
            chord.expect("Enter value:")
            chord.type("a text")
            chord.expect("Successfully stored")
        peers[1].type("request 0159")
        peers[1].expect("File 0159 received")
        assert (tmp_path / "received_0159.pdf").read_text() == "a text"
        keys = shell("scan", "--json", ring=base + 5)
        assert '"4103"' in keys and '"0159"' in keys, keys


def test_storm(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    columns = (
        "EVENT_ID,STATE,YEAR,MONTH_NAME,EVENT_TYPE,CZ_TYPE,CZ_NAME,INJURIES_DIRECT,"
        "INJURIES_INDIRECT,DEATHS_DIRECT,DEATHS_INDIRECT,DAMAGE_PROPERTY,DAMAGE_CROPS,TOR_F_SCALE"
    )
    row = "10096222,OKLAHOMA,1950,April,Tornado,C,WASHITA,0,0,0,0,250K,0,F3"
    (data / "details-1950.csv").write_text(f"{columns}\r{row}\r")
    storm = HARNESSES / "storm"
    (port,) = free_ports(1)
    with ExitStack() as stack:
        manager = stack.enter_context(Console(storm / "server.py", port))
        manager.expect("UDP server up and listening")
        doors: list[int] = []
        peers: list[Console] = []
        for number in range(3):
            peer = stack.enter_context(
                Console(storm / "client.py", "127.0.0.1", port, "--data", data, cwd=tmp_path)
            )
            ports = peer.match(r"bound to port (\d+), Peer socket bound to port: (\d+)")
            peer.type(f"register n{number} 127.0.0.1 {ports[1]} {ports[2]}")
            peer.expect("SUCCESS")
            doors.append(int(ports[2]))
            peers.append(peer)
        peers[0].type("setup-dht n0 3 1950")
        peers[0].expect("sending dht-complete to manager", "SUCCESS")
        found = json.loads(shell("get", "10096222", ring=doors[1]))
        assert found["STATE"] == "OKLAHOMA" and list(found) == columns.split(",")
