"""A small load that is the same in every run, and what it leaves behind, known to an oracle.

Two collections (and one that goes again) in which everything happens once: inserts, upserts,
updates, deletes, a truncation, builds of segments with graphs, a merge, a drop. A write that fails
stays open (it may have happened or not) and its keys are not written again.
"""

from __future__ import annotations

import contextlib
import copy
import random
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from azimuth_db import AlreadyExists, AzimuthError, Client, Collection, NotFound
from checks import Checked, check_all
from oracle import Key, Span, State, Violation, now_us, visible
from workload import Rows, Target, Writer, stored_of

KEYS = 240
BATCH = 40
OPTIONS = (
    "--growing-rows-max", "64", "--graph-rows-min", "16", "--growing-idle-ms", "20",
    "--bulk-commit-kb", "1", "--write-buffer-mb", "1", "--log-level", "warning",
)  # fmt: skip
CALL_TIMEOUT_S = 15.0
BUILD_TIMEOUT_S = 2.0
Step = Callable[[Client], None]


class SmallTarget(Target):
    """One collection.

    Attributes:
        exists: None after a create or drop that failed.
        open: Keys of writes that failed.
    """

    def __init__(self, name: str, metric: str, key_type: str) -> None:
        super().__init__(name, metric, key_type)
        self.keys = self.keys[:KEYS]
        self.exists: bool | None = False
        self.open: set[Key] = set()
        # Only for its records.
        self.maker = Writer(self, 0, 7, threading.Event())

    def settled(self, keys: list[Key]) -> list[Key]:
        """Returns those of the keys whose state is known."""
        return [key for key in keys if key not in self.open]


@dataclass
class Met:
    """What a load met.

    Attributes:
        errors: The answers that were not OK: step, and the error.
        violations: What must not be.
        reads: Reads that were compared.
    """

    errors: list[tuple[str, AzimuthError]] = field(default_factory=list)
    violations: list[Violation] = field(default_factory=list)
    reads: int = 0


