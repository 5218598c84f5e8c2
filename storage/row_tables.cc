#include "storage/row_tables.h"

#include "storage/entry_codec.h"
#include "storage/key_codec.h"
#include "storage/rocks_status.h"
#include "storage/row_tables_rep.h"

#include "absl/strings/str_cat.h"

#include <algorithm>
#include <cstddef>
#include <string>
#include <utility>

namespace azimuth::storage {
namespace {

// About as much as a merge of RocksDB puts into one file.
constexpr uint64_t kFileBytesMax = uint64_t{64} << 20;
// Each is a file that is open until the commit, and a sync.
constexpr size_t kRunsMax = 16;
constexpr size_t kStoreKeyBytes = sizeof(uint32_t);
constexpr size_t kFieldKeyBytes = kVectorKeyBytes - sizeof(uint64_t);

rocksdb::Slice ToSlice(std::string_view bytes) {
  return {bytes.data(), bytes.size()};
}

}  // namespace

RowTables::RowTables(std::unique_ptr<Rep> rep) : rep_(std::move(rep)) {}

RowTables::~RowTables() {
  for (auto& [place, run] : rep_->runs) {
    run.writer.reset();
    for (const std::string& file : run.files) {
      // Those that were taken in are gone, and what stays the next start removes.
      rep_->db->GetEnv()->DeleteFile(file).PermitUncheckedError();
    }
  }
  rep_->error.PermitUncheckedError();
}

void RowTables::Rep::Put(Family family, size_t common, std::string_view key,
                         std::string_view value) {
  if (!error.ok()) return;
  Run& run = runs[std::make_pair(family, std::string(key.substr(0, common)))];
  if (run.writer == nullptr) {
    rocksdb::ColumnFamilyHandle* const handle = (*handles)[static_cast<size_t>(family)];
    run.files.push_back(absl::StrCat(path_prefix, files_made++, ".sst"));
    // What was written is likely to be read soon: by a build, or by a start. Filters are for
    // families whose look-ups miss.
    run.writer = std::make_unique<rocksdb::SstFileWriter>(
        rocksdb::EnvOptions(db->GetDBOptions()), db->GetOptions(handle), handle,
        /*invalidate_page_cache=*/false, rocksdb::Env::IOPriority::IO_TOTAL,
        /*skip_filters=*/family != Family::kKeys);
    error = run.writer->Open(run.files.back());
  }
  if (error.ok()) error = run.writer->Put(ToSlice(key), ToSlice(value));
  if (run.first_key.empty()) run.first_key = key;
  run.last_key = key;
  bytes += key.size() + value.size();
  if (!error.ok() || run.writer->FileSize() < kFileBytesMax) return;
  error = run.writer->Finish();
  run.writer.reset();
}

void RowTables::Rep::NoteRow(RowStoreId store, RowId row) {
  RowId& end = ends[store];
  end = std::max(end, Next(row));
}

absl::Status RowTables::Rep::Finish() {
  for (auto& [place, run] : runs) {
    if (run.writer != nullptr && error.ok()) error = run.writer->Finish();
    run.writer.reset();
  }
  return FromRocksNewFile("write a row table", error);
}

std::vector<RowTables::Range> RowTables::Rep::Ranges() const {
  std::vector<Range> ranges;
  for (const auto& [place, run] : runs) {
    ranges.push_back({place.first, run.first_key, run.last_key + std::string(1, '\0')});
  }
  return ranges;
}

std::vector<rocksdb::IngestExternalFileArg> RowTables::Rep::Arguments() const {
  std::map<Family, rocksdb::IngestExternalFileArg> by_family;
  for (const auto& [place, run] : runs) {
    rocksdb::IngestExternalFileArg& argument = by_family[place.first];
    argument.column_family = (*handles)[static_cast<size_t>(place.first)];
    argument.external_files.insert(argument.external_files.end(), run.files.begin(),
                                   run.files.end());
    argument.options.move_files = true;
    // With sequence numbers of RocksDB's own, for the sake of snapshots, its merges would write all
    // of it a second time as soon as no snapshot needs the numbers, only to take them out.
    argument.options.snapshot_consistency = false;
    // The files are not written again, so that what was synced stays synced.
    argument.options.write_global_seqno = false;
  }
  std::vector<rocksdb::IngestExternalFileArg> arguments;
  for (auto& [family, argument] : by_family) arguments.push_back(std::move(argument));
  return arguments;
}

void RowTables::PutEncodedRow(RowStoreId store, RowId row, std::string_view encoded) {
  rep_->NoteRow(store, row);
  rep_->Put(Family::kRows, kStoreKeyBytes, RowKey(store, row), encoded);
}

void RowTables::PutVector(RowStoreId store, FieldId field, RowId row,
                          std::span<const float> vector) {
  rep_->NoteRow(store, row);
  rep_->Put(Family::kVectors, kFieldKeyBytes, VectorKey(store, field, row),
            {reinterpret_cast<const char*>(vector.data()), vector.size_bytes()});
}

absl::Status RowTables::Finish() {
  return rep_->Finish();
}

bool RowTables::HasRoomFor(RowStoreId store, FieldId field) const {
  if (rep_->runs.size() < kRunsMax) return true;
  const std::string key = VectorKey(store, field, RowId{});
  return rep_->runs.contains(std::make_pair(Family::kVectors, key.substr(0, kFieldKeyBytes)));
}

void RowTables::PutKey(RowStoreId store, const Key& key, const KeyEntry& entry) {
  rep_->Put(Family::kKeys, kStoreKeyBytes, KeyKey(store, key), EncodeKeyEntry(entry));
}

void RowTables::PutRetired(RowStoreId store, RowId row, Seq retired_seq) {
  rep_->NoteRow(store, row);
  rep_->Put(Family::kRetired, kStoreKeyBytes, RowKey(store, row), EncodeSeq(retired_seq));
}

uint64_t RowTables::byte_size() const {
  return rep_->bytes;
}

}  // namespace azimuth::storage
