// Findings: what a check found, at most so many of a kind; and what a check works with.
//
// A kind has one severity. Thread safety: one owner.
#pragma once

#include "base/deadline.h"
#include "base/ids.h"
#include "engine/database.h"
#include "storage/row.h"
#include "storage/store.h"

#include "absl/status/status.h"

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace azimuth::engine {

class Findings final {
 public:
  static constexpr uint64_t kOfAKindMax = 100;

  // Damage of what everything else is made from.
  void Source(std::string_view kind, std::string place, std::string message) {
    Add(FindingSeverity::kSource, kind, std::move(place), std::move(message));
  }
  // What can be made again.
  void Derived(std::string_view kind, std::string place, std::string message) {
    Add(FindingSeverity::kDerived, kind, std::move(place), std::move(message));
  }
  void Notice(std::string_view kind, std::string place, std::string message) {
    Add(FindingSeverity::kNotice, kind, std::move(place), std::move(message));
  }

  bool HasKind(std::string_view kind) const { return kinds_.contains(kind); }
  // In order of arrival. The last of a kind says how many more there were.
  std::vector<Finding> Take();

 private:
  struct Kind {
    uint64_t count = 0;
    size_t last = 0;  // Of those that are listed.
  };
  void Add(FindingSeverity severity, std::string_view kind, std::string place, std::string message);

  std::vector<Finding> findings_;
  std::map<std::string, Kind, std::less<>> kinds_;
};

// True if something is damaged, or says that it is of a version that this server does not know.
inline bool IsUnreadable(const absl::Status& status) {
  return absl::IsDataLoss(status) || absl::IsFailedPrecondition(status);
}

// What makes derived findings go away, beside a start.
struct RepairPlan {
  std::vector<storage::SegmentEntry> segments;  // To be taken out of the catalog; each once.
  std::map<RowStoreId, storage::RowStoreCounters> counters;
  std::optional<storage::NextIds> next_ids;
  std::vector<std::pair<RowStoreId, RowId>> retirements;  // Of rows that nothing has any more.

  void TakeOut(const storage::SegmentEntry& entry);
};

// What the checks of one run share.
struct CheckContext {
  const storage::Store& store;
  const storage::ReadSnapshot* snapshot = nullptr;  // Null: nothing changes meanwhile.
  Seq applied{};                                    // That the snapshot is at.
  bool deep = false;
  const CancelToken& cancel;
  Findings& findings;
  VerifyReport& report;
  RepairPlan& plan;
  // Row stores that no collection has since a restore fills them, or died when it did.
  std::set<RowStoreId> restoring{};
};

// One collection of the catalog.
struct CheckedCollection {
  std::string name;
  RowStoreId row_store{};
  const Schema& schema;
  RowId ids_end{};  // As the catalog has it; zero if that is not known.

  // "collection 'a'" and what else names the place.
  std::string Place() const;
  std::string RowPlace(RowId row) const;
  std::string SegmentPlace(SegmentId id) const;  // Without a file if the id is zero.
};

}  // namespace azimuth::engine
