"""The demo's modules, and a summary of the ONNX cases."""

import sys
from collections import Counter
from pathlib import Path

import onnx_cases

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent / "demo"))


def pytest_terminal_summary(terminalreporter):
    """Says, also with -q, which ONNX cases ran."""
    runs = Counter(
        case.name
        for report in terminalreporter.stats.get("passed", []) + terminalreporter.stats.get("failed", [])
        for case in onnx_cases.collect()
        if case.name in report.nodeid
    )
    terminalreporter.line(f"ONNX cases run: {len(runs)}")
    for name, count in sorted(runs.items()):
        terminalreporter.line(f"  {name} ({count} tests)")
