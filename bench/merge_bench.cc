// What a merge of a graph costs by building anew and by reuse, and what each finds afterwards:
// `./dev bench merge`.
//
// The largest input has 50 000 vectors x 128, of which the argument says how many percent are gone;
// 5 000 others come in. Vectors are drawn around centres from a fixed seed; all with one thread.

#include "index/graph/frozen_graph.h"
#include "index/graph/hnsw_builder.h"
#include "index/graph/search.h"
#include "index/topk.h"

#include "benchmark/benchmark.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <vector>

namespace azimuth::index {
namespace {

constexpr size_t kDim = 128;
constexpr size_t kLargest = 50000;
constexpr size_t kAdded = 5000;
constexpr size_t kQueries = 500;
constexpr size_t kNearest = 10;
constexpr size_t kEf = 64;

// `count` vectors around 1 000 centres that are always the same; wide in 16 dimensions, narrow in
// the others, so that clusters overlap and a walk at ef 64 misses some.
std::vector<float> Draw(size_t count, uint64_t seed) {
  constexpr size_t kCenters = 1000;
  std::normal_distribution<float> normal;
  std::mt19937_64 center_random(1);
  std::vector<float> centers(kCenters * kDim);
  for (float& x : centers) x = normal(center_random);
  std::mt19937_64 random(seed);
  std::vector<float> vectors(count * kDim);
  for (size_t i = 0; i < count; ++i) {
    const float* center = &centers[random() % kCenters * kDim];
    for (size_t d = 0; d < kDim; ++d) {
      vectors[i * kDim + d] = 0.3F * center[d] + (d < 16 ? 1.0F : 0.2F) * normal(random);
    }
  }
  return vectors;
}

std::vector<const float*> Rows(const std::vector<float>& vectors) {
  std::vector<const float*> rows;
  for (size_t i = 0; i < vectors.size(); i += kDim) rows.push_back(&vectors[i]);
  return rows;
}

void OneThread(size_t count, const std::function<void(size_t)>& body) {
  for (size_t i = 0; i < count; ++i) body(i);
}

HnswBuildOptions Options() {
  HnswBuildOptions options;
  options.dim = kDim;
  return options;
}

// A graph in the form in which it is searched.
struct Frozen {
  Frozen(const BuiltGraph& built, const std::vector<const float*>& vectors)
      : order(BreadthFirstOrder(built)) {
    const std::string bytes = FreezeGraph(built, order);
    memory.resize(bytes.size() + 64);
    size_t space = memory.size();
    void* aligned = memory.data();
    std::align(64, bytes.size(), aligned, space);
    std::memcpy(aligned, bytes.data(), bytes.size());
    graph = *FrozenGraph::Open({static_cast<const std::byte*>(aligned), bytes.size()});
    for (const uint32_t node : order) {
      rows.insert(rows.end(), vectors[node], vectors[node] + kDim);
    }
  }

  std::vector<uint32_t> order;
  std::vector<std::byte> memory;
  std::vector<float> rows;  // In node order.
  FrozenGraph graph;
};

double RecallOf(const Frozen& frozen) {
  const std::vector<float> queries = Draw(kQueries, 3);
  const DistanceKernels kernels = KernelsFor(Metric::kL2);
  GraphSearchOptions options;
  options.ef = kEf;
  GraphScratch scratch;
  std::vector<float> distances(frozen.order.size());
  size_t found = 0;
  for (size_t q = 0; q < kQueries; ++q) {
    const float* query = &queries[q * kDim];
    TopK top;
    top.Reset(kNearest, nullptr);
    SearchGraph(frozen.graph, {frozen.rows.data(), kDim, kDim}, kernels, query, options, top,
                scratch, CancelToken())
        .status()
        .IgnoreError();
    kernels.run(query, frozen.rows.data(), kDim, kDim, distances.size(), distances.data());
    std::nth_element(distances.begin(), distances.begin() + kNearest - 1, distances.end());
    const float bound = distances[kNearest - 1] * (1 + 1e-5F);
    for (const Neighbor& neighbor : top.Sorted()) found += neighbor.distance <= bound ? 1 : 0;
  }
  return static_cast<double>(found) / (kNearest * kQueries);
}

struct Merge {
  explicit Merge(int64_t gone_percent) {
    static const std::vector<float> largest = Draw(kLargest, 1);
    static const std::vector<float> added = Draw(kAdded, 2);
    static const Frozen before(*BuildHnsw(Rows(largest), Options(), OneThread, CancelToken()),
                               Rows(largest));
    std::mt19937_64 random(4);
    std::vector<uint32_t> new_of_old;
    for (const float* row : Rows(largest)) {
      const bool gone = random() % 100 < static_cast<uint64_t>(gone_percent);
      new_of_old.push_back(gone ? GraphSeed::kGone : static_cast<uint32_t>(vectors.size()));
      if (!gone) vectors.push_back(row);
    }
    for (const float* row : Rows(added)) vectors.push_back(row);
    for (const uint32_t node : before.order) new_node.push_back(new_of_old[node]);
    graph = &before.graph;
  }

  std::vector<const float*> vectors;
  const FrozenGraph* graph;
  std::vector<uint32_t> new_node;
};

void BM_Rebuild(benchmark::State& state) {
  const Merge merge(state.range(0));
  BuiltGraph graph;
  for (auto _ : state) {
    graph = *BuildHnsw(merge.vectors, Options(), OneThread, CancelToken());
  }
  state.counters["recall"] = RecallOf(Frozen(graph, merge.vectors));
}
BENCHMARK(BM_Rebuild)->Arg(0)->Arg(2)->Arg(20)->Unit(benchmark::kMillisecond)->Iterations(1);

void BM_Reuse(benchmark::State& state) {
  const Merge merge(state.range(0));
  BuiltGraph graph;
  for (auto _ : state) {
    graph = *ExtendHnsw(merge.vectors, Options(), {merge.graph, merge.new_node}, OneThread,
                        CancelToken());
  }
  state.counters["recall"] = RecallOf(Frozen(graph, merge.vectors));
}
BENCHMARK(BM_Reuse)->Arg(0)->Arg(2)->Arg(20)->Unit(benchmark::kMillisecond)->Iterations(1);

}  // namespace
}  // namespace azimuth::index
