"""Data sets as numpy arrays: what each one's set.json names, and recall by distance."""

from __future__ import annotations

import gzip
import io
import json
import os
import struct
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

Array = npt.NDArray[Any]


def dataset_folder(name: str) -> Path:
    """Returns the folder of a data set; skips the test when it is not there."""
    root = os.environ.get("AZIMUTH_DATASETS")
    if not root:
        pytest.skip(f"data set {name}: AZIMUTH_DATASETS is not set")
    folder = Path(root) / name
    if not folder.is_dir():
        pytest.skip(f"data set {name}: there is no folder {folder}")
    return folder


def read_bytes(path: Path) -> bytes:
    """Returns the content of a file, unpacked where its name ends in .gz."""
    data = path.read_bytes()
    return gzip.decompress(data) if path.suffix == ".gz" else data


def read_array(path: Path) -> Array:
    """Returns an .npy or IDX file, plain or gzipped."""
    raw = read_bytes(path)
    if raw[:6] == b"\x93NUMPY":
        array: Array = np.load(io.BytesIO(raw), allow_pickle=False)
        return array
    assert raw[:3] == b"\0\0\x08", f"{path}: neither .npy nor IDX of bytes"
    shape = struct.unpack(f">{raw[3]}I", raw[4 : 4 + 4 * raw[3]])
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * raw[3]).reshape(shape)


class DataSet:
    """One data set, read lazily from its folder."""

    def __init__(self, folder: Path) -> None:
        """Reads set.json."""
        self._folder = folder
        self._manifest = json.loads((folder / "set.json").read_text(encoding="utf-8"))

    def array(self, name: str) -> Array:
        """Returns an array by its name in set.json."""
        entry = self._manifest["arrays"][name]
        return read_array(self._folder / entry["file"]).reshape(entry["shape"])

    def records(self, name: str) -> list[dict[str, Any]]:
        """Returns the records of a .jsonl file by their name in set.json."""
        text = read_bytes(self._folder / self._manifest["records"][name]["file"]).decode()
        return [json.loads(line) for line in text.split("\n") if line]

    def truth(self, name: str) -> tuple[str, Array, Array]:
        """Returns the queries' name, the ids and the distances of a ground truth."""
        entry = self._manifest["truth"][name]
        distances = read_array(self._folder / entry["distances"])
        return entry["queries"], read_array(self._folder / entry["ids"]), distances

    def filters(self) -> list[dict[str, Any]]:
        """Returns filters.json."""
        read: list[dict[str, Any]] = json.loads((self._folder / "filters.json").read_text())
        return read


def recall(found: Array, truth: Array, k: int, tolerance: float = 1e-5) -> float:
    """Returns the mean recall@k by distance, so that ties count."""
    limit = truth[:, k - 1 : k] * (1 + tolerance) + tolerance
    return float((found[:, :k] <= limit).sum() / (len(truth) * k))
