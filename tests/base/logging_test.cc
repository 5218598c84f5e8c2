#include "base/logging.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include <string>

namespace azimuth {
namespace {

using ::testing::internal::CaptureStderr;
using ::testing::internal::GetCapturedStderr;

class LoggingTest : public ::testing::Test {
 protected:
  void TearDown() override { SetLogLevel(LogLevel::kInfo); }
};

TEST_F(LoggingTest, WritesOneLineWithTimeAndLevel) {
  CaptureStderr();
  LogWarning("disk %d%% full", 93);
  EXPECT_THAT(GetCapturedStderr(),
              ::testing::MatchesRegex("....-..-..T..:..:..\\.......Z W disk 93% full\n"));
}

TEST_F(LoggingTest, EscapesControlCharactersSoThatALineStaysALine) {
  CaptureStderr();
  LogInfo("a\nb\x1b[0m");
  const std::string line = GetCapturedStderr();
  EXPECT_THAT(line, ::testing::EndsWith("I a\\x0ab\\x1b[0m\n"));
}

TEST_F(LoggingTest, DropsLinesBelowTheLevel) {
  CaptureStderr();
  LogLine(LogLevel::kDebug, "hidden");
  SetLogLevel(LogLevel::kError);
  LogWarning("hidden");
  LogError("shown");
  SetLogLevel(LogLevel::kDebug);
  LogLine(LogLevel::kDebug, "now shown");
  const std::string lines = GetCapturedStderr();
  EXPECT_THAT(lines, ::testing::Not(::testing::HasSubstr("hidden")));
  EXPECT_THAT(lines, ::testing::HasSubstr("E shown\n"));
  EXPECT_THAT(lines, ::testing::HasSubstr("D now shown\n"));
}

}  // namespace
}  // namespace azimuth
