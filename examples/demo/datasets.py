"""The pictures of the demo: Fashion-MNIST where it can be had, enlarged digits where it cannot.

Fashion-MNIST is looked for in $AZIMUTH_DATASETS, then in the cache folder, then at its publisher;
its files count only if their checksums are right. The fallback needs nothing but scikit-learn:
its 1 797 handwritten digits, turned and shifted until there are enough rows for a graph. The same
call always makes the same rows.
"""

from __future__ import annotations

import gzip
import hashlib
import http.client
import os
import struct
import time
import urllib.error
import urllib.request
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

Pixels = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.int64]

FASHION_MD5 = {
    "train-images-idx3-ubyte.gz": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
    "train-labels-idx1-ubyte.gz": "25c81989df183df01b3e8a0aad5dffbe",
    "t10k-images-idx3-ubyte.gz": "bef4ecab320f06d8554ea6380940ec79",
    "t10k-labels-idx1-ubyte.gz": "bb300cfdad3c16e7a12a480ee83cd310",
}
FASHION_NAMES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat",
    "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip
DIGIT_NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")

# All of them are the publisher's own; the last one has no HTTPS, which is why checksums decide.
FASHION_URLS = (
    "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
    "https://fashion-mnist.s3.eu-central-1.amazonaws.com/",
    "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
)
DOWNLOAD_TOTAL_S = 60.0
DOWNLOAD_SILENCE_S = 8.0  # A server that says nothing for this long is given up.
DOWNLOAD_BYTES_MAX = 64 * 1024 * 1024

DIGIT_SIDE = 24
DIGITS_HELD_OUT = 397
DIGIT_BASE_ROWS = 52_000
DIGIT_QUERY_ROWS = 2_000


class DataError(Exception):
    """A data set, or one file of it, that cannot be used; the text says why."""


@dataclass(frozen=True)
class Dataset:
    """Pictures to search in, pictures to search for, and what both show.

    Attributes:
        title: What to call the set.
        origin: Where it was read or made from.
        side: Width and height of a picture in pixels; vectors have side * side numbers.
        base: The pictures to insert, one per row.
        base_labels: What each shows, an index into `names`.
        queries: Pictures that are not in `base`.
        query_labels: What each shows.
        names: The labels in words.
        filters: Searches worth a picture: the label of the query, the labels to find.
        notes: Why better sources were passed over.
    """

    title: str
    origin: str
    side: int
    base: Pixels
    base_labels: Labels
    queries: Pixels
    query_labels: Labels
    names: tuple[str, ...]
    filters: tuple[tuple[int, tuple[int, ...]], ...]
    notes: tuple[str, ...] = ()


def load(choice: str = "auto", say: Callable[[str], None] = print) -> Dataset:
    """Returns the data set.

    Args:
        choice: "fashion-mnist", "digits", or "auto": the first one that can be had.
        say: Called with a line before something slow starts.

    Raises:
        DataError: It cannot be had; the text lists what was tried.
    """
    notes: list[str] = []
    if choice in ("auto", "fashion-mnist"):
        for source in (_from_environment, _from_cache, _from_publisher):
            try:
                folder, origin = source(say)
                return read_fashion(folder, origin, tuple(notes))
            except DataError as error:
                notes.append(str(error))
    if choice == "fashion-mnist":
        raise DataError("Fashion-MNIST cannot be had:\n  " + "\n  ".join(notes))
    say("making pictures from scikit-learn's handwritten digits")
    return make_digits(notes=tuple(notes))


def cache_folder() -> Path:
    """Returns where downloads are kept."""
    cache = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(cache) / "azimuth" / "fashion-mnist"


# Fashion-MNIST.


def _from_environment(say: Callable[[str], None]) -> tuple[Path, str]:
    root = os.environ.get("AZIMUTH_DATASETS")
    if not root:
        raise DataError("AZIMUTH_DATASETS is not set")
    folder = Path(root) / "fashion-mnist"
    _check_files(folder)
    return folder, f"{folder} (AZIMUTH_DATASETS)"


def _from_cache(say: Callable[[str], None]) -> tuple[Path, str]:
    folder = cache_folder()
    _check_files(folder)
    return folder, f"{folder} (the cache)"


def _from_publisher(say: Callable[[str], None]) -> tuple[Path, str]:
    folder = cache_folder()
    say(f"downloading Fashion-MNIST (30 MB) into {folder}, {DOWNLOAD_TOTAL_S:.0f} s at most")
    deadline = time.monotonic() + DOWNLOAD_TOTAL_S
    failures: list[str] = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"{folder}: {error.strerror}") from None
    for url in FASHION_URLS:
        try:
            for name, md5 in FASHION_MD5.items():
                _fetch(url + name, folder / name, md5, deadline)
            return folder, f"{url} (now in {folder})"
        except DataError as error:
            failures.append(str(error))
    raise DataError("download: " + "; ".join(failures))


def _check_files(folder: Path) -> None:
    """DataError unless all files are in `folder`, with the right checksums."""
    for name, md5 in FASHION_MD5.items():
        try:
            found = hashlib.md5((folder / name).read_bytes(), usedforsecurity=False).hexdigest()
        except OSError as error:
            raise DataError(f"{folder / name}: {error.strerror}") from None
        if found != md5:
            raise DataError(f"{folder / name}: checksum {found}, expected MD5 {md5}")


def _fetch(url: str, path: Path, md5: str, deadline: float) -> None:
    """Downloads one file; it appears under its name only if its checksum is right."""
    data = download(url, deadline)
    found = hashlib.md5(data, usedforsecurity=False).hexdigest()
    if found != md5:
        raise DataError(f"{url}: checksum {found}, expected MD5 {md5}")
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        part.write_bytes(data)
        part.replace(path)
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from None
    finally:
        part.unlink(missing_ok=True)


