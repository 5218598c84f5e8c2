// Insert, upsert and delete as commits: steps 3 and 5 of the write path.
//
// Thread safety: made by the thread that waits; Resolve and Apply are the leader's.
#pragma once

#include "engine/core.h"
#include "engine/write/commit_queue.h"
#include "engine/write/validate.h"

#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

namespace azimuth::engine {

enum class PutMode { kInsert, kUpsert };

// Adds or replaces checked records.
class PutCommit final : public Commit {
 public:
  PutCommit(Core& core, std::shared_ptr<Collection> collection, std::vector<CheckedRecord> records,
            PutMode mode);
  size_t byte_size() const override { return byte_size_; }
  absl::StatusOr<bool> Resolve(ResolveContext& context) override;
  void Apply(Seq seq) override;

  uint64_t inserted() const { return records_.size() - retired_.size(); }
  uint64_t replaced() const { return retired_.size(); }

 private:
  Core& core_;
  const std::shared_ptr<Collection> collection_;
  std::vector<CheckedRecord> records_;
  const PutMode mode_;
  size_t byte_size_ = 0;
  // Set by Resolve.
  RowId first_row_{};
  std::vector<RowId> retired_;
  uint64_t live_rows_ = 0;
};

// Deletes the records of keys. With `expected` rows (one for each key), only those whose current
// version is that row.
class DeleteCommit final : public Commit {
 public:
  DeleteCommit(std::shared_ptr<Collection> collection, std::vector<Key> keys,
               std::vector<RowId> expected);
  size_t byte_size() const override { return keys_.size() * 64; }
  absl::StatusOr<bool> Resolve(ResolveContext& context) override;
  void Apply(Seq seq) override;

  uint64_t deleted() const { return retired_.size(); }

 private:
  const std::shared_ptr<Collection> collection_;
  const std::vector<Key> keys_;
  const std::vector<RowId> expected_;
  std::vector<RowId> retired_;
  uint64_t live_rows_ = 0;
};

}  // namespace azimuth::engine
