// azimuth_simulate: runs the simulation for many seeds and says what it found.
//
//   azimuth_simulate [--seeds N] [--first-seed S] [--operations N]
//
// One line of JSON on stdout with the counts of all seeds; exit code 1 if there was a violation,
// whose seed and text stand on stderr. The same seed with the same number of operations does the
// same again.
#include "base/logging.h"
#include "tests/engine/simulation.h"

#include "absl/strings/str_format.h"

#include <charconv>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>

namespace {

struct Options {
  uint64_t seeds = 20;
  uint64_t first_seed = 1;
  uint64_t operations = 1000;
};

bool Parse(int argc, char** argv, Options& options) {
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string_view name = argv[i];
    uint64_t* const target = name == "--seeds"        ? &options.seeds
                             : name == "--first-seed" ? &options.first_seed
                             : name == "--operations" ? &options.operations
                                                      : nullptr;
    const std::string_view text = argv[i + 1];
    if (target == nullptr || std::from_chars(text.data(), text.data() + text.size(), *target).ptr !=
                                 text.data() + text.size()) {
      return false;
    }
  }
  return argc % 2 == 1;
}

}  // namespace

int main(int argc, char** argv) {
  using azimuth::engine::testing::Simulation;
  using azimuth::engine::testing::SimulationCounts;
  Options options;
  if (!Parse(argc, argv, options)) {
    std::fprintf(stderr, "usage: azimuth_simulate [--seeds N] [--first-seed S] [--operations N]\n");
    return 2;
  }
  // What the engine says of failing disks is the point of it, a thousand times.
  azimuth::SetLogLevel(std::getenv("AZIMUTH_LOG") != nullptr ? azimuth::LogLevel::kDebug
                                                             : azimuth::LogLevel{4});
  SimulationCounts total;
  uint64_t violations = 0;
  const auto start = std::chrono::steady_clock::now();
  for (uint64_t seed = options.first_seed; seed < options.first_seed + options.seeds; ++seed) {
    Simulation simulation(seed);
    if (const auto violation = simulation.Run(options.operations)) {
      ++violations;
      absl::FPrintF(stderr, "violation: --first-seed %d --seeds 1 --operations %d: %s\n", seed,
                    options.operations, *violation);
    }
    const SimulationCounts& counts = simulation.counts();
    total.operations += counts.operations;
    total.writes += counts.writes;
    total.nested += counts.nested;
    total.builds += counts.builds;
    total.crashes += counts.crashes;
    total.restarts += counts.restarts;
    total.verified += counts.verified;
    total.in_doubt += counts.in_doubt;
  }
  const double seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  absl::PrintF(
      "{\"seeds\": %d, \"first_seed\": %d, \"simulated_operations\": %d, \"writes\": %d, "
      "\"nested\": %d, \"builds\": %d, \"crashes\": %d, \"restarts\": %d, \"verified\": %d, "
      "\"in_doubt\": %d, "
      "\"violations\": %d, \"seconds\": %.1f}\n",
      options.seeds, options.first_seed, total.operations, total.writes, total.nested, total.builds,
      total.crashes, total.restarts, total.verified, total.in_doubt, violations, seconds);
  return violations == 0 ? 0 : 1;
}
