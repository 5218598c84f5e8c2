#include "engine/write/record_commit.h"

#include "base/clock.h"
#include "base/status.h"
#include "engine/segment/build_job.h"

#include "absl/container/flat_hash_set.h"

#include <optional>

namespace azimuth::engine {
namespace {

using KeyEntries = std::vector<std::optional<storage::KeyEntry>>;

absl::Status CheckNotDropped(const Collection& collection) {
  if (!collection.dropped.load(std::memory_order_acquire)) return absl::OkStatus();
  return NotFound("collection %s does not exist", Quoted(collection.name));
}

// The current entry of each key: from the overlay where the group has touched it, else the store.
template <typename KeyOf>
absl::StatusOr<KeyEntries> CurrentEntries(const ResolveContext& context, RowStoreId row_store,
                                          size_t count, KeyOf&& key_of) {
  KeyEntries entries(count);
  std::vector<Key> unknown;
  std::vector<size_t> places;
  for (size_t i = 0; i < count; ++i) {
    const auto it = context.overlay.keys.find(std::make_pair(row_store, key_of(i)));
    if (it != context.overlay.keys.end()) {
      entries[i] = it->second;
    } else {
      unknown.push_back(key_of(i));
      places.push_back(i);
    }
  }
  AZ_ASSIGN_OR_RETURN(KeyEntries stored, context.store.LookUpKeys(row_store, unknown));
  for (size_t i = 0; i < places.size(); ++i) entries[places[i]] = stored[i];
  return entries;
}

uint64_t LiveRows(const ResolveContext& context, const Collection& collection) {
  const auto it = context.overlay.live_rows.find(collection.row_store);
  return it != context.overlay.live_rows.end() ? it->second : collection.live_rows.load();
}

void MarkRetired(Collection& collection, RowId row, Seq seq) {
  collection.retired.Retire(row, seq);
  if (Segment* segment = collection.segments().Find(row)) {
    if (const auto position = segment->Find(row)) segment->MarkRetired(*position);
  }
}

// The growing segment with room for a row, begun anew when there is none or it is full.
GrowingSegment& GrowingWithRoom(Core& core, Collection& collection, RowId next) {
  if (collection.growing != nullptr && !collection.growing->full()) return *collection.growing;
  SegmentSet segments = collection.segments();
  if (collection.growing != nullptr) collection.growing->Close(next);
  collection.growing =
      std::make_shared<GrowingSegment>(collection.schema, next, core.options.growing_rows_max);
  segments.segments.push_back(collection.growing);
  collection.SetSegments(std::move(segments), core.views);
  return *collection.growing;
}

}  // namespace

PutCommit::PutCommit(Core& core, std::shared_ptr<Collection> collection,
                     std::vector<CheckedRecord> records, PutMode mode)
    : core_(core), collection_(std::move(collection)), records_(std::move(records)), mode_(mode) {
  for (const CheckedRecord& record : records_) {
    byte_size_ += 128;
    for (const auto& vector : record.vectors) byte_size_ += vector.size_bytes();
  }
}

absl::StatusOr<bool> PutCommit::Resolve(ResolveContext& context) {
  Collection& collection = *collection_;
  AZ_RETURN_IF_ERROR(CheckNotDropped(collection));
  AZ_ASSIGN_OR_RETURN(const KeyEntries current,
                      CurrentEntries(context, collection.row_store, records_.size(),
                                     [&](size_t i) -> const Key& { return records_[i].row.key; }));
  for (size_t i = 0; i < records_.size(); ++i) {
    if (current[i].has_value() && mode_ == PutMode::kInsert) {
      return AlreadyExists("records[%d].key: %s already exists", i, KeyToText(records_[i].row.key));
    }
  }
  first_row_ = collection.next_row;
  // Taken even if the log fails later: a row id is never given out twice.
  collection.next_row = RowId{Raw(first_row_) + records_.size()};
  RowId row = first_row_;
  for (size_t i = 0; i < records_.size(); ++i, row = Next(row)) {
    storage::StoredRow& stored = records_[i].row;
    stored.insert_seq = context.seq;
    context.batch.PutRow(collection.row_store, row, stored);
    for (size_t slot = 0; slot < records_[i].vectors.size(); ++slot) {
      const std::span<const float> vector = records_[i].vectors[slot];
      if (vector.empty()) continue;
      context.batch.PutVector(collection.row_store, collection.schema.vectors[slot].id, row,
                              vector);
    }
    storage::KeyEntry entry;
    entry.row = row;
    entry.insert_seq = context.seq;
    context.batch.PutKey(collection.row_store, stored.key, entry);
    context.overlay.keys[std::make_pair(collection.row_store, stored.key)] = entry;
    if (current[i].has_value()) {
      context.batch.PutRetired(collection.row_store, current[i]->row, context.seq);
      retired_.push_back(current[i]->row);
    }
  }
  live_rows_ = LiveRows(context, collection) + records_.size() - retired_.size();
  context.overlay.live_rows[collection.row_store] = live_rows_;
  context.batch.PutCounters(collection.row_store, {collection.next_row, live_rows_});
  return true;
}

void PutCommit::Apply(Seq seq) {
  Collection& collection = *collection_;
  for (const RowId row : retired_) MarkRetired(collection, row, seq);
  RowId row = first_row_;
  bool closed = false;
  for (CheckedRecord& record : records_) {
    closed = closed || (collection.growing != nullptr && collection.growing->full());
    GrowingWithRoom(core_, collection, row).Append(row, std::move(record.row), record.vectors);
    row = Next(row);
  }
  collection.live_rows.store(live_rows_, std::memory_order_release);
  collection.last_append_ms.store(SteadyMillis(), std::memory_order_relaxed);
  if (closed) ScheduleBuild(core_, collection_);
}

DeleteCommit::DeleteCommit(std::shared_ptr<Collection> collection, std::vector<Key> keys,
                           std::vector<RowId> expected)
    : collection_(std::move(collection)), keys_(std::move(keys)), expected_(std::move(expected)) {}

absl::StatusOr<bool> DeleteCommit::Resolve(ResolveContext& context) {
  Collection& collection = *collection_;
  AZ_RETURN_IF_ERROR(CheckNotDropped(collection));
  AZ_ASSIGN_OR_RETURN(const KeyEntries current,
                      CurrentEntries(context, collection.row_store, keys_.size(),
                                     [&](size_t i) -> const Key& { return keys_[i]; }));
  absl::flat_hash_set<RowId> seen;  // A key may come twice.
  for (size_t i = 0; i < keys_.size(); ++i) {
    if (!current[i].has_value()) continue;
    if (!expected_.empty() && current[i]->row != expected_[i]) continue;
    if (!seen.insert(current[i]->row).second) continue;
    context.batch.DeleteKey(collection.row_store, keys_[i]);
    context.batch.PutRetired(collection.row_store, current[i]->row, context.seq);
    context.overlay.keys[std::make_pair(collection.row_store, keys_[i])] = std::nullopt;
    retired_.push_back(current[i]->row);
  }
  if (retired_.empty()) return false;
  live_rows_ = LiveRows(context, collection) - retired_.size();
  context.overlay.live_rows[collection.row_store] = live_rows_;
  context.batch.PutCounters(collection.row_store, {collection.next_row, live_rows_});
  return true;
}

void DeleteCommit::Apply(Seq seq) {
  if (retired_.empty()) return;
  for (const RowId row : retired_) MarkRetired(*collection_, row, seq);
  collection_->live_rows.store(live_rows_, std::memory_order_release);
}

}  // namespace azimuth::engine
