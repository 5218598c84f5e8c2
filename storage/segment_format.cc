#include "storage/segment_format.h"

#include "base/bytes.h"
#include "base/crc32c.h"
#include "base/status.h"

#include <utility>

namespace azimuth::storage {
namespace {

constexpr size_t kHeaderCrcOffset = kSegmentHeaderBytes - sizeof(uint32_t);
constexpr size_t kFooterCrcOffset = 28;
// Of a directory entry without its name.
constexpr size_t kEntryFixedBytes = 28;

absl::Status WrongLength(uint64_t says, uint64_t is) {
  return DataLoss("%s: it says that it has %d bytes and has %d",
                  is < says ? "truncated" : "longer than it says", says, is);
}

// Reads one entry and checks that its section lies between the header and the directory.
absl::StatusOr<SectionEntry> DecodeEntry(ByteReader& reader, const SegmentFooter& footer) {
  uint16_t kind = 0;
  uint16_t name_length = 0;
  uint32_t field = 0;
  SectionEntry entry;
  std::string_view name;
  if (!reader.Little(kind) || !reader.Little(name_length) || !reader.Little(field) ||
      !reader.Little(entry.offset) || !reader.Little(entry.length) || !reader.Little(entry.crc) ||
      !reader.Bytes(name_length, name)) {
    return DataLoss("directory corrupt: an entry is cut off");
  }
  entry.id = {.kind = SectionKind{kind}, .field = FieldId{field}, .name = std::string(name)};
  // No sums: they could overflow.
  if (entry.offset % kSectionAlignment != 0 || entry.offset < kSectionAlignment ||
      entry.offset > footer.directory_offset ||
      entry.length > footer.directory_offset - entry.offset) {
    return DataLoss("directory corrupt: %s is out of bounds: offset %d, length %d, directory at %d",
                    SectionText(entry.id), entry.offset, entry.length, footer.directory_offset);
  }
  return entry;
}

}  // namespace

std::string EncodeSegmentHeader(const SegmentHeader& header) {
  std::string out(kSegmentMagic);
  PutLittle(out, kSegmentVersion);
  PutLittle(out, Raw(header.row_store));
  PutLittle(out, Raw(header.id));
  PutLittle(out, header.incarnation);
  PutLittle(out, header.row_count);
  PutLittle(out, Raw(header.max_insert_seq));
  PutLittle(out, Raw(header.first_row));
  PutLittle(out, Raw(header.end_row));
  out.resize(kHeaderCrcOffset, '\0');
  PutLittle(out, Crc32c(std::string_view(out)));
  return out;
}

std::string EncodeSegmentFooter(const SegmentFooter& footer) {
  std::string out;
  PutLittle(out, footer.directory_offset);
  PutLittle(out, footer.directory_length);
  PutLittle(out, footer.file_length);
  PutLittle(out, footer.directory_crc);
  PutLittle(out, Crc32c(std::string_view(out)));
  out.append(kSegmentEndMagic);
  return out;
}

std::string EncodeSegmentDirectory(const std::vector<SectionEntry>& entries) {
  std::string out;
  PutLittle(out, static_cast<uint32_t>(entries.size()));
  for (const SectionEntry& entry : entries) {
    PutLittle(out, static_cast<uint16_t>(entry.id.kind));
    PutLittle(out, static_cast<uint16_t>(entry.id.name.size()));
    PutLittle(out, Raw(entry.id.field));
    PutLittle(out, entry.offset);
    PutLittle(out, entry.length);
    PutLittle(out, entry.crc);
    out.append(entry.id.name);
  }
  return out;
}

absl::StatusOr<SegmentHeader> DecodeSegmentHeader(std::string_view file) {
  if (!file.starts_with(kSegmentMagic.substr(0, file.size()))) {
    return DataLoss("not a segment file (bad magic)");
  }
  if (file.size() < kSegmentHeaderBytes + kSegmentFooterBytes) {
    return DataLoss("truncated: %d bytes are fewer than a header and a footer have", file.size());
  }
  ByteReader reader(file.substr(0, kSegmentHeaderBytes));
  ByteReader crc_reader(file.substr(kHeaderCrcOffset));
  uint32_t crc = 0;
  if (!crc_reader.Little(crc) || crc != Crc32c(file.substr(0, kHeaderCrcOffset))) {
    return DataLoss("header corrupt (its checksum does not match)");
  }
  // Versions are only looked at in a header that is whole.
  std::string_view magic;
  uint32_t version = 0;
  if (!reader.Bytes(kSegmentMagic.size(), magic) || !reader.Little(version)) {
    return DataLoss("header corrupt");
  }
  if (version < kSegmentVersionMin) {
    return FailedPrecondition("format %d is too old; this server reads %d to %d", version,
                              kSegmentVersionMin, kSegmentVersion);
  }
  if (version > kSegmentVersion) {
    return FailedPrecondition("format %d is too new; this server reads %d to %d", version,
                              kSegmentVersionMin, kSegmentVersion);
  }
  uint32_t row_store = 0;
  uint64_t id = 0;
  uint64_t max_insert_seq = 0;
  uint64_t first_row = 0;
  uint64_t end_row = 0;
  SegmentHeader header;
  if (!reader.Little(row_store) || !reader.Little(id) || !reader.Little(header.incarnation) ||
      !reader.Little(header.row_count) || !reader.Little(max_insert_seq) ||
      !reader.Little(first_row) || !reader.Little(end_row)) {
    return DataLoss("header corrupt");
  }
  header.id = SegmentId{id};
  header.row_store = RowStoreId{row_store};
  header.max_insert_seq = Seq{max_insert_seq};
  header.first_row = RowId{first_row};
  header.end_row = RowId{end_row};
  return header;
}

absl::StatusOr<SegmentFooter> DecodeSegmentFooter(std::string_view file) {
  if (file.size() < kSegmentHeaderBytes + kSegmentFooterBytes) {
    return DataLoss("truncated: %d bytes are fewer than a header and a footer have", file.size());
  }
  const std::string_view bytes = file.substr(file.size() - kSegmentFooterBytes);
  if (!bytes.ends_with(kSegmentEndMagic)) {
    return DataLoss("truncated or longer than it says: no footer at the end of its %d bytes",
                    file.size());
  }
  SegmentFooter footer;
  uint32_t crc = 0;
  ByteReader reader(bytes);
  if (!reader.Little(footer.directory_offset) || !reader.Little(footer.directory_length) ||
      !reader.Little(footer.file_length) || !reader.Little(footer.directory_crc) ||
      !reader.Little(crc) || crc != Crc32c(bytes.substr(0, kFooterCrcOffset))) {
    return DataLoss("footer corrupt (its checksum does not match)");
  }
  if (footer.file_length != file.size()) return WrongLength(footer.file_length, file.size());
  return footer;
}

absl::StatusOr<std::vector<SectionEntry>> DecodeSegmentDirectory(std::string_view file,
                                                                 const SegmentFooter& footer) {
  // The directory fills the space between the sections and the footer. No sums: they could
  // overflow.
  const uint64_t end = file.size() - kSegmentFooterBytes;
  if (footer.directory_offset < kSegmentHeaderBytes || footer.directory_offset > end ||
      footer.directory_length != end - footer.directory_offset) {
    return DataLoss("directory corrupt: out of bounds: offset %d, length %d, file of %d bytes",
                    footer.directory_offset, footer.directory_length, file.size());
  }
  const std::string_view bytes = file.substr(footer.directory_offset, footer.directory_length);
  if (Crc32c(bytes) != footer.directory_crc) {
    return DataLoss("directory corrupt (its checksum does not match)");
  }
  ByteReader reader(bytes);
  uint32_t count = 0;
  if (!reader.Little(count) || count > reader.rest().size() / kEntryFixedBytes) {
    return DataLoss("directory corrupt: a count of %d entries in %d bytes", count, bytes.size());
  }
  std::vector<SectionEntry> entries;
  entries.reserve(count);
  for (uint32_t i = 0; i < count; ++i) {
    AZ_ASSIGN_OR_RETURN(SectionEntry entry, DecodeEntry(reader, footer));
    if (!entries.empty() && !(entries.back().id < entry.id)) {
      return DataLoss("directory corrupt: %s is out of order", SectionText(entry.id));
    }
    entries.push_back(std::move(entry));
  }
  if (!reader.empty()) return DataLoss("directory corrupt: bytes after its last entry");
  return entries;
}

std::string SectionText(const SectionId& id) {
  std::string text = absl::StrFormat("section %d", static_cast<uint16_t>(id.kind));
  if (Raw(id.field) != 0) absl::StrAppendFormat(&text, ", field %d", Raw(id.field));
  if (!id.name.empty()) absl::StrAppendFormat(&text, ", name %s", Quoted(id.name));
  return text;
}

}  // namespace azimuth::storage
