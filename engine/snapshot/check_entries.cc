#include "engine/snapshot/check_entries.h"

#include "base/status.h"
#include "base/value.h"
#include "engine/segment/retired_map.h"
#include "engine/write/made_keys.h"
#include "engine/write/validate.h"

#include "absl/hash/hash.h"

#include <algorithm>
#include <cstring>
#include <string>

namespace azimuth::engine {
namespace {

using storage::KeyEntry;
using storage::RowEntryKind;

// Of the memory's budget.
constexpr uint64_t kMemoryShare = 2;
constexpr size_t kRoomMin = 1024;
// Of what is kept of a row while all are checked; the last byte for its bit.
constexpr uint64_t kRowBytes = sizeof(RowId) + sizeof(Seq) + sizeof(uint64_t) + 1;

std::string RowPlace(RowId row) {
  return absl::StrCat("row ", Raw(row));
}

// What a server would have refused from a client, too, is damage here.
absl::Status Damage(std::string_view place, const absl::Status& status) {
  return DataLoss("%s: %s", place, std::string(status.message()));
}

}  // namespace

absl::Status CheckRetiredBytes(uint64_t bytes, const MemoryBudget& memory) {
  const uint64_t most = std::max(memory.total(), MemoryBudget::DefaultTotal());
  if (bytes <= most) return absl::OkStatus();
  return ResourceExhausted(
      "which rows of the snapshot were replaced or deleted takes %d bytes of memory to know, at "
      "most %d are allowed; outcome: not_applied",
      bytes, most);
}

void EntriesCheck::Count() {
  counted_.Set(rows_.capacity() * sizeof(RowId) + insert_seqs_.capacity() * sizeof(Seq) +
               hashes_.capacity() * sizeof(uint64_t) + found_.capacity() / 8 +
               retired_.capacity() * sizeof(retired_[0]));
}

absl::StatusOr<size_t> EntriesCheck::Room(size_t now, size_t wanted, uint64_t bytes,
                                          uint64_t twice) const {
  const uint64_t most = std::min(total_ / kMemoryShare, counted_.Free());
  const uint64_t taken = counted_.bytes() + now * twice;
  const uint64_t fit = taken < most ? (most - taken) / bytes : 0;
  if (fit > 0) return std::min<size_t>(wanted, now + fit);
  return ResourceExhausted(
      "the check of more than %d rows and %d retirements takes more than the %d bytes of memory "
      "that "
      "are allowed; outcome: not_applied",
      rows_.size(), retired_.size(), most);
}

absl::Status EntriesCheck::MakeRoomForRow() {
  const size_t size = rows_.size();
  if (size < rows_.capacity()) return absl::OkStatus();
  const size_t wanted = size == 0 ? std::max<size_t>(kRoomMin, expected_) : size + size / 4 + 1;
  AZ_ASSIGN_OR_RETURN(const size_t room, Room(size, wanted, kRowBytes, sizeof(RowId)));
  // One after the other, so that only one of them is there twice.
  rows_.reserve(room);
  insert_seqs_.reserve(room);
  hashes_.reserve(room);
  found_.reserve(room);
  Count();
  return absl::OkStatus();
}

absl::Status EntriesCheck::MakeRoomForRetired() {
  const size_t size = retired_.size();
  if (size < retired_.capacity()) return absl::OkStatus();
  constexpr uint64_t kBytes = sizeof(retired_[0]);
  const size_t wanted = std::max(kRoomMin, size + size / 4);
  AZ_ASSIGN_OR_RETURN(const size_t room, Room(size, wanted, kBytes, kBytes));
  retired_.reserve(room);
  Count();
  return absl::OkStatus();
}

absl::Status EntriesCheck::Visit(RowEntryKind kind, std::string_view key, std::string_view value) {
  switch (kind) {
    case RowEntryKind::kRow:
      return CheckRow(key, value);
    case RowEntryKind::kVector:
      return CheckVectorEntry(key, value);
    case RowEntryKind::kKey:
      return CheckKeyEntry(key, value);
    case RowEntryKind::kRetired:
      return CheckRetired(key, value);
  }
  return absl::InternalError("unknown kind of entry");
}

absl::Status EntriesCheck::CheckRow(std::string_view key, std::string_view value) {
  AZ_ASSIGN_OR_RETURN(const RowId row, storage::ParseRowEntryKey(key));
  const absl::StatusOr<storage::StoredRow> stored = storage::DecodeRow(value);
  // A newer row keeps its own code.
  if (!stored.ok()) return AtPlace(RowPlace(row), stored.status());
  if (row >= next_row_ || (!rows_.empty() && row <= rows_.back())) {
    return DataLoss("%s: its id is out of order, or not below %d", RowPlace(row), Raw(next_row_));
  }
  if (stored->insert_seq == kSeqZero || stored->insert_seq > as_of_ ||
      (!insert_seqs_.empty() && stored->insert_seq < insert_seqs_.back())) {
    return DataLoss("%s: it was inserted at %d, which is out of order or after %d", RowPlace(row),
                    Raw(stored->insert_seq), Raw(as_of_));
  }
  const absl::Status fits = CheckStoredRow(schema_, *stored);
  if (!fits.ok()) return Damage(RowPlace(row), fits);
  if (schema_.auto_id && !MayBeMadeKey(stored->key, row)) {
    return DataLoss("%s: the server cannot have made its key %s", RowPlace(row),
                    KeyToText(stored->key));
  }
  const KeyEntry entry{.row = row,
                       .insert_seq = stored->insert_seq,
                       .partition = stored->partition,
                       .expires_at_unix_us = stored->expires_at_unix_us};
  AZ_RETURN_IF_ERROR(MakeRoomForRow());
  rows_.push_back(row);
  insert_seqs_.push_back(stored->insert_seq);
  hashes_.push_back(HashOf(stored->key, entry));
  found_.push_back(false);
  return absl::OkStatus();
}

absl::Status EntriesCheck::CheckVectorEntry(std::string_view key, std::string_view value) {
  AZ_ASSIGN_OR_RETURN(const storage::VectorEntryKey parsed, storage::ParseVectorEntryKey(key));
  const auto field =
      std::find_if(schema_.vectors.begin(), schema_.vectors.end(),
                   [&](const VectorFieldDef& def) { return def.id == parsed.field; });
  if (field == schema_.vectors.end()) {
    return DataLoss("%s: no vector field has the id %d", RowPlace(parsed.row), Raw(parsed.field));
  }
  // Rows ascend within a field.
  if (parsed.field != vector_field_) vector_place_ = 0;
  vector_field_ = parsed.field;
  while (vector_place_ < rows_.size() && rows_[vector_place_] < parsed.row) ++vector_place_;
  if (vector_place_ == rows_.size() || rows_[vector_place_] != parsed.row) {
    return DataLoss("%s: it has a vector, and is not there", RowPlace(parsed.row));
  }
  if (value.size() != field->dim * sizeof(float)) {
    return DataLoss("%s: a vector of %d bytes in field %s of dimension %d", RowPlace(parsed.row),
                    value.size(), Quoted(field->name), field->dim);
  }
  std::vector<float> vector(field->dim);
  std::memcpy(vector.data(), value.data(), value.size());
  const absl::Status fits = CheckVector(*field, vector, field->name);
  if (!fits.ok()) return Damage(RowPlace(parsed.row), fits);
  ++vectors_;
  return absl::OkStatus();
}

absl::Status EntriesCheck::CheckKeyEntry(std::string_view key, std::string_view value) {
  AZ_ASSIGN_OR_RETURN(const Key parsed, storage::ParseKeyEntryKey(key));
  AZ_ASSIGN_OR_RETURN(const KeyEntry entry, storage::ParseKeyEntryValue(value));
  const size_t place = PlaceOf(entry.row);
  if (place == rows_.size() || found_[place] || hashes_[place] != HashOf(parsed, entry)) {
    return DataLoss("key %s leads to row %d, which is not its own", KeyToText(parsed),
                    Raw(entry.row));
  }
  found_[place] = true;
  ++found_count_;
  return absl::OkStatus();
}

absl::Status EntriesCheck::CheckRetired(std::string_view key, std::string_view value) {
  AZ_ASSIGN_OR_RETURN(const RowId row, storage::ParseRowEntryKey(key));
  AZ_ASSIGN_OR_RETURN(const Seq seq, storage::ParseRetiredValue(value));
  const size_t place = PlaceOf(row);
  const bool there = place < rows_.size();
  if (row >= next_row_ || seq == kSeqZero || seq > as_of_ ||
      (there && (found_[place] || seq <= insert_seqs_[place]))) {
    return DataLoss("%s: its retirement at %d contradicts it", RowPlace(row), Raw(seq));
  }
  if (there) {
    found_[place] = true;
    ++found_count_;
    ++retired_of_rows_;
  }
  AZ_RETURN_IF_ERROR(MakeRoomForRetired());
  // Of a row that a merge dropped a moment ago: segment files may still have it.
  retired_.emplace_back(row, seq);
  const uint64_t page = Raw(row) / RetiredMap::kPageRows;
  if (page != last_page_) ++retired_pages_;
  last_page_ = page;
  return absl::OkStatus();
}

absl::Status EntriesCheck::Finish() {
  row_count_ = rows_.size();
  if (found_count_ == rows_.size()) {
    insert_seqs_ = std::vector<Seq>();
    hashes_ = std::vector<uint64_t>();
    found_ = std::vector<bool>();
    Count();
    return absl::OkStatus();
  }
  const auto lost = std::find(found_.begin(), found_.end(), false);
  const RowId row = rows_[static_cast<size_t>(lost - found_.begin())];
  return DataLoss("%s: no key leads to it, and it is not retired", RowPlace(row));
}

void EntriesCheck::ReleaseRows() {
  rows_ = std::vector<RowId>();
  Count();
}

uint64_t EntriesCheck::retired_bytes() const {
  // Directories that were doubled take as much again.
  const uint64_t pages = Raw(next_row_) / RetiredMap::kPageRows + 1;
  return retired_pages_ * RetiredMap::kPageRows * sizeof(uint64_t) + pages * 4 * sizeof(void*);
}

size_t EntriesCheck::PlaceOf(RowId row) const {
  const auto it = std::lower_bound(rows_.begin(), rows_.end(), row);
  return it == rows_.end() || *it != row ? rows_.size() : static_cast<size_t>(it - rows_.begin());
}

uint64_t EntriesCheck::HashOf(const Key& key, const KeyEntry& entry) const {
  return absl::HashOf(key, Raw(entry.row), Raw(entry.insert_seq), Raw(entry.partition),
                      entry.expires_at_unix_us);
}

}  // namespace azimuth::engine
