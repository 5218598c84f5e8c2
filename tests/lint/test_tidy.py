"""Tests of tidy.py: each rule over a small tree that breaks it, and over one that keeps it."""

from __future__ import annotations

from pathlib import Path

import pytest
import tidy

ROOT = Path(__file__).parents[2]


class Tree:
    """A repository in a temporary folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.cmake: list[str] = []

    def add(self, path: str, text: str = "", mode: int = 0o644) -> Tree:
        full = self.root / path
        full.parent.mkdir(parents=True, exist_ok=True)
        full.write_text(text, encoding="utf-8")
        full.chmod(mode)
        if path.endswith(".cc"):
            self.cmake.append(path)
            self.root.joinpath("CMakeLists.txt").write_text("\n".join(self.cmake))
        return self

    def findings(self) -> list[str]:
        return [str(finding) for finding in tidy.check_all(self.root)]

    def code(self, path: str, line: str) -> list[str]:
        self.add(path, ("#pragma once\n" if path.endswith(".h") else "") + line + "\n")
        return self.findings()


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path)


def test_this_repository_is_tidy() -> None:
    assert [str(finding) for finding in tidy.check_all(ROOT)] == []


@pytest.mark.parametrize(
    ("path", "header"),
    [
        ("base/a.cc", "index/b.h"),
        ("index/a.cc", "storage/b.h"),
        ("storage/a.cc", "index/b.h"),
        ("storage/a.cc", "engine/b.h"),
        ("engine/a.cc", "server/b.h"),
        ("server/a.cc", "index/b.h"),
        ("server/a.cc", "storage/b.h"),
        ("engine/a.cc", "tests/support/b.h"),
        ("server/a.cc", "bench/b.h"),
    ],
)
def test_arrow_that_does_not_point_down_is_found(tree: Tree, path: str, header: str) -> None:
    (finding,) = tree.code(path, f'#include "{header}"')
    assert finding.startswith(f"{path}:1: ")
    assert f"may not include {header}" in finding


@pytest.mark.parametrize(
    ("path", "header"),
    [
        ("engine/a.cc", "index/b.h"),
        ("server/a.cc", "engine/b.h"),
        ("storage/a.cc", "base/b.h"),
        ("tests/support/a.cc", "storage/b.h"),
        ("base/a.cc", "absl/status/status.h"),
    ],
)
def test_arrow_down_is_fine(tree: Tree, path: str, header: str) -> None:
    assert tree.code(path, f'#include "{header}"') == []


@pytest.mark.parametrize(
    ("header", "inside", "outside"),
    [
        ("hnswlib/hnswlib.h", "index/graph/hnsw_builder.cc", "index/graph/search.cc"),
        ("rocksdb/db.h", "storage/rocks.h", "engine/database.cc"),
        ("fcntl.h", "storage/file.cc", "storage/rocks.cc"),
        ("sys/mman.h", "storage/mapped_file.cc", "index/graph/frozen_graph.cc"),
        ("unistd.h", "server/main.cc", "engine/database.cc"),
        ("grpcpp/grpcpp.h", "server/app.cc", "engine/database.cc"),
        ("google/protobuf/message.h", "server/app.cc", "base/status.h"),
        ("azimuth/v1/types.pb.h", "server/rpc/convert.cc", "engine/record.h"),
        ("hwy/highway.h", "index/distance/kernels-inl.h", "index/flat/scan.cc"),
        ("CLI/CLI.hpp", "server/config.cc", "engine/database.cc"),
        ("gtest/gtest.h", "tests/support/matchers.h", "base/a.cc"),
        ("benchmark/benchmark.h", "bench/a_bench.cc", "index/topk.h"),
    ],
)
def test_libraries_stay_behind_their_borders(
    tree: Tree, header: str, inside: str, outside: str
) -> None:
    assert tree.code(inside, f"#include <{header}>") == []
    (finding,) = tree.code(outside, f"#include <{header}>")
    assert finding.startswith(f"{outside}:")
    assert f"{header} belongs in" in finding


def test_include_by_dots_is_found(tree: Tree) -> None:
    assert len(tree.code("index/a.cc", '#include "../storage/b.h"')) == 1


def test_header_without_guard_is_found(tree: Tree) -> None:
    tree.add("base/a.h", "int a;\n").add("index/distance/b-inl.h", "int b;\n")
    assert tree.findings() == ["base/a.h:0: a header needs #pragma once"]


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("engine/a.cc", "std::mutex mu;"),
        ("engine/a.cc", "absl::MutexLock lock(&mu);"),
        ("engine/a.cc", "std::thread worker(f);"),
        ("engine/a.cc", 'std::cerr << "x";'),
        ("engine/a.cc", 'printf("x");'),
        ("engine/a.cc", "auto* p = new Thing();"),
        ("engine/a.cc", "delete p;"),
        ("engine/a.cc", "delete[] p;"),
        ("engine/a.cc", 'const char* v = std::getenv("A");'),
        ("engine/a.cc", "assert(x);"),
        ("engine/a.cc", "int r = rand();"),
        ("engine/a.cc", "std::random_device device;"),
        ("tests/support/a.cc", "std::this_thread::sleep_for(d);"),
        ("engine/a.cc", "auto now = std::chrono::system_clock::now();"),
        ("engine/a.cc", 'throw std::runtime_error("x");'),
        ("tests/support/a.cc", "TEST(A, DISABLED_Works) {}"),
        ("engine/a.cc", '#pragma GCC optimize("-ffast-math")'),
    ],
)
def test_banned_code_is_found(tree: Tree, path: str, line: str) -> None:
    (finding,) = tree.code(path, line)
    assert finding.startswith(f"{path}:1: ")


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("base/mutex.h", "std::mutex mu_;"),
        ("engine/segment/worker_pool.cc", "std::thread worker(f);"),
        ("engine/a.cc", "size_t n = std::thread::hardware_concurrency();"),
        ("server/main.cc", 'std::cerr << "x";'),
        ("engine/a.cc", "// a std::mutex would do, and new Thing() too"),
        ("engine/a.cc", 'Log("std::mutex", "say \\"new Thing\\"");'),
        ("engine/a.cc", "auto p = absl::WrapUnique(new Thing());"),
        ("engine/a.cc", "return std::unique_ptr<Thing>(new Thing());"),
        ("engine/a.cc", "return std::unique_ptr<Thing>(\n    new Thing());"),
        ("engine/a.cc", "std::thread::id id;"),
        ("tests/support/a.cc", "void* operator new(size_t bytes) { return Count(bytes); }"),
        ("engine/a.cc", "const Set* old = set_.exchange(std::make_unique<Set>().release());"),
        ("server/a.cc", "} catch (...) { throw; }"),
        ("engine/a.cc", "static const auto* names = new Names();"),
        ("engine/a.cc", "Thing(const Thing&) = delete;"),
        ("engine/a.cc", "static_assert(sizeof(int) == 4);"),
        ("engine/a.cc", "int n = 1'000'000; int operand = 1;"),
        ("engine/a.cc", "int renew = new_size + brand(1);"),
        ("server/config.cc", 'const char* v = std::getenv("A");'),
        ("bench/peers/a.cc", "auto* p = new Thing();"),
    ],
)
def test_allowed_code_is_not_found(tree: Tree, path: str, line: str) -> None:
    assert tree.code(path, line) == []


def test_block_comment_keeps_line_numbers(tree: Tree) -> None:
    (finding,) = tree.code("engine/a.cc", "/* one\nnew Thing()\n*/\nassert(x);")
    assert finding.startswith("engine/a.cc:4: ")


def test_flags_and_globs_in_cmake_are_found(tree: Tree) -> None:
    tree.add("cmake/a.cmake", "set(F -march=native)\n# -Ofast in a comment\nfile(GLOB A *.cc)\n")
    tree.add("bench/peers/CMakeLists.txt", "set(F -march=native)\n")
    assert [finding.split(": ")[0] for finding in tree.findings()] == [
        "cmake/a.cmake:1",
        "cmake/a.cmake:3",
    ]


def test_orphan_source_is_found(tree: Tree) -> None:
    tree.add("base/a.cc").add("base/b.cc").add("base/CMakeLists.txt", "a.cc\n# b.cc\n")
    tree.root.joinpath("CMakeLists.txt").write_text("")
    (finding,) = tree.findings()
    assert finding.startswith("base/b.cc:0: no CMakeLists.txt names it")


def test_test_needs_a_twin_in_mirror_position(tree: Tree) -> None:
    tree.add("index/graph/search.h", "#pragma once\n")
    tree.add("tests/index/graph/search_test.cc").add("tests/index/graph/search_filter_test.cc")
    assert tree.findings() == []
    tree.add("tests/index/search_test.cc").add("index/graph/search_test.cc")
    assert [finding.split(":")[0] for finding in tree.findings()] == [
        "index/graph/search_test.cc",
        "tests/index/search_test.cc",
    ]


def test_long_file_needs_an_entry_that_fits(tree: Tree) -> None:
    tree.add("base/a.cc", "int a;\n" * 601)
    (finding,) = tree.findings()
    assert finding == "base/a.cc:0: base/a.cc has 601 lines, allowed are 600: split it"
    tree.add(tidy.RATCHET, "# comment\nbase/a.cc 601\n")
    assert tree.findings() == []
    tree.add(tidy.RATCHET, "base/a.cc 700\n")
    assert "lower it to 601" in tree.findings()[0]
    tree.add("base/a.cc", "int a;\n")
    assert "remove it" in tree.findings()[0]


def test_long_function_is_found_and_a_class_is_not_one(tree: Tree) -> None:
    body = "  F();\n" * 69
    tree.add("base/a.cc", f"struct A {{\n{body * 2}}};\nint Short() {{\n{body[:-7]}}}\n")
    assert tree.findings() == []
    tree.add("base/a.cc", f"namespace a {{\nint Thing::Long(\n    int b) {{\n{body}}}\n}}\n")
    (finding,) = tree.findings()
    assert finding.startswith("base/a.cc:2: base/a.cc:Thing::Long has 72 lines")


def test_long_function_in_python_is_found(tree: Tree) -> None:
    tree.add("bench/a.py", "def long():\n" + "    pass\n" * 70)
    (finding,) = tree.findings()
    assert finding.startswith("bench/a.py:1: bench/a.py:long has 71 lines")


def test_text_rules(tree: Tree) -> None:
    tree.add("base/a.cc", "int a;  // FIXME\n\tint b;\n" + "/" * 101 + "\n")
    tree.add("base/b.cc", "// https://example.org/" + "x" * 100 + "\n")
    assert [finding.split(": ")[1] for finding in tree.findings()] == [
        "finish it before it is merged",
        "use spaces, not tabs",
        "101 columns, at most 100",
    ]


def test_markdown_has_one_title(tree: Tree) -> None:
    tree.add("A.md", "# A\n\n```sh\n# comment\n```\n")
    assert tree.findings() == []
    tree.add("B.md", "# A\n# B\n").add("C.md", "text\n")
    assert tree.findings() == [
        "B.md:0: 2 first-level headings, should be one",
        "C.md:0: 0 first-level headings, should be one",
    ]


def test_blobs_and_permissions(tree: Tree) -> None:
    tree.add("data.bin", "x" * (tidy.BLOB_BYTES_MAX + 1))
    tree.add("run", "#!/bin/sh\n", 0o755).add("idle", "#!/bin/sh\n").add("text", "a\n", 0o755)
    assert [finding.split(":")[0] for finding in tree.findings()] == ["data.bin", "idle", "text"]


def test_command_prints_findings_and_fails(tree: Tree, capsys: pytest.CaptureFixture[str]) -> None:
    tree.add("base/a.cc", "assert(x);\n")
    assert tidy.main([str(tree.root)]) == 1
    assert capsys.readouterr().out.startswith("base/a.cc:1: 'assert(': use AZ_CHECK")
    tree.add("base/a.cc", "int x;\n")
    assert tidy.main([str(tree.root)]) == 0
