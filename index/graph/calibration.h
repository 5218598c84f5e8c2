// Calibration: what a search of one graph has to spend for a recall that is asked for, measured
// when the graph is frozen.
//
// Some rows are taken as queries, each as if it were not in the graph; their true neighbours come
// from a scan. What is kept is recall by width of the walk, less half a standard error, for 1, 10
// and 100 neighbours, and how far codes err.
// Thread safety: a Calibration is immutable.
#pragma once

#include "base/deadline.h"
#include "index/codes/coded_vectors.h"
#include "index/graph/frozen_graph.h"
#include "index/graph/hnsw_builder.h"
#include "index/graph/search.h"
#include "index/types.h"

#include "absl/status/statusor.h"

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace azimuth::index {

struct CalibrateOptions {
  uint64_t seed = 1;
  uint32_t queries_max = 500;
  float recall_enough = 0.995F;  // For limits of 10 and 100; wider walks are not measured.
};

class Calibration final {
 public:
  static constexpr std::array<uint32_t, 3> kLimits = {1, 10, 100};

  struct Point {
    uint32_t ef = 0;
    std::array<float, 3> recall = {};  // At each of kLimits; 0 where ef is less.
    float walked = 0;                  // Distances by codes of a search, the mean.
    float rescored = 0;                // Rows measured again of a search for 10, the mean.
  };

  // Measured nothing: Ef answers with a guess.
  Calibration() = default;
  // From the bytes of Save. Errors: DataLoss (names what is wrong), FailedPrecondition (a version
  // that is not read here). Byte table: docs/FORMATS.md, "Calibration section".
  static absl::StatusOr<Calibration> Open(std::span<const std::byte> bytes);
  std::string Save() const;

  // The least width that reaches `recall` (0 to 1) for `limit` neighbours; at least `limit`. Beyond
  // what has been reached it goes on by doubling.
  uint32_t Ef(double recall, uint32_t limit) const;
  // How much wider a walk of a query has to be that found `found` (nearest first): 1 for one whose
  // neighbours are as near as those of rows are, more for queries that are unlike the rows, which
  // lie farther from them. `query_norm` is the norm of the query itself; it counts with kIp only.
  double Widening(std::span<const Neighbor> found, Metric metric, float query_norm) const;
  // Whether some width that was measured reaches `recall` for limits of 10 and 100.
  bool Reaches(double recall) const;
  // What is to be measured again after a walk of a query of that norm (EncodedQuery::norm).
  RescoreOptions Rescore(uint32_t limit, float query_norm) const;
  // What a search at recall 0.95 for 10 costs, in lines of memory: of two quantizers the cheaper
  // one is to be had.
  double Cost(size_t code_bytes, size_t vector_bytes) const;

  const std::vector<Point>& points() const { return points_; }
  // How much farther than it is a near row appears by codes, as a share of the query's norm: all
  // but the worst 3 of 1000.
  float error() const { return error_; }

 private:
  friend absl::StatusOr<Calibration> Calibrate(const FrozenGraph&, const CodedVectors*,
                                               std::span<const float* const>, Metric, size_t,
                                               const CalibrateOptions&, const ParallelFor&,
                                               const CancelToken&);
  std::vector<Point> points_;  // Ascending by ef.
  float error_ = 0;
  // Of the distances of the last of the nearest kLimits of rows the median, and what some 3 of 100
  // exceed; with kIp shares of the query's norm. Equal: nothing is known.
  std::array<float, kLimits.size()> usual_ = {};
  std::array<float, kLimits.size()> far_ = {};
};

// Of a graph and its vectors, `dim` floats each, and the codes that it is walked by, all in node
// order; without codes (null) it is walked by the vectors. Errors: those of the walk, and of
// `cancel`.
absl::StatusOr<Calibration> Calibrate(const FrozenGraph& graph, const CodedVectors* codes,
                                      std::span<const float* const> vectors, Metric metric,
                                      size_t dim, const CalibrateOptions& options,
                                      const ParallelFor& parallel, const CancelToken& cancel);

}  // namespace azimuth::index
