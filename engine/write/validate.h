// Step 1 of a write: everything that can be said of a batch without looking at the store. A bad
// record fails the whole batch; the message names it: `records[17].vectors["image"]: expected 784
// dimensions, got 783`.
//
// Thread safety: pure functions.
#pragma once

#include "base/value.h"
#include "engine/record.h"
#include "engine/schema.h"
#include "storage/row.h"

#include "absl/status/statusor.h"

#include <span>
#include <string_view>
#include <vector>

namespace azimuth::engine {

// A record that fits its schema. `row.insert_seq` is not set yet.
struct CheckedRecord {
  storage::StoredRow row;
  // One for each vector field of the schema; empty if absent. Views of the input.
  std::vector<std::span<const float>> vectors;
};

enum class DuplicateKeys { kRefuse, kLastWins };

// Errors: InvalidArgument.
absl::StatusOr<std::vector<CheckedRecord>> CheckRecords(const Schema& schema,
                                                        std::vector<RecordInput> records,
                                                        DuplicateKeys duplicates);

// Type, length and encoding of a key. `place` begins the message: `keys[3]`.
absl::Status CheckKey(const Schema& schema, const Key& key, std::string_view place);

// A vector to write or to search by: dimension, finite, norm. `place` begins the message.
absl::Status CheckVector(const VectorFieldDef& field, std::span<const float> vector,
                         std::string_view place);

}  // namespace azimuth::engine
