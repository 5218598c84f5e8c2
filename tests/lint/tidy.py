#!/usr/bin/env python3
"""House rules that no compiler checks, each with what to do instead.

Reads the files of the repository and prints `path:line: what is wrong and what to do`. bench/peers/
is exempt by name from the C++ rules: the baselines there are built as their authors build them.
"""

from __future__ import annotations

import argparse
import ast
import os
import re
import sys
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

LAYERS = ("base", "index", "storage", "engine", "server")
MAY_INCLUDE = {
    "base": {"base"},
    "index": {"base", "index"},
    "storage": {"base", "storage"},
    "engine": {"base", "index", "storage", "engine"},
    "server": {"base", "engine", "server"},
    "tests": {*LAYERS, "tests"},
    "bench": {*LAYERS, "bench"},
}
SKIPPED_FOLDERS = {
    ".git", ".venv", ".cache", ".mypy_cache", ".pytest_cache", ".ruff_cache", "__pycache__",
    "_generated", "build", "dist", "node_modules",
}  # fmt: skip
PEERS = "bench/peers/"
FILE_LINES_MAX = 600
FUNCTION_LINES_MAX = 70
COLUMNS_MAX = 100
BLOB_BYTES_MAX = 256 * 1024
RATCHET = "tests/lint/size_ratchet.txt"
SELF = {"tests/lint/tidy.py", "tests/lint/test_tidy.py"}


class Border(NamedTuple):
    """Headers (regex over the included path) that only some paths (regex) may include."""

    headers: str
    allowed: str
    name: str


BORDERS = (
    Border(
        r"hnswlib/",
        r"index/graph/hnsw_(builder\.cc|insert\.h)$",
        "index/graph/hnsw_{builder.cc,insert.h}",
    ),
    Border(
        r"rocksdb/",
        r"(tests/|bench/)?storage/|tests/support/(raw_store|sim_files)\.cc$",
        "storage/ and tests/support/{raw_store,sim_files}.cc",
    ),
    Border(
        r"(fcntl|sys/mman|sys/stat|sys/file|dirent)\.h$",
        r"storage/(file|mapped_file)\.cc$|base/huge_bytes\.cc$|server/main\.cc$|tests/|bench/",
        "storage/file.cc, storage/mapped_file.cc, base/huge_bytes.cc and server/main.cc",
    ),
    Border(
        r"unistd\.h$",
        r"storage/(file|mapped_file)\.cc$|engine/worker_pool\.cc$|server/|tests/|bench/",
        "storage/file.cc, storage/mapped_file.cc, engine/worker_pool.cc and server/",
    ),
    Border(
        r"(grpc|grpcpp|google/protobuf|google/rpc|azimuth/v1)/",
        r"(server|tests|bench)/",
        "server/, tests/ and bench/",
    ),
    Border(r"hwy/", r"index/(codes|distance)/", "index/codes/ and index/distance/"),
    Border(r"CLI/", r"(server|bench)/", "server/ and bench/"),
    Border(r"(gtest|gmock)/", r"tests/", "tests/"),
    Border(r"benchmark/", r"bench/", "bench/"),
)


class Ban(NamedTuple):
    """Code (regex) that may not stand outside of some paths (regex), and what to write instead."""

    code: str
    instead: str
    allowed: str = r"$^"


