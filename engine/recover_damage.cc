#include "engine/recover_damage.h"

#include "base/status.h"

#include <algorithm>
#include <limits>
#include <vector>

namespace azimuth::engine {
namespace {

// Of all keys, ascending.
absl::StatusOr<std::vector<RowId>> LiveRows(const storage::Store& store, RowStoreId row_store) {
  std::vector<RowId> rows;
  AZ_RETURN_IF_ERROR(store.ScanKeys(row_store, [&](Key&&, const storage::KeyEntry& entry) {
    rows.push_back(entry.row);
    return absl::OkStatus();
  }));
  std::sort(rows.begin(), rows.end());
  return rows;
}

absl::StatusOr<storage::RowStoreCounters> CountAgain(const storage::Store& store,
                                                     RowStoreId row_store, RowId ids_end) {
  constexpr RowId kNoRow{std::numeric_limits<uint64_t>::max()};
  AZ_ASSIGN_OR_RETURN(const std::vector<RowId> live, LiveRows(store, row_store));
  storage::RowStoreCounters counters{.next_row = ids_end, .live_rows = live.size()};
  if (!live.empty()) counters.next_row = std::max(counters.next_row, Next(live.back()));
  // Rows that are retired and that no segment has.
  AZ_RETURN_IF_ERROR(
      store.ScanRows(row_store, {ids_end, kNoRow}, [&](RowId row, storage::StoredRow&&) {
        counters.next_row = std::max(counters.next_row, Next(row));
        return absl::OkStatus();
      }));
  return counters;
}

}  // namespace

absl::StatusOr<RecoveredCounters> ReadCounters(const storage::Store& store, RowStoreId row_store,
                                               RowId ids_end) {
  const auto read = store.GetCounters(row_store);
  const bool damaged = absl::IsDataLoss(read.status());
  if (!damaged) AZ_RETURN_IF_ERROR(read.status());
  // Without counters there never was a row, or they are gone.
  if (!damaged && read->next_row > RowId{}) {
    return RecoveredCounters{.counters = *read, .damage = absl::OkStatus()};
  }
  const auto counted = CountAgain(store, row_store, ids_end);
  // What cannot be read may well be of another row store.
  const bool nothing_known = absl::IsDataLoss(counted.status()) && ids_end == RowId{};
  if (!damaged && nothing_known) return RecoveredCounters{};
  AZ_RETURN_IF_ERROR(counted.status());
  if (!damaged && counted->next_row == RowId{}) return RecoveredCounters{};
  return RecoveredCounters{
      .counters = *counted,
      .damage = damaged ? read.status()
                        : DataLoss("the counters of row store %d are not there", Raw(row_store))};
}

absl::Status RetireUnreached(const storage::Store& store, RowStoreId row_store,
                             const SegmentSet& set, Seq at, RetiredMap& retired) {
  AZ_ASSIGN_OR_RETURN(const std::vector<RowId> live, LiveRows(store, row_store));
  for (const auto& segment : set.segments) {
    for (uint32_t position = 0, n = segment->size(); position < n; ++position) {
      const RowId row = segment->row_id(position);
      if (std::binary_search(live.begin(), live.end(), row)) continue;
      if (retired.RetiredAt(row) == kSeqMax) retired.Retire(row, at);
    }
  }
  return absl::OkStatus();
}

}  // namespace azimuth::engine
