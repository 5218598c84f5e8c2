#include "storage/entry_codec.h"

#include "tests/support/matchers.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include <string>

namespace azimuth::storage {
namespace {

using ::azimuth::testing::StatusIs;
using ::testing::HasSubstr;

// `decode` must refuse every beginning of `bytes`, and `bytes` with something after it.
template <typename Decode>
void ExpectOnlyWhole(const std::string& bytes, const Decode& decode) {
  EXPECT_OK(decode(bytes));
  for (size_t length = 0; length < bytes.size(); ++length) {
    EXPECT_THAT(decode(bytes.substr(0, length)), StatusIs(absl::StatusCode::kDataLoss)) << length;
  }
  EXPECT_THAT(decode(bytes + "x"), StatusIs(absl::StatusCode::kDataLoss));
}

// The first byte is the version of the entry.
template <typename Decode>
void ExpectVersionOne(std::string bytes, const Decode& decode) {
  EXPECT_EQ(bytes[0], 1);
  bytes[0] = 2;
  EXPECT_THAT(decode(bytes),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("2 is newer than 1")));
  bytes[0] = 0;
  EXPECT_THAT(decode(bytes), StatusIs(absl::StatusCode::kDataLoss));
}

TEST(EntryCodec, KeyEntryComesBackAndHasTheBytesOfTheTable) {
  using namespace std::string_literals;
  const std::string bytes = EncodeKeyEntry({.row = RowId{1},
                                            .insert_seq = Seq{2},
                                            .partition = PartitionId{3},
                                            .expires_at_unix_us = -1});
  EXPECT_EQ(bytes,
            "\x01\0\0\0\0\0\0\0"
            "\x02\0\0\0\0\0\0\0"
            "\x03\0\0\0"
            "\xff\xff\xff\xff\xff\xff\xff\xff"s);
  ASSERT_OK_AND_ASSIGN(const KeyEntry entry, DecodeKeyEntry(bytes));
  EXPECT_EQ(entry.row, RowId{1});
  EXPECT_EQ(entry.insert_seq, Seq{2});
  EXPECT_EQ(entry.partition, PartitionId{3});
  EXPECT_EQ(entry.expires_at_unix_us, -1);
  ExpectOnlyWhole(bytes, DecodeKeyEntry);
}

TEST(EntryCodec, SequenceNumbersAndCountersComeBack) {
  ASSERT_OK_AND_ASSIGN(const Seq seq, DecodeSeq(EncodeSeq(kSeqMax)));
  EXPECT_EQ(seq, kSeqMax);
  ExpectOnlyWhole(EncodeSeq(Seq{5}), DecodeSeq);

  const std::string bytes = EncodeCounters({.next_row = RowId{9}, .live_rows = 7});
  ASSERT_OK_AND_ASSIGN(const RowStoreCounters counters, DecodeCounters(bytes));
  EXPECT_EQ(counters.next_row, RowId{9});
  EXPECT_EQ(counters.live_rows, 7u);
  ExpectOnlyWhole(bytes, DecodeCounters);
}

TEST(EntryCodec, NextIdsComeBack) {
  const std::string bytes = EncodeNextIds(
      {.collection = CollectionId{4}, .row_store = RowStoreId{5}, .segment = SegmentId{6}});
  ASSERT_OK_AND_ASSIGN(const NextIds ids, DecodeNextIds(bytes));
  EXPECT_EQ(ids.collection, CollectionId{4});
  EXPECT_EQ(ids.row_store, RowStoreId{5});
  EXPECT_EQ(ids.segment, SegmentId{6});
  ExpectOnlyWhole(bytes, DecodeNextIds);
  ExpectVersionOne(bytes, DecodeNextIds);
}

TEST(EntryCodec, CollectionEntryComesBack) {
  const std::string bytes = EncodeCollectionEntry({.id = CollectionId{8},
                                                   .row_store = RowStoreId{9},
                                                   .database = "default",
                                                   .name = "items",
                                                   .created_unix_us = 1'700'000'000'000'000,
                                                   .definition = std::string("\0\xff", 2)});
  ASSERT_OK_AND_ASSIGN(const CollectionEntry entry, DecodeCollectionEntry(bytes));
  EXPECT_EQ(entry.row_store, RowStoreId{9});
  EXPECT_EQ(entry.database, "default");
  EXPECT_EQ(entry.name, "items");
  EXPECT_EQ(entry.created_unix_us, 1'700'000'000'000'000);
  EXPECT_EQ(entry.definition, std::string("\0\xff", 2));
  EXPECT_EQ(entry.ids_end, RowId{0});
  EXPECT_EQ(bytes[0], 1);
  ExpectOnlyWhole(bytes, DecodeCollectionEntry);
}

TEST(EntryCodec, CollectionEntryComesBackWithTheEndOfItsRowIds) {
  std::string bytes = EncodeCollectionEntry(
      {.row_store = RowStoreId{9}, .name = "items", .ids_end = RowId{0x123456789a}});
  ASSERT_OK_AND_ASSIGN(const CollectionEntry entry, DecodeCollectionEntry(bytes));
  EXPECT_EQ(entry.name, "items");
  EXPECT_EQ(entry.ids_end, RowId{0x123456789a});
  EXPECT_EQ(bytes[0], 2);
  ExpectOnlyWhole(bytes, DecodeCollectionEntry);
  bytes[0] = 3;
  EXPECT_THAT(DecodeCollectionEntry(bytes),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("3 is newer than 2")));
  for (const char version : {'\0', '\1'}) {
    bytes[0] = version;
    EXPECT_THAT(DecodeCollectionEntry(bytes), StatusIs(absl::StatusCode::kDataLoss));
  }
}

TEST(EntryCodec, SegmentEntryComesBack) {
  const std::string bytes = EncodeSegmentEntry({.id = SegmentId{1},
                                                .row_store = RowStoreId{2},
                                                .rows = {RowId{3}, RowId{400}},
                                                .row_count = 390,
                                                .file_bytes = 1u << 20});
  ASSERT_OK_AND_ASSIGN(const SegmentEntry entry, DecodeSegmentEntry(bytes));
  EXPECT_EQ(entry.rows, (RowRange{RowId{3}, RowId{400}}));
  EXPECT_EQ(entry.row_count, 390u);
  EXPECT_EQ(entry.file_bytes, 1u << 20);
  ExpectOnlyWhole(bytes, DecodeSegmentEntry);
  ExpectVersionOne(bytes, DecodeSegmentEntry);
}

TEST(EntryCodec, RequestEntryComesBackAndHasTheBytesOfTheTable) {
  using namespace std::string_literals;
  const std::string bytes =
      EncodeRequestEntry({.id = "r1", .digest = "\0\xff"s, .at_unix_us = -2, .reply = "abc"});
  EXPECT_EQ(bytes,
            "\x01"
            "\xfe\xff\xff\xff\xff\xff\xff\xff"
            "\x02\0\0\0\0\xff"
            "\x03\0\0\0"
            "abc"s);
  ASSERT_OK_AND_ASSIGN(const RequestEntry entry, DecodeRequestEntry(bytes));
  EXPECT_EQ(entry, (RequestEntry{.id = "", .digest = "\0\xff"s, .at_unix_us = -2, .reply = "abc"}));
  ExpectOnlyWhole(bytes, DecodeRequestEntry);
  ExpectVersionOne(bytes, DecodeRequestEntry);
}

}  // namespace
}  // namespace azimuth::storage