BANS = (
    Ban(
        r"std::(shared_|recursive_|timed_)?mutex\b|std::condition_variable|absl::(Mutex|CondVar)",
        "use Mutex, SharedMutex and CondVar of base/mutex.h",
        r"base/mutex\.h$",
    ),
    Ban(
        r"std::j?thread\b(?!::(hardware_concurrency|id)\b)|std::async\b|\bpthread_create\b",
        "run it on the WorkerPool",
        r"engine/(\w+/)?worker_pool\.(h|cc)$|storage/rocks_resume\.cc$|server/|tests/|bench/",
    ),
    Ban(
        r"std::(cout|cerr|clog)\b|(?<![\w:.>])(std::)?f?(printf|puts)\(",
        "log with base/logging.h",
        r"server/(main|verify_command)\.cc$|base/(logging|check)\.(h|cc)$|tests/|bench/",
    ),
    Ban(
        # A static that is never destroyed is fine, and so is OWNED_NEW.
        r"^(?!\s*static\b).*(?<!\w)(?<!operator )new(\s+[A-Za-z_:]|\s*\()|\bdelete(\[\])?\s+[\w*(]",
        "use std::make_unique or absl::WrapUnique",
    ),
    Ban(r"\bgetenv\(", "pass it through server/config.h", r"server/config\.cc$|tests/|bench/"),
    Ban(r"\bassert\(", "use AZ_CHECK or AZ_DCHECK of base/check.h"),
    Ban(r"\bs?rand\(|std::random_device", "use a seeded generator and print the seed"),
    Ban(r"\bsleep_(for|until)\b|\b(u|nano)?sleep\(", "wait on a CondVar", r"bench/"),
    Ban(r"system_clock\b", "use base/clock.h", r"base/(clock|logging)\.|(server|tests|bench)/"),
    Ban(r"\bthrow\b(?!;)", "return absl::Status", r"tests/|bench/"),
    Ban(r"\bDISABLED_", "mend the test or remove it"),
)
FLAGS = re.compile(r"-ffast-math|-Ofast|-march=native")
UNFINISHED = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b")
INCLUDE = re.compile(r'^\s*#\s*include\s+["<]([^">]+)[">]')
# A private constructor needs new; its result goes into an owner at once.
OWNED_NEW = re.compile(r"((WrapUnique|_ptr<[^;\n]*>)\s*\w*\(\s*)new\b")
# Comments and literals, so that bans read code only.
NOT_CODE = re.compile(
    r'//[^\n]*|/\*.*?\*/|R"(\w*)\(.*?\)\1"|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])+\'', re.DOTALL
)
FUNCTION_NAME = re.compile(r"([~\w:]+)\(")
NOT_FUNCTION = re.compile(r"(namespace|class|struct|enum|union|extern|using|typedef)\b|[}#/]")


class Finding(NamedTuple):
    """One fault at one place; line 0 is the whole file."""

    path: str
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.text}"


def code_only(text: str) -> str:
    """Blanks comments and literals, with every line where it was."""

    def blank(match: re.Match[str]) -> str:
        text = match.group(0)
        # A digit separator (1'000'000) is not a character literal.
        if text[0] == "'" and match.start() > 0 and match.string[match.start() - 1].isalnum():
            return text
        return '""' + "\n" * text.count("\n")

    return NOT_CODE.sub(blank, text)


class Source:
    """A file of the repository, read when asked."""

    def __init__(self, root: Path, path: str) -> None:
        self.path = path
        self.name = path.rpartition("/")[2]
        self.full = root / path

    @cached_property
    def text(self) -> str:
        """The content; empty for a file that is not UTF-8."""
        try:
            return self.full.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            return ""

    @cached_property
    def lines(self) -> list[str]:
        """The content by line."""
        return self.text.splitlines()

    @property
    def is_cpp(self) -> bool:
        """Whether this is C++ of ours, which bench/peers is not."""
        return self.path.endswith((".h", ".cc")) and not self.path.startswith(PEERS)

    @property
    def is_cmake(self) -> bool:
        """Whether CMake reads it."""
        return self.name == "CMakeLists.txt" or self.path.endswith(".cmake")


def read_tree(root: Path) -> list[Source]:
    """Every file of the repository that is not built or generated."""
    found = []
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(
            n for n in folders if n not in SKIPPED_FOLDERS and not n.endswith(".egg-info")
        )
        for name in sorted(names):
            full = Path(folder) / name
            if not full.is_symlink():
                found.append(Source(root, full.relative_to(root).as_posix()))
    return found


def check_includes(tree: list[Source]) -> Iterator[Finding]:
    """Arrows only downward, libraries of others only behind their borders, no `..`."""
    for source in filter(lambda s: s.is_cpp, tree):
        layer = source.path.partition("/")[0]
        for number, line in enumerate(source.lines, start=1):
            match = INCLUDE.match(line)
            if not match:
                continue
            header = match.group(1)
            if ".." in header.split("/"):
                yield Finding(source.path, number, f"include {header} from the layer's root")
            target = header.partition("/")[0]
            if target in MAY_INCLUDE and target not in MAY_INCLUDE.get(layer, set()):
                allowed = ", ".join(sorted(MAY_INCLUDE.get(layer, set())))
                yield Finding(
                    source.path, number, f"{layer} may not include {header}, only {allowed}"
                )
            for border in BORDERS:
                if re.match(border.headers, header) and not re.match(border.allowed, source.path):
                    yield Finding(source.path, number, f"{header} belongs in {border.name} only")


