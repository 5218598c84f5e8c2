#include "server/rpc/handler_times.h"

#include "gtest/gtest.h"

#include <chrono>
#include <cstdint>

namespace azimuth::server {
namespace {

using std::chrono::microseconds;
using std::chrono::milliseconds;
using std::chrono::nanoseconds;

constexpr nanoseconds kUnknown = milliseconds(2);
constexpr uint64_t kKind = (uint64_t{7} << 32) + 5;
constexpr uint64_t kSameEntry = (uint64_t{8} << 32) + 5;

TEST(HandlerTimes, KnowsNothingOfAKindThatDidNotCome) {
  HandlerTimes times;
  EXPECT_EQ(times.Expected(kKind, kUnknown), kUnknown);
  times.Note(kKind, microseconds(64));
  EXPECT_EQ(times.Expected(kKind, kUnknown), microseconds(64));
  EXPECT_EQ(times.Expected(kSameEntry, kUnknown), kUnknown);
}

TEST(HandlerTimes, ForgetsAKindForAnotherOneOfTheSameEntry) {
  HandlerTimes times;
  times.Note(kKind, microseconds(64));
  times.Note(kSameEntry, microseconds(128));
  EXPECT_EQ(times.Expected(kKind, kUnknown), kUnknown);
  EXPECT_EQ(times.Expected(kSameEntry, kUnknown), microseconds(128));
}

TEST(HandlerTimes, OneLongCallAmongShortOnesCountsLittle) {
  HandlerTimes times;
  for (int i = 0; i < 50; ++i) times.Note(kKind, microseconds(64));
  times.Note(kKind, milliseconds(500));
  EXPECT_LE(times.Expected(kKind, kUnknown), microseconds(2 * 64));
}

TEST(HandlerTimes, FollowsAKindThatBecomesLongAndShortAgain) {
  HandlerTimes times;
  times.Note(kKind, microseconds(64));
  for (int i = 0; i < 12; ++i) times.Note(kKind, milliseconds(5));
  EXPECT_GT(times.Expected(kKind, kUnknown), milliseconds(1));
  for (int i = 0; i < 60; ++i) times.Note(kKind, microseconds(64));
  EXPECT_LT(times.Expected(kKind, kUnknown), microseconds(200));
  for (int i = 0; i < 4000; ++i) times.Note(kKind, microseconds(64));
  EXPECT_EQ(times.Expected(kKind, kUnknown), microseconds(64));
}

TEST(HandlerTimes, TakesTimesThatAreNone) {
  HandlerTimes times;
  times.Note(kKind, nanoseconds(-5));
  EXPECT_GT(times.Expected(kKind, kUnknown), nanoseconds(0));
  times.Note(kKind, nanoseconds::max());
  EXPECT_LT(times.Expected(kKind, kUnknown), milliseconds(1));
}

}  // namespace
}  // namespace azimuth::server
