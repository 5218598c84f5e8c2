"""What of files is in the page cache, and how to get it out."""

from __future__ import annotations

import ctypes
import mmap
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

DROP_CACHES = Path("/proc/sys/vm/drop_caches")

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
_libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
_libc.mincore.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p]
_MAP_FAILED = ctypes.c_void_p(-1).value


def files_under(places: Iterable[Path]) -> Iterator[Path]:
    """Yields the regular files among `places` and in the folders among them."""
    for place in places:
        found = sorted(place.rglob("*")) if place.is_dir() else [place]
        yield from (path for path in found if path.is_file() and not path.is_symlink())


def resident_bytes(path: Path) -> int:
    """Returns how much of a file is in the page cache, in whole pages."""
    size = path.stat().st_size
    if size == 0:
        return 0
    descriptor = os.open(path, os.O_RDONLY)
    try:
        address = _libc.mmap(None, size, mmap.PROT_READ, mmap.MAP_SHARED, descriptor, 0)
        if address == _MAP_FAILED:
            raise OSError(ctypes.get_errno(), f"mmap of {path}")
        try:
            pages = ctypes.create_string_buffer(-(-size // mmap.PAGESIZE))
            if _libc.mincore(address, size, pages) != 0:
                raise OSError(ctypes.get_errno(), f"mincore of {path}")
            return sum(byte & 1 for byte in pages.raw) * mmap.PAGESIZE
        finally:
            _libc.munmap(address, size)
    finally:
        os.close(descriptor)


def drop(*places: Path) -> dict[str, Any]:
    """Writes everything back and drops the files from the page cache, as far as the system allows.

    Returns:
        "method": "drop_caches" (everything, the programs as well) or "fadvise" (these files);
        "bytes" of the files, and "resident_bytes" that stayed in memory all the same.
    """
    os.sync()
    files = list(files_under(places))
    method = "drop_caches"
    try:
        DROP_CACHES.write_text("3\n")
    except OSError:
        method = "fadvise"
        for path in files:
            descriptor = os.open(path, os.O_RDONLY)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(descriptor)
    return {
        "method": method,
        "bytes": sum(path.stat().st_size for path in files),
        "resident_bytes": sum(resident_bytes(path) for path in files),
    }
