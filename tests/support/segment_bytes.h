// Segment files as bytes, for tests that damage them.
#pragma once

#include "storage/segment_format.h"

#include "gtest/gtest.h"

#include <cstddef>
#include <cstdint>
#include <fstream>
#include <string>
#include <string_view>

namespace azimuth::testing {

// Flips one bit of a file in place, so that a mapping of it changes, too.
inline void FlipBit(const std::string& path, uint64_t offset, int bit = 4) {
  std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
  file.seekg(static_cast<std::streamoff>(offset));
  const int byte = file.get();
  file.seekp(static_cast<std::streamoff>(offset));
  file.put(static_cast<char>(byte ^ (1 << bit)));
  ASSERT_TRUE(file.good()) << path << " at " << offset;
}

// True if some checksum is over the byte at `offset`: it is no padding.
inline bool IsChecked(std::string_view file, uint64_t offset) {
  using namespace ::azimuth::storage;  // NOLINT(google-build-using-namespace): one function.
  const auto footer = DecodeSegmentFooter(file);
  EXPECT_TRUE(footer.ok());
  if (offset < kSegmentHeaderBytes || offset >= footer->directory_offset) return true;
  const auto entries = DecodeSegmentDirectory(file, *footer);
  EXPECT_TRUE(entries.ok());
  for (const SectionEntry& entry : *entries) {
    if (offset >= entry.offset && offset - entry.offset < entry.length) return true;
  }
  return false;
}

}  // namespace azimuth::testing
