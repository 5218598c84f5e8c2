// hnswlib as every benchmark here uses it: M 16, efConstruction 200, row i has label i.
#pragma once

#include "bench/lib/vector_file.h"

#include "hnswlib/hnswlib.h"

#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <thread>
#include <vector>

namespace azimuth::bench {

using HnswlibIndex = hnswlib::HierarchicalNSW<float>;
using HnswlibClock = std::chrono::steady_clock;

inline double SecondsSince(HnswlibClock::time_point start) {
  return std::chrono::duration<double>(HnswlibClock::now() - start).count();
}

inline Vectors ReadVectorsOrExit(const std::string& path, size_t rows_max = SIZE_MAX) {
  auto vectors = ReadVectors(path, 0, rows_max);
  if (vectors.ok()) return *std::move(vectors);
  std::fprintf(stderr, "%s\n", vectors.status().ToString().c_str());
  std::exit(1);
}

// Squared distances ("l2"), or 1 - product ("ip"), which is the cosine's of rows of length 1.
inline std::unique_ptr<hnswlib::SpaceInterface<float>> MakeHnswlibSpace(const std::string& metric,
                                                                        uint32_t dim) {
  if (metric == "l2") return std::make_unique<hnswlib::L2Space>(dim);
  if (metric == "ip") return std::make_unique<hnswlib::InnerProductSpace>(dim);
  std::fprintf(stderr, "metric %s: expected l2 or ip\n", metric.c_str());
  std::exit(2);
}

// Adds all rows to an index of them; returns the seconds that took. The first row goes in alone.
inline double BuildHnswlib(const Vectors& vectors, size_t threads, HnswlibIndex& index) {
  const HnswlibClock::time_point start = HnswlibClock::now();
  index.addPoint(vectors.row(0), 0);
  std::atomic<size_t> next{1};
  std::vector<std::thread> workers;
  for (size_t t = 0; t < threads; ++t) {
    workers.emplace_back([&] {
      for (size_t i = next++; i < vectors.rows; i = next++) index.addPoint(vectors.row(i), i);
    });
  }
  for (std::thread& worker : workers) worker.join();
  return SecondsSince(start);
}

// An empty index for `rows` rows.
inline std::unique_ptr<HnswlibIndex> MakeHnswlibIndex(hnswlib::SpaceInterface<float>& space,
                                                      size_t rows) {
  constexpr size_t kM = 16;
  constexpr size_t kEfConstruction = 200;
  return std::make_unique<HnswlibIndex>(&space, rows, kM, kEfConstruction);
}

}  // namespace azimuth::bench