def check_headers(tree: list[Source]) -> Iterator[Finding]:
    """Headers guard themselves; those that Highway reads once per target (-inl.h) may not."""
    for source in filter(lambda s: s.is_cpp and s.name.endswith(".h"), tree):
        if not source.name.endswith("-inl.h") and "#pragma once" not in source.lines:
            yield Finding(source.path, 0, "a header needs #pragma once")


def check_bans(tree: list[Source]) -> Iterator[Finding]:
    """The list of BANS over the C++ code, and flags that give wrong or unportable numbers."""
    for source in tree:
        if source.is_cpp:
            code = OWNED_NEW.sub(r"\1", code_only(source.text))
            for number, line in enumerate(code.splitlines(), start=1):
                for ban in BANS:
                    match = re.search(ban.code, line)
                    if match and not re.match(ban.allowed, source.path):
                        what = match.group(0).strip()
                        yield Finding(source.path, number, f"'{what}': {ban.instead}")
        builds = source.is_cmake or source.name in ("CMakePresets.json", "Dockerfile", "dev")
        if (builds or source.is_cpp) and not source.path.startswith(PEERS):
            for number, line in enumerate(source.lines, start=1):
                code = re.sub(r"(^|\s)//.*" if source.is_cpp else r"(^|\s)#.*", "", line)
                if FLAGS.search(code):
                    yield Finding(source.path, number, f"flag only allowed in {PEERS}")
                if source.is_cmake and re.search(r"\bGLOB(_RECURSE)?\b", code):
                    yield Finding(source.path, number, "name the files, no GLOB")


def check_cmake_lists(tree: list[Source]) -> Iterator[Finding]:
    """Every .cc file is named by a CMakeLists.txt in its folder or above."""
    named = set()
    for source in tree:
        if source.name == "CMakeLists.txt":
            folder = source.path.rpartition("/")[0]
            for word in re.findall(r"[\w./+-]+\.cc\b", re.sub(r"#.*", "", source.text)):
                named.add(f"{folder}/{word}" if folder else word)
    for source in tree:
        if source.is_cpp and source.name.endswith(".cc") and source.path not in named:
            yield Finding(source.path, 0, "no CMakeLists.txt names it: add it or remove it")


def check_mirror(tree: list[Source]) -> Iterator[Finding]:
    """tests/index/graph/search_test.cc tests index/graph/search.{h,cc}.

    A longer name (search_filter_test.cc) is fine as long as it begins with that of its twin.
    """
    stems = {s.path.rpartition(".")[0] for s in tree if s.is_cpp}
    for source in tree:
        path = source.path
        if not path.endswith("_test.cc") or not source.is_cpp:
            continue
        layer = path.removeprefix("tests/").partition("/")[0]
        if not path.startswith("tests/") or layer not in (*LAYERS, "support"):
            yield Finding(path, 0, f"a test belongs in tests/<{'|'.join(LAYERS)}|support>/")
            continue
        stem = path.removesuffix("_test.cc")
        twin = stem if layer == "support" else stem.removeprefix("tests/")
        while twin not in stems and "_" in twin.rpartition("/")[2]:
            twin = twin.rpartition("_")[0]
        if twin not in stems:
            yield Finding(path, 0, "no file in mirror position that it would test")


def long_functions(source: Source) -> Iterator[tuple[str, int, int]]:
    """Name, line and length of each function above the limit.

    C++ is read as clang-format leaves it: a definition at namespace level starts in column 0 and
    ends with a line that is a single brace.
    """
    if source.path.endswith(".py"):
        for node in ast.walk(ast.parse(source.text)):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                length = (node.end_lineno or node.lineno) - node.lineno + 1
                if length > FUNCTION_LINES_MAX:
                    yield node.name, node.lineno, length
        return
    start = 0
    for number, line in enumerate(source.lines, start=1):
        if line == "}" and start:
            length = number - start + 1
            name = FUNCTION_NAME.search("".join(source.lines[start - 1 : start + 2]))
            if name and length > FUNCTION_LINES_MAX:
                yield name.group(1), start, length
            start = 0
        elif line and not line[0].isspace():
            # Anything else in column 0 starts anew, so the last one before the brace counts.
            start = 0 if NOT_FUNCTION.match(line) else number


