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

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace azimuth::engine {

// A record that fits its schema. `row.insert_seq` is not set yet.
struct CheckedRecord {
  storage::StoredRow row;
  // One for each vector field of the schema; empty if absent. Views of the input.
  std::vector<std::span<const float>> vectors;
  // `row` as storage::EncodeRow has it, so that the leader need not; empty for a partial record.
  std::string encoded;
  size_t place = 0;           // In the request, for messages.
  bool lacks_key = false;     // row.key and that in `encoded` are for the leader to set: an int64.
  bool expiry_given = false;  // `row.expires_at_unix_us` is the record's own, not of the schema.
  std::optional<Seq> if_version;
};

enum class DuplicateKeys { kRefuse, kLastWins };
// A partial record has only what changes: no defaults, nothing is required.
enum class RecordForm { kWhole, kPartial };

// Whether records come with their keys. The last two are for collections that make them.
enum class KeysGiven { kAll, kNone, kSome };

struct CheckOptions {
  DuplicateKeys duplicates = DuplicateKeys::kRefuse;
  RecordForm form = RecordForm::kWhole;
  KeysGiven keys = KeysGiven::kAll;
  int64_t now_unix_us = 0;  // From which the schema's ttl counts.
};
// Of an insert, or else an upsert, of whole records.
CheckOptions PutOptions(const Schema& schema, bool insert, int64_t now_unix_us);

// Errors: InvalidArgument.
absl::StatusOr<std::vector<CheckedRecord>> CheckRecords(const Schema& schema,
                                                        std::vector<RecordInput> records,
                                                        const CheckOptions& options);

// Puts what `change` has over `base`, which is a whole record; then the limits of a whole one hold
// again. InvalidArgument begins with the place within the record.
absl::Status MergeRecord(CheckedRecord&& change, CheckedRecord& base);

// What CheckRecords lets pass, of a row that comes from elsewhere: key, expiry, types, names, text.
absl::Status CheckStoredRow(const Schema& schema, const storage::StoredRow& row);

// Type, length and encoding of a key. `place` begins the message: `keys[3]`.
absl::Status CheckKey(const Schema& schema, const Key& key, std::string_view place);

// A vector to write or to search by: dimension, finite, norm. `place` begins the message.
absl::Status CheckVector(const VectorFieldDef& field, std::span<const float> vector,
                         std::string_view place);

}  // namespace azimuth::engine
