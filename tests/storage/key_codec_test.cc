#include "storage/key_codec.h"

#include "tests/storage/rows.h"
#include "tests/support/matchers.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include <algorithm>
#include <limits>
#include <random>
#include <string>
#include <vector>

namespace azimuth::storage {
namespace {

using ::azimuth::testing::StatusIs;

constexpr RowStoreId kLastStore{std::numeric_limits<uint32_t>::max()};
constexpr RowId kLastRow{std::numeric_limits<uint64_t>::max()};

TEST(KeyCodec, HasTheBytesOfTheTable) {
  using namespace std::string_literals;
  EXPECT_EQ(RowKey(RowStoreId{1}, RowId{0x0203}), "\0\0\0\x01\0\0\0\0\0\0\x02\x03"s);
  EXPECT_EQ(VectorKey(RowStoreId{1}, FieldId{4}, RowId{5}),
            "\0\0\0\x01\0\0\0\x04\0\0\0\0\0\0\0\x05"s);
  EXPECT_EQ(KeyKey(RowStoreId{1}, Key(int64_t{-1})),
            "\0\0\0\x01\x01\x7f\xff\xff\xff\xff\xff\xff\xff"s);
  EXPECT_EQ(KeyKey(RowStoreId{1}, Key("a")), "\0\0\0\x01\x02"s + "a");
  EXPECT_EQ(AppliedSeqKey(), "\x01"s);
  EXPECT_EQ(NextIdsKey(), "\x02"s);
  EXPECT_EQ(CountersKey(RowStoreId{9}), "\x03\0\0\0\x09"s);
  EXPECT_EQ(CollectionKey(CollectionId{9}), "\x01\0\0\0\x09"s);
  EXPECT_EQ(SegmentKey(RowStoreId{9}, SegmentId{1}), "\x02\0\0\0\x09\0\0\0\0\0\0\0\x01"s);
}

TEST(KeyCodec, OrdersRecordKeysAsTheKeysAre) {
  std::vector<Key> keys = {std::numeric_limits<int64_t>::min(),
                           std::numeric_limits<int64_t>::min() + 1,
                           int64_t{-1},
                           int64_t{0},
                           int64_t{1},
                           std::numeric_limits<int64_t>::max(),
                           std::string("a"),
                           std::string("a\0", 2),
                           std::string("aa"),
                           std::string("b"),
                           std::string("\xff"),
                           std::string("\xff\xff")};
  std::mt19937_64 random(5);
  for (int i = 0; i < 200; ++i) keys.push_back(RandomKey(random));
  std::sort(keys.begin(), keys.end(), KeyLess);
  keys.erase(std::unique(keys.begin(), keys.end()), keys.end());
  for (size_t i = 1; i < keys.size(); ++i) {
    ASSERT_LT(KeyKey(RowStoreId{3}, keys[i - 1]), KeyKey(RowStoreId{3}, keys[i]))
        << KeyToText(keys[i - 1]) << " and " << KeyToText(keys[i]);
  }
}

TEST(KeyCodec, OrdersRowsByNumber) {
  EXPECT_LT(RowKey(RowStoreId{1}, RowId{255}), RowKey(RowStoreId{1}, RowId{256}));
  EXPECT_LT(RowKey(RowStoreId{1}, kLastRow), RowKey(RowStoreId{2}, RowId{0}));
  EXPECT_LT(VectorKey(RowStoreId{1}, FieldId{1}, kLastRow),
            VectorKey(RowStoreId{1}, FieldId{2}, RowId{0}));
}

TEST(KeyCodec, RangeOfARowStoreHoldsItsKeysAndNoOthers) {
  const std::string text(300, '\xff');
  for (const RowStoreId store :
       {RowStoreId{0}, RowStoreId{0x01ff}, RowStoreId{0xffff}, kLastStore}) {
    const KeyRange range = RowStoreRange(store);
    const auto holds = [&](const std::string& key) {
      return range.first <= key && key < range.end;
    };
    EXPECT_TRUE(holds(RowKey(store, RowId{0})));
    EXPECT_TRUE(holds(RowKey(store, kLastRow)));
    EXPECT_TRUE(holds(VectorKey(store, FieldId{0xFFFFFFFF}, kLastRow)));
    EXPECT_TRUE(holds(KeyKey(store, Key(text))));
    if (store != kLastStore) {
      EXPECT_FALSE(holds(RowKey(Next(store), RowId{0})));
    }
    if (store != RowStoreId{0}) {
      EXPECT_FALSE(holds(KeyKey(RowStoreId{Raw(store) - 1}, Key(text))));
    }
    const KeyRange segments = SegmentsRange(store);
    EXPECT_LE(segments.first, SegmentKey(store, SegmentId{0}));
    EXPECT_LT(SegmentKey(store, SegmentId{~uint64_t{0}}), segments.end);
    EXPECT_LT(segments.end, SegmentsRange().end);
    EXPECT_GE(segments.first, SegmentsRange().first);
  }
}

TEST(KeyCodec, ReadsBackWhatItWrote) {
  ASSERT_OK_AND_ASSIGN(const RowId row,
                       RowOfKey(RowKey(RowStoreId{1}, RowId{1u << 20}), kRowKeyBytes));
  EXPECT_EQ(row, RowId{1u << 20});
  ASSERT_OK_AND_ASSIGN(const RowId of_vector,
                       RowOfKey(VectorKey(RowStoreId{1}, FieldId{2}, kLastRow), kVectorKeyBytes));
  EXPECT_EQ(of_vector, kLastRow);
  ASSERT_OK_AND_ASSIGN(const CollectionId collection,
                       ParseCollectionKey(CollectionKey(CollectionId{77})));
  EXPECT_EQ(collection, CollectionId{77});
  ASSERT_OK_AND_ASSIGN(const SegmentKeyParts parts,
                       ParseSegmentKey(SegmentKey(RowStoreId{5}, SegmentId{6})));
  EXPECT_EQ(parts.store, RowStoreId{5});
  EXPECT_EQ(parts.id, SegmentId{6});
}

TEST(KeyCodec, AnswersDataLossToKeysOfAnotherLengthOrTag) {
  const std::string row = RowKey(RowStoreId{1}, RowId{2});
  const std::string collection = CollectionKey(CollectionId{1});
  const std::string segment = SegmentKey(RowStoreId{1}, SegmentId{2});
  for (size_t length = 0; length < row.size(); ++length) {
    EXPECT_THAT(RowOfKey(row.substr(0, length), kRowKeyBytes),
                StatusIs(absl::StatusCode::kDataLoss));
  }
  for (const std::string& key : {std::string(), segment, collection + "x", collection.substr(1)}) {
    EXPECT_THAT(ParseCollectionKey(key), StatusIs(absl::StatusCode::kDataLoss));
  }
  for (const std::string& key : {std::string(), collection, segment + "x", segment.substr(0, 12)}) {
    EXPECT_THAT(ParseSegmentKey(key), StatusIs(absl::StatusCode::kDataLoss));
  }
}

}  // namespace
}  // namespace azimuth::storage
