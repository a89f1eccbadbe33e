"""The examples in the documentation run."""

from __future__ import annotations

import doctest
import importlib
import re
from pathlib import Path

import pytest

import ringkv

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)


def blocks(page: str) -> list[str]:
    return BLOCK.findall((ROOT / page).read_text())


@pytest.mark.parametrize("module", ["ringkv", "ringkv._open", "ringkv._ring", "ringkv.codecs"])
def test_docstrings(module: str) -> None:
    results = doctest.testmod(importlib.import_module(module))
    assert results.failed == 0


@pytest.mark.parametrize("page", ["README.md", "docs/PYTHON.md"])
def test_python_blocks(page: str) -> None:
    """Each block of a page is a program of its own, except that it may use `address`: a running
    ring."""
    found = blocks(page)
    assert found, f"{page} has no example in Python"
    for source in found:
        with ringkv.Node.start() as running:
            running[b"user:1"] = b"Ada"
            exec(compile(source, page, "exec"), {"address": running.address})
