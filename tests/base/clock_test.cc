#include "base/clock.h"

#include "gtest/gtest.h"

namespace azimuth {
namespace {

TEST(Clock, CountsMicrosecondsSince1970) {
  constexpr int64_t kYear2020 = int64_t{1'577'836'800} * 1'000'000;
  constexpr int64_t kYear2200 = int64_t{7'258'118'400} * 1'000'000;
  EXPECT_GT(Clock::System().NowUnixMicros(), kYear2020);
  EXPECT_LT(Clock::System().NowUnixMicros(), kYear2200);
}

}  // namespace
}  // namespace azimuth
