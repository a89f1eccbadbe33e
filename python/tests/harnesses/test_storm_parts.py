"""The storm programs: their flags, the files that they read, the datagrams that they send."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from console import free_ports
from storm_programs import STORM, protocol, records, row, write_year


def test_flags(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    client, server = str(STORM / "client.py"), str(STORM / "server.py")
    where = ["127.0.0.1", str(port)]

    def status(*command: str) -> int:
        done = subprocess.run(
            [sys.executable, *command], stdin=subprocess.DEVNULL, capture_output=True, text=True
        )
        assert "Traceback" not in done.stderr
        assert bool(done.stderr) == bool(done.returncode), done
        return done.returncode

    wrong = (
        [server],
        [server, "x"],
        [server, "0"],
        [server, "70000"],
        [server, str(port), "--ip", "here"],
        [client],
        [client, "127.0.0.1"],
        [client, "nowhere", str(port)],
        [client, "127.0.0.1", "99999"],
        [client, *where, "--ports", "1"],
        [client, *where, "--ports", "0", "7"],
        [client, *where, "--port-range", "9"],
        [client, *where, "--port-range", "9-8"],
    )
    with ThreadPoolExecutor() as pool:
        assert set(pool.map(lambda command: status(*command), wrong)) == {2}
    assert status(client, *where) == 0  # its input ends at once
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", port))
        assert status(server, str(port)) == 1
        assert status(client, *where, "--ports", str(port), str(port + 1)) == 1


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "details-1960.csv: No such file or directory"),
        ("", "line 1: the first line is not EVENT_ID,"),
        ("EVENT_ID,STATE\n1,2\n", "line 1: the first line is not EVENT_ID,"),
        ("{head}\n", "has no records"),
        ("{head}\n{row1}\n{row2},\n", "line 3: 15 fields instead of 14"),
        ("{head}\r{row1}\r{row2}\r{row1}\r", "line 4: a second record with the event id 1"),
        ("{head}\n{row1}\nx{row2}\n", "line 3: event id 'x2' is not a whole number"),
        ("{head}\n-{row1}\n", "line 2: event id '-1' is not a whole number"),
        ('{head}\n{row1}\n2,"open\n', "after line 2: unexpected end of data"),
        ("{head}\n{row1}\n{row2}" + 9000 * "x" + "\n", "line 3: more than 8000 characters"),
        ("{head}\n{row1}\udcff\n", "is not UTF-8: "),
    ],
)
def test_files_that_cannot_be_read(tmp_path: Path, content: str | None, reason: str) -> None:
    if content is not None:
        fields = {"head": ",".join(records.COLUMNS)}
        fields |= {f"row{event}": ",".join(row(event)) for event in (1, 2)}
        text = content.format(**fields)
        (tmp_path / "details-1960.csv").write_text(text, newline="", errors="surrogateescape")
    with pytest.raises(ValueError, match=re.escape(reason)):
        records.read_year(tmp_path, "1960")


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_line_ends(tmp_path: Path, end: str) -> None:
    write_year(tmp_path, 1960, range(9, 109), end)
    read = records.read_year(tmp_path, "1960")
    assert [list(record.values()) for record in read.values()] == [row(n) for n in range(9, 109)]


def test_datagrams_that_are_lost_or_come_twice() -> None:
    """Every second datagram is lost, and every one that arrives does so twice."""

    class Lossy(socket.socket):
        sent = 0

        def sendto(self, data: Any, address: Any) -> int:  # type: ignore[override]
            self.sent += 1
            if self.sent % 2 or not data:
                super().sendto(data, address)
                super().sendto(data, address)
            return len(data)

    ends = []
    for _ in range(2):
        bound = Lossy(socket.AF_INET, socket.SOCK_DGRAM)
        bound.bind(("127.0.0.1", 0))
        ends.append(protocol.Endpoint(bound))
    executed: list[str] = []

    def handle(request: Any) -> None:
        executed.append(request.text)
        request.answer(f"SUCCESS {request.text}")

    ends[1].serve(handle, 1)
    try:
        for n in range(10):
            assert ends[0].request(ends[1].address, str(n)) == f"SUCCESS {n}"
        assert executed == [str(n) for n in range(10)]
    finally:
        for end in ends:
            end.close()
