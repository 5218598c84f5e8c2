#include "base/deadline.h"

#include "tests/support/matchers.h"

namespace azimuth {
namespace {

using testing::StatusIs;

TEST(CancelToken, NeverCancelsByDefault) {
  EXPECT_OK(CancelToken().Check());
  EXPECT_EQ(CancelToken().deadline(), CancelToken::TimePoint::max());
}

TEST(CancelToken, ReportsADeadlineThatHasPassed) {
  const auto now = std::chrono::steady_clock::now();
  EXPECT_THAT(CancelToken(now, nullptr).Check(), StatusIs(absl::StatusCode::kDeadlineExceeded));
  EXPECT_OK(CancelToken(now + std::chrono::hours(1), nullptr).Check());
}

TEST(CancelToken, AsksTheCallerEachTime) {
  bool gone = false;
  const CancelToken token(CancelToken::TimePoint::max(), [&] { return gone; });
  EXPECT_OK(token.Check());
  gone = true;
  EXPECT_THAT(token.Check(), StatusIs(absl::StatusCode::kCancelled));
  const CancelToken copy = token;
  EXPECT_THAT(copy.Check(), StatusIs(absl::StatusCode::kCancelled));
}

}  // namespace
}  // namespace azimuth
