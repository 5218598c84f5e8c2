// Graphs that are calibrated, for tests, and queries to hold what calibrations say against.
#pragma once

#include "index/graph/calibration.h"
#include "index/graph/calibration_queries.h"
#include "tests/index/codes/coded.h"
#include "tests/index/graph/graphs.h"
#include "tests/support/matchers.h"

#include "gtest/gtest.h"

#include <cmath>
#include <cstdint>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <utility>
#include <vector>

namespace azimuth::index::testing {

inline constexpr double kRecalls[] = {0.8, 0.9, 0.95, 0.99};
inline constexpr uint32_t kLimits[] = {1, 10, 100};

enum class Data { kClustered, kUniform };

inline Vectors Make(Data data, size_t count, size_t dim, uint64_t seed) {
  if (data == Data::kClustered) return Clustered(count, dim, seed);
  std::mt19937_64 random(seed);
  std::uniform_real_distribution<float> uniform(-1, 1);
  Vectors vectors{dim, std::vector<float>(count * dim)};
  for (float& x : vectors.data) x = uniform(random);
  return vectors;
}

// Two groups of rows that are so near to each other that they have one code each.
inline Vectors TwoHeaps(size_t count, size_t dim) {
  Vectors vectors = NormalVectors(count, dim, 1);
  for (size_t i = 0; i < vectors.data.size(); ++i) {
    vectors.data[i] = (i / dim % 2 == 0 ? 500.0F : -500.0F) + vectors.data[i] / 10;
  }
  return vectors;
}

// Queries, and the nearest of `rows` by brute force: as many as the largest of kLimits.
struct Queries {
  Queries(const Vectors& rows, Metric metric, Vectors of, const Bitset* admitted = nullptr)
      : vectors(std::move(of)) {
    for (size_t q = 0; q < vectors.count(); ++q) {
      nearest.push_back(BruteForce(rows, metric, vectors.row(q), 100, admitted));
    }
  }
  Vectors vectors;
  std::vector<std::vector<Neighbor>> nearest;
};

// What searches found and what it took, the means.
struct Searched {
  double recall = 0;
  double variance = 0;  // Of the recall of one query.
  double walked = 0;
  double rescored = 0;
};

// A graph, codes of its rows (or none), and its calibration.
struct Calibrated {
  Calibrated(const Vectors& vectors, Metric by, std::optional<CodeKind> kind,
             const CalibrateOptions& options = {})
      : Calibrated(std::make_shared<Searchable>(vectors, by), by, kind, options) {}
  Calibrated(std::shared_ptr<const Searchable> graph, Metric by, std::optional<CodeKind> kind,
             const CalibrateOptions& options = {})
      : metric(by), shared(std::move(graph)), searchable(*shared) {
    const std::vector<const float*> rows = searchable.rows.rows();
    if (kind.has_value()) {
      const Quantizer quantizer =
          Quantizer::Train(metric, searchable.rows.dim, rows, {kind->bits, kind->transform, 1});
      bytes = EncodeVectors(quantizer, rows, OneThread);
      auto opened = CodedVectors::Open(metric, searchable.rows.dim, bytes.span());
      AZ_CHECK(opened.ok());
      codes = *std::move(opened);
    }
    const auto found = FindCalibrationQueries(searchable.held_out, CodesOrNull(), rows, metric,
                                              searchable.rows.dim, OneThread, CancelToken());
    EXPECT_OK(found);
    if (found.ok()) queries = *found;
    const auto measured = Measure(options, OneThread, CancelToken());
    EXPECT_OK(measured);
    if (measured.ok()) calibration = *measured;
  }

  const CodedVectors* CodesOrNull() const { return codes.has_value() ? &*codes : nullptr; }
  size_t code_bytes() const { return codes.has_value() ? codes->rows().stride : 0; }
  size_t vector_bytes() const { return searchable.rows.dim * sizeof(float); }
  Calibration::Effort EffortFor(double recall, uint32_t limit) const {
    return calibration.EffortFor(recall, limit, code_bytes(), vector_bytes());
  }

