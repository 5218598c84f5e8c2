// Manifests of snapshots of any bytes: DecodeSnapshotManifest says no, or what it read is written
// to the same bytes, and no name in it leads out of the folder.
//
// Input: the first byte says whether the rest is a manifest as it is (even), or one whose last
// line, the checksum, is made (odd): a checksum is not guessed.
#include "base/crc32c.h"
#include "storage/snapshot_manifest.h"

#include "absl/strings/str_format.h"

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  std::string text(reinterpret_cast<const char*>(data) + 1, size - 1);
  if (data[0] % 2 == 1) {
    absl::StrAppendFormat(&text, "crc32c %08x\n", azimuth::Crc32c(std::string_view(text)));
  }
  const auto manifest = azimuth::storage::DecodeSnapshotManifest(text);
  if (!manifest.ok()) return 0;
  if (azimuth::storage::EncodeSnapshotManifest(*manifest) != text) std::abort();
  for (const auto& file : manifest->files) {
    if (file.name.find("..") != std::string::npos || file.name.starts_with('/')) std::abort();
    if (manifest->Find(file.name) != &file) std::abort();
  }
  static_cast<void>(manifest->bytes());
  return 0;
}