def download(url: str, deadline: float) -> bytes:
    """Returns what is at `url`; DataError when it is not there by `deadline` (monotonic)."""
    left = deadline - time.monotonic()
    if left <= 0:
        raise DataError(f"{url}: no time left")
    chunks: list[bytes] = []
    size = 0
    try:
        with urllib.request.urlopen(url, timeout=min(left, DOWNLOAD_SILENCE_S)) as reply:
            while chunk := reply.read(1 << 18):
                chunks.append(chunk)
                size += len(chunk)
                if time.monotonic() > deadline:
                    raise DataError(f"{url}: only {size} bytes in time")
                if size > DOWNLOAD_BYTES_MAX:
                    raise DataError(f"{url}: more than {DOWNLOAD_BYTES_MAX} bytes")
    except urllib.error.URLError as error:
        raise DataError(f"{url}: {error.reason}") from None
    except (OSError, http.client.HTTPException) as error:
        raise DataError(f"{url}: {error}") from None
    return b"".join(chunks)


def read_fashion(folder: Path, origin: str, notes: tuple[str, ...] = ()) -> Dataset:
    """Reads the four files of a folder; DataError when they do not fit together."""
    base = read_idx(folder / "train-images-idx3-ubyte.gz")
    queries = read_idx(folder / "t10k-images-idx3-ubyte.gz")
    base_labels = read_idx(folder / "train-labels-idx1-ubyte.gz")
    query_labels = read_idx(folder / "t10k-labels-idx1-ubyte.gz")
    if len(base) != len(base_labels) or len(queries) != len(query_labels):
        raise DataError(f"{folder}: there are not as many labels as images")
    return Dataset(
        title="Fashion-MNIST",
        origin=origin,
        side=int(base.shape[1]),
        base=base.reshape(len(base), -1),
        base_labels=base_labels.astype(np.int64),
        queries=queries.reshape(len(queries), -1),
        query_labels=query_labels.astype(np.int64),
        names=FASHION_NAMES,
        filters=((7, (9,)), (2, (6,)), (3, (1, 4)), (8, (0, 2, 5))),
        notes=notes,
    )


def read_idx(path: Path) -> Pixels:
    """Returns the array of a gzipped IDX file of bytes; DataError when it is none."""
    try:
        with gzip.open(path) as file:
            data = file.read()
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: {error}") from None
    if len(data) < 4 or data[:3] != b"\x00\x00\x08":
        raise DataError(f"{path}: not an IDX file of bytes")
    dims = data[3]
    start = 4 + 4 * dims
    if len(data) < start:
        raise DataError(f"{path}: ends within its header")
    shape = struct.unpack(f">{dims}I", data[4:start])
    values = np.frombuffer(data, np.uint8, offset=start)
    if values.size != int(np.prod(shape, dtype=np.int64)):
        raise DataError(f"{path}: {values.size} values do not make the shape {shape}")
    return values.reshape(shape)


# Digits.


def make_digits(
    base_rows: int = DIGIT_BASE_ROWS,
    query_rows: int = DIGIT_QUERY_ROWS,
    notes: tuple[str, ...] = (),
) -> Dataset:
    """Makes pictures of handwritten digits; no original gives both base rows and queries."""
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise DataError(
            "scikit-learn is not installed, and there is no other data:\n  "
            + "\n  ".join((*notes, "pip install scikit-learn"))
        ) from None
    digits = load_digits()
    originals = np.rint(digits.images * (255 / 16)).astype(np.uint8)
    labels = digits.target.astype(np.int64)
    rng = np.random.default_rng(7)
    order = rng.permutation(len(originals))
    held_out, kept = order[:DIGITS_HELD_OUT], order[DIGITS_HELD_OUT:]
    base, base_from = _variants(originals, kept, base_rows, rng)
    queries, query_from = _variants(originals, held_out, query_rows, rng)
    return Dataset(
        title="Handwritten digits, enlarged",
        origin=f"scikit-learn's {len(originals)} digits, each turned and shifted many times",
        side=DIGIT_SIDE,
        base=base,
        base_labels=labels[base_from],
        queries=queries,
        query_labels=labels[query_from],
        names=DIGIT_NAMES,
        filters=((1, (7,)), (3, (8,)), (4, (1, 9)), (6, (0, 2, 5))),
        notes=notes,
    )


def _variants(
    originals: Pixels, chosen: npt.NDArray[np.int64], rows: int, rng: np.random.Generator
) -> tuple[Pixels, npt.NDArray[np.int64]]:
    """Returns `rows` pictures, and the original of each: first all as they are, then turned."""
    sources = chosen[np.arange(rows) % len(chosen)]
    angles = rng.uniform(-15, 15, rows)
    shifts = rng.integers(-2, 3, (rows, 2))
    angles[: len(chosen)] = 0
    shifts[: len(chosen)] = 0
    size = (DIGIT_SIDE, DIGIT_SIDE)
    large = {
        int(i): Image.fromarray(originals[i]).resize(size, Image.Resampling.BICUBIC) for i in chosen
    }
    out = np.empty((rows, DIGIT_SIDE * DIGIT_SIDE), np.uint8)
    for row, source in enumerate(sources):
        picture = large[int(source)]
        if row >= len(chosen):
            picture = picture.rotate(
                float(angles[row]),
                Image.Resampling.BILINEAR,
                translate=(int(shifts[row, 0]), int(shifts[row, 1])),
            )
        out[row] = np.asarray(picture, np.uint8).reshape(-1)
    return out, sources
