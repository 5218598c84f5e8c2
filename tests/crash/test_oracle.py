"""The oracle catches what it is there for, and accepts what is allowed."""

from __future__ import annotations

import numpy as np
from oracle import Key, Observed, Oracle, Stored, checksum

A, B, C = Stored("a", 0), Stored("b", 0), Stored("c", 1)


def reads(state: dict[Key, Stored]) -> Observed:
    """What a server that has this state and is in order answers."""
    groups: dict[int, list[Key]] = {0: [], 1: []}
    for key, stored in state.items():
        groups[stored.group].append(key)
    return Observed(
        dict(state), list(state.items()), len(state), {"stats": len(state)}, groups, list(state)
    )


def after(*batches: dict[Key, Stored | None]) -> Oracle:
    oracle = Oracle("items")
    for changes in batches:
        oracle.acknowledge(oracle.begin(changes))
    return oracle


def kinds(oracle: Oracle, observed: Observed) -> list[str]:
    return [violation.kind for violation in oracle.check(observed)]


def test_what_was_acknowledged_is_accepted() -> None:
    oracle = after({1: A, 2: B}, {2: C}, {1: None})
    assert kinds(oracle, reads({2: C})) == []


def test_a_lost_write_is_caught() -> None:
    assert kinds(after({1: A, 2: B}), reads({1: A})) == ["lost"]


def test_everything_lost_is_caught() -> None:
    assert kinds(after({1: A, 2: B}), reads({})) == ["lost", "lost"]


def test_an_older_version_is_caught() -> None:
    assert kinds(after({1: A}, {1: B}), reads({1: A})) == ["lost"]


def test_a_resurrected_delete_is_caught() -> None:
    assert kinds(after({1: A, 2: B}, {1: None}), reads({1: A, 2: B})) == ["returned"]


def test_a_record_that_nobody_wrote_is_caught() -> None:
    assert kinds(after({1: A}), reads({1: A, 9: B})) == ["returned"]


def test_a_changed_value_is_caught() -> None:
    assert kinds(after({1: A}), reads({1: C})) == ["changed"]
    vector = np.arange(4, dtype="f4")
    flipped = vector.copy()
    flipped.view("u4")[2] ^= 1
    fields = {"group": 1, "tag": "x"}
    assert checksum(vector, fields) == checksum(vector.copy(), dict(reversed(fields.items())))
    assert checksum(vector, fields) != checksum(flipped, fields)
    assert checksum(vector, fields) != checksum(vector, {"group": 1, "tag": "y"})


def test_a_duplicate_is_caught_wherever_it_is_listed() -> None:
    oracle = after({1: A, 2: C})
    for name in ("by_query", "by_scan"):
        observed = reads({1: A, 2: C})
        getattr(observed, name).append(getattr(observed, name)[0])
        assert kinds(oracle, observed) == ["twice"]
    observed = reads({1: A, 2: C})
    observed.by_filter[1].append(2)
    assert kinds(oracle, observed) == ["twice"]


def test_a_torn_batch_is_caught() -> None:
    oracle = after({1: A, 2: A})
    oracle.begin({1: B, 2: B, 3: B})
    assert kinds(oracle, reads({1: B, 2: A, 3: B})) == ["torn"]
    oracle = after({1: A, 2: A})
    oracle.begin({1: None, 2: None})
    assert kinds(oracle, reads({2: A})) == ["torn"]


def test_a_batch_in_flight_may_have_happened_or_not_and_then_is_settled() -> None:
    for happened in (False, True):
        oracle = after({1: A, 2: A})
        oracle.begin({1: B, 3: C})
        state: dict[Key, Stored] = {1: B, 2: A, 3: C} if happened else {1: A, 2: A}
        other: dict[Key, Stored] = {1: A, 2: A} if happened else {1: B, 2: A, 3: C}
        assert kinds(oracle, reads(state)) == []
        assert kinds(oracle, reads(state)) == []
        assert len(kinds(oracle, reads(other))) == 2


def test_a_batch_in_flight_allows_no_third_value() -> None:
    oracle = after({1: A}, {1: B})
    oracle.begin({1: C})
    assert kinds(oracle, reads({1: A})) == ["lost"]


def test_a_refused_batch_must_leave_no_trace() -> None:
    oracle = after({1: A})
    oracle.refuse(oracle.begin({1: B, 2: B}))
    assert sorted(kinds(oracle, reads({1: B, 2: B}))) == ["lost", "returned"]


def test_reads_that_disagree_are_caught() -> None:
    oracle = after({1: A, 2: C})
    observed = reads({1: A, 2: C})
    observed.count = 3
    assert kinds(oracle, observed) == ["disagree"]
    observed = reads({1: A, 2: C})
    observed.counts["stats"] = 1
    assert kinds(oracle, observed) == ["disagree"]
    observed = reads({1: A, 2: C})
    observed.by_query[0] = (1, B)
    assert kinds(oracle, observed) == ["disagree"]
    observed = reads({1: A, 2: C})
    observed.by_filter = {0: [1, 2], 1: []}
    assert kinds(oracle, observed) == ["disagree", "disagree"]
    observed = reads({1: A, 2: C})
    observed.by_scan = [2]
    assert kinds(oracle, observed) == ["disagree"]
