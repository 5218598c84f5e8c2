"""Generates the gRPC code at build time and derives the run-time requirements from it.

All else is in pyproject.toml. The .proto files come from the repository (../../proto), or, in an
unpacked sdist, from proto/ beside this file.
"""

from __future__ import annotations

import re
import shutil
import sys
import tempfile
from importlib import resources
from pathlib import Path

from setuptools import setup
from setuptools.command.sdist import sdist

ROOT = Path(__file__).resolve().parent
GENERATED = ROOT / "azimuth_db" / "_generated"
PROTO_ROOTS = (ROOT / "proto", ROOT.parent.parent / "proto")


def find_proto_root() -> Path:
    """Returns the folder that holds azimuth/v1/*.proto."""
    for root in PROTO_ROOTS:
        if (root / "azimuth" / "v1").is_dir():
            return root
    looked = " nor in ".join(str(root) for root in PROTO_ROOTS)
    sys.exit(f"azimuth-db: azimuth/v1/*.proto is not in {looked}")


def run_protoc(proto_root: Path, out: Path) -> None:
    """Writes messages, their type stubs and gRPC stubs for all .proto files to `out`."""
    try:
        from grpc_tools import protoc
    except ImportError:
        sys.exit("azimuth-db: building needs grpcio-tools (see [build-system] in pyproject.toml)")
    well_known = str(resources.files("grpc_tools") / "_proto")
    protos = sorted(str(path) for path in (proto_root / "azimuth").rglob("*.proto"))
    outs = [f"--{kind}_out={out}" for kind in ("python", "pyi", "grpc_python")]
    if protoc.main(["protoc", f"-I{proto_root}", f"-I{well_known}", *outs, *protos]) != 0:
        sys.exit("azimuth-db: protoc failed")


def make_private(out: Path) -> None:
    """Turns the top-level package `azimuth.v1` into a relative one, and completes the packages."""
    for path in [*out.rglob("*.py"), *out.rglob("*.pyi")]:
        text = path.read_text(encoding="utf-8")
        text = re.sub(r"^from azimuth\.v1 import ", "from . import ", text, flags=re.MULTILINE)
        path.write_text(text, encoding="utf-8")
    for package in (out, out / "azimuth", out / "azimuth" / "v1"):
        (package / "__init__.py").write_text(
            '"""Generated from proto/ by the build; do not edit."""\n', encoding="utf-8"
        )


def generate() -> None:
    """Makes azimuth_db/_generated anew; leaves files alone that would not change."""
    with tempfile.TemporaryDirectory() as temp:
        fresh = Path(temp)
        run_protoc(find_proto_root(), fresh)
        make_private(fresh)
        names = {path.relative_to(fresh) for path in fresh.rglob("*.py*")}
        if GENERATED.is_dir():
            for old in list(GENERATED.rglob("*.py")) + list(GENERATED.rglob("*.pyi")):
                if old.relative_to(GENERATED) not in names:
                    old.unlink()
        for name in sorted(names):
            target = GENERATED / name
            content = (fresh / name).read_bytes()
            if not target.is_file() or target.read_bytes() != content:
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(content)


def requirements() -> list[str]:
    """Returns the run-time requirements: no protobuf or grpcio older than the generated code."""
    code = GENERATED / "azimuth" / "v1"
    protobuf = re.search(
        r"Protobuf Python Version: ([\d.]+)", (code / "types_pb2.py").read_text(encoding="utf-8")
    )
    if protobuf is None:
        sys.exit("azimuth-db: grpcio-tools is older than 1.62: no version in the generated code")
    # Generators before 1.63 ask for no gRPC version.
    grpc = re.search(
        r"GRPC_GENERATED_VERSION = '([\d.]+)'",
        (code / "search_pb2_grpc.py").read_text(encoding="utf-8"),
    )
    return [
        f"grpcio>={grpc.group(1) if grpc else '1.62'}",
        f"protobuf>={protobuf.group(1)},<8",
        "numpy>=1.24",
    ]


class SdistWithProtos(sdist):
    """An sdist that carries the .proto files, since it is built away from the repository."""

    def make_release_tree(self, base_dir: str, files: list[str]) -> None:
        """Adds proto/ to the tree."""
        super().make_release_tree(base_dir, files)
        root = find_proto_root()
        for path in sorted((root / "azimuth").rglob("*.proto")):
            target = Path(base_dir) / "proto" / path.relative_to(root)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)


generate()
setup(install_requires=requirements(), cmdclass={"sdist": SdistWithProtos})
