#include "engine/write/ddl_commit.h"

#include "base/failpoint.h"
#include "base/logging.h"
#include "base/status.h"
#include "engine/limits.h"
#include "engine/segment/build_job.h"
#include "storage/file.h"

#include <utility>

namespace azimuth::engine {
namespace {

constexpr std::string_view kDefaultDatabase = "default";

}  // namespace

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

void CreateCommit::Apply(Seq) {
  if (!created_) return;
  CollectionMap next = core_.collections();
  next[name_] = std::make_shared<Collection>(entry_.id, name_, entry_.row_store, schema_,
                                             entry_.created_unix_us);
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
  for (const auto& segment : collection_->segments().segments) {
    if (segment->state() != SegmentState::kSealed) continue;
    core_.views.Retire([path = core_.dir.segment_path(segment->id())] {
      if (const absl::Status status = storage::RemoveFile(path); !status.ok()) {
        LogWarning("a dropped segment file stays until the next start: %s",
                   std::string(status.message()));
      }
    });
  }
}

void CloseGrowingCommit::Apply(Seq) {
  if (collection_->growing == nullptr || collection_->growing->size() == 0) return;
  // Not up to next_row: rows of commits that come later in this group have taken ids already.
  collection_->growing->Close(collection_->growing->rows().end);
  collection_->growing = nullptr;
  ScheduleBuild(core_, collection_);
}

}  // namespace azimuth::engine
