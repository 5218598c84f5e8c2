// How a Calibration is measured.
#include "base/mutex.h"
#include "base/status.h"
#include "index/distance/distance.h"
#include "index/graph/calibration.h"
#include "index/graph/node_distances.h"
#include "index/graph/walk.h"
#include "index/topk.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

namespace azimuth::index {
namespace {

constexpr std::array<uint32_t, 17> kWidths = {4,   6,   10,  14,  20,  28,  40,  56,  80,
                                              100, 140, 200, 280, 400, 560, 800, 1120};
// Standard errors that recall is taken as less. What few queries say may be far off, and wider
// walks of small graphs cost little.
constexpr double kErrorsLess = 0.5;
constexpr double kErrorsLessOfFew = 1.5;
constexpr size_t kFewQueries = 200;
// Recall for one neighbour is taken as if so many queries more had found it as often as ten.
constexpr double kQueriesAlike = 100;
constexpr size_t kQueriesPerTask = 8;
constexpr size_t kErrorNeighbors = 20;  // So many of the nearest say how far codes err.
constexpr double kUsualShare = 0.5;
constexpr double kHighShare = 0.84;  // A deviation above the median, if they were Gaussian.
constexpr double kFarShare = 0.97;
// What walks find of a width that reaches so much says how far neighbours are.
constexpr float kRecallTells = 0.9F;

using Point = Calibration::Point;
using ByLimit = Calibration::ByLimit;
constexpr size_t kColumns = Calibration::kLimits.size();
constexpr size_t kErrors = Calibration::kErrorShares.size();
// The first of kLimits of whose recall a few dozens of queries say enough.
constexpr size_t kFirstSure = 1;

// The value that `share` of `values` do not exceed; 0 of none.
float At(std::vector<float>& values, double share) {
  if (values.empty()) return 0;
  const auto at = static_cast<std::ptrdiff_t>(share * static_cast<double>(values.size() - 1));
  std::nth_element(values.begin(), values.begin() + at, values.end());
  return values[static_cast<size_t>(at)];
}

class Calibrator final {
 public:
  Calibrator(const FrozenGraph& graph, const CodedVectors* codes,
             std::span<const float* const> vectors, Metric metric, size_t dim,
             std::span<const CalibrationQuery> queries, const ParallelFor& parallel,
             const CancelToken& cancel)
      : graph_(graph),
        codes_(codes),
        vectors_(vectors),
        metric_(metric),
        dim_(dim),
        kernels_(KernelsFor(metric)),
        queries_(queries),
        parallel_(parallel),
        cancel_(cancel) {}

  // How far codes err; descending.
  Calibration::Errors FindErrors() const {
    std::vector<float> all;
    EncodedQuery encoded;
    for (const CalibrationQuery& query : queries_) {
      if (codes_ == nullptr) break;
      codes_->EncodeQuery(vectors_[query.node], encoded);
      if (!(encoded.norm() > 0)) continue;
      const CodeDistances distances(codes_->rows(), codes_->kernels(), encoded.view());
      for (size_t i = 0; i < std::min(kErrorNeighbors, query.nearest.size()); ++i) {
        float coded = 0;
        distances.Compute(&query.nearest[i].position, 1, &coded);
        const float error = (coded - query.nearest[i].distance) / encoded.norm();
        if (std::isfinite(error)) all.push_back(error);
      }
    }
    Calibration::Errors errors = {};
    for (size_t i = 0; i < kErrors; ++i) {
      errors[i] = std::max(0.0F, At(all, 1 - Calibration::kErrorShares[i]));
    }
    return errors;
  }

  absl::StatusOr<Point> Measure(uint32_t ef, const Calibration::Errors& errors) {
    results_.assign(queries_.size(), {});
    AZ_RETURN_IF_ERROR(WalkAll(ef, errors));
    Point point;
    point.ef = ef;
    double walked = 0;
    for (const Result& result : results_) walked += static_cast<double>(result.walked);
    point.walked = static_cast<float>(walked / count());
    for (size_t error = 0; error < kErrors; ++error) Sum(error, point);
    for (size_t column = 0; column < kColumns; ++column) {
      if (ef < Calibration::kLimits[column] || told_[column]) continue;
      last_[column].clear();
      for (const Result& result : results_) {
        if (std::isfinite(result.last[column])) last_[column].push_back(result.last[column]);
      }
      told_[column] = point.recall[0][column] >= kRecallTells;
    }
    return point;
  }

