#include "engine/snapshot/snapshot_source.h"

#include "base/status.h"
#include "engine/snapshot/snapshot_list.h"
#include "storage/snapshot_folder.h"
#include "storage/snapshot_rows.h"

#include "absl/container/flat_hash_set.h"

#include <algorithm>
#include <optional>
#include <utility>

namespace azimuth::engine {
namespace {

constexpr uint64_t kReadCacheBytes = uint64_t{32} << 20;
constexpr uint64_t kStep = 4096;
// A row and its key take more, compressed or not.
constexpr uint64_t kEntryBytesMin = 8;

bool IsSegment(const storage::SnapshotFile& file) {
  return file.name.ends_with(".seg");
}

// A definition that a server would have taken, with ids of its own for all fields.
absl::StatusOr<Schema> ReadDefinition(const std::string& definition) {
  AZ_ASSIGN_OR_RETURN(Schema schema, DecodeSchema(definition));
  if (const absl::Status status = ValidateSchema(schema); !status.ok()) {
    return DataLoss("the definition of the collection: %s", std::string(status.message()));
  }
  absl::flat_hash_set<FieldId> ids;
  const auto is_new = [&](FieldId id) { return id < schema.next_field && ids.insert(id).second; };
  const bool fields = std::all_of(schema.fields.begin(), schema.fields.end(),
                                  [&](const FieldDef& field) { return is_new(field.id); });
  const bool vectors = std::all_of(schema.vectors.begin(), schema.vectors.end(),
                                   [&](const VectorFieldDef& field) { return is_new(field.id); });
  if (fields && vectors) return schema;
  return DataLoss("the definition of the collection: an id of a field comes twice");
}

}  // namespace

absl::StatusOr<std::unique_ptr<storage::Store>> OpenSnapshotStore(const std::string& folder,
                                                                  storage::Files& files) {
  storage::StoreOptions options;
  options.block_cache_bytes = kReadCacheBytes;
  options.files = &files;
  options.merges_tables = false;
  options.read_only = true;
  return storage::Store::Open(absl::StrCat(folder, "/", ToAbsl(storage::kSnapshotRocksFolder)),
                              options);
}

absl::StatusOr<std::unique_ptr<SnapshotSource>> SnapshotSource::Open(
    const std::string& folder, std::string_view collection, storage::Files& files,
    const BadFiles* compared, MemoryBudget& memory, const CancelToken& cancel) {
  std::unique_ptr<SnapshotSource> source(new SnapshotSource(folder, files, memory));
  AZ_ASSIGN_OR_RETURN(source->manifest_, ReadManifest(folder, files));
  // Before anything of a file is believed. What is wrong with a segment file costs no rows.
  storage::SnapshotManifest needed = source->manifest_;
  std::erase_if(needed.files, IsSegment);
  AZ_RETURN_IF_ERROR(storage::CheckSnapshotFiles(folder, needed, files));
  for (const storage::SnapshotFile& file : needed.files) {
    if (compared != nullptr) break;
    AZ_RETURN_IF_ERROR(storage::VerifySnapshotFile(folder, file, files, cancel));
  }
  AZ_RETURN_IF_ERROR(source->manifest_.kind == storage::SnapshotKind::kCollection
                         ? source->OpenCollection(collection)
                         : source->OpenStore(collection));
  if (!IsCalendarTime(source->created_unix_us_)) {
    return DataLoss("collection %s: the time %d is out of range", Quoted(source->name_),
                    source->created_unix_us_);
  }
  AZ_ASSIGN_OR_RETURN(source->schema_, ReadDefinition(source->definition_));
  AZ_RETURN_IF_ERROR(source->TakeSegments(compared, cancel));
  AZ_RETURN_IF_ERROR(source->CheckEntries(cancel));
  return source;
}

absl::Status SnapshotSource::OpenCollection(std::string_view collection) {
  name_ = manifest_.collection;
  if (!collection.empty() && collection != name_) {
    return NotFound("the snapshot is of collection %s and has no %s", Quoted(name_),
                    Quoted(collection));
  }
  definition_ = manifest_.definition;
  next_row_ = manifest_.next_row;
  live_rows_ = manifest_.live_rows;
  created_unix_us_ = manifest_.collection_created_unix_us;
  return absl::OkStatus();
}

absl::Status SnapshotSource::OpenStore(std::string_view collection) {
  if (collection.empty()) {
    return InvalidArgument("collection: the snapshot is of the whole store; say which one");
  }
  AZ_RETURN_IF_ERROR(CheckCollectionName(collection));
  AZ_ASSIGN_OR_RETURN(store_, OpenSnapshotStore(folder_, files_));
  AZ_ASSIGN_OR_RETURN(const Seq applied, store_->GetAppliedSeq());
  if (applied != manifest_.as_of) {
    return DataLoss("the copy of the database is at %d, and the manifest says %d", Raw(applied),
                    Raw(manifest_.as_of));
  }
  AZ_ASSIGN_OR_RETURN(auto collections, store_->ListCollections());
  const auto entry =
      std::find_if(collections.begin(), collections.end(),
                   [&](const storage::CollectionEntry& each) { return each.name == collection; });
  if (entry == collections.end()) {
    return NotFound("the snapshot has no collection %s", Quoted(collection));
  }
  name_ = entry->name;
  definition_ = entry->definition;
  row_store_ = entry->row_store;
  created_unix_us_ = entry->created_unix_us;
  AZ_ASSIGN_OR_RETURN(const storage::RowStoreCounters counters, store_->GetCounters(row_store_));
  next_row_ = counters.next_row;
  live_rows_ = counters.live_rows;
  if (Raw(next_row_) > storage::kSnapshotRowIdMax) {
    return DataLoss("the counters of collection %s are out of range", Quoted(name_));
  }
  return absl::OkStatus();
}

absl::Status SnapshotSource::TakeSegments(const BadFiles* compared, const CancelToken& cancel) {
  segments_check_ = std::make_unique<SegmentsCheck>(
      folder_, name_, schema_,
      SegmentsCheck::Bounds{.next_row = next_row_, .as_of = manifest_.as_of}, files_, memory_,
      cancel);
  if (store_ == nullptr) {
    for (const storage::SnapshotFile& file : manifest_.files) {
      if (!IsSegment(file)) continue;
      AZ_RETURN_IF_ERROR(TakeSegment(file.name, std::nullopt, compared, cancel));
    }
  } else {
    AZ_ASSIGN_OR_RETURN(const auto entries, store_->ListSegments());
    for (const storage::SegmentEntry& entry : entries) {
      if (entry.row_store != row_store_) continue;
      AZ_RETURN_IF_ERROR(TakeSegment(
          absl::StrFormat("%016x.seg", Raw(entry.id)),
          SegmentsCheck::Says{.entry = entry, .instance = manifest_.instance}, compared, cancel));
    }
  }
  segments_check_->Begin();
  return absl::OkStatus();
}

// Segment files are derived: what is wrong with one is no reason to restore nothing.
absl::Status SnapshotSource::TakeSegment(const std::string& name,
                                         const std::optional<SegmentsCheck::Says>& says,
                                         const BadFiles* compared, const CancelToken& cancel) {
  const absl::Status status = VerifySegment(name, compared, cancel);
  if (status.ok()) return segments_check_->Add(*manifest_.Find(name), says);
  if (!absl::IsDataLoss(status)) return status;
  segments_check_->AddBad(name, std::string(status.message()));
  return absl::OkStatus();
}

absl::Status SnapshotSource::VerifySegment(const std::string& name, const BadFiles* compared,
                                           const CancelToken& cancel) const {
  const storage::SnapshotFile* file = manifest_.Find(name);
  if (file == nullptr) return DataLoss("%s: the snapshot was made without it", name);
  if (compared == nullptr) return storage::VerifySnapshotFile(folder_, *file, files_, cancel);
  const auto bad = compared->find(name);
  return bad == compared->end() ? absl::OkStatus() : absl::DataLossError(bad->second);
}

// Those that are live, of which there cannot be more than the files have bytes for.
uint64_t SnapshotSource::ExpectedRows() const {
  uint64_t bytes = 0;
  for (const storage::SnapshotFile& file : manifest_.files) {
    if (!IsSegment(file)) bytes += file.bytes;
  }
  return std::min({live_rows_, Raw(next_row_), bytes / kEntryBytesMin});
}

absl::Status SnapshotSource::CheckEntries(const CancelToken& cancel) {
  check_ =
      std::make_unique<EntriesCheck>(schema_, next_row_, manifest_.as_of, memory_, ExpectedRows());
  absl::Status status = Scan(
      [&](storage::RowEntryKind kind, std::string_view key,
          std::string_view value) -> absl::Status {
        entry_bytes_ += key.size() + value.size();
        AZ_RETURN_IF_ERROR(check_->Visit(kind, key, value));
        return segments_check_->Visit(kind, key, value);
      },
      cancel);
  if (status.ok()) status = check_->Finish();
  if (!status.ok()) return AtPlace(absl::StrFormat("collection %s", Quoted(name_)), status);
  AZ_RETURN_IF_ERROR(segments_check_->Finish(*check_));
  segments_ = segments_check_->good();
  bad_segments_ = segments_check_->bad();
  segments_check_.reset();
  check_->ReleaseRows();
  return absl::OkStatus();
}

absl::Status SnapshotSource::Scan(const storage::RowEntryVisitor& visit,
                                  const CancelToken& cancel) const {
  if (store_ == nullptr) {
    const std::string path = absl::StrCat(folder_, "/", ToAbsl(storage::kSnapshotRowsName));
    AZ_ASSIGN_OR_RETURN(const auto file, files_.OpenToRead(path));
    const auto counts = storage::ReadSnapshotRows(*file, manifest_.as_of, visit, cancel);
    return counts.ok() ? absl::OkStatus() : AtPlace(path, counts.status());
  }
  uint64_t steps = 0;
  return storage::ScanRowEntries(
      *store_, row_store_, next_row_,
      [&](storage::RowEntryKind kind, std::string_view key,
          std::string_view value) -> absl::Status {
        if (++steps % kStep == 0) AZ_RETURN_IF_ERROR(cancel.Check());
        return visit(kind, key, value);
      },
      nullptr);
}

}  // namespace azimuth::engine
