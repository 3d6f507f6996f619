"""The library under test: $BNORM_LIBRARY, else the release build."""

import sys
from collections import Counter
from pathlib import Path

import onnx_cases
import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
for folder in ("python", "demo"):
    sys.path.insert(0, str(ROOT / folder))

from bnorm_abi import LibraryError, open_library  # noqa: E402


def pytest_configure():
    try:
        open_library()
    except LibraryError as error:
        pytest.exit(str(error), returncode=2)


@pytest.fixture(scope="session")
def library():
    return open_library()


def pytest_terminal_summary(terminalreporter):
    """Says what was tested, also with -q: the library, and every ONNX case that ran."""
    library = open_library()
    terminalreporter.line(f"bnorm library: {library.path}, instruction set {library.isa}")
    runs = Counter(
        case.name
        for report in terminalreporter.stats.get("passed", []) + terminalreporter.stats.get("failed", [])
        for case in onnx_cases.collect()
        if case.name in report.nodeid
    )
    terminalreporter.line(f"ONNX cases run: {len(runs)}")
    for name, count in sorted(runs.items()):
        terminalreporter.line(f"  {name} ({count} tests)")
