// RetiredMap: the sequence number at which each row of a row store was retired (deleted or
// replaced), by row id. Belongs to the row store and not to a segment, so that a merge has nothing
// to carry over.
//
// Pages of 512 rows are allocated when the first row of one is retired, and taken out once all
// their retirements are forgotten; the directory grows by doubling, and old directories live until
// the map dies (together less than the newest). Thread safety: Retire and Forget by one thread at a
// time (the commit leader); RetiredAt from any thread.
#pragma once

#include "base/ids.h"

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

namespace azimuth::engine {

class RetiredMap final {
 public:
  static constexpr uint64_t kPageRows = 512;

  RetiredMap() = default;
  ~RetiredMap();
  RetiredMap(const RetiredMap&) = delete;
  RetiredMap& operator=(const RetiredMap&) = delete;

  // kSeqMax if it is live.
  Seq RetiredAt(RowId row) const;
  void Retire(RowId row, Seq seq);
  // Rows that are retired and that no reader asks for any more: merges have dropped them. Returns
  // what frees the pages that are now empty: to be called once no reader that is here now is left;
  // empty if there are none.
  std::function<void()> Forget(std::span<const RowId> rows);
  // Pages that are allocated, for statistics.
  size_t page_count() const { return page_count_.load(std::memory_order_relaxed); }

 private:
  struct Page {
    std::atomic<uint64_t> retired_seq[kPageRows];  // 0: live. (No commit has sequence number 0.)
    uint32_t used = 0;                             // Of them not 0; touched by the leader only.
  };
  struct Directory {
    explicit Directory(size_t n) : pages(n) {}
    std::vector<std::atomic<Page*>> pages;
  };

  Page& PageFor(uint64_t page_index);

  std::atomic<Directory*> directory_{nullptr};
  std::vector<std::unique_ptr<Directory>> directories_;  // Touched by Retire only.
  std::atomic<size_t> page_count_{0};
};

}  // namespace azimuth::engine
