"""What is compared in one process each: ours, hnswlib, Faiss and usearch, with indexes kept."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from driven import Driven
from servers import Bench, say
from sets import SearchSet

ROOT = Path(__file__).parents[2]
PEERS = ROOT / "bench/peers"
OURS = "azimuth"
HNSWLIB = "hnswlib"
LIBRARIES = ("faiss_hnsw", "faiss_hnsw_sq", "usearch")
BUILD_THREADS = 2


@dataclass(frozen=True)
class Systems:
    """Starts them.

    Attributes:
        bench: The run.
        peers_python: The Python that has bench/peers/requirements.txt; None without them.
    """

    bench: Bench
    peers_python: Path | None

    @property
    def ours_program(self) -> Path:
        """Ours."""
        return self.bench.build / "bench/azimuth_inprocess_search_bench"

    @property
    def hnswlib_program(self) -> Path:
        """hnswlib's."""
        return self.bench.build / "bench/peers/azimuth_hnswlib_search_bench"

    def our_data(self, chosen: SearchSet) -> tuple[Path, dict[str, Any]]:
        """Returns a folder with `data`, loaded and optimized by this program, and what that took.

        Servers may run on copies of it.
        """
        program = hashlib.sha256(self.ours_program.read_bytes()).hexdigest()
        folder = self._kept(OURS, chosen)
        command = [self.ours_program, "build", chosen.metric, chosen.base, folder / "data"]
        return folder, _built(folder, command, program)

    def ours(self, chosen: SearchSet) -> Driven:
        """Starts ours on the set."""
        folder, _ = self.our_data(chosen)
        return self.ours_on(folder / "data", chosen)

    def ours_on(self, data: Path, chosen: SearchSet) -> Driven:
        """Starts ours on a data directory, with the queries of a set."""
        command = [self.ours_program, "serve", data, chosen.queries]
        return Driven(OURS, command, self.bench.folder)

    def hnswlib(self, chosen: SearchSet) -> Driven:
        """Starts hnswlib on the set."""
        folder = self._kept(HNSWLIB, chosen)
        _built(folder, self.hnswlib_build(chosen, folder / "index"), "1")
        command = [self.hnswlib_program, "serve", chosen.library_metric, folder / "index"]
        return Driven(HNSWLIB, [*command, chosen.library_queries], self.bench.folder)

    def hnswlib_build(self, chosen: SearchSet, index: Path) -> list[str | Path]:
        """Returns what builds its index."""
        command: list[str | Path] = [self.hnswlib_program, "build", chosen.library_metric]
        return [*command, chosen.library_base, index, str(BUILD_THREADS)]

    def library(self, name: str, chosen: SearchSet) -> Driven:
        """Starts one of LIBRARIES on the set."""
        assert self.peers_python is not None
        program = [self.peers_python, PEERS / "libraries.py"]
        folder = self._kept(name, chosen)
        build = [*program, "build", name, chosen.library_metric, chosen.library_base]
        wanted = (PEERS / "requirements.txt").read_text(encoding="utf-8")
        key = ", ".join(re.findall(r"^(?:faiss|usearch).*$", wanted, re.MULTILINE))
        _built(folder, [*build, folder / "index", str(BUILD_THREADS)], key)
        serve = [*program, "serve", name, chosen.library_metric, folder / "index"]
        return Driven(name, [*serve, chosen.library_queries], self.bench.folder)

    def database(self, name: str, chosen: SearchSet) -> Driven:
        """Starts a database of bench/peers/databases.py, which loads the set."""
        assert self.peers_python is not None
        folder = self.bench.folder / f"database_{name}"
        shutil.rmtree(folder, ignore_errors=True)
        command = [self.peers_python, PEERS / "databases.py", name, chosen.metric]
        return Driven(name, [*command, chosen.base, chosen.queries, folder], self.bench.folder)

    def our_client(self, chosen: SearchSet, folder: Path) -> Driven:
        """Starts our server on a copied folder, and our client in Python as a database is."""
        program = [sys.executable, Path(__file__).with_name("our_client.py")]
        command = [*program, self.bench.build / "server/azimuthd", folder, chosen.queries]
        return Driven(OURS, command, self.bench.folder)

    def describe(self, running: Driven) -> dict[str, Any]:
        """Returns version and flags of a system, for the result file."""
        about = running.about
        if running.name == HNSWLIB:
            package = ["dpkg-query", "-W", "-f=${Version}", "libhnswlib-dev"]
            found = subprocess.run(package, capture_output=True, text=True, check=False).stdout
            return {"version": found or "unknown", **_some(about, "flags", "simd", "compiler")}
        if running.name == OURS:
            return {"flags": _our_flags(self.bench.build), **_some(about, "compiler")}
        return _some(about, "version", "flags", "server", "extension", "pgvector")

    def _kept(self, system: str, chosen: SearchSet) -> Path:
        return self.bench.kept / system / chosen.folder.name


def _some(about: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: about[name] for name in names if name in about}


def _our_flags(build: Path) -> str:
    """Returns what CMake gave the compiler for a file of the engine."""
    ninja = build / "build.ninja"
    text = ninja.read_text(encoding="utf-8") if ninja.exists() else ""
    found = re.search(r"^build engine/\S*database\.cc\.o:.*?^  FLAGS = (.*?)$", text, re.M | re.S)
    if not found:
        return "unknown"
    return " ".join(flag for flag in found.group(1).split() if not flag.startswith("-W"))


def _built(folder: Path, command: Sequence[str | Path], key: str) -> dict[str, Any]:
    """Runs a build unless the folder holds what the same one made; returns what it said."""
    note = folder / "built.json"
    if note.exists():
        kept: dict[str, Any] = json.loads(note.read_text(encoding="utf-8"))
        if kept.pop("key") == key:
            return kept
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    say(f"building {folder}")
    built = run_build(command)
    note.write_text(json.dumps({"key": key, **built}) + "\n", encoding="utf-8")
    return built


def run_build(command: Sequence[str | Path]) -> dict[str, Any]:
    """Runs a build and returns the line that it prints. RuntimeError shows what went wrong."""
    words = [str(word) for word in command]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(words)} ended with {done.returncode}: {done.stderr[-2000:]}")
    built: dict[str, Any] = json.loads(done.stdout)
    return built
