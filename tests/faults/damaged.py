"""What a collection may answer when some of its records cannot be read."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from azimuth_db import Client, Collection, DataLoss
from oracle import Key, Stored, Violation
from workload import GROUPS, stored_of

LIST_LIMIT = 16384

T = TypeVar("T")


def check_damaged(db: Client, targets: list) -> list[Violation]:
    """Returns what is wrong: anything but right answers, DATA_LOSS, or a search without a bad row.

    Args:
        db: The server.
        targets: SmallTargets with nothing open.
    """
    violations: list[Violation] = []
    listed = lost_or(lambda: {c.name for c in db.list_collections()})
    for target in targets:
        if listed is not None and target.exists != (target.name in listed):
            violations.append(Violation("lost", target.name, None, str(target.exists), "the other"))
        elif target.exists:
            violations += _Look(db.collection(target.name), target).check()
    return violations


def lost_or(ask: Callable[[], T]) -> T | None:
    """Returns the answer, None if it is DATA_LOSS."""
    try:
        return ask()
    except DataLoss:
        return None


class _Look:
    """A look at one collection."""

    def __init__(self, items: Collection, target) -> None:
        self._items = items
        self._target = target
        self._violations: list[Violation] = []
        self._all: dict[Key, Stored] = {
            key: state for key in target.keys if (state := target.oracle.state(key)) is not None
        }
        self._good: set[Key] = set()
        self._bad: set[Key] = set()

    def check(self) -> list[Violation]:
        """Asks for every key alone, and in all other ways for all of them."""
        for key in self._target.keys:
            self._get(key)
        query = lost_or(lambda: self._items.query(limit=LIST_LIMIT, output_vectors=["v"]))
        if query is not None:
            for record in query:
                self._compare("query", record.key, stored_of(record))
            self._listing("query", [record.key for record in query], set(self._all))
        for group in range(GROUPS):
            found = lost_or(
                lambda group=group: self._items.query(
                    "group == $g", LIST_LIMIT, params={"g": group}, output_fields=[]
                )
            )
            if found is not None:
                of_group = {key for key, state in self._all.items() if state.group == group}
                self._listing(f"group {group}", [record.key for record in found], of_group)
        self._search()
        count = lost_or(self._items.count)
        if count is not None and not len(self._good) <= count <= len(self._all):
            said = f"{len(self._good)} to {len(self._all)}"
            self._wrong("disagree", None, said, f"{count} by count")
        return self._violations

    def _get(self, key: Key) -> None:
        answer = lost_or(lambda: self._items.get([key], output_vectors=["v"]))
        if answer is None:
            self._bad.add(key)
            return
        found = None if answer[0] is None else stored_of(answer[0])
        self._compare("get", key, found)
        if found is not None:
            self._good.add(key)

    def _search(self) -> None:
        vectors = lost_or(lambda: self._items.get(sorted(self._good)[:1], output_vectors=["v"]))
        if not vectors or vectors[0] is None:
            return
        query = vectors[0].vectors["v"]
        for exact in (True, False):
            found = lost_or(
                lambda exact=exact: self._items.search(
                    query, LIST_LIMIT, exact=exact, output_fields=[]
                )
            )
            if found is not None:
                self._listing(f"search, exact {exact}", found.keys, set(self._all))

    def _listing(self, where: str, found: list[Key], expected: set[Key]) -> None:
        keys = set(found)
        if len(keys) != len(found):
            self._wrong("twice", None, "each key once", f"{len(found) - len(keys)} more in {where}")
        for key in keys - expected:
            self._wrong("returned", key, f"not in {where}", "it")
        for key in expected - keys - self._bad:
            self._wrong("lost", key, f"in {where}", "not, and it can be read")

    def _compare(self, where: str, key: Key, found: Stored | None) -> None:
        expected = self._all.get(key)
        if found != expected:
            kind = "changed" if found and expected else "lost" if expected else "returned"
            self._wrong(kind, key, f"{expected} by {where}", str(found))

    def _wrong(self, kind: str, key: Key | None, expected: str, found: str) -> None:
        self._violations.append(Violation(kind, self._target.name, key, expected, found))