  absl::StatusOr<Calibration> Measure(const CalibrateOptions& options, const ParallelFor& parallel,
                                      const CancelToken& cancel) const {
    const std::vector<const float*> rows = searchable.rows.rows();
    return Calibrate(searchable.before, CodesOrNull(), rows, metric, searchable.rows.dim, queries,
                     options, parallel, cancel);
  }

  // Searches of `graph`, which is one of `searchable`.
  Searched Search(const FrozenGraph& graph, const Queries& asked, const Calibration::Effort& effort,
                  uint32_t limit) const {
    GraphScratch scratch;
    TopK top;
    Searched result;
    double squares = 0;
    for (size_t q = 0; q < asked.vectors.count(); ++q) {
      const float* const query = asked.vectors.row(q);
      GraphSearchOptions options;
      options.ef = effort.ef;
      top.Reset(limit, nullptr);
      const VectorDistances exact(searchable.nodes(), searchable.kernels, query);
      if (codes.has_value()) {
        codes->EncodeQuery(query, scratch.query);
        const CodeDistances by(codes->rows(), codes->kernels(), scratch.query.view());
        const RescoreOptions rescore =
            Calibration::Rescore(limit, effort.error, scratch.query.norm());
        const auto walked = WalkGraph(graph, by, options, scratch, CancelToken());
        EXPECT_OK(walked);
        const auto all =
            SearchGraphByCodes(graph, by, exact, options, rescore, top, scratch, CancelToken());
        EXPECT_OK(all);
        result.walked += static_cast<double>(walked->distances_computed);
        result.rescored +=
            static_cast<double>(all->distances_computed - walked->distances_computed);
      } else {
        const auto walked = SearchGraph(graph, searchable.nodes(), searchable.kernels, query,
                                        options, top, scratch, CancelToken());
        EXPECT_OK(walked);
        result.walked += static_cast<double>(walked->distances_computed);
      }
      const size_t owed = std::min<size_t>(limit, asked.nearest[q].size());
      const float last = asked.nearest[q][owed - 1].distance;
      const float bound = last + 1e-5F * std::abs(last) + 1e-6F;
      size_t hits = 0;
      for (const Neighbor& neighbor : top.Sorted()) hits += neighbor.distance <= bound ? 1 : 0;
      const double recall = static_cast<double>(hits) / static_cast<double>(owed);
      result.recall += recall;
      squares += recall * recall;
    }
    const auto count = static_cast<double>(asked.vectors.count());
    result.recall /= count;
    result.walked /= count;
    result.rescored /= count;
    result.variance = std::max(0.0, squares / count - result.recall * result.recall);
    return result;
  }

  // The share of the `limit` nearest that searches at `recall` find.
  double RecallOf(const Queries& asked, double recall, uint32_t limit) const {
    return Search(searchable.graph, asked, EffortFor(recall, limit), limit).recall;
  }

  Metric metric;
  std::shared_ptr<const Searchable> shared;
  const Searchable& searchable;
  AlignedBytes bytes;
  std::optional<CodedVectors> codes;
  std::vector<CalibrationQuery> queries;
  Calibration calibration;
};

// Width by width as the recall and the number of neighbours grow.
inline void ExpectMonotone(const Calibration& calibration) {
  for (uint32_t limit = 1; limit <= 3000; limit += limit < 120 ? 1 : 97) {
    uint32_t last = 0;
    for (int percent = 1; percent <= 1000; ++percent) {
      const uint32_t ef = calibration.Ef(percent / 1000.0, limit);
      ASSERT_GE(ef, last) << limit << ", " << percent;
      ASSERT_GE(ef, limit);
      ASSERT_LE(ef, 32768u);
      last = ef;
    }
  }
  for (const double recall : kRecalls) {
    uint32_t last = 0;
    for (uint32_t limit = 1; limit <= 16384; limit += 1 + limit / 10) {
      const uint32_t ef = calibration.Ef(recall, limit);
      EXPECT_GE(ef, last) << recall << " for " << limit;
      last = ef;
    }
  }
}

}  // namespace azimuth::index::testing
