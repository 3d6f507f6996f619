"""Batch normalization at work: a network trained on Fashion-MNIST with bnorm and without, then served from a file."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "python"))

import data  # noqa: E402
import report  # noqa: E402
from bnorm_abi import BnormError, Library, LibraryError, open_library  # noqa: E402
from serving import BenchError  # noqa: E402
from setups import ACTIVATIONS, RATES, WEIGHT_STDS, Setup, all_setups  # noqa: E402
from state import StateError  # noqa: E402
from threadpoolctl import threadpool_limits  # noqa: E402
from training import Run, train  # noqa: E402

STEPS_ONE = 40_000
STEPS_ALL = 10_000


class Parser(argparse.ArgumentParser):
    def error(self, message: str):
        self.exit(2, f"demo: {message} (see --help)\n")


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = Parser(prog="demo", description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--all", action="store_true", help="all twelve set-ups, in place of the one below")
    parser.add_argument("--activation", choices=ACTIVATIONS, default="sigmoid", help="of the hidden layers")
    parser.add_argument("--weights-std", type=float, choices=WEIGHT_STDS, default=0.05, help="of the initial weights")
    parser.add_argument("--rate", type=float, choices=RATES, default=0.01, help="learning rate")
    parser.add_argument("--steps", type=_at_least(1), help=f"of a run; default {STEPS_ONE:,}, with --all {STEPS_ALL:,}")
    parser.add_argument("--seed", type=_at_least(0), default=1, help="of weights and batches")
    parser.add_argument("--data", type=Path, default=data.DEFAULT_FOLDER, help="folder of the Fashion-MNIST files")
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "demo", help="folder for plots and state")
    parser.add_argument("--library", type=Path, help="libbnorm.so; default $BNORM_LIBRARY, else the release build")
    parser.add_argument("--bench", type=Path, help="bench program, for the native time of a serving call")
    options = parser.parse_args(arguments)
    options.steps = options.steps or (STEPS_ALL if options.all else STEPS_ONE)
    return options


def _at_least(least: int):
    def parse_number(text: str) -> int:
        if not text.isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f"must be a whole number of at least {least}, not {text}")
        return int(text)

    return parse_number


def main(arguments: list[str]) -> int:
    options = parse(arguments)
    try:
        library = open_library(options.library)
        images = data.load(options.data)
        if options.bench and not options.bench.is_file():
            raise BenchError(f"no bench program at {options.bench}")
        options.out.mkdir(parents=True, exist_ok=True)
        report.opening(library, images, options.steps)
        # Products of 60 rows are too small to share: two BLAS threads made 1,230 steps/s, one made 1,760.
        with threadpool_limits(1, "blas"):
            (compare_all if options.all else one_comparison)(options, images, library)
    except (LibraryError, BnormError, data.DataError, StateError, BenchError, OSError) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("demo: interrupted", file=sys.stderr)
        return 130
    return 0


def compare(setup: Setup, options: argparse.Namespace, images: data.FashionMnist, library: Library) -> list[Run]:
    return [train(setup, images, options.steps, options.seed, chosen) for chosen in (library, None)]


def one_comparison(options: argparse.Namespace, images: data.FashionMnist, library: Library) -> None:
    setup = Setup(options.activation, options.weights_std, options.rate)
    print(f"\nSet-up: {setup}", flush=True)
    runs = compare(setup, options, images, library)
    report.table(runs)
    report.plot(runs, options.steps, options.out)
    trained = runs[0].network
    report.serving(trained, images.test, options.bench)
    report.saved_state(trained, images.test, options.out / "state.safetensors", library)
    report.worked_examples(library)


def compare_all(options: argparse.Namespace, images: data.FashionMnist, library: Library) -> None:
    runs = []
    setups = all_setups()
    for number, setup in enumerate(setups, start=1):
        print(f"\nSet-up {number} of {len(setups)}: {setup}", flush=True)
        pair = compare(setup, options, images, library)
        report.plot(pair, options.steps, options.out)
        runs += pair
    report.table(runs)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
