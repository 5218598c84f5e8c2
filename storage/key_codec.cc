#include "storage/key_codec.h"

#include "base/bytes.h"
#include "base/status.h"

#include "absl/strings/escaping.h"

#include <cstdint>
#include <limits>
#include <variant>

namespace azimuth::storage {
namespace {

// Tags of record keys: int64 before string, as in base/value.h.
constexpr uint8_t kInt64Tag = 1;
constexpr uint8_t kStringTag = 2;
// With the sign bit flipped, unsigned order is signed order.
constexpr uint64_t kSignBit = uint64_t{1} << 63;

// Tags of the meta family.
constexpr uint8_t kAppliedSeqTag = 1;
constexpr uint8_t kNextIdsTag = 2;
constexpr uint8_t kCountersTag = 3;
constexpr uint8_t kTablesEndTag = 4;

// Tags of the catalog family.
constexpr uint8_t kCollectionTag = 1;
constexpr uint8_t kSegmentTag = 2;

std::string Tagged(uint8_t tag) {
  return std::string(1, static_cast<char>(tag));
}

// All keys that start with `head` and then `id`.
KeyRange PrefixRange(const std::string& head, uint32_t id) {
  KeyRange range{.first = head, .end = head};
  PutBig(range.first, id);
  if (id < std::numeric_limits<uint32_t>::max()) {
    PutBig(range.end, id + 1);
  } else {
    // No next id: end after every key that can follow, which has fewer bytes or a low tag.
    PutBig(range.end, id);
    range.end.append(kVectorKeyBytes, '\xFF');
  }
  return range;
}

absl::Status MalformedKey(std::string_view key) {
  return DataLoss("malformed key of %d bytes: %s", key.size(), absl::BytesToHexString(ToAbsl(key)));
}

}  // namespace

void AppendRowKey(RowStoreId store, RowId row, std::string& out) {
  PutBig(out, Raw(store));
  PutBig(out, Raw(row));
}

void AppendVectorKey(RowStoreId store, FieldId field, RowId row, std::string& out) {
  PutBig(out, Raw(store));
  PutBig(out, Raw(field));
  PutBig(out, Raw(row));
}

void AppendKeyKey(RowStoreId store, const Key& key, std::string& out) {
  PutBig(out, Raw(store));
  if (const auto* number = std::get_if<int64_t>(&key)) {
    PutBig(out, kInt64Tag);
    PutBig(out, static_cast<uint64_t>(*number) ^ kSignBit);
  } else {
    PutBig(out, kStringTag);
    out.append(std::get<std::string>(key));
  }
}

std::string RowKey(RowStoreId store, RowId row) {
  std::string key;
  AppendRowKey(store, row, key);
  return key;
}

std::string VectorKey(RowStoreId store, FieldId field, RowId row) {
  std::string key;
  AppendVectorKey(store, field, row, key);
  return key;
}

std::string KeyKey(RowStoreId store, const Key& key) {
  std::string bytes;
  AppendKeyKey(store, key, bytes);
  return bytes;
}

std::string AppliedSeqKey() {
  return Tagged(kAppliedSeqTag);
}

std::string NextIdsKey() {
  return Tagged(kNextIdsTag);
}

std::string CountersKey(RowStoreId store) {
  std::string key = Tagged(kCountersTag);
  PutBig(key, Raw(store));
  return key;
}

std::string TablesEndKey(RowStoreId store) {
  std::string key = Tagged(kTablesEndTag);
  PutBig(key, Raw(store));
  return key;
}

std::string CollectionKey(CollectionId id) {
  std::string key = Tagged(kCollectionTag);
  PutBig(key, Raw(id));
  return key;
}

std::string SegmentKey(RowStoreId store, SegmentId id) {
  std::string key = Tagged(kSegmentTag);
  PutBig(key, Raw(store));
  PutBig(key, Raw(id));
  return key;
}

std::string RequestKey(std::string_view id) {
  return std::string(id);
}

KeyRange RowStoreRange(RowStoreId store) {
  return PrefixRange("", Raw(store));
}

KeyRange CollectionsRange() {
  return {Tagged(kCollectionTag), Tagged(kCollectionTag + 1)};
}

KeyRange SegmentsRange() {
  return {Tagged(kSegmentTag), Tagged(kSegmentTag + 1)};
}

KeyRange SegmentsRange(RowStoreId store) {
  return PrefixRange(Tagged(kSegmentTag), Raw(store));
}

KeyRange VectorFieldRange(RowStoreId store, FieldId field) {
  std::string head;
  PutBig(head, Raw(store));
  return PrefixRange(head, Raw(field));
}

KeyRange AllCountersRange() {
  return {Tagged(kCountersTag), Tagged(kCountersTag + 1)};
}

KeyRange AllTablesEndsRange() {
  return {Tagged(kTablesEndTag), Tagged(kTablesEndTag + 1)};
}

KeyRange AllKeys() {
  return {};
}

absl::StatusOr<RowId> RowOfKey(std::string_view key, size_t size) {
  if (key.size() != size) return MalformedKey(key);
  ByteReader reader(key.substr(size - sizeof(uint64_t)));
  uint64_t row = 0;
  if (!reader.Big(row)) return MalformedKey(key);
  return RowId{row};
}

absl::StatusOr<RowStoreId> RowStoreOfKey(std::string_view key) {
  ByteReader reader(key);
  uint32_t store = 0;
  if (!reader.Big(store)) return MalformedKey(key);
  return RowStoreId{store};
}

absl::StatusOr<Key> ParseKeyKey(std::string_view key) {
  ByteReader reader(key);
  uint32_t store = 0;
  uint8_t tag = 0;
  if (!reader.Big(store) || !reader.Big(tag)) return MalformedKey(key);
  if (tag == kStringTag) return Key(std::string(key.substr(sizeof(store) + sizeof(tag))));
  uint64_t number = 0;
  if (tag != kInt64Tag || !reader.Big(number) || !reader.empty()) return MalformedKey(key);
  return Key(static_cast<int64_t>(number ^ kSignBit));
}

absl::StatusOr<RowStoreId> ParseCountersKey(std::string_view key) {
  ByteReader reader(key);
  uint8_t tag = 0;
  uint32_t store = 0;
  if (!reader.Big(tag) || tag != kCountersTag || !reader.Big(store) || !reader.empty()) {
    return MalformedKey(key);
  }
  return RowStoreId{store};
}

absl::StatusOr<RowStoreId> ParseTablesEndKey(std::string_view key) {
  ByteReader reader(key);
  uint8_t tag = 0;
  uint32_t store = 0;
  if (!reader.Big(tag) || tag != kTablesEndTag || !reader.Big(store) || !reader.empty()) {
    return MalformedKey(key);
  }
  return RowStoreId{store};
}

absl::StatusOr<FieldId> FieldOfVectorKey(std::string_view key) {
  ByteReader reader(key);
  uint32_t store = 0;
  uint32_t field = 0;
  if (key.size() != kVectorKeyBytes || !reader.Big(store) || !reader.Big(field)) {
    return MalformedKey(key);
  }
  return FieldId{field};
}

absl::StatusOr<CollectionId> ParseCollectionKey(std::string_view key) {
  ByteReader reader(key);
  uint8_t tag = 0;
  uint32_t id = 0;
  if (!reader.Big(tag) || tag != kCollectionTag || !reader.Big(id) || !reader.empty()) {
    return MalformedKey(key);
  }
  return CollectionId{id};
}

absl::StatusOr<SegmentKeyParts> ParseSegmentKey(std::string_view key) {
  ByteReader reader(key);
  uint8_t tag = 0;
  uint32_t store = 0;
  uint64_t id = 0;
  if (!reader.Big(tag) || tag != kSegmentTag || !reader.Big(store) || !reader.Big(id) ||
      !reader.empty()) {
    return MalformedKey(key);
  }
  return SegmentKeyParts{.store = RowStoreId{store}, .id = SegmentId{id}};
}

}  // namespace azimuth::storage
