"""Wrong use of the demo: one clear line and exit code 2."""

from __future__ import annotations

import gzip
import math
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
        (["--seed", "-1"], "argument --seed: must be a whole number of at least 0, not -1"),
        (["--library", "nowhere/libbnorm.so"], "no bnorm library at nowhere/libbnorm.so"),
        (["--library", __file__], "cannot open the bnorm library"),
        (["--data", "nowhere"], "no nowhere/train-images-idx3-ubyte.gz"),
        (["--bench", "nowhere/bench"], "no bench program at nowhere/bench"),
    ],
)
def test_wrong_arguments(library, tmp_path, arguments, part):
    check_refusal(["--library", str(library.path), "--out", str(tmp_path), *arguments], part)


@pytest.mark.parametrize(
    "content",
    [
        b"plain text",
        gzip.compress(b"\0\0\x08\x03short"),
        gzip.compress(b""),
        gzip.compress(b"\0\0\x08\x03" + b"\xff" * 12),
    ],
)
def test_broken_data_file(library, tmp_path, content):
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(content)
    check_refusal(["--library", str(library.path), "--data", str(tmp_path)], "is no gzipped IDX file")


def write_idx(path: Path, sizes: tuple[int, ...], byte: int = 0, kind: int = 8) -> None:
    header = bytes([0, 0, kind, len(sizes)]) + b"".join(size.to_bytes(4, "big") for size in sizes)
    path.write_bytes(gzip.compress(header + bytes([byte]) * math.prod(sizes)))


@pytest.mark.parametrize(
    ("images", "label", "kind"),
    [((59, 28, 28), 0, 8), ((100, 27, 28), 0, 8), ((100, 28, 28), 10, 8), ((100, 28, 28), 255, 9)],
)
def test_unfit_data(library, tmp_path, images, label, kind):
    write_idx(tmp_path / "train-images-idx3-ubyte.gz", images)
    write_idx(tmp_path / "train-labels-idx1-ubyte.gz", images[:1], label, kind)
    check_refusal(["--library", str(library.path), "--data", str(tmp_path)], "must be at least 60 of (28, 28) pixels")


def test_corrupt_deflate_stream(library, tmp_path):
    packed = bytearray(gzip.compress(bytes(range(256)) * 64))
    packed[12:40] = b"\xff" * 28
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(packed)
    check_refusal(["--library", str(library.path), "--data", str(tmp_path)], "is no gzipped IDX file")


def test_an_isa_that_this_machine_lacks(library, tmp_path, monkeypatch):
    monkeypatch.setenv("BNORM_ISA", "bogus")
    result = run_demo(["--library", str(library.path), "--out", str(tmp_path)])
    assert result.returncode == 2, result.stderr
    last = result.stderr.splitlines()[-1]  # behind a progress bar
    assert last.startswith("demo: ") and "BNORM_ISA = bogus" in last, result.stderr


def test_unwritable_output_folder(library, tmp_path):
    (tmp_path / "file").touch()
    check_refusal(["--library", str(library.path), "--out", str(tmp_path / "file" / "folder")], "file/folder")


def run_demo(arguments: list[str]) -> subprocess.CompletedProcess:
    command = [sys.executable, str(ROOT / "demo" / "main.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def check_refusal(arguments: list[str], part: str) -> None:
    result = run_demo(arguments)
    lines = result.stderr.splitlines()
    assert result.returncode == 2, result.stderr
    assert len(lines) == 1 and lines[0].startswith("demo: ") and part in lines[0], result.stderr
