// The check of the segment files of a snapshot: each by itself, and then every row of it against
// the entries of the snapshot, while these are read. So a file that was made to say something else
// than the rows is never restored.
//
// All files stay mapped until Finish, as those of a collection that is in use do: entries come in
// order of rows once, and once more for each vector field, and the last comparison is that of ids.
// One that is found to differ goes at once.
// Memory, counted as MemoryPart::kScratch: two bits a row, 8 bytes for each row of the file whose
// vectors are read (20 while they are looked up), and the rows of one CompareBatch.
// Ownership: borrows the definition, the files, the memory and the token. Thread safety: one owner.
#pragma once

#include "base/deadline.h"
#include "base/ids.h"
#include "engine/admin/compare_segment.h"
#include "engine/memory_budget.h"
#include "engine/schema.h"
#include "engine/segment/sealed.h"
#include "engine/snapshot/check_entries.h"
#include "index/bitset.h"
#include "storage/file.h"
#include "storage/row_entries.h"
#include "storage/snapshot_manifest.h"

#include "absl/status/statusor.h"

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace azimuth::engine {

// A file that is not to be restored from, and why; its rows are.
struct BadSegment {
  std::string name;
  std::string why;  // With the path.
};

class SegmentsCheck final {
 public:
  // What the rows of all files are bound by.
  struct Bounds {
    RowId next_row{};
    Seq as_of{};
  };
  // Of the files of `collection` in `folder`.
  SegmentsCheck(std::string folder, std::string collection, const Schema& schema, Bounds bounds,
                storage::Files& files, MemoryBudget& memory, const CancelToken& cancel)
      : folder_(std::move(folder)),
        schema_(schema),
        collection_{std::move(collection), {}, schema_},
        bounds_(bounds),
        files_(files),
        cancel_(cancel),
        counted_(memory, MemoryPart::kScratch) {}

  // What a catalog says of a file, and the instance of its directory.
  struct Says {
    storage::SegmentEntry entry{};
    uint64_t instance = 0;
  };
  // Reads all of a file; without `says` it is believed what it says of itself. Before the first
  // Visit. Errors: of `cancel`, of reading but damage.
  absl::Status Add(const storage::SnapshotFile& file, const std::optional<Says>& says);
  // After the last Add.
  void Begin();
  // All entries, in order of ScanRowEntries, each after EntriesCheck took it.
  absl::Status Visit(storage::RowEntryKind kind, std::string_view key, std::string_view value);
  // After the last one. Errors: of `cancel`.
  absl::Status Finish(const EntriesCheck& entries);

  // Valid after Finish. In order of rows.
  const std::vector<storage::SnapshotFile>& good() const { return good_; }
  const std::vector<BadSegment>& bad() const { return bad_; }
  void AddBad(std::string name, std::string why) {
    bad_.push_back({std::move(name), std::move(why)});
  }

 private:
  struct Compared {
    storage::SnapshotFile file;
    std::shared_ptr<SealedSegment> segment;
    Findings findings;
    index::Bitset there;  // Positions whose rows the snapshot has.
    std::unique_ptr<SegmentComparison> comparison;

    uint64_t bytes() const { return segment->memory_bytes() + there.words().size_bytes(); }
  };

  absl::StatusOr<std::shared_ptr<SealedSegment>> Open(const std::string& path,
                                                      const std::optional<Says>& says) const;
  absl::Status CheckFile(const SealedSegment& segment);
  absl::Status CheckContent(const SealedSegment& segment);
  std::string PathOf(const storage::SnapshotFile& file) const;
  // Takes down why files differ, and lets go of them. Between two passes.
  void DropDifferent();
  void VisitRow(RowId row, storage::StoredRow&& stored);
  void CompareRows();
  absl::Status VisitVector(size_t slot, RowId row, std::string_view value);
  void BeginSlot(size_t slot);
  absl::Status FinishSlot();
  // Up to `row`, the vectors that the snapshot does not have.
  absl::Status PassVectors(RowId row);
  // Fills in_segment_.
  void LookUpVectors(const SealedSegment& segment, size_t slot);
  uint64_t HeldBytes() const;
  void Count() { counted_.Set(HeldBytes()); }

  const std::string folder_;
  const Schema& schema_;
  const CheckedCollection collection_;
  const Bounds bounds_;
  storage::Files& files_;
  const CancelToken& cancel_;
  CountedBytes counted_;
  uint64_t kept_bytes_ = 0;                          // Of those that are compared.
  std::vector<std::unique_ptr<Compared>> compared_;  // From Begin on in order of rows.
  std::vector<storage::SnapshotFile> good_;
  std::vector<BadSegment> bad_;

  // Where the rows, and then the vectors of each field, have come to.
  size_t at_ = 0;
  uint32_t position_ = 0;
  CompareBatch batch_;
  std::optional<size_t> slot_;
  std::vector<bool> seen_slots_;
  std::vector<const float*> in_segment_;  // By position of the file; empty: not yet looked up.
  std::vector<float> vector_;
};

}  // namespace azimuth::engine
