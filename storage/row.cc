#include "storage/row.h"

#include "base/bytes.h"
#include "base/check.h"
#include "base/status.h"

#include <cstring>

namespace azimuth::storage {
namespace {

constexpr uint8_t kRowFormat = 1;
// Where the sequence number stands: after the version.
constexpr size_t kInsertSeqOffset = sizeof(kRowFormat);
// Past the sequence number, the partition and the expiry.
constexpr size_t kKeyKindOffset = kInsertSeqOffset + 8 + 4 + 8;
constexpr uint8_t kKeyInt64 = 1;
constexpr uint8_t kKeyString = 2;

absl::Status Malformed(std::string_view what) {
  return DataLoss("malformed row: %s", what);
}

void EncodeKey(const Key& key, std::string& out) {
  if (const auto* number = std::get_if<int64_t>(&key)) {
    PutLittle(out, kKeyInt64);
    PutLittle(out, *number);
  } else {
    PutLittle(out, kKeyString);
    PutLengthPrefixed(out, std::get<std::string>(key));
  }
}

absl::StatusOr<Key> DecodeKey(ByteReader& reader) {
  uint8_t tag = 0;
  if (!reader.Little(tag)) return Malformed("no key");
  if (tag == kKeyInt64) {
    int64_t number = 0;
    if (!reader.Little(number)) return Malformed("int64 key");
    return Key(number);
  }
  std::string_view text;
  if (tag != kKeyString) return Malformed("unknown kind of key");
  if (!reader.LengthPrefixed(text)) return Malformed("string key");
  return Key(std::string(text));
}

absl::StatusOr<Value> DecodeOneValue(ByteReader& reader) {
  std::string_view rest = reader.rest();
  AZ_ASSIGN_OR_RETURN(Value value, DecodeValue(rest));
  reader = ByteReader(rest);
  return value;
}

absl::Status DecodeFields(ByteReader& reader, StoredRow& row) {
  uint32_t count = 0;
  if (!reader.Little(count)) return Malformed("count of fields");
  // A field takes five bytes at least, so that a wrong count cannot ask for much memory.
  if (count > reader.rest().size() / 5) return Malformed("count of fields is beyond the row's end");
  row.fields.reserve(count);
  for (uint32_t i = 0; i < count; ++i) {
    uint32_t id = 0;
    if (!reader.Little(id)) return Malformed("field id");
    if (!row.fields.empty() && Raw(row.fields.back().first) >= id) {
      return Malformed("fields are not in order of id");
    }
    AZ_ASSIGN_OR_RETURN(Value value, DecodeOneValue(reader));
    row.fields.emplace_back(FieldId{id}, std::move(value));
  }
  return absl::OkStatus();
}

absl::Status DecodeDynamic(ByteReader& reader, StoredRow& row) {
  uint32_t count = 0;
  if (!reader.Little(count)) return Malformed("count of dynamic fields");
  for (uint32_t i = 0; i < count; ++i) {
    std::string_view name;
    if (!reader.LengthPrefixed(name)) return Malformed("name of a dynamic field");
    if (!row.dynamic.empty() && row.dynamic.rbegin()->first >= name) {
      return Malformed("dynamic fields are not in order of name");
    }
    AZ_ASSIGN_OR_RETURN(Value value, DecodeOneValue(reader));
    row.dynamic.emplace_hint(row.dynamic.end(), std::string(name), std::move(value));
  }
  return absl::OkStatus();
}

}  // namespace

std::string EncodeRow(const StoredRow& row) {
  std::string out;
  PutLittle(out, kRowFormat);
  PutLittle(out, Raw(row.insert_seq));
  PutLittle(out, Raw(row.partition));
  PutLittle(out, row.expires_at_unix_us);
  EncodeKey(row.key, out);
  PutLittle(out, static_cast<uint32_t>(row.fields.size()));
  for (const auto& [id, value] : row.fields) {
    PutLittle(out, Raw(id));
    EncodeValue(value, out);
  }
  PutLittle(out, static_cast<uint32_t>(row.dynamic.size()));
  for (const auto& [name, value] : row.dynamic) {
    PutLengthPrefixed(out, name);
    EncodeValue(value, out);
  }
  return out;
}

void SetInsertSeq(std::string& encoded_row, Seq seq) {
  const uint64_t number = Raw(seq);
  AZ_CHECK(encoded_row.size() >= kInsertSeqOffset + sizeof(number));
  std::memcpy(encoded_row.data() + kInsertSeqOffset, &number, sizeof(number));
}

void SetInt64Key(std::string& encoded_row, int64_t key) {
  AZ_CHECK(encoded_row.size() >= kKeyKindOffset + 1 + sizeof(key));
  AZ_CHECK(encoded_row[kKeyKindOffset] == static_cast<char>(kKeyInt64));
  std::memcpy(encoded_row.data() + kKeyKindOffset + 1, &key, sizeof(key));
}

absl::StatusOr<StoredRow> DecodeRow(std::string_view bytes) {
  ByteReader reader(bytes);
  uint8_t format = 0;
  if (!reader.Little(format) || format == 0) return Malformed("no format version");
  if (format > kRowFormat) {
    return FailedPrecondition("row format %d is newer than %d, the newest that this server reads",
                              format, kRowFormat);
  }
  StoredRow row;
  uint64_t insert_seq = 0;
  uint32_t partition = 0;
  if (!reader.Little(insert_seq) || !reader.Little(partition) ||
      !reader.Little(row.expires_at_unix_us)) {
    return Malformed("shorter than its fixed part");
  }
  row.insert_seq = Seq{insert_seq};
  row.partition = PartitionId{partition};
  AZ_ASSIGN_OR_RETURN(row.key, DecodeKey(reader));
  AZ_RETURN_IF_ERROR(DecodeFields(reader, row));
  AZ_RETURN_IF_ERROR(DecodeDynamic(reader, row));
  if (!reader.empty()) return Malformed("bytes after its end");
  return row;
}

}  // namespace azimuth::storage
