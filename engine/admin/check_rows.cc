#include "engine/admin/check_rows.h"

#include "base/failpoint.h"
#include "base/status.h"
#include "engine/schema.h"
#include "engine/write/made_keys.h"
#include "index/distance/distance.h"

#include <algorithm>
#include <limits>
#include <span>
#include <string>
#include <variant>

namespace azimuth::engine {
namespace {

using storage::KeyEntry;
using storage::RowRange;
using storage::StoredRow;

// Rows whose keys are looked up at once, and keys whose rows are read at once.
constexpr size_t kBatch = 4096;
// Of rows that are read whole.
constexpr size_t kStrayBatch = 16;
constexpr RowRange kAllRows{RowId{0}, RowId{std::numeric_limits<uint64_t>::max()}};

bool HasType(const Value& value, const FieldDef& field) {
  switch (value.kind()) {
    case ValueKind::kNull:
      return field.nullable;
    case ValueKind::kBool:
      return field.type == FieldType::kBool;
    case ValueKind::kInt64:
      return field.type == FieldType::kInt64;
    case ValueKind::kDouble:
      return field.type == FieldType::kDouble;
    case ValueKind::kString:
      return field.type == FieldType::kString;
    case ValueKind::kMissing:
    case ValueKind::kList:
    case ValueKind::kMap:
      return false;
  }
  return false;
}

bool HasType(const Key& key, KeyType type) {
  return std::holds_alternative<std::string>(key) == (type == KeyType::kString);
}

class RowsCheck final {
 public:
  RowsCheck(CheckContext& context, const CheckedCollection& collection)
      : context_(context), collection_(collection) {}

  absl::StatusOr<StoreRows> Run() {
    const absl::StatusOr<storage::RowStoreCounters> counters =
        context_.store.GetCounters(collection_.row_store, context_.snapshot);
    if (IsUnreadable(counters.status())) {
      Unreadable("counters", counters.status());
      found_.rows_complete = false;
    } else if (!counters.ok()) {
      return counters.status();
    } else {
      found_.counters = *counters;
    }
    AZ_RETURN_IF_ERROR(ReadRetired());
    AZ_RETURN_IF_ERROR(ReadRows());
    AZ_RETURN_IF_ERROR(ReadKeys());
    AZ_FAILPOINT(kVerifyBeforeVectors);
    for (const VectorFieldDef& field : collection_.schema.vectors) {
      AZ_RETURN_IF_ERROR(ReadVectors(field));
    }
    return std::move(found_);
  }

 private:
  void Unreadable(std::string_view what, const absl::Status& status) {
    context_.findings.Source(
        "store.unreadable", absl::StrCat(collection_.Place(), ", ", ToAbsl(what)),
        absl::StrCat("what comes after it was not checked: ", status.message()));
  }
  void Source(std::string_view kind, RowId row, std::string message) {
    context_.findings.Source(kind, collection_.RowPlace(row), std::move(message));
  }
  // Asks for a cancellation now and then.
  absl::Status Step() {
    return ++steps_ % kBatch == 0 ? context_.cancel.Check() : absl::OkStatus();
  }

  // Whether the row, of which there is a vector and no more, may be one of row tables.
  absl::StatusOr<bool> IsOfTables(RowId row);
  absl::Status ReadRetired();
  absl::Status ReadRows();
  absl::Status ReadKeys();
  absl::Status ReadVectors(const VectorFieldDef& field);
  void CheckRow(RowId row, const StoredRow& value);
  absl::Status CheckBatch();
  absl::Status FindStrayKeys();
  absl::Status CheckKeyBatch(std::vector<std::pair<Key, KeyEntry>>& batch);
  Seq RetiredAt(RowId row) const;

