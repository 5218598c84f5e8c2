#include "server/rpc/call.h"

#include "azimuth/v1/types.pb.h"
#include "tests/support/matchers.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include <new>
#include <stdexcept>

namespace azimuth::server {
namespace {

using ::azimuth::testing::StatusIs;
using std::chrono::hours;
using std::chrono::seconds;
using std::chrono::steady_clock;
using std::chrono::system_clock;
using ::testing::HasSubstr;
using ::testing::Not;

TEST(ToSteady, KeepsTheTimeThatIsLeft) {
  const system_clock::time_point wall = system_clock::now();
  const steady_clock::time_point steady = steady_clock::now();
  EXPECT_EQ(ToSteady(wall + seconds(5), wall, steady), steady + seconds(5));
  EXPECT_EQ(ToSteady(wall + hours(24 * 364), wall, steady), steady + hours(24 * 364));
}

TEST(ToSteady, TakesAPastDeadlineAsNow) {
  const system_clock::time_point wall = system_clock::now();
  const steady_clock::time_point steady = steady_clock::now();
  EXPECT_EQ(ToSteady(wall, wall, steady), steady);
  EXPECT_EQ(ToSteady(wall - hours(1), wall, steady), steady);
  EXPECT_EQ(ToSteady(system_clock::time_point::min(), wall, steady), steady);
}

TEST(ToSteady, TakesNoDeadlineAndAFarOneAsNone) {
  const system_clock::time_point wall = system_clock::now();
  const steady_clock::time_point steady = steady_clock::now();
  EXPECT_EQ(ToSteady(system_clock::time_point::max(), wall, steady),
            steady_clock::time_point::max());
  EXPECT_EQ(ToSteady(wall + hours(24 * 366), wall, steady), steady_clock::time_point::max());
}

TEST(CheckDatabase, KnowsTheDefaultDatabaseOnly) {
  EXPECT_OK(CheckDatabase(""));
  EXPECT_OK(CheckDatabase("default"));
  EXPECT_THAT(CheckDatabase("other"),
              StatusIs(absl::StatusCode::kUnimplemented, HasSubstr("database: 'other'")));
  EXPECT_THAT(CheckDatabase("../other"),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("database: ")));
}

TEST(CheckReplySize, RefusesALongReplyAndSaysWhatToDo) {
  azimuth::v1::Key reply;
  reply.set_string_key(std::string(100, 'k'));
  const size_t bytes = reply.ByteSizeLong();
  EXPECT_OK(CheckReplySize(reply, bytes));
  EXPECT_THAT(CheckReplySize(reply, bytes - 1),
              StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr("output_vectors")));
}

TEST(CurrentExceptionToStatus, TellsLackOfMemoryFromOtherFailures) {
  const auto status_of = [](const auto& thrower) {
    try {
      thrower();
    } catch (...) {
      return CurrentExceptionToStatus();
    }
    return absl::OkStatus();
  };
  EXPECT_THAT(status_of([] { throw std::bad_alloc(); }),
              StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr("memory")));
  // What a library says may hold paths or data: it goes to the log only.
  EXPECT_THAT(status_of([] { throw std::runtime_error("/secret/path"); }),
              StatusIs(absl::StatusCode::kInternal, Not(HasSubstr("/secret"))));
  EXPECT_THAT(status_of([] { throw 7; }), StatusIs(absl::StatusCode::kInternal));
}

}  // namespace
}  // namespace azimuth::server
