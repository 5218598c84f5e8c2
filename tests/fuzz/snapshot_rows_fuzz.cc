// rows.dat of any bytes: ReadSnapshotRows says no, or what it gave can be written and read again;
// and the check of its entries says no, or lets them pass, whatever they are.
//
// Input: the first byte says whether the rest is a file as it is (even), or the contents of blocks
// for which headers and checksums are made (odd): a checksum is not guessed. Then each block is u8
// kind, u8 count, u16 length, the content.
#include "base/bytes.h"
#include "base/crc32c.h"
#include "engine/snapshot/check_entries.h"
#include "storage/snapshot_rows.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <string>
#include <string_view>

namespace {

using namespace azimuth::storage;  // NOLINT(google-build-using-namespace): one file, one layer.

constexpr azimuth::Seq kAsOf{7};

class MemoryFile final : public ReadableFile {
 public:
  explicit MemoryFile(std::string bytes) : bytes_(std::move(bytes)) {}
  absl::StatusOr<size_t> ReadAt(uint64_t offset, std::span<std::byte> out) const override {
    if (offset >= bytes_.size()) return size_t{0};
    const size_t count = std::min<size_t>(out.size(), bytes_.size() - offset);
    std::memcpy(out.data(), bytes_.data() + offset, count);
    return count;
  }
  uint64_t size() const override { return bytes_.size(); }

 private:
  const std::string bytes_;
};

std::string WithRightChecksums(std::string_view input) {
  std::string file = "AZSNROWS";
  azimuth::PutLittle(file, uint32_t{1});
  azimuth::PutLittle(file, Raw(kAsOf));
  azimuth::PutLittle(file, azimuth::Crc32c(std::string_view(file)));
  uint64_t counts[4] = {};
  const auto add = [&](uint32_t kind, uint32_t count, std::string_view content) {
    std::string header;
    azimuth::PutLittle(header, kind);
    azimuth::PutLittle(header, count);
    azimuth::PutLittle(header, static_cast<uint32_t>(content.size()));
    azimuth::PutLittle(header, azimuth::Crc32c(content, azimuth::Crc32c(std::string_view(header))));
    file.append(header).append(content);
  };
  azimuth::ByteReader reader(input);
  uint8_t kind = 0;
  uint8_t count = 0;
  uint16_t length = 0;
  while (reader.Little(kind) && reader.Little(count) && reader.Little(length)) {
    std::string_view content;
    if (!reader.Bytes(std::min<size_t>(length, reader.rest().size()), content)) break;
    add(kind, count, content);
    if (kind >= 1 && kind <= 4) counts[kind - 1] += count;
  }
  std::string end;
  for (const uint64_t number : counts) azimuth::PutLittle(end, number);
  add(0xFFFFFFFF, 0, end);
  return file;
}

azimuth::engine::Schema MakeSchema() {
  azimuth::engine::Schema schema;
  schema.fields.push_back({.name = "n", .type = azimuth::engine::FieldType::kInt64});
  schema.vectors.push_back({.name = "v", .dim = 2});
  NumberFields(schema);
  return schema;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const azimuth::engine::Schema schema = MakeSchema();
  if (size == 0) return 0;
  const std::string_view rest(reinterpret_cast<const char*>(data) + 1, size - 1);
  const MemoryFile file(data[0] % 2 == 0 ? std::string(rest) : WithRightChecksums(rest));
  azimuth::engine::MemoryBudget memory(uint64_t{1} << 30);
  azimuth::engine::EntriesCheck check(schema, azimuth::RowId{1000}, kAsOf, memory);
  bool right = true;
  uint64_t entries = 0;
  const auto counts = ReadSnapshotRows(
      file, kAsOf,
      [&](RowEntryKind kind, std::string_view key, std::string_view value) {
        ++entries;
        right = right && check.Visit(kind, key, value).ok();
        return absl::OkStatus();
      },
      azimuth::CancelToken());
  if (!counts.ok()) return 0;
  uint64_t sum = 0;
  for (const uint64_t count : *counts) sum += count;
  if (sum != entries) std::abort();
  if (right && check.Finish().ok() && check.live_rows() > check.rows().size()) std::abort();
  return 0;
}
