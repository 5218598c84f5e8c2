#include "storage/row.h"

#include "base/bytes.h"
#include "tests/storage/rows.h"
#include "tests/support/matchers.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include <random>
#include <string>

namespace azimuth::storage {
namespace {

using ::azimuth::testing::StatusIs;
using ::testing::HasSubstr;

StoredRow ExampleRow() {
  return {.insert_seq = Seq{258},
          .partition = PartitionId{3},
          .expires_at_unix_us = -2,
          .key = std::string("ab"),
          .fields = {{FieldId{1}, Value{true}}, {FieldId{7}, Value{int64_t{5}}}},
          .dynamic = {{"x", Value{}}}};
}

TEST(Row, HasTheBytesOfTheTable) {
  using namespace std::string_literals;
  EXPECT_EQ(EncodeRow(ExampleRow()),
            "\x01"                              // format
            "\x02\x01\0\0\0\0\0\0"              // insert_seq
            "\x03\0\0\0"                        // partition
            "\xfe\xff\xff\xff\xff\xff\xff\xff"  // expires
            "\x02\x02\0\0\0ab"                  // string key
            "\x02\0\0\0"                        // two fields
            "\x01\0\0\0\x02\x01"                // 1: true
            "\x07\0\0\0\x03\x05\0\0\0\0\0\0\0"  // 7: int64 5
            "\x01\0\0\0\x01\0\0\0x\x01"s);      // one dynamic field, x: null
}

TEST(Row, ComesBackAsItWent) {
  const uint64_t seed = 20'231;
  SCOPED_TRACE(::testing::Message() << "seed " << seed);
  std::mt19937_64 random(seed);
  for (int i = 0; i < 2'000; ++i) {
    const StoredRow row = RandomRow(random);
    const std::string bytes = EncodeRow(row);
    ASSERT_OK_AND_ASSIGN(const StoredRow decoded, DecodeRow(bytes));
    ASSERT_TRUE(SameRow(row, decoded)) << i;
    ASSERT_EQ(EncodeRow(decoded), bytes) << i;
  }
}

TEST(Row, IsDataLossAtEveryTruncationAndWithBytesAfterIt) {
  std::mt19937_64 random(77);
  for (int i = 0; i < 100; ++i) {
    const std::string bytes = EncodeRow(RandomRow(random));
    for (size_t length = 0; length < bytes.size(); ++length) {
      ASSERT_THAT(DecodeRow(std::string_view(bytes).substr(0, length)),
                  StatusIs(absl::StatusCode::kDataLoss))
          << length;
    }
    ASSERT_THAT(DecodeRow(bytes + '\0'), StatusIs(absl::StatusCode::kDataLoss));
  }
}

TEST(Row, TakesItsSequenceNumberAfterItWasEncoded) {
  std::mt19937_64 random(8);
  for (int i = 0; i < 100; ++i) {
    StoredRow row = RandomRow(random);
    std::string bytes = EncodeRow(row);
    row.insert_seq = Seq{random()};
    SetInsertSeq(bytes, row.insert_seq);
    ASSERT_EQ(bytes, EncodeRow(row)) << i;
  }
}

TEST(Row, TakesANumberAsKeyAfterItWasEncoded) {
  std::mt19937_64 random(9);
  for (int i = 0; i < 100; ++i) {
    StoredRow row = RandomRow(random);
    row.key = static_cast<int64_t>(random());
    std::string bytes = EncodeRow(row);
    row.key = static_cast<int64_t>(random());
    SetInt64Key(bytes, std::get<int64_t>(row.key));
    ASSERT_EQ(bytes, EncodeRow(row)) << i;
  }
}

TEST(Row, OfANewerFormatIsRefusedWithBothVersions) {
  std::string bytes = EncodeRow(ExampleRow());
  bytes[0] = 2;
  EXPECT_THAT(DecodeRow(bytes),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("2 is newer than 1")));
  bytes[0] = 0;
  EXPECT_THAT(DecodeRow(bytes), StatusIs(absl::StatusCode::kDataLoss));
}

TEST(Row, DoesNotTrustCountsOrOrder) {
  const auto with_tail = [](std::string_view tail) {
    // Everything up to the fields, of a row with key 1.
    std::string bytes = EncodeRow({.key = int64_t{1}});
    bytes.resize(bytes.size() - 8);
    return bytes.append(tail);
  };
  std::string huge;
  PutLittle(huge, uint32_t{0xFFFFFFFF});
  EXPECT_THAT(DecodeRow(with_tail(huge)),
              StatusIs(absl::StatusCode::kDataLoss, HasSubstr("count of fields")));

  std::string unordered;
  PutLittle(unordered, uint32_t{2});
  for (const uint32_t id : {7u, 7u}) {
    PutLittle(unordered, id);
    EncodeValue(Value{}, unordered);
  }
  PutLittle(unordered, uint32_t{0});
  EXPECT_THAT(DecodeRow(with_tail(unordered)),
              StatusIs(absl::StatusCode::kDataLoss, HasSubstr("order of id")));

  std::string names;
  PutLittle(names, uint32_t{0});
  PutLittle(names, uint32_t{2});
  for (const char* name : {"b", "a"}) {
    PutLengthPrefixed(names, name);
    EncodeValue(Value{}, names);
  }
  EXPECT_THAT(DecodeRow(with_tail(names)),
              StatusIs(absl::StatusCode::kDataLoss, HasSubstr("order of name")));
}

TEST(Row, SurvivesRandomDamage) {
  std::mt19937_64 random(4);
  int decoded = 0;
  for (int i = 0; i < 5'000; ++i) {
    std::string bytes = EncodeRow(RandomRow(random));
    bytes[random() % bytes.size()] = static_cast<char>(random());
    const absl::StatusOr<StoredRow> row = DecodeRow(bytes);
    if (!row.ok()) continue;
    ++decoded;
    // Whatever was read can be written and read again.
    ASSERT_OK(DecodeRow(EncodeRow(*row))) << i;
  }
  EXPECT_GT(decoded, 0);
}

}  // namespace
}  // namespace azimuth::storage
