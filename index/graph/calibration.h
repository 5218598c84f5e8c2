// Calibration: what a search of one graph has to spend for a recall that is asked for, measured
// when the graph is frozen.
//
// Some rows are held out of the graph until it has been measured with them as queries
// (calibration_queries.h). What is kept is recall by width of the walk, less half a standard error
// (one and a half of few queries), for 1, 10 and 100 neighbours, each for several assumptions of
// how far codes err: what a walk by codes found is measured again for as long as an error of that
// size may have hidden it.
// Thread safety: a Calibration is immutable.
#pragma once

#include "base/deadline.h"
#include "index/codes/coded_vectors.h"
#include "index/graph/calibration_queries.h"
#include "index/graph/frozen_graph.h"
#include "index/graph/hnsw_builder.h"
#include "index/graph/search.h"
#include "index/types.h"

#include "absl/status/statusor.h"

#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <vector>

namespace azimuth::index {

struct CalibrateOptions {
  float recall_enough = 0.995F;  // For limits of 10 and 100; wider walks are not measured.
};

class Calibration final {
 public:
  static constexpr std::array<uint32_t, 3> kLimits = {1, 10, 100};
  // All but so many of the codes of near rows err less than each of errors().
  static constexpr std::array<double, 3> kErrorShares = {0.003, 0.1, 0.3};
  using Errors = std::array<float, kErrorShares.size()>;
  using ByLimit = std::array<float, kLimits.size()>;

  struct Point {
    uint32_t ef = 0;
    float walked = 0;  // Distances by codes of a search, the mean.
    // By assumed error: recall at each of kLimits, 0 where ef is less, and the rows that are
    // measured again for them, the mean.
    std::array<ByLimit, kErrorShares.size()> recall = {};
    std::array<ByLimit, kErrorShares.size()> rescored = {};
  };

  // What a search has to spend: the width of the walk, and the error of codes to assume, as a share
  // of the query's norm.
  struct Effort {
    uint32_t ef = 0;
    float error = std::numeric_limits<float>::infinity();
  };

  // Measured nothing: Ef answers with a guess.
  Calibration() = default;
  // From the bytes of Save. Errors: DataLoss (names what is wrong), FailedPrecondition (a version
  // that is not read here). Byte table: docs/FORMATS.md, "Calibration section".
  static absl::StatusOr<Calibration> Open(std::span<const std::byte> bytes);
  std::string Save() const;

  // The cheapest that reaches `recall` (0 to 1) for `limit` neighbours, where a code and a vector
  // have so many bytes. Takes a microsecond.
  Effort EffortFor(double recall, uint32_t limit, size_t code_bytes, size_t vector_bytes) const;
  // The least width that reaches it where as much as can be is measured again; at least `limit`.
  // Beyond what has been reached it goes on by doubling.
  uint32_t Ef(double recall, uint32_t limit) const { return EfAt(0, recall, limit); }
  // How much wider a walk has to be that found `found` (nearest first): 1 for a query whose
  // neighbours are as near as those of rows are, more for queries that are unlike the rows, which
  // lie farther from them. `query_norm` is the norm of the query itself; it counts with kIp only.
  double Widening(std::span<const GraphScratch::Candidate> found, Metric metric,
                  float query_norm) const;
  // Whether some width that was measured reaches `recall` for limits of 10 and 100.
  bool Reaches(double recall) const;
  // What is to be measured again after a walk of a query of that norm (EncodedQuery::norm).
  static RescoreOptions Rescore(uint32_t limit, float error, float query_norm);
  // What a search for 10 at recall 0.95 costs, and for a third at 0.99 (the weighted geometric
  // mean), in lines of memory: of two quantizers the cheaper one is to be had.
  double Cost(size_t code_bytes, size_t vector_bytes) const;

  const std::vector<Point>& points() const { return points_; }
  // How much farther than it is a near row appears by codes, as shares of the query's norm;
  // descending.
  const Errors& errors() const { return errors_; }

 private:
  friend absl::StatusOr<Calibration> Calibrate(const FrozenGraph&, const CodedVectors*,
                                               std::span<const float* const>, Metric, size_t,
                                               std::span<const CalibrationQuery>,
                                               const CalibrateOptions&, const ParallelFor&,
                                               const CancelToken&);
  uint32_t EfAt(size_t error, double recall, uint32_t limit) const;
  bool ReachesAt(size_t error, double recall, uint32_t limit) const;
  double CostAt(size_t error, double ef, uint32_t limit, size_t code_bytes,
                size_t vector_bytes) const;

  std::vector<Point> points_;  // Ascending by ef.
  Errors errors_ = {};
  // Of the distances by codes of the last of the nearest kLimits of queries the median, and what
  // some 3 of 100 exceed; with kIp shares of the query's norm. Equal: nothing is known.
  ByLimit usual_ = {};
  ByLimit far_ = {};
};

// Of a graph, the codes that it is walked by and its vectors, `dim` floats each, all in node order;
// without codes (null) it is walked by the vectors. The queries are not in the graph: no node is
// linked to theirs. Errors: those of the walk, and of `cancel`.
absl::StatusOr<Calibration> Calibrate(const FrozenGraph& graph, const CodedVectors* codes,
                                      std::span<const float* const> vectors, Metric metric,
                                      size_t dim, std::span<const CalibrationQuery> queries,
                                      const CalibrateOptions& options, const ParallelFor& parallel,
                                      const CancelToken& cancel);

}  // namespace azimuth::index
