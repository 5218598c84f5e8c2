#include "server/app.h"

#include "server/health_check.h"
#include "tests/support/matchers.h"
#include "tests/support/temp_dir.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include <memory>
#include <string>
#include <utility>

namespace azimuth::server {
namespace {

using ::azimuth::testing::StatusIs;
using ::azimuth::testing::TempDir;
using ::testing::HasSubstr;

constexpr std::chrono::seconds kTimeout{30};

Config ConfigAt(const TempDir& dir, uint16_t port = 0) {
  Config config;
  config.database.data_dir = dir.File("data");
  config.listen.port = port;
  return config;
}

TEST(App, ListensAtAPortOfItsOwnAndIsHealthyUntilItStops) {
  const TempDir dir;
  ASSERT_OK_AND_ASSIGN(const std::unique_ptr<App> app, App::Start(ConfigAt(dir)));
  const HostPort address = app->address();
  EXPECT_EQ(address.host, "127.0.0.1");
  EXPECT_NE(address.port, 0);
  EXPECT_EQ(app->failure(), "");
  EXPECT_OK(CheckHealth(address, kTimeout));
  EXPECT_OK(app->Stop(kTimeout));
  EXPECT_THAT(CheckHealth(address, kTimeout),
              StatusIs(absl::StatusCode::kUnavailable, HasSubstr(address.ToString())));
}

TEST(App, RefusesATakenPortAndLeavesTheDataDirectoryFree) {
  const TempDir dir, other;
  ASSERT_OK_AND_ASSIGN(const std::unique_ptr<App> app, App::Start(ConfigAt(dir)));
  EXPECT_THAT(App::Start(ConfigAt(other, app->address().port)),
              StatusIs(absl::StatusCode::kUnavailable,
                       HasSubstr("cannot listen on " + app->address().ToString())));
  EXPECT_OK(App::Start(ConfigAt(other)));
}

TEST(App, RefusesADataDirectoryThatIsInUse) {
  const TempDir dir;
  ASSERT_OK_AND_ASSIGN(const std::unique_ptr<App> app, App::Start(ConfigAt(dir)));
  EXPECT_THAT(App::Start(ConfigAt(dir)), ::testing::Not(::azimuth::testing::IsOk()));
  EXPECT_OK(CheckHealth(app->address(), kTimeout)) << "the first server goes on";
}

TEST(App, StartsAgainWhereItStopped) {
  const TempDir dir;
  for (int round = 0; round < 2; ++round) {
    ASSERT_OK_AND_ASSIGN(const std::unique_ptr<App> app, App::Start(ConfigAt(dir)));
    EXPECT_OK(app->Stop(kTimeout));
  }
}

TEST(CheckHealth, AsksAtLoopbackWhenTheAddressMeansAll) {
  const TempDir dir;
  ASSERT_OK_AND_ASSIGN(const std::unique_ptr<App> app, App::Start(ConfigAt(dir)));
  EXPECT_OK(CheckHealth({"0.0.0.0", app->address().port}, kTimeout));
}

}  // namespace
}  // namespace azimuth::server