def read_ratchet(tree: list[Source]) -> dict[str, tuple[int, int]]:
    """Entries `what lines` of the ratchet, as what -> (lines, line number of the entry)."""
    entries = {}
    for source in tree:
        if source.path == RATCHET:
            for number, line in enumerate(source.lines, start=1):
                if line.strip() and not line.startswith("#"):
                    what, _, size = line.rpartition(" ")
                    entries[what] = (int(size), number)
    return entries


def check_sizes(tree: list[Source]) -> Iterator[Finding]:
    """Files and functions above the limit need an entry in the ratchet, which may only shrink."""
    entries = read_ratchet(tree)
    large: dict[str, tuple[str, int, int, int]] = {}
    for source in tree:
        if source.is_cpp or source.path.endswith(".py"):
            if len(source.lines) > FILE_LINES_MAX:
                large[source.path] = (source.path, 0, len(source.lines), FILE_LINES_MAX)
            for name, line, length in long_functions(source):
                large[f"{source.path}:{name}"] = (source.path, line, length, FUNCTION_LINES_MAX)
    for what, (path, line, size, limit) in large.items():
        allowed = entries.get(what, (limit, 0))[0]
        if size > allowed:
            yield Finding(path, line, f"{what} has {size} lines, allowed are {allowed}: split it")
    for what, (allowed, number) in entries.items():
        size = large[what][2] if what in large else 0
        if size < allowed:
            advice = f"lower it to {size}" if size else "remove it"
            yield Finding(RATCHET, number, f"the entry of {what} is too large: {advice}")


def check_text(tree: list[Source]) -> Iterator[Finding]:
    """Nothing unfinished, no tabs, 100 columns, one H1 in a Markdown file."""
    for source in tree:
        if source.path in SELF:
            continue
        is_code = source.is_cpp or source.path.endswith((".py", ".proto"))
        for number, line in enumerate(source.lines, start=1):
            if UNFINISHED.search(line):
                yield Finding(source.path, number, "finish it before it is merged")
            if "\t" in line and (is_code or source.is_cmake):
                yield Finding(source.path, number, "use spaces, not tabs")
            if is_code and len(line) > COLUMNS_MAX and "://" not in line:
                yield Finding(source.path, number, f"{len(line)} columns, at most {COLUMNS_MAX}")
        if source.path.endswith(".md"):
            outside = re.sub(r"^```.*?^```", "", source.text, flags=re.DOTALL | re.MULTILINE)
            titles = len(re.findall(r"^# ", outside, flags=re.MULTILINE))
            if titles != 1:
                yield Finding(source.path, 0, f"{titles} first-level headings, should be one")


def check_files(tree: list[Source]) -> Iterator[Finding]:
    """No large blobs; scripts are executable and nothing else is."""
    for source in tree:
        status = source.full.stat()
        if status.st_size > BLOB_BYTES_MAX:
            yield Finding(source.path, 0, f"{status.st_size} bytes, at most {BLOB_BYTES_MAX}")
        executable = bool(status.st_mode & 0o100)
        with source.full.open("rb") as file:
            script = file.read(2) == b"#!"
        if script and not executable:
            yield Finding(source.path, 0, "a script with #! must be executable (chmod +x)")
        if executable and not script:
            yield Finding(source.path, 0, "executable without #! (chmod -x)")


CHECKS = (
    *(check_includes, check_headers, check_bans, check_cmake_lists),
    *(check_mirror, check_sizes, check_text, check_files),
)


def check_all(root: Path) -> list[Finding]:
    """All findings in the repository at `root`, in order of place."""
    tree = read_tree(root)
    return sorted(finding for check in CHECKS for finding in check(tree))


def main(argv: list[str]) -> int:
    """Prints the findings; the status is 1 when there are any."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("root", nargs="?", type=Path, default=Path(__file__).parents[2])
    findings = check_all(parser.parse_args(argv).root)
    for finding in findings:
        print(finding)
    print(f"tidy: {len(findings)} findings", file=sys.stderr)
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
