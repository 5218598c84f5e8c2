// SnapshotTurns: one snapshot is made, checked, restored or removed at a time; which row stores
// restores have filled, and what is left of those that could not be cleared up.
//
// Thread safety: any thread.
#pragma once

#include "base/ids.h"
#include "base/mutex.h"
#include "base/status.h"

#include "absl/status/status.h"

#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace azimuth::engine {

// What a restore that failed has written, and could not remove.
struct RestoreRemains {
  RowStoreId row_store{};
  std::vector<SegmentId> segments;
};

class SnapshotTurns final {
 public:
  class Turn final {
   public:
    explicit Turn(SnapshotTurns& turns) : turns_(turns) {}
    Turn(const Turn&) = delete;
    Turn& operator=(const Turn&) = delete;
    ~Turn() {
      if (!mine_) return;
      MutexLock lock(turns_.mu_);
      turns_.running_.clear();
    }
    // Aborted, saying what runs, if it is somebody else's turn. `what`: "a snapshot is being made".
    absl::Status Take(std::string_view what) {
      MutexLock lock(turns_.mu_);
      if (!turns_.running_.empty()) {
        return absl::AbortedError(
            absl::StrCat(turns_.running_, "; try again when that is done; outcome: not_applied"));
      }
      turns_.running_ = what;
      mine_ = true;
      return absl::OkStatus();
    }

   private:
    SnapshotTurns& turns_;
    bool mine_ = false;
  };

  // A restore fills a row store that no catalog names yet.
  void NoteFilled(RowStoreId row_store) {
    MutexLock lock(mu_);
    filled_.insert(row_store);
  }
  // All since the start, those with a collection included.
  std::set<RowStoreId> filled() const {
    MutexLock lock(mu_);
    return filled_;
  }

  void NoteRemains(RestoreRemains remains) {
    MutexLock lock(mu_);
    remains_.push_back(std::move(remains));
  }
  // All of them, which then are the caller's.
  std::vector<RestoreRemains> TakeRemains() {
    MutexLock lock(mu_);
    return std::exchange(remains_, {});
  }

 private:
  mutable Mutex mu_;
  std::set<RowStoreId> filled_ AZ_GUARDED_BY(mu_);
  std::vector<RestoreRemains> remains_ AZ_GUARDED_BY(mu_);
  std::string running_ AZ_GUARDED_BY(mu_);  // Empty: nothing.
};

}  // namespace azimuth::engine
