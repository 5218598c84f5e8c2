#include "storage/snapshot_rows.h"

#include "base/bytes.h"
#include "base/check.h"
#include "base/crc32c.h"
#include "base/failpoint.h"
#include "base/status.h"

#include <optional>
#include <span>
#include <utility>

namespace azimuth::storage {
namespace {

constexpr std::string_view kMagic = "AZSNROWS";
constexpr uint32_t kVersion = 1;
// Magic, version, sequence number, checksum.
constexpr size_t kHeaderBytes = 24;
// Kind, count, length, checksum.
constexpr size_t kBlockHeaderBytes = 16;
constexpr size_t kBlockCrcOffset = 12;
// The kind of the last block, whose content are the counts.
constexpr uint32_t kEndKind = 0xFFFFFFFF;
constexpr size_t kEntryHeaderBytes = 2 * sizeof(uint32_t);
constexpr uint64_t kSyncBytes = uint64_t{8} << 20;

std::span<const std::byte> ToBytes(std::string_view text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

std::string EncodeHeader(Seq as_of) {
  std::string out(kMagic);
  PutLittle(out, kVersion);
  PutLittle(out, Raw(as_of));
  PutLittle(out, Crc32c(std::string_view(out)));
  return out;
}

}  // namespace

struct SnapshotRowsWriter::Rep {
  std::unique_ptr<WritableFile> file;
  uint32_t crc = 0;
  uint64_t synced = 0;
  // The block that is filled.
  RowEntryKind kind = RowEntryKind::kRow;
  uint32_t count = 0;
  std::string entries;
  SnapshotRowCounts counts{};

  absl::Status Write(std::string_view bytes) {
    crc = Crc32c(bytes, crc);
    return file->Append(ToBytes(bytes));
  }

  absl::Status WriteBlock(uint32_t block_kind, uint32_t block_count, std::string_view content) {
    std::string header;
    PutLittle(header, block_kind);
    PutLittle(header, block_count);
    PutLittle(header, static_cast<uint32_t>(content.size()));
    PutLittle(header, Crc32c(content, Crc32c(std::string_view(header))));
    AZ_RETURN_IF_ERROR(Write(header));
    return Write(content);
  }

  absl::Status EndBlock() {
    if (count == 0) return absl::OkStatus();
    AZ_FAILPOINT(kSnapshotMidRows);
    AZ_RETURN_IF_ERROR(WriteBlock(static_cast<uint32_t>(kind), count, entries));
    count = 0;
    entries.clear();
    if (file->size() - synced < kSyncBytes) return absl::OkStatus();
    synced = file->size();
    return file->Sync();
  }
};

SnapshotRowsWriter::SnapshotRowsWriter(std::unique_ptr<Rep> rep) : rep_(std::move(rep)) {}
SnapshotRowsWriter::~SnapshotRowsWriter() = default;

absl::StatusOr<std::unique_ptr<SnapshotRowsWriter>> SnapshotRowsWriter::Create(
    const std::string& path, Seq as_of, Files& files) {
  auto rep = std::make_unique<Rep>();
  AZ_ASSIGN_OR_RETURN(rep->file, files.Create(path));
  AZ_RETURN_IF_ERROR(rep->Write(EncodeHeader(as_of)));
  return std::unique_ptr<SnapshotRowsWriter>(new SnapshotRowsWriter(std::move(rep)));
}

absl::Status SnapshotRowsWriter::Add(RowEntryKind kind, std::string_view key,
                                     std::string_view value) {
  Rep& rep = *rep_;
  const size_t bytes = kEntryHeaderBytes + key.size() + value.size();
  // A reader would refuse it, and no entry of the store is nearly as long.
  if (bytes > kSnapshotBlockBytesMax) {
    return ResourceExhausted("an entry of %d bytes does not go into a snapshot", bytes);
  }
  if (kind != rep.kind || rep.entries.size() + bytes > kSnapshotBlockBytes) {
    AZ_RETURN_IF_ERROR(rep.EndBlock());
  }
  AZ_DCHECK(kind >= rep.kind);
  rep.kind = kind;
  PutLengthPrefixed(rep.entries, key);
  PutLengthPrefixed(rep.entries, value);
  ++rep.count;
  ++rep.counts[static_cast<size_t>(kind) - 1];
  return absl::OkStatus();
}

absl::Status SnapshotRowsWriter::Finish() {
  Rep& rep = *rep_;
  AZ_RETURN_IF_ERROR(rep.EndBlock());
  std::string counts;
  for (const uint64_t count : rep.counts) PutLittle(counts, count);
  AZ_RETURN_IF_ERROR(rep.WriteBlock(kEndKind, 0, counts));
  AZ_RETURN_IF_ERROR(rep.file->Sync());
  return rep.file->Close();
}

uint64_t SnapshotRowsWriter::bytes() const {
  return rep_->file->size();
}

uint32_t SnapshotRowsWriter::crc() const {
  return rep_->crc;
}

const SnapshotRowCounts& SnapshotRowsWriter::counts() const {
  return rep_->counts;
}

namespace {

class Reader final {
 public:
  Reader(const ReadableFile& file, const RowEntryVisitor& visit, const CancelToken& cancel)
      : file_(file), visit_(visit), cancel_(cancel) {}

