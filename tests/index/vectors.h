// Vectors for tests of this layer: made from a seed, and searched by brute force.
#pragma once

#include "index/bitset.h"
#include "index/distance/distance.h"
#include "index/graph/hnsw_builder.h"
#include "index/types.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <random>
#include <thread>
#include <vector>

namespace azimuth::index::testing {

struct Vectors {
  size_t dim = 0;
  std::vector<float> data;

  size_t count() const { return data.size() / dim; }
  const float* row(size_t i) const { return data.data() + i * dim; }
  std::vector<const float*> rows() const {
    std::vector<const float*> pointers(count());
    for (size_t i = 0; i < count(); ++i) pointers[i] = row(i);
    return pointers;
  }
};

// `count` vectors around 50 centres that depend on dim only, so that two seeds give two samples of
// one distribution.
inline Vectors Clustered(size_t count, size_t dim, uint64_t seed) {
  constexpr size_t kCenters = 50;
  std::normal_distribution<float> normal;
  std::mt19937_64 center_random(dim);
  std::vector<float> centers(kCenters * dim);
  for (float& x : centers) x = 2 * normal(center_random);
  std::mt19937_64 random(seed);
  Vectors vectors{dim, std::vector<float>(count * dim)};
  for (size_t i = 0; i < count; ++i) {
    const size_t center = random() % kCenters;
    for (size_t j = 0; j < dim; ++j) {
      vectors.data[i * dim + j] = centers[center * dim + j] + normal(random);
    }
  }
  return vectors;
}

// The vectors in the order of a graph: row `new` is row order[new] of `vectors`.
inline Vectors Reordered(const Vectors& vectors, const std::vector<uint32_t>& order) {
  Vectors reordered{vectors.dim, {}};
  for (const uint32_t i : order) {
    reordered.data.insert(reordered.data.end(), vectors.row(i), vectors.row(i) + vectors.dim);
  }
  return reordered;
}

// The k nearest admitted rows by the scalar kernel, nearest first, ties by position.
inline std::vector<Neighbor> BruteForce(const Vectors& vectors, Metric metric, const float* query,
                                        size_t k, const Bitset* admitted = nullptr) {
  const DistanceKernels kernels = ScalarKernelsFor(metric);
  std::vector<Neighbor> all;
  for (size_t i = 0; i < vectors.count(); ++i) {
    if (admitted != nullptr && !admitted->Test(i)) continue;
    all.push_back({kernels.pair(query, vectors.row(i), vectors.dim), static_cast<uint32_t>(i)});
  }
  std::sort(all.begin(), all.end(), [](const Neighbor& a, const Neighbor& b) {
    return a.distance != b.distance ? a.distance < b.distance : a.position < b.position;
  });
  all.resize(std::min(k, all.size()));
  return all;
}

inline void OneThread(size_t count, const std::function<void(size_t)>& body) {
  for (size_t i = 0; i < count; ++i) body(i);
}

inline void FourThreads(size_t count, const std::function<void(size_t)>& body) {
  std::vector<std::jthread> threads;
  for (size_t t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (size_t i = t; i < count; i += 4) body(i);
    });
  }
}

}  // namespace azimuth::index::testing
