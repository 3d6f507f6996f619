"""For all Python tests: the library under test, which is $BNORM_LIBRARY, else the release build."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "python"))

from bnorm_abi import Library, LibraryError, open_library  # noqa: E402


def pytest_configure() -> None:
    try:
        open_library()
    except LibraryError as error:
        pytest.exit(str(error), returncode=2)


@pytest.fixture(scope="session")
def library() -> Library:
    return open_library()


def pytest_terminal_summary(terminalreporter) -> None:
    """Says what was tested, also with -q."""
    library = open_library()
    terminalreporter.line(f"bnorm library: {library.path}, instruction set {library.isa}")
