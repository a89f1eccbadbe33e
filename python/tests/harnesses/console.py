"""Programs at a terminal: start one, type lines, and wait for what it prints."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import os
import pty
import re
import signal
import socket
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType, TracebackType

HARNESSES = Path(__file__).resolve().parents[2] / "harnesses"
PATIENCE = 30.0


def load(path: Path) -> ModuleType:
    """A program, or a module of one, under a name of its own: several have modules alike."""
    name = f"{path.parent.name}_{path.stem}"
    loader = importlib.machinery.SourceFileLoader(name, str(path))
    spec = importlib.util.spec_from_loader(name, loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    loader.exec_module(module)
    return module


class Console:
    """A Python program with a pseudo-terminal of its own as input and output.

    What it prints is collected by a thread, line ends as ``\\n``. What is typed is not echoed.
    Leaving the ``with`` block kills the program if it still runs.
    """

    def __init__(
        self,
        script: Path,
        *arguments: object,
        cwd: Path | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.command = [script.name, *map(str, arguments)]
        self._transcript = ""
        self._seen = 0
        self._ended = False
        self._changed = threading.Condition()
        ours, theirs = pty.openpty()
        try:
            attributes = termios.tcgetattr(theirs)
            attributes[3] &= ~termios.ECHO
            termios.tcsetattr(theirs, termios.TCSANOW, attributes)
            self.process = subprocess.Popen(
                [sys.executable, str(script), *self.command[1:]],
                stdin=theirs,
                stdout=theirs,
                stderr=theirs,
                cwd=cwd,
                env={**os.environ, **(environment or {})},
                start_new_session=True,
            )
        except BaseException:
            os.close(ours)
            raise
        finally:
            os.close(theirs)
        self._terminal = ours
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> Console:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.kill()
        os.close(self._terminal)
        if error is not None:
            print(f"--- {' '.join(self.command)}\n{self.text}")

    @property
    def text(self) -> str:
        """All that it has printed."""
        with self._changed:
            return self._transcript

    @property
    def lines(self) -> list[str]:
        return self.text.split("\n")

    def type(self, line: str) -> None:
        """Types a line and presses Enter."""
        os.write(self._terminal, line.encode() + b"\n")

    def end_input(self) -> None:
        """Presses Ctrl-D."""
        os.write(self._terminal, b"\x04")

    def expect(self, *wanted: str, timeout: float = PATIENCE) -> None:
        """Waits for each of these texts, in this order, after what was expected before."""
        for text in wanted:
            self.match(re.escape(text), timeout=timeout)

    def match(self, pattern: str, timeout: float = PATIENCE) -> re.Match[str]:
        """Waits for a regular expression after what was expected before."""
        compiled = re.compile(pattern, re.MULTILINE)
        deadline = time.monotonic() + timeout
        with self._changed:
            while True:
                found = compiled.search(self._transcript, self._seen)
                if found:
                    self._seen = found.end()
                    return found
                remaining = deadline - time.monotonic()
                if remaining <= 0 or self._ended:
                    break
                self._changed.wait(remaining)
            after = self._transcript[self._seen :]
        raise AssertionError(f"{self.command} does not print {pattern!r} after this: {after!r}")

    def expect_end(self, code: int = 0, timeout: float = PATIENCE) -> None:
        """Waits for the program's end and its exit status."""
        assert self.process.wait(timeout) == code, self.text
        self._reader.join(timeout)

    def interrupt(self) -> None:
        """Presses Ctrl-C."""
        self.process.send_signal(signal.SIGINT)

    def kill(self) -> None:
        """``kill -9``."""
        self.process.kill()
        self.process.wait()
        self._reader.join(PATIENCE)

    def _read(self) -> None:
        while True:
            try:
                data = os.read(self._terminal, 65536)
            except OSError:  # Linux's end of file for a terminal that nobody holds
                data = b""
            with self._changed:
                self._transcript += data.decode(errors="replace").replace("\r\n", "\n")
                self._ended = not data
                self._changed.notify_all()
            if not data:
                return


def free_ports(count: int, together: int = 1) -> list[int]:
    """Ports that nobody listens on, by TCP or UDP. Each is the first of ``together`` such ports."""
    found: list[int] = []
    candidate = 20_000 + os.getpid() * 37 % 9_000
    while len(found) < count:
        if all(_is_free(port) for port in range(candidate, candidate + together)):
            found.append(candidate)
        candidate += together
    return found


def _is_free(port: int) -> bool:
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        with socket.socket(socket.AF_INET, kind) as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                return False
    return True
