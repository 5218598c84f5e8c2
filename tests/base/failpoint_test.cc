#include "base/failpoint.h"

#include "tests/support/matchers.h"

#include <csignal>
#include <set>
#include <string>

namespace azimuth {
namespace {

using ::testing::HasSubstr;
using testing::StatusIs;

class FailpointTest : public ::testing::Test {
 protected:
  void TearDown() override { EXPECT_OK(ArmFailpoints("")); }
};

TEST_F(FailpointTest, HasADifferentDottedNameForEachPlace) {
  std::set<std::string> names;
  for (int i = 0; i < static_cast<int>(Failpoint::kCount); ++i) {
    const std::string name(FailpointName(static_cast<Failpoint>(i)));
    EXPECT_NE(name.find('.'), std::string::npos) << name;
    EXPECT_TRUE(names.insert(name).second) << name;
  }
  EXPECT_EQ(FailpointName(Failpoint::kCommitAfterLog), "commit.after_log");
}

TEST_F(FailpointTest, DoesNothingUnlessArmed) {
  for (int i = 0; i < static_cast<int>(Failpoint::kCount); ++i) {
    EXPECT_OK(VisitFailpoint(static_cast<Failpoint>(i)));
  }
}

TEST_F(FailpointTest, CanBeArmedByNameAtEveryPlace) {
  for (int i = 0; i < static_cast<int>(Failpoint::kCount); ++i) {
    const auto point = static_cast<Failpoint>(i);
    const std::string name(FailpointName(point));
    ASSERT_OK(ArmFailpoints(name + "=error"));
    EXPECT_THAT(VisitFailpoint(point), StatusIs(absl::StatusCode::kUnavailable, HasSubstr(name)));
    EXPECT_OK(VisitFailpoint(point));
  }
}

TEST_F(FailpointTest, CanBeAFullDisk) {
  ASSERT_OK(ArmFailpoints("segment.before_build=full"));
  EXPECT_THAT(VisitFailpoint(Failpoint::kSegmentBeforeBuild),
              StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr("segment.before_build")));
  EXPECT_OK(VisitFailpoint(Failpoint::kSegmentBeforeBuild));
}

TEST_F(FailpointTest, FailsOnceAtTheNthVisit) {
  ASSERT_OK(ArmFailpoints("commit.before_log=error@3"));
  EXPECT_OK(VisitFailpoint(Failpoint::kCommitBeforeLog));
  EXPECT_OK(VisitFailpoint(Failpoint::kCommitBeforeLog));
  EXPECT_THAT(VisitFailpoint(Failpoint::kCommitBeforeLog),
              StatusIs(absl::StatusCode::kUnavailable));
  EXPECT_OK(VisitFailpoint(Failpoint::kCommitBeforeLog));
}

TEST_F(FailpointTest, ArmsSeveralAndDisarmsAll) {
  ASSERT_OK(ArmFailpoints("commit.before_log=error;;drop.after_catalog=error@1;"));
  EXPECT_FALSE(VisitFailpoint(Failpoint::kCommitBeforeLog).ok());
  ASSERT_OK(ArmFailpoints(""));
  EXPECT_OK(VisitFailpoint(Failpoint::kDropAfterCatalog));
}

TEST_F(FailpointTest, KillsTheProcess) {
  EXPECT_EXIT(
      {
        (void)ArmFailpoints("segment.mid_write=kill");
        (void)VisitFailpoint(Failpoint::kSegmentMidWrite);
      },
      ::testing::KilledBySignal(SIGKILL), "");
}

TEST_F(FailpointTest, NamesWhatItDoesNotKnow) {
  const auto invalid = [](const char* text) {
    return StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(text));
  };
  EXPECT_THAT(ArmFailpoints("nowhere=kill"), invalid("'nowhere'"));
  EXPECT_THAT(ArmFailpoints("commit.after_log=explode"), invalid("'explode'"));
  EXPECT_THAT(ArmFailpoints("commit.after_log"), invalid("none of kill, error and full"));
  for (const char* count : {"0", "-1", "x", "1x", ""}) {
    EXPECT_THAT(ArmFailpoints(std::string("commit.after_log=kill@") + count),
                invalid("not a positive number"));
  }
}

#ifdef AZ_FAILPOINTS_ENABLED
absl::Status Work() {
  AZ_FAILPOINT(kCommitAfterApply);
  return absl::OkStatus();
}

TEST_F(FailpointTest, ReturnsFromTheFunctionThatHoldsIt) {
  EXPECT_OK(Work());
  ASSERT_OK(ArmFailpoints("commit.after_apply=error"));
  EXPECT_THAT(Work(), StatusIs(absl::StatusCode::kUnavailable));
}
#endif

}  // namespace
}  // namespace azimuth
