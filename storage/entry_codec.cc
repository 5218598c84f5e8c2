#include "storage/entry_codec.h"

#include "base/bytes.h"
#include "base/status.h"

#include <cstdint>

namespace azimuth::storage {
namespace {

constexpr uint8_t kEntryFormat = 1;
// Of a collection, with the end of its row ids; only written where it is kept.
constexpr uint8_t kCollectionFormatIds = 2;

absl::Status Malformed(std::string_view what, std::string_view bytes) {
  return DataLoss("malformed %s of %d bytes", what, bytes.size());
}

// Reads the version byte that catalog entries start with.
absl::StatusOr<uint8_t> ReadFormatUpTo(uint8_t newest, std::string_view what, ByteReader& reader) {
  uint8_t format = 0;
  if (!reader.Little(format) || format == 0) return Malformed(what, reader.rest());
  if (format > newest) {
    return FailedPrecondition("%s format %d is newer than %d, the newest that this server reads",
                              what, format, newest);
  }
  return format;
}

absl::Status ReadFormat(std::string_view what, ByteReader& reader) {
  return ReadFormatUpTo(kEntryFormat, what, reader).status();
}

}  // namespace

std::string EncodeKeyEntry(const KeyEntry& entry) {
  std::string out;
  PutLittle(out, Raw(entry.row));
  PutLittle(out, Raw(entry.insert_seq));
  PutLittle(out, Raw(entry.partition));
  PutLittle(out, entry.expires_at_unix_us);
  return out;
}

absl::StatusOr<KeyEntry> DecodeKeyEntry(std::string_view bytes) {
  ByteReader reader(bytes);
  uint64_t row = 0;
  uint64_t seq = 0;
  uint32_t partition = 0;
  int64_t expires = 0;
  if (!reader.Little(row) || !reader.Little(seq) || !reader.Little(partition) ||
      !reader.Little(expires) || !reader.empty()) {
    return Malformed("key entry", bytes);
  }
  return KeyEntry{.row = RowId{row},
                  .insert_seq = Seq{seq},
                  .partition = PartitionId{partition},
                  .expires_at_unix_us = expires};
}

std::string EncodeSeq(Seq seq) {
  std::string out;
  PutLittle(out, Raw(seq));
  return out;
}

absl::StatusOr<Seq> DecodeSeq(std::string_view bytes) {
  ByteReader reader(bytes);
  uint64_t seq = 0;
  if (!reader.Little(seq) || !reader.empty()) return Malformed("sequence number", bytes);
  return Seq{seq};
}

std::string EncodeRowId(RowId row) {
  std::string out;
  PutLittle(out, Raw(row));
  return out;
}

absl::StatusOr<RowId> DecodeRowId(std::string_view bytes) {
  ByteReader reader(bytes);
  uint64_t row = 0;
  if (!reader.Little(row) || !reader.empty()) return Malformed("row id", bytes);
  return RowId{row};
}

std::string EncodeCounters(const RowStoreCounters& counters) {
  std::string out;
  PutLittle(out, Raw(counters.next_row));
  PutLittle(out, counters.live_rows);
  return out;
}

absl::StatusOr<RowStoreCounters> DecodeCounters(std::string_view bytes) {
  ByteReader reader(bytes);
  uint64_t next_row = 0;
  uint64_t live_rows = 0;
  if (!reader.Little(next_row) || !reader.Little(live_rows) || !reader.empty()) {
    return Malformed("counters", bytes);
  }
  return RowStoreCounters{.next_row = RowId{next_row}, .live_rows = live_rows};
}

std::string EncodeNextIds(const NextIds& ids) {
  std::string out;
  PutLittle(out, kEntryFormat);
  PutLittle(out, Raw(ids.collection));
  PutLittle(out, Raw(ids.row_store));
  PutLittle(out, Raw(ids.segment));
  return out;
}

absl::StatusOr<NextIds> DecodeNextIds(std::string_view bytes) {
  ByteReader reader(bytes);
  AZ_RETURN_IF_ERROR(ReadFormat("next ids", reader));
  uint32_t collection = 0;
  uint32_t row_store = 0;
  uint64_t segment = 0;
  if (!reader.Little(collection) || !reader.Little(row_store) || !reader.Little(segment) ||
      !reader.empty()) {
    return Malformed("next ids", bytes);
  }
  return NextIds{.collection = CollectionId{collection},
                 .row_store = RowStoreId{row_store},
                 .segment = SegmentId{segment}};
}

std::string EncodeCollectionEntry(const CollectionEntry& entry) {
  std::string out;
  const bool keeps_ids = entry.ids_end > RowId{};
  PutLittle(out, keeps_ids ? kCollectionFormatIds : kEntryFormat);
  PutLittle(out, Raw(entry.row_store));
  PutLittle(out, entry.created_unix_us);
  PutLengthPrefixed(out, entry.database);
  PutLengthPrefixed(out, entry.name);
  PutLengthPrefixed(out, entry.definition);
  if (keeps_ids) PutLittle(out, Raw(entry.ids_end));
  return out;
}

absl::StatusOr<CollectionEntry> DecodeCollectionEntry(std::string_view bytes) {
  ByteReader reader(bytes);
  AZ_ASSIGN_OR_RETURN(const uint8_t format,
                      ReadFormatUpTo(kCollectionFormatIds, "collection entry", reader));
  CollectionEntry entry;
  uint32_t row_store = 0;
  uint64_t ids_end = 0;
  std::string_view database;
  std::string_view name;
  std::string_view definition;
  if (!reader.Little(row_store) || !reader.Little(entry.created_unix_us) ||
      !reader.LengthPrefixed(database) || !reader.LengthPrefixed(name) ||
      !reader.LengthPrefixed(definition) ||
      (format == kCollectionFormatIds && !reader.Little(ids_end)) || !reader.empty()) {
    return Malformed("collection entry", bytes);
  }
  entry.row_store = RowStoreId{row_store};
  entry.database = database;
  entry.name = name;
  entry.definition = definition;
  entry.ids_end = RowId{ids_end};
  return entry;
}

std::string EncodeSegmentEntry(const SegmentEntry& entry) {
  std::string out;
  PutLittle(out, kEntryFormat);
  PutLittle(out, Raw(entry.rows.first));
  PutLittle(out, Raw(entry.rows.end));
  PutLittle(out, entry.row_count);
  PutLittle(out, entry.file_bytes);
  return out;
}

absl::StatusOr<SegmentEntry> DecodeSegmentEntry(std::string_view bytes) {
  ByteReader reader(bytes);
  AZ_RETURN_IF_ERROR(ReadFormat("segment entry", reader));
  SegmentEntry entry;
  uint64_t first = 0;
  uint64_t end = 0;
  if (!reader.Little(first) || !reader.Little(end) || !reader.Little(entry.row_count) ||
      !reader.Little(entry.file_bytes) || !reader.empty()) {
    return Malformed("segment entry", bytes);
  }
  entry.rows = {.first = RowId{first}, .end = RowId{end}};
  return entry;
}

std::string EncodeRequestEntry(const RequestEntry& entry) {
  std::string out;
  PutLittle(out, kEntryFormat);
  PutLittle(out, entry.at_unix_us);
  PutLengthPrefixed(out, entry.digest);
  PutLengthPrefixed(out, entry.reply);
  return out;
}

absl::StatusOr<RequestEntry> DecodeRequestEntry(std::string_view bytes) {
  ByteReader reader(bytes);
  AZ_RETURN_IF_ERROR(ReadFormat("remembered request", reader));
  RequestEntry entry;
  std::string_view digest;
  std::string_view reply;
  if (!reader.Little(entry.at_unix_us) || !reader.LengthPrefixed(digest) ||
      !reader.LengthPrefixed(reply) || !reader.empty()) {
    return Malformed("remembered request", bytes);
  }
  entry.digest = digest;
  entry.reply = reply;
  return entry;
}

}  // namespace azimuth::storage
