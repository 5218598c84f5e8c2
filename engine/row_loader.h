// RowLoader: reads rows that no usable segment file has back from RocksDB, into segments.
//
// They become growing segments, in memory, while that leaves writes free to pass, and past it
// segment files without graphs, some MiB at a time: so a start, or the repair of a file, takes
// bounded memory however many rows there are. A build makes one file with graphs of them later
// (LacksGraph, segment/segment_builder.h). In a store that is read-only, or whose disk is nearly
// full, all stay in memory, up to the memory that there is for all.
//
// Thread safety: one owner.
#pragma once

#include "base/deadline.h"
#include "base/ids.h"
#include "engine/core.h"
#include "engine/segment/sealed.h"
#include "storage/row.h"

#include "absl/status/status.h"

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace azimuth::engine {

class RowLoader final {
 public:
  enum class Form {
    kMemoryFirst,  // Files past what leaves writes free to pass.
    kFiles,
  };
  // Takes over each file that was written, before the next one is begun. On an error but
  // Unavailable the file is removed.
  using OnFile = std::function<absl::Status(const storage::SegmentEntry&)>;

  // `unindexed_rows`: of the collection, in memory already. All outlive the loader.
  RowLoader(Core& core, const Collection& collection, storage::RowRange range, Form form,
            uint64_t unindexed_rows, OnFile on_file, const CancelToken& cancel);
  RowLoader(const RowLoader&) = delete;
  RowLoader& operator=(const RowLoader&) = delete;

  // Reads the rows. Those that are damaged are left out and counted. Errors: those of the store but
  // DataLoss, of `cancel`, of writing a file (Internal if it cannot be read back), of `on_file`;
  // ResourceExhausted if the rows fit neither into memory nor onto the disk.
  absl::Status Load();
  // No more rows: the last segment answers for all up to the end of the range. `keep_growing`: it
  // stays growing() if it is to stay in memory.
  absl::Status Close(bool keep_growing);
  // Ascending, without overlaps; they answer for the whole range, unless there are none.
  const std::vector<std::shared_ptr<Segment>>& segments() const { return segments_; }
  // The last of them if it takes more rows, else null.
  const std::shared_ptr<GrowingSegment>& growing() const { return growing_; }
  uint64_t damaged() const { return damaged_; }

 private:
  absl::Status AppendBatch();
  absl::Status Salvage(RowId first);
  absl::Status AppendOne(RowId row);
  absl::Status CheckDimension(RowId row, size_t slot, std::span<const float> vector) const;
  bool MayWriteFiles() const;
  absl::StatusOr<GrowingSegment*> WithRoom(RowId row);
  absl::Status CloseGrowing(RowId end);
  absl::StatusOr<std::shared_ptr<Segment>> WriteFile(std::shared_ptr<GrowingSegment> rows);

  Core& core_;
  const Collection& collection_;
  const storage::RowRange range_;
  const Form form_;
  const OnFile on_file_;
  const CancelToken& cancel_;
  const size_t batch_rows_;  // That are read and joined with their vectors at once, at most.
  uint64_t unindexed_rows_;
  RowId next_first_;
  RowId appended_to_{};  // After the last row that was appended.
  uint64_t damaged_ = 0;
  std::vector<std::pair<RowId, storage::StoredRow>> batch_;
  uint64_t batch_bytes_ = 0;  // About what the rows take.
  bool to_file_ = false;      // What becomes of growing_.
  bool disk_full_ = false;    // A file found no room.
  std::shared_ptr<GrowingSegment> growing_;
  std::vector<std::shared_ptr<Segment>> segments_;
};

}  // namespace azimuth::engine
