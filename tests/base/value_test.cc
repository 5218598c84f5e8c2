#include "base/value.h"

#include "tests/support/matchers.h"

#include <cmath>
#include <limits>
#include <random>
#include <string>

namespace azimuth {
namespace {

using testing::StatusIs;

std::string Encoded(const Value& value) {
  std::string out;
  EncodeValue(value, out);
  return out;
}

void ExpectRoundTrip(const Value& value) {
  const std::string bytes = Encoded(value) + "next";
  std::string_view rest = bytes;
  ASSERT_OK_AND_ASSIGN(const Value decoded, DecodeValue(rest));
  EXPECT_EQ(decoded, value);
  EXPECT_EQ(rest, "next");
}

Value Nested(int depth) {
  Value value{int64_t{1}};
  for (int i = 0; i < depth; ++i) value = Value{ValueList{value}};
  return value;
}

Value RandomValue(std::mt19937_64& random, int depth) {
  switch (random() % (depth > 0 ? 7 : 5)) {
    case 0:
      return Value{};
    case 1:
      return Value{random() % 2 == 0};
    case 2:
      return Value{static_cast<int64_t>(random())};
    case 3:
      return Value{static_cast<double>(random()) / 3};
    case 4:
      return Value{std::string(random() % 20, static_cast<char>(random()))};
    case 5: {
      ValueList list(random() % 4);
      for (Value& item : list) item = RandomValue(random, depth - 1);
      return Value{list};
    }
    default: {
      ValueMap map;
      for (size_t i = random() % 4; i > 0; --i) {
        map["name" + std::to_string(random() % 10)] = RandomValue(random, depth - 1);
      }
      return Value{map};
    }
  }
}

TEST(Value, KnowsItsKind) {
  EXPECT_EQ(Value{}.kind(), ValueKind::kNull);
  EXPECT_TRUE(Value{}.is_null());
  EXPECT_EQ(Value{true}.kind(), ValueKind::kBool);
  EXPECT_EQ(Value{int64_t{1}}.kind(), ValueKind::kInt64);
  EXPECT_EQ(Value{1.0}.kind(), ValueKind::kDouble);
  EXPECT_EQ(Value{std::string()}.kind(), ValueKind::kString);
  EXPECT_EQ(Value{ValueList{}}.kind(), ValueKind::kList);
  EXPECT_EQ(Value{ValueMap{}}.kind(), ValueKind::kMap);
}

TEST(Value, HasANameForEachKind) {
  EXPECT_EQ(ValueKindName(ValueKind::kMissing), "missing");
  EXPECT_EQ(ValueKindName(ValueKind::kNull), "null");
  EXPECT_EQ(ValueKindName(ValueKind::kBool), "bool");
  EXPECT_EQ(ValueKindName(ValueKind::kInt64), "int64");
  EXPECT_EQ(ValueKindName(ValueKind::kDouble), "double");
  EXPECT_EQ(ValueKindName(ValueKind::kString), "string");
  EXPECT_EQ(ValueKindName(ValueKind::kList), "list");
  EXPECT_EQ(ValueKindName(ValueKind::kMap), "map");
}

TEST(EncodeValue, WritesTheBytesThatAreOnDisk) {
  EXPECT_EQ(Encoded(Value{}), "\x01");
  EXPECT_EQ(Encoded(Value{true}), "\x02\x01");
  EXPECT_EQ(Encoded(Value{int64_t{-2}}), "\x03\xFE\xFF\xFF\xFF\xFF\xFF\xFF\xFF");
  EXPECT_EQ(Encoded(Value{1.0}), std::string("\x04\0\0\0\0\0\0\xF0\x3F", 9));
  EXPECT_EQ(Encoded(Value{std::string("ab")}), std::string("\x05\x02\0\0\0ab", 7));
  EXPECT_EQ(Encoded(Value{ValueList{Value{}}}), std::string("\x06\x01\0\0\0\x01", 6));
  EXPECT_EQ(Encoded(Value{ValueMap{{"k", Value{}}}}),
            std::string("\x07\x01\0\0\0\x01\0\0\0k\x01", 11));
}

TEST(DecodeValue, GivesBackValuesOfEveryKind) {
  ExpectRoundTrip(Value{});
  ExpectRoundTrip(Value{false});
  ExpectRoundTrip(Value{std::numeric_limits<int64_t>::min()});
  ExpectRoundTrip(Value{-std::numeric_limits<double>::infinity()});
  ExpectRoundTrip(Value{std::string("a\0b", 3)});
  ExpectRoundTrip(Value{ValueList{}});
  ExpectRoundTrip(Value{ValueMap{{"", Value{true}}, {"x", Value{ValueList{Value{1.5}}}}}});
  ExpectRoundTrip(Nested(kValueDepthMax));
}

TEST(DecodeValue, KeepsTheSignOfZeroAndNan) {
  std::string bytes = Encoded(Value{-0.0}) + Encoded(Value{std::nan("")});
  std::string_view rest = bytes;
  ASSERT_OK_AND_ASSIGN(const Value zero, DecodeValue(rest));
  ASSERT_OK_AND_ASSIGN(const Value nan, DecodeValue(rest));
  EXPECT_TRUE(std::signbit(std::get<double>(zero.data)));
  EXPECT_TRUE(std::isnan(std::get<double>(nan.data)));
}

TEST(DecodeValue, GivesBackRandomValues) {
  std::mt19937_64 random(1);
  for (int i = 0; i < 2000; ++i) ExpectRoundTrip(RandomValue(random, 4));
}

TEST(DecodeValue, RejectsEveryPrefixAndLeavesTheBytesWhereTheyWere) {
  const std::string whole = Encoded(
      Value{ValueMap{{"a", Value{ValueList{Value{int64_t{1}}, Value{2.0}, Value{}, Value{true}}}},
                     {"b", Value{std::string("text")}}}});
  for (size_t size = 0; size < whole.size(); ++size) {
    std::string_view rest = std::string_view(whole).substr(0, size);
    EXPECT_THAT(DecodeValue(rest), StatusIs(absl::StatusCode::kDataLoss)) << size;
    EXPECT_EQ(rest.size(), size);
  }
}

TEST(DecodeValue, RejectsWhatNoEncoderWrites) {
  for (const std::string& bytes :
       {std::string("\x00", 1), std::string("\x08"), std::string("\xFF"), std::string("\x02\x02"),
        std::string("\x06\xFF\xFF\xFF\xFF\x01", 6), std::string("\x07\xFF\xFF\xFF\xFF", 5),
        std::string("\x06\x01\0\0\0\x00", 6)}) {
    std::string_view rest = bytes;
    EXPECT_THAT(DecodeValue(rest), StatusIs(absl::StatusCode::kDataLoss));
  }
}

TEST(DecodeValue, RejectsValuesThatAreNestedTooDeep) {
  const std::string bytes = Encoded(Nested(kValueDepthMax + 1));
  std::string_view rest = bytes;
  EXPECT_THAT(DecodeValue(rest), StatusIs(absl::StatusCode::kDataLoss));
  std::string endless;
  for (int i = 0; i < 100000; ++i) endless += std::string("\x06\x01\0\0\0", 5);
  rest = endless;
  EXPECT_THAT(DecodeValue(rest), StatusIs(absl::StatusCode::kDataLoss));
}

TEST(DecodeValue, SurvivesRandomBytes) {
  std::mt19937_64 random(2);
  for (int i = 0; i < 20000; ++i) {
    std::string bytes = Encoded(RandomValue(random, 3));
    bytes[random() % bytes.size()] = static_cast<char>(random());
    std::string_view rest = bytes;
    const auto value = DecodeValue(rest);
    if (!value.ok()) {
      EXPECT_THAT(value, StatusIs(absl::StatusCode::kDataLoss));
    } else {
      EXPECT_LT(rest.size(), bytes.size());
    }
  }
}

TEST(Key, IsShownAndOrderedByNumberOrByBytes) {
  EXPECT_EQ(KeyToText(Key{int64_t{-17}}), "-17");
  EXPECT_EQ(KeyToText(Key{std::string("a\n")}), "'a\\x0a'");
  EXPECT_TRUE(KeyLess(Key{int64_t{-1}}, Key{int64_t{2}}));
  EXPECT_TRUE(KeyLess(Key{std::string("B")}, Key{std::string("a")}));
  EXPECT_FALSE(KeyLess(Key{std::string("a")}, Key{std::string("a")}));
}

}  // namespace
}  // namespace azimuth
