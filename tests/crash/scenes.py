"""The failpoints, and what has to be so that a server comes by them."""

from __future__ import annotations

import random
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TITLE = "azimuth data directory, format "
# Failpoints that are passed when a server stops by itself.
AT_STOP = ("close.",)
# Kills happen at one of so many first visits: by the name or its first part, 3 for all others.
VISITS = {
    "close": 1,
    "commit": 60,
    "delete.after_choose": 5,
    "log.after_rotate": 1,
    "log.before_sync": 60,
    "quarantine": 1,
    "read": 40,
    "recover": 1,
    "recover.mid_rows": 100,
    "sweep.after_choose": 2,
    "truncate.after_catalog": 2,
    "upgrade": 1,
    "watermark.before_sync": 2,
}


def failpoint_names() -> list[str]:
    """Returns the names of all failpoints, from the list that the server is built with."""
    text = (ROOT / "base" / "failpoint.h").read_text()
    return re.findall(r'^ +X\(k\w+, "([a-z_.]+)"\)', text, re.MULTILINE)


def set_scene(failpoint: str, data_dir: Path, chooser: random.Random) -> Path | None:
    """Changes a data directory that no server runs on so that the next start comes by.

    Nothing of it loses a record: a segment file is derived from the rows, and every directory is
    one of the format before, too, as far as servers that upgrade it can tell.

    Returns the segment file that was damaged for it, if one was.
    """
    if failpoint.startswith("quarantine."):
        return damage_segment(data_dir, chooser)
    if failpoint.startswith("upgrade."):
        previous_format(data_dir)
    return None


def damage_segment(data_dir: Path, chooser: random.Random) -> Path | None:
    """Flips a byte in the header of a segment file, if there is one; returns which."""
    files = sorted((data_dir / "segments").glob("*.seg"))
    if not files:
        return None
    path = chooser.choice(files)
    content = bytearray(path.read_bytes())
    content[chooser.randrange(64)] ^= 0x10
    path.write_bytes(content)
    return path


def previous_format(data_dir: Path) -> None:
    """Makes it a directory of the format before (docs/FORMATS.md, "Data directory").

    Format 2 has no watermark, and the number that files carry is its incarnation.
    """
    path = data_dir / "FORMAT"
    first, instance, *_ = path.read_text().splitlines()
    match = re.fullmatch(r"instance ([0-9a-f]{16})", instance)
    assert first == f"{TITLE}3", f"{path}: {first!r} is not the first line of format 3"
    assert match, f"{path}: {instance!r} is not the second line of format 3"
    text = f"{TITLE}2\nincarnation {match[1]}\n"
    path.write_text(f"{text}crc32c {crc32c(text.encode()):08x}\n")
    (data_dir / "WATERMARK").unlink(missing_ok=True)


def crc32c(data: bytes) -> int:
    """Returns the CRC-32C (Castagnoli) of a few bytes."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF
