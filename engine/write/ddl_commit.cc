#include "engine/write/ddl_commit.h"

#include "base/failpoint.h"
#include "base/logging.h"
#include "base/status.h"
#include "engine/limits.h"
#include "engine/segment/build_job.h"
#include "storage/file.h"

#include <algorithm>
#include <utility>

namespace azimuth::engine {

storage::CollectionEntry EntryOf(const Collection& collection) {
  return {.id = collection.id,
          .row_store = collection.row_store,
          .database = std::string(kDefaultDatabase),
          .name = collection.name,
          .created_unix_us = collection.created_unix_us,
          .definition = EncodeSchema(collection.schema),
          .ids_end = collection.ids_end};
}

void RemoveSegmentFiles(Core& core, const Collection& collection) {
  for (const auto& segment : collection.segments().segments) {
    if (segment->state() != SegmentState::kSealed) continue;
    core.views.Retire([&files = core.files(), path = core.dir.segment_path(segment->id())] {
      if (const absl::Status status = storage::RemoveFile(path, files); !status.ok()) {
        LogWarning("a dropped segment file stays until the next start: %s",
                   std::string(status.message()));
      }
    });
  }
}

void ForgetBefore(Core& core, std::shared_ptr<Collection> fresh, std::shared_ptr<Collection> old) {
  core.views.Retire([old = std::move(old), fresh = std::move(fresh)] {
    fresh->before_truncation.store(nullptr, std::memory_order_release);
  });
}

absl::StatusOr<bool> CreateCommit::Resolve(ResolveContext& context) {
  const CollectionMap& collections = core_.collections();
  if (const auto it = collections.find(std::string_view(name_)); it != collections.end()) {
    entry_.id = it->second->id;
    if (!if_not_exists_) return AlreadyExists("collection %s already exists", Quoted(name_));
    if (!SameDefinition(it->second->schema, schema_)) {
      return AlreadyExists("collection %s already exists with another schema", Quoted(name_));
    }
    return false;
  }
  if (collections.size() >= kCollectionsMax) {
    return ResourceExhausted("there are %d collections, at most %d are allowed", collections.size(),
                             kCollectionsMax);
  }
  entry_.id = core_.next_ids.collection;
  entry_.row_store = core_.next_ids.row_store;
  entry_.database = kDefaultDatabase;
  entry_.name = name_;
  entry_.created_unix_us = core_.options.clock->NowUnixMicros();
  entry_.definition = EncodeSchema(schema_);
  core_.next_ids.collection = Next(core_.next_ids.collection);
  core_.next_ids.row_store = Next(core_.next_ids.row_store);
  core_.next_ids.segment = SegmentId{core_.next_segment.load()};
  context.batch.PutCollection(entry_);
  context.batch.PutNextIds(core_.next_ids);
  created_ = true;
  return true;
}

void CreateCommit::Apply(Seq seq) {
  if (!created_) return;
  AZ_FAILPOINT_VISIT(kCreateAfterCatalog);
  CollectionMap next = core_.collections();
  next[name_] = std::make_shared<Collection>(entry_.id, name_, entry_.row_store, schema_,
                                             entry_.created_unix_us, seq);
  core_.SetCollections(std::move(next));
}

absl::StatusOr<bool> DropCommit::Resolve(ResolveContext& context) {
  const CollectionMap& collections = core_.collections();
  const auto it = collections.find(std::string_view(name_));
  if (it == collections.end()) {
    if (if_exists_) return false;
    return NotFound("collection %s does not exist", Quoted(name_));
  }
  collection_ = it->second;
  context.batch.DeleteCollection(collection_->id);
  context.batch.DeleteRowStore(collection_->row_store);
  return true;
}

void DropCommit::Apply(Seq) {
  if (collection_ == nullptr) return;
  AZ_FAILPOINT_VISIT(kDropAfterCatalog);
  collection_->dropped.store(true, std::memory_order_release);
  CollectionMap next = core_.collections();
  next.erase(name_);
  core_.SetCollections(std::move(next));
  RemoveSegmentFiles(core_, *collection_);
  core_.backpressure.Relieve();
}

absl::StatusOr<bool> TruncateCommit::Resolve(ResolveContext& context) {
  const CollectionMap& collections = core_.collections();
  const auto it = collections.find(std::string_view(name_));
  if (it == collections.end()) return NotFound("collection %s does not exist", Quoted(name_));
  old_ = it->second;
  removed_ = old_->live_rows.load();
  entry_ = EntryOf(*old_);
  entry_.row_store = core_.next_ids.row_store;
  // Keys are made of row ids.
  if (old_->schema.auto_id) entry_.ids_end = std::max(old_->ids_end, old_->next_row);
  core_.next_ids.row_store = Next(core_.next_ids.row_store);
  core_.next_ids.segment = SegmentId{core_.next_segment.load()};
  context.batch.PutCollection(entry_);
  context.batch.DeleteRowStore(old_->row_store);
  context.batch.PutNextIds(core_.next_ids);
  if (old_->schema.auto_id) {
    context.batch.PutCounters(entry_.row_store, {.next_row = old_->next_row, .live_rows = 0});
  }
  return true;
}

void TruncateCommit::Apply(Seq seq) {
  AZ_FAILPOINT_VISIT(kTruncateAfterCatalog);
  fresh_ = std::make_shared<Collection>(entry_.id, name_, entry_.row_store, old_->schema,
                                        entry_.created_unix_us, seq);
  if (old_->schema.auto_id) fresh_->next_row = old_->next_row;
  fresh_->ids_end = entry_.ids_end;
  fresh_->before_truncation.store(old_.get(), std::memory_order_release);
  CollectionMap next = core_.collections();
  next[name_] = fresh_;
  core_.SetCollections(std::move(next));
  old_->dropped.store(true, std::memory_order_release);
  RemoveSegmentFiles(core_, *old_);
  core_.backpressure.Relieve();
}

void TruncateCommit::AfterPublish() {
  ForgetBefore(core_, fresh_, std::move(old_));
}

void CloseGrowingCommit::Apply(Seq) {
  const auto& segments = collection_->segments().segments;
  if (!segments.empty()) end_ = segments.back()->rows().end;
  if (collection_->growing == nullptr || collection_->growing->size() == 0) return;
  // Not up to next_row: rows of commits that come later in this group have taken ids already.
  collection_->growing->Close(collection_->growing->rows().end);
  collection_->growing = nullptr;
  ScheduleBuild(core_, collection_);
}

}  // namespace azimuth::engine