  absl::StatusOr<SnapshotRowCounts> Run(Seq as_of) {
    AZ_RETURN_IF_ERROR(ReadHeader(as_of));
    while (!ended_) {
      AZ_RETURN_IF_ERROR(cancel_.Check());
      AZ_RETURN_IF_ERROR(ReadBlock());
    }
    if (offset_ != file_.size()) return Wrong("bytes after its end");
    return counts_;
  }

 private:
  absl::Status Wrong(std::string_view what) const {
    return DataLoss("at byte %d: %s", offset_, what);
  }

  // Exactly so many bytes, or DataLoss.
  absl::StatusOr<std::string_view> Read(size_t count) {
    if (count > file_.size() - offset_) return Wrong("it is cut off");
    if (buffer_.size() < count) buffer_.resize(count);
    AZ_ASSIGN_OR_RETURN(
        const size_t got,
        file_.ReadAt(offset_, std::as_writable_bytes(std::span(buffer_.data(), count))));
    if (got != count) return Wrong("it is cut off");
    offset_ += count;
    return std::string_view(buffer_.data(), count);
  }

  absl::Status ReadHeader(Seq as_of) {
    AZ_ASSIGN_OR_RETURN(const std::string_view header, Read(kHeaderBytes));
    ByteReader reader(header);
    std::string_view magic;
    uint32_t version = 0;
    uint64_t seq = 0;
    uint32_t crc = 0;
    if (!reader.Bytes(kMagic.size(), magic) || !reader.Little(version) || !reader.Little(seq) ||
        !reader.Little(crc) || magic != kMagic) {
      return DataLoss("not the rows of a snapshot (bad magic)");
    }
    if (crc != Crc32c(header.substr(0, kHeaderBytes - sizeof(crc)))) {
      return DataLoss("header corrupt (its checksum does not match)");
    }
    if (version > kVersion) {
      return FailedPrecondition("format %d is newer than %d, the newest that this server reads",
                                version, kVersion);
    }
    if (version == 0 || Seq{seq} != as_of) {
      return DataLoss("it is of the sequence number %d instead of %d", seq, Raw(as_of));
    }
    return absl::OkStatus();
  }

  absl::Status ReadBlock() {
    AZ_ASSIGN_OR_RETURN(const std::string_view header, Read(kBlockHeaderBytes));
    ByteReader reader(header);
    uint32_t kind = 0;
    uint32_t count = 0;
    uint32_t length = 0;
    uint32_t crc = 0;
    if (!reader.Little(kind) || !reader.Little(count) || !reader.Little(length) ||
        !reader.Little(crc)) {
      return Wrong("it is cut off");
    }
    if (length > kSnapshotBlockBytesMax) return Wrong("a block is longer than any can be");
    const uint32_t header_crc = Crc32c(header.substr(0, kBlockCrcOffset));
    AZ_ASSIGN_OR_RETURN(const std::string_view content, Read(length));
    if (Crc32c(content, header_crc) != crc) return Wrong("the checksum of a block does not match");
    if (kind == kEndKind) return ReadEnd(content);
    if (kind < static_cast<uint32_t>(last_kind_) ||
        kind > static_cast<uint32_t>(RowEntryKind::kRetired)) {
      return Wrong("a block of another kind than comes here");
    }
    if (kind != static_cast<uint32_t>(last_kind_)) last_key_.reset();
    last_kind_ = static_cast<RowEntryKind>(kind);
    return ReadEntries(count, content);
  }

  absl::Status ReadEntries(uint32_t count, std::string_view content) {
    ByteReader reader(content);
    for (uint32_t i = 0; i < count; ++i) {
      std::string_view key;
      std::string_view value;
      if (!reader.LengthPrefixed(key) || !reader.LengthPrefixed(value)) {
        return Wrong("an entry is longer than its block");
      }
      if (last_key_.has_value() && key <= *last_key_) return Wrong("entries are out of order");
      AZ_RETURN_IF_ERROR(visit_(last_kind_, key, value));
      last_key_ = key;
    }
    if (!reader.empty()) return Wrong("a block has bytes after its last entry");
    counts_[static_cast<size_t>(last_kind_) - 1] += count;
    return absl::OkStatus();
  }

  absl::Status ReadEnd(std::string_view content) {
    ByteReader reader(content);
    for (const uint64_t count : counts_) {
      uint64_t says = 0;
      if (!reader.Little(says) || says != count) return Wrong("entries are missing");
    }
    if (!reader.empty()) return Wrong("a block has bytes after its last entry");
    ended_ = true;
    return absl::OkStatus();
  }

  const ReadableFile& file_;
  const RowEntryVisitor& visit_;
  const CancelToken& cancel_;
  uint64_t offset_ = 0;
  std::string buffer_;
  RowEntryKind last_kind_ = RowEntryKind::kRow;
  std::optional<std::string> last_key_;  // Of the kind.
  SnapshotRowCounts counts_{};
  bool ended_ = false;
};

}  // namespace

absl::StatusOr<SnapshotRowCounts> ReadSnapshotRows(const ReadableFile& file, Seq as_of,
                                                   const RowEntryVisitor& visit,
                                                   const CancelToken& cancel) {
  return Reader(file, visit, cancel).Run(as_of);
}

}  // namespace azimuth::storage
