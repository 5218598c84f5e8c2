// Calibrations of any bytes: Open says no, or each question has an answer that a search can use.
//
// Input: the first byte says whether the rest is a section as it is (even), or a list of changes
// (offset u16, byte) to one that was measured.
#include "index/graph/calibration.h"
#include "index/graph/calibration_queries.h"
#include "index/graph/frozen_graph.h"
#include "index/graph/hnsw_builder.h"
#include "tests/support/aligned_bytes.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace {

using namespace azimuth::index;  // NOLINT(google-build-using-namespace): one file, one layer.

constexpr uint32_t kEfMax = 32768;

void Check(bool condition) {
  if (!condition) std::abort();
}

void OneThread(size_t count, const std::function<void(size_t)>& body) {
  for (size_t i = 0; i < count; ++i) body(i);
}

// Of 200 points on a line.
std::string SomeCalibration() {
  std::vector<float> values(200);
  std::vector<const float*> rows;
  for (size_t i = 0; i < values.size(); ++i) {
    values[i] = static_cast<float>(i * 77 % 200);
    rows.push_back(&values[i]);
  }
  const azimuth::CancelToken cancel{};
  HnswBuildOptions options;
  options.dim = 1;
  options.m = 4;
  HeldOut held_out{.wanted = CalibrationQueryCount(rows.size())};
  const auto built = BuildHnsw(rows, options, OneThread, cancel, &held_out);
  Check(built.ok());
  const std::vector<uint32_t> order = BreadthFirstOrder(*built);
  const azimuth::testing::AlignedBytes bytes(FreezeGraph(held_out.before, order));
  std::vector<const float*> ordered;
  std::vector<uint32_t> nodes;
  for (const uint32_t node : order) {
    if (std::ranges::binary_search(held_out.numbers, node)) {
      nodes.push_back(static_cast<uint32_t>(ordered.size()));
    }
    ordered.push_back(rows[node]);
  }
  const auto graph = FrozenGraph::Open(bytes.span());
  Check(graph.ok());
  const auto queries =
      FindCalibrationQueries(nodes, nullptr, ordered, Metric::kL2, 1, OneThread, cancel);
  Check(queries.ok());
  const auto calibration =
      Calibrate(*graph, nullptr, ordered, Metric::kL2, 1, *queries, {}, OneThread, cancel);
  Check(calibration.ok() && calibration->points().size() > 2);
  return calibration->Save();
}

std::string Section(std::string_view input) {
  if (input.empty() || input[0] % 2 == 0) return std::string(input.substr(input.empty() ? 0 : 1));
  static const std::string kGood = SomeCalibration();
  std::string section = kGood;
  for (size_t i = 1; i + 3 <= input.size(); i += 3) {
    const size_t offset = static_cast<uint8_t>(input[i]) |
                          static_cast<size_t>(static_cast<uint8_t>(input[i + 1])) << 8;
    section[offset % section.size()] = input[i + 2];
  }
  return section;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string section = Section({reinterpret_cast<const char*>(data), size});
  const auto calibration = Calibration::Open(std::as_bytes(std::span(section)));
  if (!calibration.ok()) return 0;
  for (const uint32_t limit : {1U, 2U, 10U, 37U, 100U, 1000U, 16384U}) {
    uint32_t last = limit;
    for (const double recall : {0.001, 0.5, 0.9, 0.95, 0.99, 0.9999, 1.0}) {
      const uint32_t ef = calibration->Ef(recall, limit);
      Check(ef >= last && ef <= kEfMax);
      last = ef;
      const Calibration::Effort effort = calibration->EffortFor(recall, limit, 64, 512);
      Check(effort.ef >= limit && effort.ef <= kEfMax);
      const RescoreOptions rescore = Calibration::Rescore(limit, effort.error, 2);
      Check(rescore.least >= limit && rescore.slack >= 0);
    }
  }
  const std::vector<GraphScratch::Candidate> found(100, {1.5F, 0});
  for (const Metric metric : {Metric::kL2, Metric::kIp}) {
    const double wider = calibration->Widening(found, metric, 2);
    Check(wider >= 1 && wider <= (metric == Metric::kIp ? 16 : 8));
  }
  Check(calibration->Cost(64, 512) >= 0);
  const std::string saved = calibration->Save();
  const auto again = Calibration::Open(std::as_bytes(std::span(saved)));
  Check(again.ok() && again->Save() == saved);
  return 0;
}
