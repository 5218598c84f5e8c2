#include "base/bytes.h"

#include "gtest/gtest.h"

#include <algorithm>
#include <limits>
#include <string>
#include <vector>

namespace azimuth {
namespace {

TEST(PutLittle, WritesTheLowByteFirst) {
  std::string out;
  PutLittle(out, uint32_t{0x01020304});
  PutLittle(out, int16_t{-2});
  EXPECT_EQ(out, std::string("\x04\x03\x02\x01\xFE\xFF", 6));
}

TEST(PutBig, WritesTheHighByteFirst) {
  std::string out;
  PutBig(out, uint32_t{0x01020304});
  PutBig(out, uint8_t{0xFF});
  EXPECT_EQ(out, std::string("\x01\x02\x03\x04\xFF", 5));
}

TEST(PutBig, SortsAsTheNumbersDo) {
  const std::vector<uint64_t> numbers = {
      0, 1, 255, 256, 65535, 1u << 31, uint64_t{1} << 63, std::numeric_limits<uint64_t>::max()};
  std::vector<std::string> encoded;
  for (const uint64_t number : numbers) PutBig(encoded.emplace_back(), number);
  EXPECT_TRUE(std::is_sorted(encoded.begin(), encoded.end()));
}

TEST(ByteReader, ReadsBackWhatWasWritten) {
  std::string out;
  PutLittle(out, int64_t{-5});
  PutLittle(out, 1.5);
  PutBig(out, uint64_t{0x8000000000000001});
  PutBig(out, uint16_t{0xABCD});
  PutLengthPrefixed(out, std::string_view("a\0b", 3));
  PutLengthPrefixed(out, "");
  out += "rest";

  ByteReader reader(out);
  int64_t number = 0;
  double real = 0;
  uint64_t big = 0;
  uint16_t small = 0;
  std::string_view text, empty, rest;
  ASSERT_TRUE(reader.Little(number));
  ASSERT_TRUE(reader.Little(real));
  ASSERT_TRUE(reader.Big(big));
  ASSERT_TRUE(reader.Big(small));
  ASSERT_TRUE(reader.LengthPrefixed(text));
  ASSERT_TRUE(reader.LengthPrefixed(empty));
  EXPECT_EQ(reader.rest(), "rest");
  ASSERT_TRUE(reader.Bytes(4, rest));
  EXPECT_EQ(number, -5);
  EXPECT_EQ(real, 1.5);
  EXPECT_EQ(big, 0x8000000000000001);
  EXPECT_EQ(small, 0xABCD);
  EXPECT_EQ(text, std::string_view("a\0b", 3));
  EXPECT_EQ(empty, "");
  EXPECT_EQ(rest, "rest");
  EXPECT_TRUE(reader.empty());
}

TEST(ByteReader, StaysWhereItWasWhenTooFewBytesAreLeft) {
  const std::string three = "\x05\x01\x02";
  ByteReader reader(three);
  uint32_t number = 7;
  std::string_view bytes;
  EXPECT_FALSE(reader.Little(number));
  EXPECT_FALSE(reader.Big(number));
  EXPECT_FALSE(reader.Bytes(4, bytes));
  EXPECT_FALSE(reader.LengthPrefixed(bytes));
  EXPECT_EQ(number, 7u);
  EXPECT_EQ(reader.rest().size(), 3u);
  EXPECT_TRUE(reader.Bytes(3, bytes));
}

TEST(ByteReader, StaysWhereItWasWhenALengthIsLongerThanTheRest) {
  std::string out;
  PutLittle(out, std::numeric_limits<uint32_t>::max());
  out += "abc";
  ByteReader reader(out);
  std::string_view bytes;
  EXPECT_FALSE(reader.LengthPrefixed(bytes));
  EXPECT_EQ(reader.rest().size(), out.size());
}

}  // namespace
}  // namespace azimuth
