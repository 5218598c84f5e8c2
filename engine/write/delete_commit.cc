#include "engine/write/delete_commit.h"

#include "base/status.h"
#include "engine/maintenance.h"

#include "absl/container/flat_hash_set.h"

namespace azimuth::engine {

absl::StatusOr<bool> DeleteCommit::ResolveRecords(ResolveContext& context) {
  // Row ids of another row store say nothing of this one: all that was chosen is truncated away.
  if (!expected_.empty() && collection_->row_store != expected_store_) return false;
  std::vector<const Key*> keys;
  keys.reserve(keys_.size());
  for (const Key& key : keys_) keys.push_back(&key);
  AZ_ASSIGN_OR_RETURN(const auto current, CurrentOf(context, keys));
  for (size_t i = 0; i < keys_.size(); ++i) {
    AZ_RETURN_IF_ERROR(CheckVersion(current[i], options_.if_version, keys_[i], "keys", i));
  }
  absl::flat_hash_set<RowId> seen;  // A key may come twice.
  for (size_t i = 0; i < keys_.size(); ++i) {
    if (!current[i].entry.has_value()) continue;
    if (current[i].expired != (which_ == Which::kExpired)) continue;
    const RowId row = current[i].entry->row;
    if (!expected_.empty() && row != expected_[i]) continue;
    if (!seen.insert(row).second) continue;
    context.batch.DeleteKey(collection_->row_store, keys_[i]);
    if (!context.last) {
      context.overlay.keys[std::make_pair(collection_->row_store, keys_[i])] = {};
    }
    Retire(context, row);
    ++result_.deleted;
  }
  if (result_.deleted == 0) return false;
  PutCounters(context, 0);
  return true;
}

void DeleteCommit::ApplyRecords(Seq) {
  // Its dead rows may be worth a rebuild now.
  if (result_.deleted > 0) NoteActive(core_, collection_, INT64_MAX);
}

}  // namespace azimuth::engine