class SmallLoad:
    """One run of the load over one data directory."""

    def __init__(self) -> None:
        """Makes the models; `run` makes the collections."""
        self.numbers = SmallTarget("numbers", "l2", "int64")
        self.words = SmallTarget("words", "cosine", "string")
        self.passing = SmallTarget("passing", "l2", "int64")
        self.met = Met()
        self._step = ""

    @property
    def targets(self) -> list[SmallTarget]:
        """All collections, those that are not there too."""
        return [self.numbers, self.words, self.passing]

    def copy(self) -> SmallLoad:
        """Returns another model of the same data."""
        other = SmallLoad()
        for mine, its in zip(self.targets, other.targets):
            its.oracle = copy.deepcopy(mine.oracle)
            its.exists, its.open = mine.exists, set(mine.open)
        return other

    def run(self, db: Client, alive: Callable[[], bool]) -> None:
        """Makes every step, and reads after each, as long as the server is `alive`."""
        for name, step in self.steps():
            if not alive():
                return
            self._step = name
            try:
                step(db)
                self._read(db)
            except AzimuthError as error:
                self.met.errors.append((name, error))

    def steps(self) -> Iterator[tuple[str, Step]]:
        """Yields the steps, by name."""
        n, w, p = self.numbers, self.words, self.passing
        first, second = n.keys[: KEYS // 2], n.keys[KEYS // 2 :]
        yield "create numbers", lambda db: self._create(db, n)
        for i in range(0, len(first), BATCH):
            part = first[i : i + BATCH]
            yield f"insert numbers {i}", lambda db, part=part: self._put(db, n, part, "insert")
        yield "create words", lambda db: self._create(db, w)
        yield "insert words", lambda db: self._put(db, w, w.keys[: 2 * BATCH], "insert")
        yield "build numbers", lambda db: self._build(db, n)
        yield "upsert numbers", lambda db: self._put(db, n, first[10:60], "upsert")
        yield "delete numbers", lambda db: self._delete(db, n, first[:20])
        yield "create passing", lambda db: self._create(db, p)
        yield "insert passing", lambda db: self._put(db, p, p.keys[:BATCH], "insert")
        yield "build words", lambda db: self._build(db, w)
        yield "truncate words", lambda db: self._truncate(db, w)
        yield "insert words again", lambda db: self._put(db, w, w.keys[BATCH : 3 * BATCH], "upsert")
        yield "insert more numbers", lambda db: self._put(db, n, second[:70], "insert")
        yield "build more numbers", lambda db: self._build(db, n)
        yield "merge numbers", lambda db: self._merge(db, n)
        yield "drop passing", lambda db: self._drop(db, p)
        yield "delete words", lambda db: self._delete(db, w, w.keys[BATCH : BATCH + 15])
        yield "upsert words", lambda db: self._put(db, w, w.keys[60:100], "upsert")
        yield "insert last numbers", lambda db: self._put(db, n, second[70:90], "upsert")

    def write_once(self, db: Client) -> None:
        """Writes to both collections; the error of the first that does not take it."""
        for target in (self.numbers, self.words):
            self._create(db, target)
            keys = target.settled(target.keys)[-10:]
            self._put(db, target, keys, "upsert", raises=True)

    def write_more(self, db: Client) -> None:
        """Leaves rows, retired ones too, in the log and in memory."""
        self._put(db, self.numbers, self.numbers.keys[100:150], "upsert", raises=True)
        self._put(db, self.words, self.words.keys[150:190], "upsert", raises=True)
        self._delete(db, self.numbers, self.numbers.keys[60:75])

    def wait_built(self, db: Client, timeout_s: float) -> None:
        """Waits until all rows lie in segment files."""
        for target in (self.numbers, self.words):
            db.collection(target.name).wait_indexed(timeout_s)

    def check(self, db: Client, seed: int = 1) -> list[Violation]:
        """Settles what is open and compares everything."""
        listed = {c.name for c in db.list_collections()}
        violations = []
        there = []
        for target in self.targets:
            if target.exists is None:
                target.exists = target.name in listed
            if target.exists:
                there.append(target)
            elif target.name in listed:
                violations.append(Violation("returned", target.name, None, "nothing", "it"))
        checked = Checked()
        violations += check_all(db, list(there), random.Random(seed), checked)
        for target in there:
            target.open.clear()
        return violations

    # The steps.

    def _items(self, db: Client, target: SmallTarget) -> Collection | None:
        """Returns the collection; one whose creation failed is tried again."""
        if target.exists is None:
            self._create(db, target)
        return db.collection(target.name) if target.exists else None

    def _create(self, db: Client, target: SmallTarget) -> None:
        if target.exists:
            return
        target.exists = None
        with contextlib.suppress(AlreadyExists):
            target.create(db)
        target.exists = True

    def _drop(self, db: Client, target: SmallTarget) -> None:
        if not target.exists:
            return
        target.exists = None
        with contextlib.suppress(NotFound):
            db.drop_collection(target.name)
        target.exists = False

    def _put(
        self, db: Client, target: SmallTarget, keys: list[Key], kind: str, raises: bool = False
    ) -> None:
        items = self._items(db, target)
        keys = target.settled(keys)
        if items is None or not keys:
            return
        if kind == "insert":
            keys = [key for key in keys if target.oracle.state(key) is None]
        rows: Rows = target.maker.rows(keys)
        rows.expires_at = None
        put: Any = items.insert if kind == "insert" else items.upsert
        self._send(target, rows.states(), lambda: put(rows.keys, **rows.columns()), raises)

    def _delete(self, db: Client, target: SmallTarget, keys: list[Key]) -> None:
        items = self._items(db, target)
        keys = target.settled(keys)
        if items is not None and keys:
            self._send(target, dict.fromkeys(keys), lambda: items.delete(keys=keys))

    def _truncate(self, db: Client, target: SmallTarget) -> None:
        items = self._items(db, target)
        # What is open cannot be open twice.
        if items is not None and not target.open:
            self._send(target, dict.fromkeys(target.keys), lambda: items.truncate())

    def _send(
        self,
        target: SmallTarget,
        changes: dict[Key, State],
        call: Callable[[], Any],
        raises: bool = False,
    ) -> None:
        batch = target.oracle.begin(changes)
        try:
            answer = call()
        except AzimuthError as error:
            target.open |= changes.keys()
            if raises:
                raise
            self.met.errors.append((self._step, error))
            return
        target.oracle.acknowledge(batch, getattr(answer, "as_of", 0))

    def _build(self, db: Client, target: SmallTarget) -> None:
        if (items := self._items(db, target)) is not None:
            items.wait_indexed(BUILD_TIMEOUT_S)

    def _merge(self, db: Client, target: SmallTarget) -> None:
        if (items := self._items(db, target)) is not None:
            items.optimize(timeout=BUILD_TIMEOUT_S)

    def _read(self, db: Client) -> None:
        """Reads what is settled of every collection that is there."""
        for target in self.targets:
            if not target.exists:
                continue
            keys = target.settled(target.keys)
            began = now_us()
            records = db.collection(target.name).get(keys, output_vectors=["v"])
            span = Span(began, now_us())
            for key, record in zip(keys, records):
                found = None if record is None else stored_of(record)
                if found not in visible(target.oracle.state(key), span):
                    said = "nothing" if found is None else "another record"
                    self.met.violations.append(
                        Violation("read", target.name, key, "what was acknowledged", said)
                    )
            self.met.reads += 1