  // Of the distances that Calibration keeps: what `share` of them do not exceed.
  float LastAt(size_t column, double share) { return At(last_[column], share); }

 private:
  struct Result {
    std::array<std::array<double, kColumns>, kErrors> recall = {};
    std::array<std::array<double, kColumns>, kErrors> rescored = {};
    std::array<float, kColumns> last = {};  // The distance by codes of the last of kLimits.
    uint64_t walked = 0;
  };

  double count() const { return static_cast<double>(queries_.size()); }

  void Sum(size_t error, Point& point) const {
    const double errors_less = queries_.size() < kFewQueries ? kErrorsLessOfFew : kErrorsLess;
    const auto less = [errors_less](double mean, double variance, double of) {
      const double recall = mean - errors_less * std::sqrt(std::max(0.0, variance) / of);
      return static_cast<float>(std::max(0.0, recall));
    };
    ByLimit& recall = point.recall[error];
    std::array<double, kColumns> means = {};
    for (size_t column = 0; column < kColumns; ++column) {
      if (point.ef < Calibration::kLimits[column]) continue;
      double sum = 0;
      double squares = 0;
      double rescored = 0;
      for (const Result& result : results_) {
        const double one = result.recall[error][column];
        sum += one;
        squares += one * one;
        rescored += result.rescored[error][column];
      }
      const double mean = sum / count();
      means[column] = mean;
      recall[column] = less(mean, squares / count() - mean * mean, count());
      point.rescored[error][column] = static_cast<float>(rescored / count());
    }
    // One neighbour each of a few queries says little: that all are found, nothing.
    if (point.ef >= Calibration::kLimits[kFirstSure]) {
      const double of = count() + kQueriesAlike;
      const double mean = (count() * means[0] + kQueriesAlike * means[kFirstSure]) / of;
      recall[0] = less(mean, mean * (1 - mean), of);
    }
  }

  absl::Status WalkAll(uint32_t ef, const Calibration::Errors& errors) {
    Mutex mu;
    absl::Status status;
    parallel_((queries_.size() + kQueriesPerTask - 1) / kQueriesPerTask, [&](size_t task) {
      const size_t begin = task * kQueriesPerTask;
      absl::Status done =
          Walk(begin, std::min(queries_.size(), begin + kQueriesPerTask), ef, errors);
      if (done.ok()) return;
      MutexLock lock(mu);
      status.Update(std::move(done));
    });
    return status;
  }

  absl::Status Walk(size_t begin, size_t end, uint32_t ef, const Calibration::Errors& errors) {
    EncodedQuery encoded;
    GraphScratch scratch;
    std::vector<float> exact;
    for (size_t i = begin; i < end; ++i) {
      const CalibrationQuery& query = queries_[i];
      const float* const vector = vectors_[query.node];
      AZ_ASSIGN_OR_RETURN(const GraphSearchResult walked, WalkFrom(vector, ef, encoded, scratch));
      const std::span<const GraphScratch::Candidate> found = scratch.found();
      exact.clear();
      for (const GraphScratch::Candidate& candidate : found) {
        exact.push_back(kernels_.pair(vector, vectors_[candidate.node], dim_));
      }
      Result& result = results_[i];
      result.walked = walked.distances_computed;
      const double norm = NormOf(vector, encoded);
      for (size_t column = 0; column < kColumns; ++column) {
        const uint32_t limit = Calibration::kLimits[column];
        result.last[column] = std::numeric_limits<float>::infinity();
        if (ef < limit) continue;
        if (found.size() >= limit) {
          result.last[column] = static_cast<float>(found[limit - 1].distance / norm);
        }
        for (size_t error = 0; error < kErrors; ++error) {
          const RescoreOptions rescore =
              codes_ == nullptr ? RescoreOptions{}
                                : Calibration::Rescore(limit, errors[error], encoded.norm());
          const size_t measured = Rescored(found, exact, rescore);
          result.rescored[error][column] = codes_ == nullptr ? 0 : static_cast<double>(measured);
          result.recall[error][column] = RecallOf(query, std::span(exact).first(measured), limit);
        }
      }
    }
    return absl::OkStatus();
  }

