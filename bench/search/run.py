#!/usr/bin/env python3
# targets: azimuthd azimuth_load azimuth_inprocess_search_bench azimuth_hnswlib_search_bench
# requirements: bench/peers/requirements.txt
"""How fast searches are, beside libraries and databases: `./dev bench search`.

Figures go to bench/results/search.json, tables and pictures to docs/performance.md.

- fashion_mnist, arxiv, words, sift_photos, gen128, gen768: recall against searches a second of one
  set, ours and those of libraries, in one process each; memory at rest.
- build: how fast graphs are built (fashion_mnist and arxiv, or --set).
- contract: the recall that is got for one that is asked for, on all sets.
- grpc: searches through a server on the same processors (fashion_mnist, or --set).
- peers: vector databases, each with its own client (arxiv, or --set).
- report: only the page, of the figures that are there.

Indexes are kept, ours for one build of the program: in AZIMUTH_BENCH_DIR/search, or else in the
build folder. `--prepare` makes those of the parts and measures nothing. Sets of AZIMUTH_DATASETS
that are not there are skipped.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "bench/lib"), str(ROOT / "tests/integration")]

import report  # noqa: E402
from databases import DATABASES, measure_databases  # noqa: E402
from inprocess import measure_build, measure_contract, measure_set, prepared  # noqa: E402
from over_grpc import over_grpc  # noqa: E402
from results import Results  # noqa: E402
from servers import Bench, say  # noqa: E402
from sets import SOURCES  # noqa: E402
from systems import LIBRARIES, Systems  # noqa: E402

COMMAND = "./dev bench search"
PARTS = (*SOURCES, "build", "contract", "grpc", "peers", "report")
SETS_OF = {
    "build": ["fashion_mnist", "arxiv"],
    "contract": list(SOURCES),
    "grpc": ["fashion_mnist"],
    "peers": ["arxiv"],
}


def run_part(
    results: Results, systems: Systems, part: str, sets: list[str], databases: list[str]
) -> None:
    """Measures one part and writes its figures, set by set."""
    named = f" --set {','.join(sets)}" if sets else ""
    command = f"{COMMAND} --part {part}{named if part in SETS_OF else ''}"
    for chosen in prepared(systems.bench, sets or SETS_OF[part] if part in SETS_OF else [part]):
        if part == "build":
            measure_build(results, systems, chosen, command, 1 if systems.bench.quick else 3)
        elif part == "contract":
            measure_contract(results, systems, chosen, command)
        elif part == "grpc":
            over_grpc(results, systems, chosen, command)
        elif part == "peers":
            if systems.peers_python is None and databases:
                raise ValueError("part peers needs the Python of bench/peers/requirements.txt")
            measure_databases(results, systems, chosen, databases, command)
        else:
            measure_set(results, systems, chosen, command)
        results.save()


def prepare_part(systems: Systems, part: str, sets: list[str]) -> None:
    """Makes the indexes that a part will need."""
    for chosen in prepared(systems.bench, sets or SETS_OF[part] if part in SETS_OF else [part]):
        systems.our_data(chosen)
        systems.hnswlib(chosen).close()
        if systems.peers_python is not None and part in SOURCES:
            for name in LIBRARIES:
                systems.library(name, chosen).close()
        say(f"{chosen.name} is prepared")


def read_names(allowed: Sequence[str], text: str) -> list[str]:
    """Returns the names of a list with commas. argparse says what is wrong with it."""
    names = [name for name in text.split(",") if name]
    for name in names:
        if name not in allowed:
            raise argparse.ArgumentTypeError(f"{name!r}: allowed are {', '.join(allowed)}")
    return names


def read_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    """Returns the options."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )

    def names(allowed: Sequence[str]) -> dict[str, object]:
        return {"type": lambda text: read_names(allowed, text), "metavar": "NAME,.."}

    parser.add_argument("--part", help=f"only these, of {', '.join(PARTS)}", **names(PARTS))
    parser.add_argument(
        "--set", default=[], help="sets of build, contract, grpc and peers", **names(list(SOURCES))
    )
    parser.add_argument(
        "--databases",
        default=list(DATABASES),
        help=f"of peers; default {', '.join(DATABASES)}",
        **names(DATABASES),
    )
    parser.add_argument("--prepare", action="store_true", help="only make the indexes")
    parser.add_argument(
        "--quick",
        action="store_true",
        help="sets of 2000 rows, short rounds; keeps no figures unless --out",
    )
    parser.add_argument("--build", type=Path, default=ROOT / "build/release", help="build folder")
    parser.add_argument("--out", type=Path, help="default: bench/results/search.json")
    parser.add_argument("--docs", type=Path, help="folder of the page; default: docs")
    parser.add_argument(
        "--peers-python",
        type=Path,
        default=os.environ.get("AZIMUTH_PEERS_PYTHON"),
        help="the Python of bench/peers/requirements.txt; without it libraries are left out",
    )
    return parser.parse_args(arguments)


def main(arguments: Sequence[str]) -> int:
    """Runs the parts, writes the figures after each, and the page at the end."""
    options = read_arguments(arguments)
    parent = Path(os.environ.get("AZIMUTH_BENCH_DIR") or options.build)
    with tempfile.TemporaryDirectory(prefix="bench_search_", dir=parent) as made:
        folder = Path(made)
        kept = folder / "kept" if options.quick else parent / "search"
        kept.mkdir(parents=True, exist_ok=True)
        bench = Bench(options.build, folder, kept, options.quick)
        systems = Systems(bench, options.peers_python)
        if systems.peers_python is None:
            say("no Python of peers: Faiss, usearch and the databases are left out")
        parts = options.part or [part for part in PARTS if part != "report"]
        if options.prepare:
            for part in parts:
                prepare_part(systems, part, options.set)
            return 0
        if options.quick:
            options.out = options.out or folder / "search.json"
        results = Results(options.out or ROOT / "bench/results/search.json")
        for part in parts:
            if part != "report":
                say(f"part {part}, load {os.getloadavg()[0]:.1f}")
                run_part(results, systems, part, options.set, options.databases)
        docs = options.docs or (None if options.quick else ROOT / "docs")
        if docs is not None and results.path.exists():
            report.write(results.path, docs)
            say(f"written: {docs / report.PAGE}")
        say(f"written: {results.path}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
