// Keys that the server makes (Schema::auto_id): numbers from 1 on, taken from the row ids of the
// collection. The k-th key that a commit makes is k more than the id of its first row, so no key is
// above the id of its row by more than one.
//
// A row id is never given out twice, so neither is a key: a truncation, and a restore over a
// collection, go on with the row ids from where they were. And what gets such a key cannot have
// been there: nobody looks it up.
//
// Counters may be damaged, and rows that were removed say nothing of the ids that they had. So the
// catalog keeps an end that no id has come to, moved on by kIdsReserved when one would: a start
// that counts again goes on from there.
//
// Thread safety: functions only.
#pragma once

#include "base/ids.h"
#include "base/value.h"

#include <cstdint>
#include <variant>

namespace azimuth::engine {

// At most so many keys are passed over for damaged counters.
inline constexpr uint64_t kIdsReserved = uint64_t{1} << 16;

// The first key of a commit whose first row is `row`.
inline int64_t FirstMadeKey(RowId row) {
  return static_cast<int64_t>(Raw(row)) + 1;
}

// Whether a record with that key may stand in `row`. One that may not would be in the way of a key
// that is still to be made.
inline bool MayBeMadeKey(const Key& key, RowId row) {
  const auto* number = std::get_if<int64_t>(&key);
  return number != nullptr && *number >= 1 && *number <= FirstMadeKey(row);
}

}  // namespace azimuth::engine