  // With the inner product distances grow with the query.
  double NormOf(const float* vector, const EncodedQuery& encoded) const {
    if (metric_ != Metric::kIp) return 1;
    return codes_ != nullptr ? encoded.norm() : std::sqrt(SquaredNorm({vector, dim_}));
  }

  static double RecallOf(const CalibrationQuery& query, std::span<const float> found,
                         uint32_t limit) {
    const size_t all = std::min<size_t>(limit, query.nearest.size());
    if (all == 0) return 1;
    const float bound = query.nearest[all - 1].distance;
    const auto hits = std::count_if(found.begin(), found.end(),
                                    [&](float distance) { return distance <= bound; });
    return std::min(1.0, static_cast<double>(hits) / static_cast<double>(all));
  }

  absl::StatusOr<GraphSearchResult> WalkFrom(const float* vector, uint32_t ef,
                                             EncodedQuery& encoded, GraphScratch& scratch) const {
    WalkOptions options;
    options.ef = ef;
    if (codes_ == nullptr) {
      return WalkGraph(graph_, ScatteredDistances(vectors_, dim_, kernels_, vector), options,
                       scratch, cancel_);
    }
    codes_->EncodeQuery(vector, encoded);
    return WalkGraph(graph_, CodeDistances(codes_->rows(), codes_->kernels(), encoded.view()),
                     options, scratch, cancel_);
  }

  // How many of `found` a search measures again (SearchGraphByCodes).
  static size_t Rescored(std::span<const GraphScratch::Candidate> found,
                         std::span<const float> exact, const RescoreOptions& rescore) {
    TopK top;
    top.Reset(std::max<size_t>(rescore.least, 1), nullptr);
    for (size_t begin = 0; begin < found.size();) {
      const size_t end = RescoreEnd(begin, rescore.least, found.size());
      const float bound = top.bound();
      for (size_t i = begin; i < end; ++i) {
        if (i >= rescore.least && found[i].distance - rescore.slack > bound) return i;
        if (!std::isnan(exact[i])) top.Push({exact[i], static_cast<uint32_t>(i)});
      }
      begin = end;
    }
    return found.size();
  }

  const FrozenGraph& graph_;
  const CodedVectors* codes_;
  const std::span<const float* const> vectors_;
  const Metric metric_;
  const size_t dim_;
  const DistanceKernels kernels_;
  const std::span<const CalibrationQuery> queries_;
  const ParallelFor& parallel_;
  const CancelToken& cancel_;
  std::vector<Result> results_;
  std::array<std::vector<float>, kColumns> last_;
  std::array<bool, kColumns> told_ = {};
};

}  // namespace

absl::StatusOr<Calibration> Calibrate(const FrozenGraph& graph, const CodedVectors* codes,
                                      std::span<const float* const> vectors, Metric metric,
                                      size_t dim, std::span<const CalibrationQuery> queries,
                                      const CalibrateOptions& options, const ParallelFor& parallel,
                                      const CancelToken& cancel) {
  Calibration result;
  if (graph.node_count() < 2 || queries.empty()) return result;
  Calibrator calibrator(graph, codes, vectors, metric, dim, queries, parallel, cancel);
  result.errors_ = calibrator.FindErrors();
  for (const uint32_t ef : kWidths) {
    AZ_ASSIGN_OR_RETURN(const Point point, calibrator.Measure(ef, result.errors_));
    result.points_.push_back(point);
    const ByLimit& recall = point.recall[0];
    const bool enough = std::all_of(recall.begin() + kFirstSure, recall.end(),
                                    [&](float one) { return one >= options.recall_enough; });
    if (enough || ef >= graph.node_count()) break;
  }
  for (size_t column = 0; column < kColumns; ++column) {
    result.usual_[column] = calibrator.LastAt(column, kUsualShare);
    // Or two deviations: of a few queries the highest themselves say little.
    const float high = calibrator.LastAt(column, kHighShare);
    result.far_[column] =
        std::min(calibrator.LastAt(column, kFarShare), high + (high - result.usual_[column]));
  }
  return result;
}

}  // namespace azimuth::index
