// Segment files of any bytes: Open says no, or every section that it lists can be found, read and
// verified inside the file.
//
// Input: the first byte says whether the rest is a file as it is (even), or a header's fields and a
// directory for which right checksums and a right footer are made (odd): a checksum is not guessed.
#include "base/bytes.h"
#include "base/crc32c.h"
#include "storage/segment_file.h"
#include "storage/segment_format.h"
#include "tests/support/temp_dir.h"

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <string_view>

namespace {

using namespace azimuth::storage;  // NOLINT(google-build-using-namespace): one file, one layer.

// The input: how many pages of sections (one byte), where the directory is said to be (two u16,
// added to the right offset and length), the directory.
std::string WithRightChecksums(std::string_view input) {
  azimuth::ByteReader reader(input);
  uint8_t pages = 0;
  int16_t offset_error = 0;
  int16_t length_error = 0;
  if (!reader.Little(pages) || !reader.Little(offset_error) || !reader.Little(length_error)) {
    return std::string(input);
  }
  std::string file = EncodeSegmentHeader({.row_count = pages});
  file.resize(kSectionAlignment * (1 + pages % 4), 's');
  const std::string_view directory = reader.rest();
  const SegmentFooter footer{
      .directory_offset = file.size() + static_cast<uint64_t>(int64_t{offset_error}),
      .directory_length = directory.size() + static_cast<uint64_t>(int64_t{length_error}),
      .file_length = file.size() + directory.size() + kSegmentFooterBytes,
      .directory_crc = azimuth::Crc32c(directory)};
  file.append(directory);
  return file + EncodeSegmentFooter(footer);
}

// In memory where there is such a folder: fifteen times as many inputs a second as on a disk.
std::string FastRoot() {
  return std::filesystem::is_directory("/dev/shm") ? "/dev/shm" : azimuth::testing::TempRoot();
}

void Check(bool condition) {
  if (!condition) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const azimuth::testing::TempDir dir(FastRoot());
  if (size == 0) return 0;
  const std::string_view rest(reinterpret_cast<const char*>(data) + 1, size - 1);
  const std::string path = dir.File("segment");
  azimuth::testing::WriteBytes(path,
                               data[0] % 2 == 0 ? std::string(rest) : WithRightChecksums(rest));
  const auto file = SegmentFile::Open(path);
  if (!file.ok()) return 0;
  for (const SectionId& id : (*file)->Sections()) {
    const auto section = (*file)->Find(id);
    Check(section.has_value());
    Check((*file)->Require(id, section->size()).ok());
    Check(section->size() <= (*file)->file_bytes());
    // Reads every byte.
    static_cast<void>(azimuth::Crc32c(*section));
  }
  static_cast<void>((*file)->VerifySections(azimuth::CancelToken()).ok());
  return 0;
}
