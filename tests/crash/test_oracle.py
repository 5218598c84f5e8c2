"""The oracle catches what it is there for, and accepts what is allowed."""

from __future__ import annotations

import numpy as np
from oracle import (
    TOLERANCE_US,
    Key,
    Observed,
    Oracle,
    Span,
    State,
    Stored,
    digest,
    in_order,
    presence,
)

NOON = 1_700_000_000_000_000
MINUTE = 60_000_000
SPAN = Span(NOON, NOON + MINUTE)


def stored(name: str, group: int, expires_at: int = 0) -> Stored:
    return Stored(name, in_order({"group": group, "tag": name}), expires_at)


A, B, C = stored("a", 0), stored("b", 0), stored("c", 1)


def reads(state: dict[Key, Stored]) -> Observed:
    """What a server that has this state and is in order answers."""
    groups: dict[int, list[Key]] = {0: [], 1: []}
    for key, record in state.items():
        groups[0 if record.group == 0 else 1].append(key)
    return Observed(
        dict(state),
        list(state.items()),
        len(state),
        {"stats": len(state)},
        groups,
        list(state),
        stored=len(state),
        span=SPAN,
    )


def after(*batches: dict[Key, State]) -> Oracle:
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
    assert digest(vector) == digest(vector.copy())
    assert digest(vector) != digest(flipped)
    assert in_order({"group": 1, "tag": "x"}) == in_order({"tag": "x", "group": 1})
    assert in_order({"group": 1, "tag": "x"}) != in_order({"group": 1, "tag": "y"})


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


def test_an_update_changes_what_it_names_and_keeps_the_rest() -> None:
    assert A.updated("z", {}, None) == Stored("z", A.fields)
    assert A.updated(None, {"tag": "new"}, 5) == Stored(
        "a", in_order({"group": 0, "tag": "new"}), 5
    )
    ends = stored("a", 0, NOON)
    assert ends.updated(None, {}, 0).expires_at == 0
    assert ends.updated("z", {}, None).expires_at == NOON


def test_a_record_is_there_until_its_end_and_not_after() -> None:
    before, within, later = NOON - MINUTE, NOON + 1, NOON + 2 * MINUTE
    assert presence(None, SPAN) == (False, True)
    assert presence(A, SPAN) == (True, False)
    assert presence(stored("a", 0, before), SPAN) == (False, True)
    assert presence(stored("a", 0, later), SPAN) == (True, False)
    for expires_at in (within, NOON - TOLERANCE_US + 1, NOON + MINUTE + TOLERANCE_US):
        assert presence(stored("a", 0, expires_at), SPAN) == (True, True)
    assert kinds(after({1: stored("a", 0, before)}), reads({})) == []
    assert kinds(after({1: stored("a", 0, later)}), reads({})) == ["lost"]
    for state in ({}, {1: stored("a", 0, within)}):
        assert kinds(after({1: stored("a", 0, within)}), reads(state)) == []


def test_a_record_that_outlives_its_end_is_caught() -> None:
    ended = stored("a", 0, NOON - MINUTE)
    assert kinds(after({1: ended}), reads({1: ended})) == ["returned"]


def test_reads_may_disagree_on_a_record_that_is_about_to_end_and_on_no_other() -> None:
    ending = stored("a", 0, NOON + 1)
    oracle = after({1: ending, 2: C})
    observed = reads({1: ending, 2: C})
    observed.by_query = [(2, C)]
    observed.by_filter = {0: [], 1: [2]}
    observed.by_scan = [2]
    observed.count = 1
    assert kinds(oracle, observed) == []
    observed.count = 0
    observed.by_scan = []
    assert sorted(kinds(oracle, observed)) == ["disagree", "disagree"]


def test_ended_records_may_be_counted_as_stored_until_they_are_swept() -> None:
    oracle = after({1: stored("a", 0, NOON - MINUTE), 2: C})
    observed = reads({2: C})
    for number, expected in ((0, ["disagree"]), (1, []), (2, []), (3, ["disagree"])):
        observed.stored = number
        assert kinds(oracle, observed) == expected


def test_another_version_than_the_acknowledged_one_is_caught() -> None:
    oracle = Oracle("items")
    oracle.acknowledge(oracle.begin({1: A, 2: B}), 7)
    observed = reads({1: A, 2: B})
    observed.versions = {1: 7, 2: 7}
    assert kinds(oracle, observed) == []
    observed.versions = {1: 7, 2: 9}
    assert kinds(oracle, observed) == ["version"]


def test_of_a_batch_in_flight_it_is_told_whether_it_happened() -> None:
    for state, applied in (({1: A, 2: C}, False), ({1: B}, True)):
        oracle = after({1: A, 2: C})
        batch = oracle.begin({1: B, 2: None})
        assert kinds(oracle, reads(state)) == []
        assert batch.applied is applied
    oracle = after({1: A})
    batch = oracle.begin({2: None})
    assert kinds(oracle, reads({1: A})) == []
    assert batch.applied is None


def test_a_truncation_in_flight_is_all_or_nothing() -> None:
    for state, found in (({}, []), ({1: A, 2: C}, []), ({1: A}, ["torn"])):
        oracle = after({1: A, 2: C})
        oracle.begin(dict.fromkeys([1, 2, 3]))
        assert kinds(oracle, reads(state)) == found