  CheckContext& context_;
  const CheckedCollection& collection_;
  StoreRows found_;
  uint64_t steps_ = 0;
  Seq last_insert_{};
  uint64_t live_ = 0;
  bool keys_differ_ = false;   // A live row without its key.
  bool keys_readable_ = true;  // So far.
  bool notes_readable_ = true;
  bool noted_ = false;  // There are row tables, or were.
  std::vector<std::pair<RowId, StoredRow>> batch_;
};

Seq RowsCheck::RetiredAt(RowId row) const {
  const auto it =
      std::lower_bound(found_.retired.begin(), found_.retired.end(), row,
                       [](const auto& entry, RowId wanted) { return entry.first < wanted; });
  return it == found_.retired.end() || it->first != row ? kSeqMax : it->second;
}

// In a row store with row tables there may be vectors of rows that are not committed, or never
// were: the next start removes them. Tables show in older snapshots, so the newest notes count, as
// they are once such a vector was seen: each was written before its tables came.
absl::StatusOr<bool> RowsCheck::IsOfTables(RowId row) {
  if (row < found_.counters.next_row) return false;
  if (!found_.rows.empty() && row <= found_.rows.back()) return false;
  if (noted_) return true;
  const auto ends = context_.store.ListTablesEnds();
  if (IsUnreadable(ends.status())) {
    if (std::exchange(notes_readable_, false)) Unreadable("notes of row tables", ends.status());
    return false;
  }
  AZ_RETURN_IF_ERROR(ends.status());
  noted_ = std::any_of(ends->begin(), ends->end(),
                       [&](const auto& entry) { return entry.first == collection_.row_store; });
  return noted_;
}

absl::Status RowsCheck::ReadRetired() {
  const absl::Status status = context_.store.ScanRetired(
      collection_.row_store,
      [&](RowId row, Seq seq) {
        found_.retired.emplace_back(row, seq);
        if (seq == kSeqZero || seq > context_.applied) {
          Source("retired.sequence", row,
                 absl::StrFormat("it was retired at %d, and the store is at %d", Raw(seq),
                                 Raw(context_.applied)));
        }
        return Step();
      },
      context_.snapshot);
  context_.report.retired += found_.retired.size();
  if (!IsUnreadable(status)) return status;
  found_.retired_complete = false;
  Unreadable("retirements", status);
  return absl::OkStatus();
}

absl::Status RowsCheck::ReadRows() {
  absl::Status status = context_.store.ScanRows(
      collection_.row_store, kAllRows,
      [&](RowId row, StoredRow&& value) {
        found_.rows.push_back(row);
        CheckRow(row, value);
        // Their keys are looked up, and nothing else of them: a row may be long.
        value.fields = {};
        value.dynamic = {};
        batch_.emplace_back(row, std::move(value));
        return batch_.size() < kBatch ? absl::OkStatus() : CheckBatch();
      },
      context_.snapshot);
  if (IsUnreadable(status)) {
    found_.rows_complete = false;
    Unreadable("rows", status);
    status = absl::OkStatus();
  }
  AZ_RETURN_IF_ERROR(status);
  context_.report.rows += found_.rows.size();
  return CheckBatch();
}

void RowsCheck::CheckRow(RowId row, const StoredRow& value) {
  if (value.insert_seq == kSeqZero || value.insert_seq > context_.applied) {
    Source("row.sequence", row,
           absl::StrFormat("it was inserted at %d, and the store is at %d", Raw(value.insert_seq),
                           Raw(context_.applied)));
  }
  if (value.insert_seq < last_insert_) {
    Source("row.order", row,
           absl::StrFormat("it was inserted at %d, but a row before it at %d",
                           Raw(value.insert_seq), Raw(last_insert_)));
  }
  last_insert_ = std::max(last_insert_, value.insert_seq);
  const Schema& schema = collection_.schema;
  if (!HasType(value.key, schema.key_type)) {
    Source(
        "row.key", row,
        absl::StrFormat("its key %s is no %s", KeyToText(value.key), KeyTypeName(schema.key_type)));
  } else if (schema.auto_id && !MayBeMadeKey(value.key, row)) {
    Source("row.key", row,
           absl::StrFormat("the server cannot have made its key %s", KeyToText(value.key)));
  }
  for (const auto& [id, field_value] : value.fields) {
    const auto field =
        std::find_if(schema.fields.begin(), schema.fields.end(),
                     [wanted = id](const FieldDef& def) { return def.id == wanted; });
    if (field == schema.fields.end()) {
      Source("row.field", row, absl::StrFormat("no field has the id %d", Raw(id)));
    } else if (!HasType(field_value, *field)) {
      Source(
          "row.field", row,
          absl::StrFormat("field %s: a value of kind %s in a field of type %s", Quoted(field->name),
                          ValueKindName(field_value.kind()), FieldTypeName(field->type)));
    }
  }
  if (!schema.dynamic && !value.dynamic.empty()) {
    Source("row.field", row,
           absl::StrFormat("field %s: the collection has no undeclared fields",
                           Quoted(value.dynamic.begin()->first)));
  }
}

// Looks up where the keys of the rows lead to.
absl::Status RowsCheck::CheckBatch() {
  AZ_RETURN_IF_ERROR(context_.cancel.Check());
  std::vector<std::pair<RowId, StoredRow>> rows = std::exchange(batch_, {});
  if (rows.empty() || !found_.retired_complete) return absl::OkStatus();
  std::vector<Key> keys;
  for (const auto& entry : rows) keys.push_back(entry.second.key);
  const auto entries = context_.store.LookUpKeys(collection_.row_store, keys, context_.snapshot);
  if (IsUnreadable(entries.status())) {
    if (std::exchange(keys_readable_, false)) Unreadable("keys", entries.status());
  } else if (!entries.ok()) {
    return entries.status();
  }
  for (size_t i = 0; i < rows.size(); ++i) {
    const auto& [row, value] = rows[i];
    const Seq retired_at = RetiredAt(row);
    if (retired_at != kSeqMax && retired_at <= value.insert_seq) {
      Source("retired.sequence", row,
             absl::StrFormat("it was inserted at %d and retired at %d", Raw(value.insert_seq),
                             Raw(retired_at)));
    }
    if (retired_at == kSeqMax) ++live_;
    if (!entries.ok()) continue;
    const std::optional<KeyEntry>& entry = (*entries)[i];
    const bool leads_here = entry.has_value() && entry->row == row;
    if (retired_at != kSeqMax) {
      if (leads_here) {
        Source("key.row_retired", row,
               absl::StrFormat("it was retired at %d, but its key %s leads to it", Raw(retired_at),
                               KeyToText(value.key)));
      }
    } else if (!leads_here) {
      keys_differ_ = true;
      Source("row.key_missing", row,
             absl::StrFormat("its key %s %s", KeyToText(value.key),
                             entry.has_value() ? absl::StrFormat("leads to row %d", Raw(entry->row))
                                               : std::string("is not there")));
    } else if (entry->insert_seq != value.insert_seq || entry->partition != value.partition ||
               entry->expires_at_unix_us != value.expires_at_unix_us) {
      Source("key.entry_differs", row,
             absl::StrFormat("its key %s has insertion %d, partition %d, expiry %d; the row has "
                             "%d, %d, %d",
                             KeyToText(value.key), Raw(entry->insert_seq), Raw(entry->partition),
                             entry->expires_at_unix_us, Raw(value.insert_seq), Raw(value.partition),
                             value.expires_at_unix_us));
    }
  }
  return absl::OkStatus();
}

absl::Status RowsCheck::ReadKeys() {
  uint64_t keys = 0;
  const absl::Status status = context_.store.ScanKeys(
      collection_.row_store,
      [&](Key&&, const KeyEntry&) {
        ++keys;
        return Step();
      },
      context_.snapshot);
  context_.report.keys += keys;
  if (IsUnreadable(status)) {
    if (std::exchange(keys_readable_, false)) Unreadable("keys", status);
    return absl::OkStatus();
  }
  AZ_RETURN_IF_ERROR(status);
  if (!keys_readable_ || !found_.complete()) return absl::OkStatus();
  return keys == live_ && !keys_differ_ ? absl::OkStatus() : FindStrayKeys();
}

absl::Status RowsCheck::FindStrayKeys() {
  std::vector<std::pair<Key, KeyEntry>> batch;
  AZ_RETURN_IF_ERROR(context_.store.ScanKeys(
      collection_.row_store,
      [&](Key&& key, const KeyEntry& entry) {
        batch.emplace_back(std::move(key), entry);
        return batch.size() < kStrayBatch ? absl::OkStatus() : CheckKeyBatch(batch);
      },
      context_.snapshot));
  return CheckKeyBatch(batch);
}

absl::Status RowsCheck::CheckKeyBatch(std::vector<std::pair<Key, KeyEntry>>& batch) {
  AZ_RETURN_IF_ERROR(context_.cancel.Check());
  std::vector<RowId> rows;
  for (const auto& entry : batch) rows.push_back(entry.second.row);
  AZ_ASSIGN_OR_RETURN(const auto stored,
                      context_.store.GetRows(collection_.row_store, rows, context_.snapshot));
  for (size_t i = 0; i < batch.size(); ++i) {
    const std::string place =
        absl::StrCat(collection_.Place(), ", key ", KeyToText(batch[i].first));
    if (!stored[i].has_value()) {
      context_.findings.Source(
          "key.row_missing", place,
          absl::StrFormat("it leads to row %d, which is not there", Raw(rows[i])));
    } else if (stored[i]->key != batch[i].first) {
      context_.findings.Source("key.row_differs", place,
                               absl::StrFormat("it leads to row %d, whose key is %s", Raw(rows[i]),
                                               KeyToText(stored[i]->key)));
    }
  }
  batch.clear();
  return absl::OkStatus();
}

absl::Status RowsCheck::ReadVectors(const VectorFieldDef& field) {
  size_t next = 0;  // Among the rows; both ascend.
  uint64_t vectors = 0;
  const absl::Status status = context_.store.ScanVectors(
      collection_.row_store, field.id, kAllRows,
      [&](RowId row, std::span<const float> vector) -> absl::Status {
        while (next < found_.rows.size() && found_.rows[next] < row) ++next;
        const bool has_row = next < found_.rows.size() && found_.rows[next] == row;
        if (!has_row && found_.rows_complete) {
          AZ_ASSIGN_OR_RETURN(const bool of_tables, IsOfTables(row));
          if (of_tables) return Step();
        }
        ++vectors;
        if (!has_row && found_.rows_complete) {
          Source("vector.row_missing", row,
                 absl::StrFormat("field %s has a vector of it, and it is not there",
                                 Quoted(field.name)));
        }
        if (vector.size() != field.dim) {
          Source("vector.dimension", row,
                 absl::StrFormat("field %s: %d elements instead of %d", Quoted(field.name),
                                 vector.size(), field.dim));
        }
        if (!index::AllFinite(vector)) {
          Source("vector.not_finite", row,
                 absl::StrFormat("field %s: an element is infinite or not a number",
                                 Quoted(field.name)));
        }
        return Step();
      },
      context_.snapshot);
  context_.report.vectors += vectors;
  if (!IsUnreadable(status)) return status;
  Unreadable(absl::StrCat("vectors of field ", Quoted(field.name)), status);
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<StoreRows> CheckRows(CheckContext& context, const CheckedCollection& collection) {
  return RowsCheck(context, collection).Run();
}

uint64_t CountLive(const StoreRows& rows) {
  uint64_t live = 0;
  auto retired = rows.retired.begin();
  for (const RowId row : rows.rows) {
    while (retired != rows.retired.end() && retired->first < row) ++retired;
    if (retired == rows.retired.end() || retired->first != row) ++live;
  }
  return live;
}

void CheckCounters(CheckContext& context, const CheckedCollection& collection,
                   const StoreRows& rows, RowId segments_end) {
  if (!rows.complete()) return;
  storage::RowStoreCounters right{.next_row = std::max(rows.counters.next_row, segments_end),
                                  .live_rows = CountLive(rows)};
  if (!rows.rows.empty()) right.next_row = std::max(right.next_row, Next(rows.rows.back()));
  if (!rows.retired.empty()) {
    right.next_row = std::max(right.next_row, Next(rows.retired.back().first));
  }
  // Counters that are short of what is there, or are not there, say nothing of what was removed.
  if (right.next_row != rows.counters.next_row || rows.counters.next_row == RowId{}) {
    right.next_row = std::max(right.next_row, collection.ids_end);
  }
  if (right.next_row != rows.counters.next_row) {
    context.findings.Derived(
        "counters.next_row", collection.Place(),
        absl::StrFormat("the next row gets the id %d, and there are ids up to %d",
                        Raw(rows.counters.next_row), Raw(right.next_row) - 1));
  }
  if (right.live_rows != rows.counters.live_rows) {
    context.findings.Derived("counters.live_rows", collection.Place(),
                             absl::StrFormat("counted as %d, and there are %d",
                                             rows.counters.live_rows, right.live_rows));
  }
  if (right.next_row != rows.counters.next_row || right.live_rows != rows.counters.live_rows) {
    context.plan.counters[collection.row_store] = right;
  }
}

}  // namespace azimuth::engine
