// Delete as a commit: by keys, of rows that were chosen before, and of records whose time has
// passed.
//
// Thread safety: as RecordCommit.
#pragma once

#include "engine/write/record_commit.h"

#include <cstddef>
#include <memory>
#include <utility>
#include <vector>

namespace azimuth::engine {

class DeleteCommit final : public RecordCommit {
 public:
  enum class Which {
    kLive,     // Records that exist. One whose time has passed is left to the sweeper.
    kExpired,  // Only records whose time has passed.
  };

  // With `expected` rows of `expected_store` (one for each key), only those keys whose current
  // version is that row.
  DeleteCommit(Core& core, std::shared_ptr<Collection> collection, std::vector<Key> keys,
               std::vector<RowId> expected, RowStoreId expected_store, Which which,
               WriteOptions options, int64_t now_unix_us)
      : RecordCommit(core, std::move(collection), std::move(options), now_unix_us),
        keys_(std::move(keys)),
        expected_(std::move(expected)),
        expected_store_(expected_store),
        which_(which) {}
  size_t byte_size() const override { return keys_.size() * 64; }

 private:
  absl::StatusOr<bool> ResolveRecords(ResolveContext& context) override;
  void ApplyRecords(Seq seq) override;

  const std::vector<Key> keys_;
  const std::vector<RowId> expected_;
  const RowStoreId expected_store_;  // To which the expected rows belong.
  const Which which_;
};

}  // namespace azimuth::engine
