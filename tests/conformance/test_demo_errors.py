"""Wrong use of the demo: one clear line and exit code 2."""

from __future__ import annotations

import gzip
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["--nonsense"], "unrecognized arguments: --nonsense"),
        (["--rate", "3"], "argument --rate: invalid choice: 3.0"),
        (["--steps", "0"], "argument --steps: must be a whole number of at least 1, not 0"),
        (["--steps", "many"], "argument --steps: must be a whole number of at least 1, not many"),
        (["--library", "nowhere/libbnorm.so"], "no bnorm library at nowhere/libbnorm.so"),
        (["--library", __file__], "cannot open the bnorm library"),
        (["--data", "nowhere"], "no nowhere/train-images-idx3-ubyte.gz"),
        (["--bench", "nowhere/bench"], "no bench program at nowhere/bench"),
    ],
)
def test_wrong_arguments(library, tmp_path, arguments, part):
    check_refusal(["--library", str(library.path), "--out", str(tmp_path), *arguments], part)


@pytest.mark.parametrize("content", [b"plain text", gzip.compress(b"\0\0\x08\x03short"), gzip.compress(b"")])
def test_broken_data_file(library, tmp_path, content):
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(content)
    check_refusal(["--library", str(library.path), "--data", str(tmp_path)], "is no gzipped IDX file")


def test_unwritable_output_folder(library, tmp_path):
    (tmp_path / "file").touch()
    check_refusal(["--library", str(library.path), "--out", str(tmp_path / "file" / "folder")], "file/folder")


def check_refusal(arguments: list[str], part: str) -> None:
    command = [sys.executable, str(ROOT / "demo" / "main.py"), *arguments]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120)
    lines = result.stderr.splitlines()
    assert result.returncode == 2, result.stderr
    assert len(lines) == 1 and lines[0].startswith("demo: ") and part in lines[0], result.stderr
