// A few seeds of the simulation; tests/engine/simulate_main.cc runs many. AZIMUTH_SEED replays one.

#include "tests/engine/simulation.h"
#include "tests/support/sanitized.h"

#include "gtest/gtest.h"

#include <cstdlib>
#include <string>

namespace azimuth::engine {
namespace {

TEST(DatabaseSimulation, AnswersAsAPlainMapDoesThroughCrashesAtAnyOperation) {
  const char* given = std::getenv("AZIMUTH_SEED");
  const uint64_t first = given != nullptr ? std::strtoull(given, nullptr, 10) : 1;
  const uint64_t few = azimuth::testing::kSanitized ? 6 : 20;
  const uint64_t seeds = given != nullptr ? 1 : few;
  testing::SimulationCounts total;
  for (uint64_t seed = first; seed < first + seeds; ++seed) {
    SCOPED_TRACE("AZIMUTH_SEED=" + std::to_string(seed));
    testing::Simulation simulation(seed);
    const auto violation = simulation.Run(1000);
    ASSERT_FALSE(violation.has_value()) << *violation;
    total.builds += simulation.counts().builds;
    total.crashes += simulation.counts().crashes;
    total.nested += simulation.counts().nested;
    total.verified += simulation.counts().verified;
    total.in_doubt += simulation.counts().in_doubt;
  }
  // Else it would not show what it claims to.
  EXPECT_GT(total.builds, seeds);
  EXPECT_GT(total.crashes, seeds);
  EXPECT_GT(total.nested, seeds);
  EXPECT_GT(total.verified, seeds);
  EXPECT_TRUE(given != nullptr || total.in_doubt > 0);
}

}  // namespace
}  // namespace azimuth::engine
