#include "engine/write/put_commit.h"

#include "base/status.h"
#include "engine/maintenance.h"
#include "engine/segment/build_job.h"
#include "engine/write/ddl_commit.h"
#include "engine/write/made_keys.h"

#include <algorithm>
#include <utility>

namespace azimuth::engine {
namespace {

// The growing segment with room for a row, begun anew when there is none or it is full.
GrowingSegment& GrowingWithRoom(Core& core, Collection& collection, RowId next) {
  if (collection.growing != nullptr && !collection.growing->full()) return *collection.growing;
  SegmentSet segments = collection.segments();
  if (collection.growing != nullptr) collection.growing->Close(next);
  collection.growing = MakeGrowingSegment(core, collection, next);
  segments.segments.push_back(collection.growing);
  collection.SetSegments(std::move(segments), core.views);
  return *collection.growing;
}

}  // namespace

RowsCommit::RowsCommit(Core& core, std::shared_ptr<Collection> collection,
                       std::vector<CheckedRecord> records, RecordForm form, WriteOptions options,
                       int64_t now_unix_us)
    : RecordCommit(core, std::move(collection), std::move(options), now_unix_us),
      records_(std::move(records)) {
  for (const CheckedRecord& record : records_) {
    byte_size_ += 128 + record.encoded.size();
    for (size_t slot = 0; slot < record.vectors.size(); ++slot) {
      // What a change does not have is read and written again.
      const bool whole = form == RecordForm::kWhole;
      vector_bytes_ += whole ? record.vectors[slot].size_bytes()
                             : collection_->schema.vectors[slot].dim * sizeof(float);
    }
  }
  byte_size_ += vector_bytes_;
}

absl::StatusOr<std::vector<RecordCommit::Current>> RowsCommit::CurrentOfRecords(
    const ResolveContext& context) const {
  std::vector<const Key*> keys;
  std::vector<size_t> places;
  keys.reserve(records_.size());
  for (size_t i = 0; i < records_.size(); ++i) {
    if (records_[i].lacks_key) continue;
    keys.push_back(&records_[i].row.key);
    places.push_back(i);
  }
  std::vector<Current> current(records_.size());
  if (!keys.empty()) {
    AZ_ASSIGN_OR_RETURN(auto found, CurrentOf(context, keys));
    for (size_t i = 0; i < places.size(); ++i) current[places[i]] = found[i];
  }
  for (size_t i = 0; i < records_.size(); ++i) {
    const CheckedRecord& record = records_[i];
    const auto wanted = record.if_version.has_value() ? record.if_version : options_.if_version;
    if (record.lacks_key && wanted.value_or(kSeqZero) != kSeqZero) {
      return InvalidArgument(
          "records[%d].key: missing, so it is a new record, and if_version asks for %d",
          record.place, Raw(*wanted));
    }
    AZ_RETURN_IF_ERROR(CheckVersion(current[i], wanted, record.row.key, "records", record.place));
  }
  return current;
}

void RowsCommit::ReserveIds(ResolveContext& context) {
  const Collection& collection = *collection_;
  if (!collection.schema.auto_id || collection.next_row <= collection.ids_end) return;
  ids_end_ = RowId{Raw(collection.next_row) + kIdsReserved};
  storage::CollectionEntry entry = EntryOf(collection);
  entry.ids_end = ids_end_;
  context.batch.PutCollection(entry);
}

void RowsCommit::PutRows(ResolveContext& context, const std::vector<Current>& current) {
  Collection& collection = *collection_;
  first_row_ = collection.next_row;
  // Taken even if the log fails later: a row id is never given out twice.
  collection.next_row = RowId{Raw(first_row_) + records_.size()};
  ReserveIds(context);
  RowId row = first_row_;
  for (size_t i = 0; i < records_.size(); ++i, row = Next(row)) {
    CheckedRecord& record = records_[i];
    if (record.lacks_key) {
      if (result_.made.count == 0) result_.made.first = FirstMadeKey(first_row_);
      const auto key = result_.made.first + static_cast<int64_t>(result_.made.count++);
      record.row.key = key;
      storage::SetInt64Key(record.encoded, key);
      record.lacks_key = false;
    }
    record.row.insert_seq = context.seq;
    storage::SetInsertSeq(record.encoded, context.seq);
    context.batch.PutEncodedRow(collection.row_store, row, record.encoded);
    for (size_t slot = 0; slot < record.vectors.size(); ++slot) {
      const std::span<const float> vector = record.vectors[slot];
      if (vector.empty()) continue;
      context.batch.PutVector(collection.row_store, collection.schema.vectors[slot].id, row,
                              vector);
    }
    storage::KeyEntry entry;
    entry.row = row;
    entry.insert_seq = context.seq;
    entry.expires_at_unix_us = record.row.expires_at_unix_us;
    context.batch.PutKey(collection.row_store, record.row.key, entry);
    if (!context.last) {
      context.overlay.keys[std::make_pair(collection.row_store, record.row.key)] = {entry, &record};
    }
    if (current[i].entry.has_value()) Retire(context, current[i].entry->row);
  }
  PutCounters(context, records_.size());
}

void RowsCommit::ApplyRecords(Seq) {
  Collection& collection = *collection_;
  collection.ids_end = std::max(collection.ids_end, ids_end_);
  RowId row = first_row_;
  bool closed = false;
  int64_t earliest_expiry = INT64_MAX;
  for (CheckedRecord& record : records_) {
    closed = closed || (collection.growing != nullptr && collection.growing->full());
    const int64_t expires = record.row.expires_at_unix_us;
    if (expires != 0) earliest_expiry = std::min(earliest_expiry, expires);
    GrowingWithRoom(core_, collection, row).Append(row, std::move(record.row), record.vectors);
    row = Next(row);
  }
  if (records_.empty()) return;
  collection.unindexed_rows.fetch_add(records_.size(), std::memory_order_relaxed);
  collection.last_append_ms.store(core_.options.clock->SteadyMillis(), std::memory_order_relaxed);
  NoteActive(core_, collection_, earliest_expiry);
  if (closed) ScheduleBuild(core_, collection_);
}

absl::StatusOr<bool> PutCommit::ResolveRecords(ResolveContext& context) {
  AZ_ASSIGN_OR_RETURN(const auto current, CurrentOfRecords(context));
  for (size_t i = 0; i < records_.size(); ++i) {
    if (!current[i].exists()) {
      if (collection_->schema.auto_id && !records_[i].lacks_key) {
        return NotFound(
            "records[%d].key: %s does not exist, and the server makes the keys of new records",
            records_[i].place, KeyToText(records_[i].row.key));
      }
      ++result_.inserted;
    } else if (mode_ == PutMode::kUpsert) {
      ++result_.replaced;
    } else {
      return AlreadyExists("records[%d].key: %s already exists", records_[i].place,
                           KeyToText(records_[i].row.key));
    }
  }
  PutRows(context, current);
  return true;
}

absl::Status UpdateCommit::Prefetch(const CancelToken& cancel) {
  std::vector<Key> keys;
  for (const CheckedRecord& record : records_) keys.push_back(record.row.key);
  read_from_ = collection_->row_store;
  bases_.resize(records_.size());
  AZ_ASSIGN_OR_RETURN(const auto entries, core_.store->LookUpKeys(read_from_, keys));
  std::vector<size_t> places;
  std::vector<RowId> rows;
  for (size_t i = 0; i < entries.size(); ++i) {
    if (!entries[i].has_value()) continue;
    places.push_back(i);
    rows.push_back(entries[i]->row);
  }
  AZ_RETURN_IF_ERROR(cancel.Check());
  return Read(places, rows);
}

absl::Status UpdateCommit::Read(const std::vector<size_t>& places, const std::vector<RowId>& rows) {
  AZ_ASSIGN_OR_RETURN(auto stored, core_.store->GetRows(read_from_, rows));
  const auto& fields = collection_->schema.vectors;
  for (size_t i = 0; i < rows.size(); ++i) {
    Base& base = bases_[places[i]];
    base = Base{.row = rows[i], .present = stored[i].has_value()};
    if (!base.present) continue;
    base.record.row = *std::move(stored[i]);
    base.record.vectors.resize(fields.size());
    base.vectors.resize(fields.size());
  }
  for (size_t slot = 0; slot < fields.size(); ++slot) {
    AZ_ASSIGN_OR_RETURN(auto vectors, core_.store->GetVectors(read_from_, fields[slot].id, rows));
    for (size_t i = 0; i < rows.size(); ++i) {
      Base& base = bases_[places[i]];
      if (!base.present) continue;
      base.vectors[slot] = std::move(vectors[i]);
      base.record.vectors[slot] = base.vectors[slot];
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<bool> UpdateCommit::ResolveRecords(ResolveContext& context) {
  AZ_ASSIGN_OR_RETURN(const auto found, CurrentOfRecords(context));
  if (read_from_ != collection_->row_store) {  // Truncated since Prefetch.
    bases_.assign(records_.size(), {});
    read_from_ = collection_->row_store;
  }
  std::vector<size_t> places;
  std::vector<RowId> rows;
  for (size_t i = 0; i < records_.size(); ++i) {
    if (!found[i].exists()) {
      if (missing_ == MissingKeys::kSkip) continue;
      return NotFound("records[%d].key: %s does not exist", records_[i].place,
                      KeyToText(records_[i].row.key));
    }
    if (found[i].pending != nullptr) {
      bases_[i] = Base{.row = found[i].entry->row, .present = true, .record = *found[i].pending};
    } else if (!bases_[i].present || bases_[i].row != found[i].entry->row) {
      places.push_back(i);
      rows.push_back(found[i].entry->row);
    }
  }
  if (!rows.empty()) AZ_RETURN_IF_ERROR(Read(places, rows));
  std::vector<CheckedRecord> merged;
  std::vector<Current> current;
  for (size_t i = 0; i < records_.size(); ++i) {
    if (!found[i].exists()) {
      ++result_.missing;
      continue;
    }
    if (!bases_[i].present) {
      return DataLoss("record %s: row %d is missing from the store", KeyToText(records_[i].row.key),
                      Raw(found[i].entry->row));
    }
    const size_t place = records_[i].place;
    if (absl::Status status = MergeRecord(std::move(records_[i]), bases_[i].record); !status.ok()) {
      return AtPlace(absl::StrFormat("records[%d]", place), status);
    }
    merged.push_back(std::move(bases_[i].record));
    current.push_back(found[i]);
  }
  records_ = std::move(merged);
  result_.updated = records_.size();
  if (records_.empty()) return false;
  PutRows(context, current);
  return true;
}

}  // namespace azimuth::engine
