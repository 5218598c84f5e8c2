// SnapshotSource: one collection as a snapshot has it, every byte of which was checked.
//
// Ownership: borrows the files; the folder must stay as it is while the source lives.
// Thread safety: one owner.
#pragma once

#include "base/deadline.h"
#include "base/ids.h"
#include "engine/memory_budget.h"
#include "engine/schema.h"
#include "engine/snapshot/check_entries.h"
#include "engine/snapshot/check_segments.h"
#include "storage/file.h"
#include "storage/row_entries.h"
#include "storage/snapshot_manifest.h"
#include "storage/store.h"

#include "absl/status/statusor.h"

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace azimuth::engine {

// The copy of the database in the folder of a snapshot of the whole store, to be read.
absl::StatusOr<std::unique_ptr<storage::Store>> OpenSnapshotStore(const std::string& folder,
                                                                  storage::Files& files);

// Segment files that are not as the manifest says, by name, and why (with the path).
using BadFiles = std::map<std::string, std::string>;

class SnapshotSource final {
 public:
  // Reads all of what is needed of the snapshot in `folder` and compares it with its checksums and
  // with itself: rows, keys and retirements with each other, segment files with rows. `memory` has
  // what that takes. `collection`: which one of a snapshot of the whole store; empty or its own
  // name for one of a collection. `compared`: all files were compared with their checksums just
  // before, and these, none of which is opened, were found to be bad; null: that is done here.
  // Errors: DataLoss (what cannot be made again is damaged or
  // missing), InvalidArgument (links and the like, or no collection was named), NotFound (it has no
  // such collection), FailedPrecondition (a newer format), ResourceExhausted (the memory is not for
  // so many rows), those of `cancel`.
  static absl::StatusOr<std::unique_ptr<SnapshotSource>> Open(
      const std::string& folder, std::string_view collection, storage::Files& files,
      const BadFiles* compared, MemoryBudget& memory, const CancelToken& cancel);

  const std::string& folder() const { return folder_; }
  const storage::SnapshotManifest& manifest() const { return manifest_; }
  const std::string& collection() const { return name_; }
  const Schema& schema() const { return schema_; }
  const std::string& definition() const { return definition_; }
  RowId next_row() const { return next_row_; }
  int64_t created_unix_us() const { return created_unix_us_; }
  const EntriesCheck& entries() const { return *check_; }
  // Segment files that are as the manifest says and agree with the rows; and those that are not.
  const std::vector<storage::SnapshotFile>& segments() const { return segments_; }
  const std::vector<BadSegment>& bad_segments() const { return bad_segments_; }
  uint64_t entry_bytes() const { return entry_bytes_; }

  // All entries, in order of storage::ScanRowEntries. They are those that were checked.
  absl::Status Scan(const storage::RowEntryVisitor& visit, const CancelToken& cancel) const;

 private:
  SnapshotSource(std::string folder, storage::Files& files, MemoryBudget& memory)
      : folder_(std::move(folder)), files_(files), memory_(memory) {}
  absl::Status OpenCollection(std::string_view collection);
  absl::Status OpenStore(std::string_view collection);
  absl::Status TakeSegments(const BadFiles* compared, const CancelToken& cancel);
  absl::Status TakeSegment(const std::string& name, const std::optional<SegmentsCheck::Says>& says,
                           const BadFiles* compared, const CancelToken& cancel);
  // What a check of the checksums says of a segment file.
  absl::Status VerifySegment(const std::string& name, const BadFiles* compared,
                             const CancelToken& cancel) const;
  absl::Status CheckEntries(const CancelToken& cancel);
  uint64_t ExpectedRows() const;

  const std::string folder_;
  storage::Files& files_;
  MemoryBudget& memory_;
  storage::SnapshotManifest manifest_;
  std::string name_;
  std::string definition_;
  Schema schema_;
  RowId next_row_{};
  uint64_t live_rows_ = 0;       // As is said, and not yet checked.
  int64_t created_unix_us_ = 0;  // Of the collection.
  uint64_t entry_bytes_ = 0;
  std::unique_ptr<EntriesCheck> check_;
  std::unique_ptr<SegmentsCheck> segments_check_;  // While it is opened.
  std::vector<storage::SnapshotFile> segments_;
  std::vector<BadSegment> bad_segments_;
  // Of a snapshot of the whole store.
  std::unique_ptr<storage::Store> store_;
  RowStoreId row_store_{};
};

}  // namespace azimuth::engine
