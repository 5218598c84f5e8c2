#include "base/crc32c.h"

#include "gtest/gtest.h"

#include <random>
#include <string>
#include <vector>

namespace azimuth {
namespace {

std::span<const std::byte> AsBytes(const std::string& text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

// The vectors of RFC 3720, appendix B.4, and the check value of the CRC catalogue.
TEST(Crc32c, GivesThePublishedValues) {
  std::string ascending, descending;
  for (int i = 0; i < 32; ++i) {
    ascending.push_back(static_cast<char>(i));
    descending.push_back(static_cast<char>(31 - i));
  }
  const std::pair<std::string, uint32_t> vectors[] = {
      {std::string(32, '\0'), 0x8A9136AAu},
      {std::string(32, '\xFF'), 0x62A8AB43u},
      {ascending, 0x46DD794Eu},
      {descending, 0x113FDB5Cu},
      {"123456789", 0xE3069283u},
      {"", 0u},
  };
  for (const auto& [text, crc] : vectors) {
    EXPECT_EQ(Crc32c(text), crc);
    EXPECT_EQ(Crc32cScalar(AsBytes(text)), crc);
  }
}

TEST(Crc32c, EqualsItsScalarTwinAtEveryLengthAndAlignment) {
  std::mt19937_64 random(1);
  std::string bytes(300, '\0');
  for (char& c : bytes) c = static_cast<char>(random());
  const std::span<const std::byte> all = AsBytes(bytes);
  for (size_t first = 0; first < 9; ++first) {
    for (size_t size = 0; size <= 100; ++size) {
      const auto before = static_cast<uint32_t>(random());
      EXPECT_EQ(Crc32c(all.subspan(first, size), before),
                Crc32cScalar(all.subspan(first, size), before));
    }
  }
}

TEST(Crc32c, ContinuesWhereAnotherPartEnded) {
  const std::string text = "the quick brown fox jumps over the lazy dog";
  for (size_t cut = 0; cut <= text.size(); ++cut) {
    const uint32_t head = Crc32c(std::string_view(text).substr(0, cut));
    EXPECT_EQ(Crc32c(std::string_view(text).substr(cut), head), Crc32c(text));
    EXPECT_EQ(Crc32cScalar(AsBytes(text).subspan(cut), head), Crc32c(text));
  }
}

}  // namespace
}  // namespace azimuth
