"""Instructions of fixed calls (calls.cc) on AVX2, counted by callgrind, against counts.txt.

    python check.py PROGRAM [--write]

A call that takes more than TOLERANCE more or fewer instructions than recorded fails: fewer too, so that what was won
is kept. --write records today's counts. ./dev check --instructions runs this. Exits with SKIPPED where the record is
not this compiler's, or the machine lacks the ISA.
"""

from __future__ import annotations

import argparse
import math
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

RECORD = Path(__file__).with_name("counts.txt")
ISA = "avx2"  # the best that valgrind runs
SKIPPED = 77
TOLERANCE = 0.03  # counts repeat exactly: this is room for another release of the C library or of valgrind


class CountError(RuntimeError):
    """There are no counts."""


def measure(program: Path) -> tuple[dict[str, str], dict[str, int]]:
    """What the program says of itself, and name -> instructions."""
    valgrind = shutil.which("valgrind")
    if not valgrind:
        raise CountError("valgrind is not installed")
    with tempfile.TemporaryDirectory() as folder:
        command = [valgrind, "--tool=callgrind", f"--callgrind-out-file={folder}/out", str(program)]
        # No environment of the caller's: getenv walks it.
        result = subprocess.run(command, env={"BNORM_ISA": ISA}, capture_output=True, text=True)
        if result.returncode != 0:
            raise CountError(f"{' '.join(command)} failed:\n{result.stderr.strip()}")
        facts = dict(line.split(maxsplit=1) for line in result.stdout.splitlines())
        counts = dict(read_dump(file) for file in sorted(Path(folder).glob("out.*"), key=number))
    return facts, counts


def number(dump: Path) -> int:
    return int(dump.suffix[1:])


def read_dump(dump: Path) -> tuple[str, int]:
    text = dump.read_text()
    name = re.search(r"^desc: Trigger: Client Request: (.+)$", text, re.MULTILINE)
    total = re.search(r"^summary: (\d+)$", text, re.MULTILINE)
    if not name or not total:
        raise CountError(f"cannot read what callgrind wrote:\n{text[:1000]}")
    return name[1], int(total[1])


def read_record() -> tuple[str, dict[str, int]]:
    """The compiler whose counts were recorded, and the counts."""
    record = dict(line.split(maxsplit=1) for line in RECORD.read_text().splitlines())
    compiler = record.pop("compiler")
    return compiler, {name: int(count) for name, count in record.items()}


def write_record(compiler: str, counts: dict[str, int]) -> None:
    lines = [f"compiler {compiler}", *(f"{name} {count}" for name, count in counts.items())]
    RECORD.write_text("\n".join(lines) + "\n")


def compare(counts: dict[str, int], recorded: dict[str, int]) -> bool:
    """Prints a line for each call; whether all are as recorded. A call that one side lacks has 0 instructions there."""
    width = max(map(len, counts | recorded))
    good = True
    for name in counts | recorded:
        count, expected = counts.get(name, 0), recorded.get(name, 0)
        change = count / expected - 1 if expected else math.inf
        close = abs(change) <= TOLERANCE
        good = good and close
        print(f"{name:{width}} {count:>10,}, recorded {expected:>10,}: {change:+.1%}{'' if close else ' DIFFERS'}")
    return good


def check(program: Path, write: bool) -> int:
    """The exit code."""
    facts, counts = measure(program)
    compiler, isa = facts["compiler"], facts["isa"]
    if isa != ISA:
        print(f"Skipped: the counts are those of {ISA}, which this machine or build lacks")
        return 1 if write else SKIPPED
    recorded_compiler, recorded = read_record()
    if write:
        compare(counts, recorded)
        write_record(compiler, counts)
        return 0
    if compiler != recorded_compiler:
        print(f"Skipped: the counts are those of {recorded_compiler}, this build is by {compiler}")
        return SKIPPED
    if compare(counts, recorded):
        return 0
    print(f"Beyond ±{TOLERANCE:.0%} of {RECORD.name}. If it is meant, record it: ./dev check --instructions --write")
    return 1


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("program", type=Path, help="build/release/tests/bnorm_instructions")
    parser.add_argument("--write", action="store_true", help=f"record the counts in {RECORD.name}")
    arguments = parser.parse_args()
    try:
        return check(arguments.program.resolve(), arguments.write)
    except CountError as error:
        print(f"check.py: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
