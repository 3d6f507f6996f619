"""Times suites of shapes with bnorm and its peers; --write puts all kept results into docs/performance.md.

Results are kept in a folder, a file for each suite and ISA, so that one suite can be timed anew without the others:
with --write those behind the page, docs/performance/results.
"""

from __future__ import annotations

import argparse
import datetime
import gzip
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import page
import tables
from results import Results, file_of, load
from suites import BEST_ISA, SUITES, Suite
from tqdm import tqdm

ROOT = Path(__file__).resolve().parent.parent.parent
PEERS = "onednn_openmp,onednn_sycl,pytorch"
LOWER_ISAS = ("avx2", "sse42")


class BenchError(RuntimeError):
    """A suite could not be timed."""


class Parser(argparse.ArgumentParser):
    def error(self, message: str):
        self.exit(2, f"bench: {message} (see --help)\n")


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = Parser(prog="./dev bench --peers", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    names = "\n".join(f"  {name}: {suite.title}" for name, suite in SUITES.items())
    suites = {"nargs": "+", "choices": SUITES, "metavar": "NAME", "default": list(SUITES)}
    isas = {"nargs": "+", "choices": (BEST_ISA, *LOWER_ISAS), "metavar": "ISA"}
    parser.add_argument("--suite", help=f"which; default: all\n{names}", **suites)
    parser.add_argument("--isa", help=f"{BEST_ISA}, avx2, sse42; default: all, the lower on some suites", **isas)
    parser.add_argument("--rounds", type=_positive, default=15, help="paired rounds; default: 15")
    parser.add_argument("--sample-ms", type=float, default=1.0, help="least time of a sample; default: 1")
    parser.add_argument("--results", type=Path, help="folder that keeps results; default: build/bench, or as above")
    parser.add_argument("--write", action="store_true", help="write docs/performance.md and its plots")
    parser.add_argument("--only-write", action="store_true", help="the same without timing anything")
    parser.add_argument("--docs", type=Path, default=ROOT / "docs", help="where --write writes")
    parser.add_argument("--bench", type=Path, required=True, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    writes = options.write or options.only_write
    options.results = options.results or (options.docs / page.RESULTS if writes else ROOT / "build" / "bench")
    return options


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1, not {text}")
    return int(text)


def main(arguments: list[str]) -> int:
    options = parse(arguments)
    try:
        if not options.only_write:
            run(options)
        results = load(options.results)
        if not results.rows:
            raise BenchError(f"no results in {options.results}")
        summarize(results)
        if options.write or options.only_write:
            print(f"\nWritten: {page.write(results, options.docs)}")
    except (BenchError, OSError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("bench: interrupted; suites that were done are kept", file=sys.stderr)
        return 130
    return 0


def run(options: argparse.Namespace) -> None:
    options.results.mkdir(parents=True, exist_ok=True)
    jobs = list(_jobs(options))
    with tqdm(total=sum(SUITES[name].rows for name, _ in jobs), unit="row", mininterval=1) as bar:
        for name, isa in jobs:
            bar.set_description(f"{name} {isa}")
            time_suite(options, name, isa, bar)


def _jobs(options: argparse.Namespace):
    """Suite and ISA; the lower ISAs last, and unless asked for only on the suites that are meant for them."""
    for isa in options.isa or (BEST_ISA, *LOWER_ISAS):
        for name in options.suite:
            if isa == BEST_ISA or SUITES[name].lower_isas or options.isa:
                yield name, isa


def time_suite(options: argparse.Namespace, name: str, isa: str, bar: tqdm) -> None:
    suite = SUITES[name]
    with tempfile.TemporaryDirectory() as folder:
        details = Path(folder) / "details.json"
        command = [*_command(options, suite, isa), "--details", str(details)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=_environment()) as process:
            for line in process.stdout:
                bar.update(line.startswith(suite.operations))
        if process.returncode != 0:
            raise BenchError(f"suite {name}, ISA {isa}: the bench failed, see above")
        measured = json.loads(details.read_text())
    facts = {"suite": name, "date": datetime.date.today().isoformat(), "machine": machine(), "commit": commit()}
    kept = file_of(options.results, name, measured["rows"][0]["isa"])
    unfinished = kept.with_suffix(".new")  # a file is kept as a whole or not at all
    unfinished.write_bytes(gzip.compress(json.dumps(facts | measured).encode(), mtime=0))
    unfinished.replace(kept)


def _command(options: argparse.Namespace, suite: Suite, isa: str) -> list[str]:
    command = [str(options.bench), "--rounds", str(options.rounds)]
    command += ["--no-peers", *suite.feature] if suite.feature else ["--peers", PEERS]
    command += ["--sample-ms", str(options.sample_ms), "--threads", ",".join(map(str, suite.threads))]
    command += ["--operation", ",".join(suite.operations), "--shape", *suite.shapes]
    return command if isa == BEST_ISA else [*command, "--isa", isa]


def _environment() -> dict[str, str]:
    """Nothing in it chooses an ISA."""
    return {name: value for name, value in os.environ.items() if name != "BNORM_ISA"}


def commit() -> str:
    """Of the sources, with a mark if they differ from it, this page apart; "" outside of a repository."""
    differ = _git("diff", "--name-only", "HEAD", "--", ":/", ":(top,exclude)docs/performance*")
    return _git("describe", "--always", "--exclude=*") + ("-dirty" if differ else "")


def _git(*arguments: str) -> str:
    """What git prints; "" where it fails."""
    command = ["git", "-C", str(ROOT), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def machine() -> str:
    """The processor's name and the CPUs there are."""
    cpus = f"{os.cpu_count()} CPUs"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "model name":
            return f"{value.strip()}, {cpus}"
    return cpus


def summarize(results: Results) -> None:
    for note in results.notes:
        print(f"left out: {note}")
    print("\nLost cases, in the same layout:\n")
    print(tables.lost_cases(results.judged))
    print(f"\n{tables.counts(results)}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
