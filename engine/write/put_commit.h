// Insert, upsert and update as commits: rows are added, and the versions that they replace retired.
//
// Thread safety: as RecordCommit.
#pragma once

#include "engine/write/record_commit.h"

#include <cstdint>
#include <memory>
#include <vector>

namespace azimuth::engine {

enum class PutMode { kInsert, kUpsert };

// The part of a put that is the same for whole records and changes of records.
class RowsCommit : public RecordCommit {
 public:
  size_t byte_size() const final { return byte_size_; }
  size_t vector_bytes() const final { return vector_bytes_; }

 protected:
  RowsCommit(Core& core, std::shared_ptr<Collection> collection, std::vector<CheckedRecord> records,
             RecordForm form, WriteOptions options, int64_t now_unix_us);

  // Of a record that lacks its key there is none, and the store is not asked.
  absl::StatusOr<std::vector<Current>> CurrentOfRecords(const ResolveContext& context) const;
  // Adds records_ as rows, makes the keys that they lack, and retires the rows of `current`.
  void PutRows(ResolveContext& context, const std::vector<Current>& current);
  void ApplyRecords(Seq seq) final;

  std::vector<CheckedRecord> records_;

 private:
  // Keeps the end of the ids past those that were given out.
  void ReserveIds(ResolveContext& context);

  size_t byte_size_ = 0;
  size_t vector_bytes_ = 0;
  RowId first_row_{};
  RowId ids_end_{};  // Of the collection, if it was moved on.
};

// Adds or replaces whole records.
class PutCommit final : public RowsCommit {
 public:
  PutCommit(Core& core, std::shared_ptr<Collection> collection, std::vector<CheckedRecord> records,
            PutMode mode, WriteOptions options, int64_t now_unix_us)
      : RowsCommit(core, std::move(collection), std::move(records), RecordForm::kWhole,
                   std::move(options), now_unix_us),
        mode_(mode) {}

 private:
  absl::StatusOr<bool> ResolveRecords(ResolveContext& context) override;

  const PutMode mode_;
};

// Changes records that exist. The versions that they are based on are read before the queue, and
// again at its turn only for those that were replaced in between.
class UpdateCommit final : public RowsCommit {
 public:
  // `changes` are partial records.
  UpdateCommit(Core& core, std::shared_ptr<Collection> collection,
               std::vector<CheckedRecord> changes, MissingKeys missing, WriteOptions options,
               int64_t now_unix_us)
      : RowsCommit(core, std::move(collection), std::move(changes), RecordForm::kPartial,
                   std::move(options), now_unix_us),
        missing_(missing) {}

  // Reads the current versions, outside the queue. DataLoss.
  absl::Status Prefetch(const CancelToken& cancel);

 private:
  // A whole record as it is stored, and the vectors that `record` has views of.
  struct Base {
    RowId row{};
    bool present = false;
    CheckedRecord record{};
    std::vector<std::vector<float>> vectors{};
  };

  absl::StatusOr<bool> ResolveRecords(ResolveContext& context) override;
  // Reads rows[i] into bases_[places[i]]; a row that is gone leaves it absent.
  absl::Status Read(const std::vector<size_t>& places, const std::vector<RowId>& rows);

  const MissingKeys missing_;
  RowStoreId read_from_{};
  std::vector<Base> bases_;  // One for each record; they own the vectors that records_ view.
};

}  // namespace azimuth::engine
