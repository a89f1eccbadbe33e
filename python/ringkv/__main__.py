"""``python -m ringkv``: the command line, the same as the program ``ringkv``."""

from __future__ import annotations

import sys

from . import _ringkv


def main() -> int:
    """Runs the command line of this process and returns its exit status."""
    return _ringkv.command_line(["ringkv", *sys.argv[1:]])


if __name__ == "__main__":
    sys.exit(main())
