#include "engine/snapshot/restore_commit.h"

#include "base/failpoint.h"
#include "base/status.h"
#include "engine/limits.h"
#include "engine/write/ddl_commit.h"

#include <algorithm>

namespace azimuth::engine {
namespace {

// The collection of that name, or null if there is none.
absl::StatusOr<std::shared_ptr<Collection>> FindReplaced(const Core& core, std::string_view name,
                                                         bool overwrite) {
  const CollectionMap& collections = core.collections();
  if (const auto it = collections.find(name); it != collections.end()) {
    if (overwrite) return it->second;
    return AlreadyExists(
        "collection %s already exists; restore it under another name, or with "
        "overwrite",
        Quoted(name));
  }
  if (collections.size() >= kCollectionsMax) {
    return ResourceExhausted("there are %d collections, at most %d are allowed", collections.size(),
                             kCollectionsMax);
  }
  return std::shared_ptr<Collection>();
}

}  // namespace

absl::StatusOr<bool> ReserveCommit::Resolve(ResolveContext& context) {
  AZ_RETURN_IF_ERROR(FindReplaced(core_, name_, overwrite_).status());
  id_ = core_.next_ids.collection;
  row_store_ = core_.next_ids.row_store;
  core_.next_ids.collection = Next(core_.next_ids.collection);
  core_.next_ids.row_store = Next(core_.next_ids.row_store);
  core_.next_ids.segment = SegmentId{core_.next_segment.load()};
  context.batch.PutNextIds(core_.next_ids);
  return true;
}

absl::StatusOr<bool> AdoptCommit::Resolve(ResolveContext& context) {
  AZ_ASSIGN_OR_RETURN(old_, FindReplaced(core_, entry_.name, overwrite_));
  if (old_ != nullptr) {
    context.batch.DeleteCollection(old_->id);
    context.batch.DeleteRowStore(old_->row_store);
    // Whoever knows a key that was made since the snapshot must not find another record by it.
    if (old_->schema.auto_id && collection_->schema.auto_id) {
      collection_->next_row = std::max(collection_->next_row, old_->next_row);
    }
  }
  if (collection_->schema.auto_id) entry_.ids_end = collection_->next_row;
  collection_->ids_end = entry_.ids_end;
  context.batch.PutCollection(entry_);
  context.batch.PutCounters(entry_.row_store,
                            {collection_->next_row, collection_->live_rows.load()});
  for (const storage::SegmentEntry& segment : segments_) context.batch.PutSegment(segment);
  core_.next_ids.segment = SegmentId{core_.next_segment.load()};
  context.batch.PutNextIds(core_.next_ids);
  context.at_least = Next(as_of_);
  return true;
}

void AdoptCommit::Apply(Seq seq) {
  AZ_FAILPOINT_VISIT(kRestoreAfterCatalog);
  collection_->since = seq;
  collection_->before_truncation.store(old_.get(), std::memory_order_release);
  CollectionMap next = core_.collections();
  next[entry_.name] = collection_;
  core_.SetCollections(std::move(next));
  if (old_ == nullptr) return;
  old_->dropped.store(true, std::memory_order_release);
  RemoveSegmentFiles(core_, *old_);
  core_.backpressure.Relieve();
}

void AdoptCommit::AfterPublish() {
  if (old_ != nullptr) ForgetBefore(core_, collection_, std::move(old_));
}

}  // namespace azimuth::engine
