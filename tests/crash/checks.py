"""Everything that a collection answers at rest, read and compared with the oracle."""

from __future__ import annotations

import random
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "integration"))

import numpy as np
from azimuth_db import Client, Collection, Record
from oracle import Key, Observed, Span, Violation, now_us
from workload import DIM, GROUPS, Target, stored_of

SEARCH_SAMPLE = 200
GRAPH_SHARE_MIN = 0.95
LIST_LIMIT = 16384
GET_KEYS = 1000
NEIGHBOURS = 10


@dataclass
class Checked:
    """How much was compared.

    Attributes:
        records_checked: Records that were read by key.
        graph_asked: Searches for a stored vector by graph.
        graph_found: Those that found it.
    """

    records_checked: int = 0
    graph_found: int = 0
    graph_asked: int = 0


def lost(target: Target) -> Violation:
    """Returns that a whole collection is not there."""
    return Violation("lost", target.name, None, "a collection", "nothing")


def check_collection(
    items: Collection,
    target: Target,
    stored: int | None,
    began: int,
    sample: random.Random,
    checked: Checked,
) -> list[Violation]:
    """Reads all of one collection in every way and returns what is wrong.

    Args:
        items: The collection.
        target: What is known of it; takes what is found of batches in flight as what happened.
        stored: The number of its records by the list of collections.
        began: From before that was asked, in microseconds since 1970.
        sample: Chooses the vectors to search for.
        checked: Is added to.
    """
    records = read_all(items, target.keys)
    listing = items.query(limit=LIST_LIMIT, output_vectors=["v"])
    observed = Observed(
        by_get={record.key: stored_of(record) for record in records},
        by_query=[(record.key, stored_of(record)) for record in listing],
        count=items.count(),
        counts={"stats": items.stats().row_count},
        versions={record.key: record.version for record in records},
        stored=stored,
    )
    for group in range(GROUPS):
        found = items.query("group == $g", LIST_LIMIT, params={"g": group}, output_fields=[])
        observed.by_filter[group] = [record.key for record in found]
    if records:
        everything = items.search(records[0].vectors["v"], LIST_LIMIT, exact=True, output_fields=[])
        observed.by_scan = everything.keys
    observed.span = Span(began, now_us())
    checked.records_checked += len(records)
    return target.oracle.check(observed) + _check_searches(items, target, records, sample, checked)


def read_all(items: Collection, keys: list[Key]) -> list[Record]:
    """Returns the records of those of the keys that exist."""
    return [
        record
        for i in range(0, len(keys), GET_KEYS)
        for record in items.get(keys[i : i + GET_KEYS], output_vectors=["v"])
        if record is not None
    ]


def check_all(
    db: Client, targets: list[Target], sample: random.Random, checked: Checked
) -> list[Violation]:
    """Does `check_collection` for all of them; a collection that is not there is lost."""
    began = now_us()
    listed = {c.name: c.row_count for c in db.list_collections()}
    violations: list[Violation] = []
    for target in targets:
        if target.name in listed:
            items, stored = db.collection(target.name), listed[target.name]
            violations += check_collection(items, target, stored, began, sample, checked)
        else:
            violations.append(lost(target))
    return violations


def recall(items: Collection, queries: int, seed: int) -> float | None:
    """Returns the share of the nearest records that searches by graph find, of random queries.

    The same seed asks the same. None if the collection is empty.
    """
    vectors = np.random.default_rng(seed).normal(size=(queries, DIM)).astype("f4")
    exact = items.search_batch(vectors, NEIGHBOURS, exact=True, output_fields=[])
    graph = items.search_batch(vectors, NEIGHBOURS, output_fields=[])
    total = int(exact.counts.sum())
    if total == 0:
        return None
    found = sum(
        len(set(a[:n].tolist()) & set(b[:m].tolist()))
        for a, b, n, m in zip(exact.keys, graph.keys, exact.counts, graph.counts)
    )
    return found / total


def _check_searches(
    items: Collection,
    target: Target,
    records: list[Record],
    chooser: random.Random,
    checked: Checked,
) -> list[Violation]:
    """Every vector (of a sample) finds itself: exactly by scan, nearly always by graph."""
    lasting = [record for record in records if record.expires_at is None]
    sample = chooser.sample(lasting, min(SEARCH_SAMPLE, len(lasting)))
    if not sample:
        return []
    keys = np.array([record.key for record in sample], object)
    queries = np.array([record.vectors["v"] for record in sample])
    exact = items.search_batch(queries, 1, exact=True, output_fields=[])
    violations = []
    for key, found, distance in zip(keys, exact.keys[:, 0], exact.distances[:, 0]):
        if key != found or not abs(distance) < 1e-5:
            said = f"{found!r} at {distance}"
            violations.append(Violation("search", target.name, _plain(key), "itself at 0", said))
    graph = items.search_batch(queries, 1, output_fields=[])
    hits = int((graph.keys[:, 0] == keys).sum())
    checked.graph_found += hits
    checked.graph_asked += len(sample)
    if hits < GRAPH_SHARE_MIN * len(sample):
        said = f"{hits} of {len(sample)}"
        violations.append(Violation("search", target.name, None, "95 % by graph", said))
    return violations


def _plain(key: Any) -> Key:
    return key if isinstance(key, str) else int(key)
