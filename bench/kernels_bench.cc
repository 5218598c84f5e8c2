// How long one distance takes, by metric, dimension and target: `./dev bench kernels`.
//
// Reads rows of a block of 4 MiB, so that the figures are those of a warm cache.

#include "index/distance/distance.h"

#include "benchmark/benchmark.h"

#include <cstdint>
#include <numeric>
#include <string>
#include <vector>

namespace azimuth::index {
namespace {

constexpr size_t kBlockFloats = size_t{1} << 20;

void BenchGather(benchmark::State& state, const DistanceKernels& kernels, size_t dim) {
  std::vector<float> rows(kBlockFloats);
  for (size_t i = 0; i < rows.size(); ++i) rows[i] = static_cast<float>(i % 97) / 97.0F;
  const size_t count = kBlockFloats / dim;
  std::vector<uint32_t> ids(count);
  std::iota(ids.begin(), ids.end(), 0U);
  std::vector<float> distances(count);
  for (auto _ : state) {
    kernels.gather(rows.data(), rows.data(), dim, dim, ids.data(), count, distances.data());
    benchmark::DoNotOptimize(distances.data());
  }
  state.SetItemsProcessed(state.iterations() * static_cast<int64_t>(count));
  state.SetBytesProcessed(state.iterations() * static_cast<int64_t>(count * dim * sizeof(float)));
}

// One benchmark for each metric, dimension and target of this CPU.
const bool registered = [] {
  for (const Metric metric : {Metric::kL2, Metric::kIp}) {
    for (const size_t dim : {size_t{100}, size_t{128}, size_t{256}, size_t{784}, size_t{1536}}) {
      for (const NamedKernels& named : AllKernelsFor(metric)) {
        const std::string name = std::string(MetricName(metric)) + "/" + std::to_string(dim) + "/" +
                                 std::string(named.target);
        benchmark::RegisterBenchmark(name.c_str(),
                                     [kernels = named.kernels, dim](benchmark::State& state) {
                                       BenchGather(state, kernels, dim);
                                     });
      }
    }
  }
  return true;
}();

}  // namespace
}  // namespace azimuth::index
