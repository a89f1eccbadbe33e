"""The chord programs: their command lines, and the example of their README."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from console import HARNESSES, Console, free_ports, load

CHORD = HARNESSES / "chord"
HOST = "127.0.0.1"
PEER_USAGE = (
    "Usage: ./dht_peer <-m mode> <-p port> <-h hostname> <-r root_port><-R root_hostname>\n"
)
CLIENT_USAGE = (
    "USAGE: ./dht_client <-p client_port> <-h client_hostname><-r root_port> <-R root_hostname>\n"
)


def test_flags_in_any_order_and_long() -> None:
    first, second = free_ports(2)
    long = [
        ("--own_hostname", HOST),
        ("--root_port", first),
        ("--own_port", second),
        ("--root_hostname", HOST),
        ("--peertype", 0),
    ]
    root = f"('{HOST}', {first})"
    with Console(CHORD / "dht_peer", "-h", HOST, "-p", first, "-m", 1) as one:
        one.expect(f"Created a new ring at:  {root}\n")
        with Console(CHORD / "dht_peer", *(word for flag in long for word in flag)) as two:
            two.expect(f"Joining the ring of:  {root}\n", "Node joined successfully at:")
            with Console(CHORD / "dht_client", "-R", HOST, "-r", first, "-h", HOST, "-p", 9) as c:
                c.expect("Welcome to CHORD\n")
                c.type("e")
                c.expect_end(0)
            named = ("--root_port", second, "--root_hostname", HOST)
            mine = ("--client_port", 9, "--client_hostname", HOST)
            with Console(CHORD / "dht_client", *named, *mine) as c:
                c.expect("Welcome to CHORD\n")
                c.type(" e ")
                c.expect_end(0)


@pytest.mark.parametrize(
    "arguments",
    [
        "",
        "-m 1",
        "-m 1 -p 5000",
        "-m 1 -h 127.0.0.1",
        "-p 5000 -h 127.0.0.1",
        "-p 5000 -h 127.0.0.1 -r 5003",
        "-p 5000 -h 127.0.0.1 -R 127.0.0.1",
        "-p 5000 -h 127.0.0.1 -r 5000 -R 127.0.0.1",
        "-m 1 -p 5000 -h 127.0.0.1 -r 5003 -R 127.0.0.1",
        "-m 1 -p 5000 -h 127.0.0.1 -r 5003",
        "-m 2 -p 5000 -h 127.0.0.1",
        "-m one -p 5000 -h 127.0.0.1",
        "-m 1 -p 0 -h 127.0.0.1",
        "-m 1 -p 65536 -h 127.0.0.1",
        "-m 1 -p -1 -h 127.0.0.1",
        "-m 1 -p 5e3 -h 127.0.0.1",
        "-m 1 -p ٣ -h 127.0.0.1",
        "-m 1 -p 99999999999999999999 -h 127.0.0.1",
        "-m 1 -p 5000 -h a/b",
        "-m 1 -p 5000 -h ::1",
        "-m 1 -p 5000 -h 127.0.0.1 -x",
        "-m 1 -p 5000 -h 127.0.0.1 extra",
        "-m 1 -p 5000 -h",
    ],
)
def test_wrong_usage_of_the_peer(arguments: str, capsys: pytest.CaptureFixture[str]) -> None:
    check_usage("dht_peer", arguments.split(" "), PEER_USAGE, capsys)


@pytest.mark.parametrize(
    "arguments",
    [
        "",
        "-p 6000 -h 127.0.0.1",
        "-p 6000 -h 127.0.0.1 -r 5000",
        "-p 6000 -h 127.0.0.1 -R 127.0.0.1",
        "-p 0 -h 127.0.0.1 -r 5000 -R 127.0.0.1",
        "-p 6000 -h 127.0.0.1 -r 70000 -R 127.0.0.1",
        "-p 6000 -h 127.0.0.1 -r 5000 -R 127.0.0.1,",
        "-p 6000 -h 127.0.0.1 -r 5000 -R 127.0.0.1 -m 1",
    ],
)
def test_wrong_usage_of_the_client(arguments: str, capsys: pytest.CaptureFixture[str]) -> None:
    check_usage("dht_client", arguments.split(" "), CLIENT_USAGE, capsys)


def check_usage(
    name: str, arguments: list[str], usage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        load(CHORD / name).parse([argument for argument in arguments if argument])
    assert end.value.code == 2
    told = capsys.readouterr().err
    assert told.startswith(usage)
    assert told.count("\n") == 2 and told.splitlines()[1].startswith(f"{name}: ")


@pytest.mark.parametrize("name", ["dht_peer", "dht_client"])
def test_help_and_usage_of_the_real_program(name: str) -> None:
    told = subprocess.run([sys.executable, CHORD / name, "-H"], capture_output=True, text=True)
    assert told.returncode == 0 and "--root_hostname" in told.stdout
    told = subprocess.run([sys.executable, CHORD / name, "-m"], capture_output=True, text=True)
    assert told.returncode == 2 and told.stderr.startswith(("Usage:", "USAGE:"))


def test_hosts_that_cannot_be_listened_on() -> None:
    (port,) = free_ports(1)
    with Console(CHORD / "dht_peer", "-m", 1, "-p", port, "-h", "0.0.0.0") as console:
        console.match("dht_peer: .*accept_public.*\n")
        console.expect_end(1)
    public = ("-m", 1, "-p", port, "-h", "0.0.0.0", "--accept_public")
    with Console(CHORD / "dht_peer", *public) as console:
        console.expect("Created a new ring at:")


def test_the_example_of_the_readme(tmp_path: Path) -> None:
    found = re.search(r"```sh\n(.*?)```", (CHORD / "README.md").read_text(), re.DOTALL)
    assert found is not None
    example = found[1]
    for written, free in zip(("5000", "5003", "5006"), free_ports(3), strict=True):
        example = example.replace(written, str(free))
    for program in ("./dht_peer", "./dht_client"):
        example = example.replace(program, f"'{sys.executable}' '{CHORD}/{program[2:]}'")
    example = example.replace("ringkv get", f"'{sys.executable}' -m ringkv get")
    example = f"trap 'kill -9 $(jobs -p) 2> /dev/null' EXIT\n{example}"
    done = subprocess.run(
        ["bash", "-c", example], cwd=tmp_path, capture_output=True, text=True, timeout=90
    )
    assert done.stderr == ""
    assert "Successfully stored k1 at host" in done.stdout
    assert done.stdout.count("('k1', 'v1')\n") == 2
    assert re.search(r"^v1", done.stdout, re.MULTILINE)
    assert done.stdout.count("Leaving the ring") == 3
