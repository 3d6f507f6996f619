"""Peers that must be there: one that cannot be imported fails the run, nothing is skipped."""

import importlib
import os

import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ["KERAS_BACKEND"] = "tensorflow"
PEERS = ("torch", "tensorflow", "keras")


def pytest_configure() -> None:
    for name in PEERS:
        try:
            importlib.import_module(name)
        except ImportError as error:
            pytest.exit(f"cannot import the peer {name}: {error}; see tests/peers/requirements.txt", returncode=2)


def pytest_terminal_summary(terminalreporter) -> None:
    versions = [f"{name} {importlib.import_module(name).__version__}" for name in PEERS]
    terminalreporter.line(f"peers: {', '.join(versions)}")
