#include "engine/write/request_memory.h"

#include "engine/limits.h"
#include "tests/support/matchers.h"

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

#include <cstdint>
#include <string>
#include <utility>

namespace azimuth::engine {
namespace {

using ::azimuth::testing::StatusIs;

// First keys and how many; a batch has 100,000 records at most.
using Made = std::pair<int64_t, uint64_t>;
constexpr Made kMade[] = {{1, 1}, {1, kBatchRecordsMax}, {INT64_MAX - 5, 5}};
constexpr Made kNeverMade[] = {{0, 1},          {-1, 3},
                               {INT64_MIN, 1},  {1, kBatchRecordsMax + 1},
                               {1, UINT64_MAX}, {INT64_MAX - 4, 5}};

constexpr int64_t kLifetime = 1000;
constexpr size_t kMax = 10;

storage::RequestEntry Entry(int id, int64_t at) {
  return {.id = absl::StrCat(id), .digest = "d", .at_unix_us = at, .reply = "r"};
}

class RequestMemoryTest : public ::testing::Test {
 protected:
  void Fill(int first, int end, int64_t at) {
    for (int id = first; id < end; ++id) memory_.Add(Entry(id, at));
  }
  bool Has(int id, int64_t now) const { return memory_.Find(absl::StrCat(id), now) != nullptr; }
  // How many a group with `commits` writes deletes.
  size_t Expire(int64_t now, int commits) {
    size_t expiring = 0;
    for (int i = 0; i < commits; ++i) memory_.Expire(now, pending_, expiring, batch_);
    return expiring;
  }

  RequestMemory memory_{kLifetime, kMax};
  StringMap<storage::RequestEntry> pending_;
  storage::CommitBatch batch_;
};

TEST_F(RequestMemoryTest, EntriesThatHadTheirTimeGoWithTheBatchThatDeletesThem) {
  Fill(0, 5, 0);
  Fill(5, 7, 500);
  EXPECT_EQ(Expire(999, 1), 0U);
  EXPECT_EQ(Expire(1000, 1), 5U);
  memory_.ForgetOldest(5);
  EXPECT_EQ(memory_.size(), 2U);
  EXPECT_TRUE(Has(5, 1000));
  EXPECT_TRUE(Has(6, 1000));
}

TEST_F(RequestMemoryTest, ABatchThatFailsLetsNoneOfThemGo) {
  Fill(0, 20, 0);
  const size_t before = batch_.byte_size();
  EXPECT_EQ(Expire(1, 1), 8U);  // Too many of them.
  EXPECT_GT(batch_.byte_size(), before);
  EXPECT_EQ(memory_.size(), 20U);
  for (int id = 0; id < 20; ++id) EXPECT_TRUE(Has(id, 1)) << id;
  // The next group begins with the same ones.
  EXPECT_EQ(Expire(1, 1), 8U);
  memory_.ForgetOldest(8);
  for (int id = 0; id < 20; ++id) EXPECT_EQ(Has(id, 1), id >= 8) << id;
}

TEST_F(RequestMemoryTest, EachCommitOfAGroupLetsOthersGo) {
  Fill(0, 40, 0);
  EXPECT_EQ(Expire(1, 3), 24U);
  memory_.ForgetOldest(8);
  Fill(40, 41, 1);
  memory_.ForgetOldest(8);
  memory_.ForgetOldest(8);
  for (int id = 0; id < 41; ++id) EXPECT_EQ(Has(id, 1), id >= 24) << id;
}

TEST_F(RequestMemoryTest, WhatIsUsedAgainStays) {
  Fill(0, 4, 0);
  memory_.Add(Entry(0, 600));
  pending_["2"] = Entry(2, 1000);
  EXPECT_EQ(Expire(1000, 1), 2U);
  memory_.ForgetOldest(2);
  EXPECT_TRUE(Has(0, 1000));
  EXPECT_FALSE(Has(1, 1000));
  EXPECT_FALSE(Has(3, 1000));
  memory_.Add(pending_["2"]);
  EXPECT_TRUE(Has(2, 1999));
  pending_.clear();
  EXPECT_EQ(Expire(1999, 1), 1U);
  memory_.ForgetOldest(1);
  EXPECT_TRUE(Has(2, 1999));
  EXPECT_EQ(memory_.size(), 1U);
}

TEST(LoadEntry, SaysOfWhichCollectionItIs) {
  EXPECT_EQ(CollectionOfLoad(LoadEntryId(CollectionId{258}, "a load")), CollectionId{258});
  EXPECT_EQ(CollectionOfLoad("\xFF\x01"), std::nullopt);
  EXPECT_FALSE(IsLoadEntry("a load"));
}

// Keys that are told are made one by one: as many as an entry on disk says.
TEST(Reply, OfMoreKeysThanACommitMakesIsDamage) {
  const auto decoded = [](int64_t first, uint64_t count) {
    return DecodeReply(EncodeReply({.as_of = Seq{7}, .made = {.first = first, .count = count}}));
  };
  for (const auto& [first, count] : kMade) {
    ASSERT_OK_AND_ASSIGN(const WriteResult reply, decoded(first, count));
    EXPECT_EQ(reply.made.first, first);
    EXPECT_EQ(reply.made.count, count);
  }
  for (const auto& [first, count] : kNeverMade) {
    EXPECT_THAT(decoded(first, count), StatusIs(absl::StatusCode::kDataLoss)) << first;
  }
}

TEST(LoadState, OfMoreKeysThanABatchMakesIsDamage) {
  IngestState state{.last_batch = 3, .made = {{.first = 0, .count = 0}, {.first = 1, .count = 2}}};
  for (const auto& [first, count] : kMade) {
    state.made[0] = {.first = first, .count = count};
    ASSERT_OK_AND_ASSIGN(const IngestState decoded, DecodeLoadState(EncodeLoadState(state)));
    EXPECT_EQ(decoded.made[0].count, count);
  }
  for (const auto& [first, count] : kNeverMade) {
    state.made[0] = {.first = first, .count = count};
    EXPECT_THAT(DecodeLoadState(EncodeLoadState(state)), StatusIs(absl::StatusCode::kDataLoss));
  }
}

TEST(LoadState, OfMoreBatchesThanAreKeptIsDamage) {
  IngestState state{.last_batch = 1000};
  state.made.assign(kLoadMadeKeysMax, {.first = 1, .count = 2});
  ASSERT_OK_AND_ASSIGN(const IngestState decoded, DecodeLoadState(EncodeLoadState(state)));
  EXPECT_EQ(decoded.made.size(), kLoadMadeKeysMax);
  state.made.push_back({});
  EXPECT_THAT(DecodeLoadState(EncodeLoadState(state)), StatusIs(absl::StatusCode::kDataLoss));
}

}  // namespace
}  // namespace azimuth::engine
