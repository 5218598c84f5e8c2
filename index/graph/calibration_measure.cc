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
#include <random>
#include <utility>

namespace azimuth::index {
namespace {

constexpr std::array<uint32_t, 17> kWidths = {4,   6,   10,  14,  20,  28,  40,  56,  80,
                                              100, 140, 200, 280, 400, 560, 800, 1120};
// A graph of few rows has few queries, so that measuring stays short beside building it.
constexpr uint32_t kRowsPerQuery = 75;
constexpr uint32_t kQueriesMin = 32;
constexpr double kErrorsLess = 0.5;  // Standard errors.
// Recall for one neighbour is taken as if so many queries more had found it as often as ten.
constexpr double kQueriesAlike = 100;
constexpr size_t kQueriesPerTask = 8;
// The true neighbours are looked for among so many of the nearest by codes.
constexpr size_t kTruthCandidates = 256;
// So many queries are answered by the vectors, too; unless the candidates have this share of what
// those find, all are.
constexpr size_t kQueriesChecked = 32;
constexpr double kTruthShareMin = 0.995;
constexpr size_t kErrorNeighbors = 20;  // So many of the nearest say how far codes err.
constexpr double kErrorShare = 0.997;
constexpr double kUsualShare = 0.5;
constexpr double kHighShare = 0.84;  // A deviation above the median, if they were Gaussian.
constexpr double kFarShare = 0.97;
constexpr size_t kScanRows = 512;
constexpr size_t kRescoreStep = 8;

using Point = Calibration::Point;
constexpr size_t kColumns = Calibration::kLimits.size();
// The first of kLimits of whose recall a few dozens of queries say enough.
constexpr size_t kFirstSure = 1;

// A row as a query, and its true neighbours.
struct Query {
  uint32_t node = 0;
  std::vector<float> nearest;              // Ascending, at most the last of kLimits.
  std::array<float, kColumns> bound = {};  // The distance of the last of the nearest kLimits.
};

class Calibrator final {
 public:
  Calibrator(const FrozenGraph& graph, const CodedVectors* codes,
             std::span<const float* const> vectors, Metric metric, size_t dim,
             const ParallelFor& parallel, const CancelToken& cancel)
      : graph_(graph),
        codes_(codes),
        vectors_(vectors),
        metric_(metric),
        dim_(dim),
        kernels_(KernelsFor(metric)),
        parallel_(parallel),
        cancel_(cancel) {}

  absl::Status ChooseQueries(const CalibrateOptions& options) {
    const uint32_t count = graph_.node_count();
    const uint32_t wanted =
        std::max(kQueriesMin, std::min(count / kRowsPerQuery, options.queries_max));
    std::mt19937_64 random(options.seed);
    std::vector<uint32_t> nodes;
    for (uint32_t i = 0; i < 2 * wanted; ++i) {
      const auto node = static_cast<uint32_t>(random() % count);
      if (node != graph_.entry_node() && AllFinite({vectors_[node], dim_})) nodes.push_back(node);
    }
    std::sort(nodes.begin(), nodes.end());
    nodes.erase(std::unique(nodes.begin(), nodes.end()), nodes.end());
    std::shuffle(nodes.begin(), nodes.end(), random);
    if (nodes.size() > wanted) nodes.resize(wanted);
    queries_.resize(nodes.size());
    for (size_t i = 0; i < nodes.size(); ++i) queries_[i].node = nodes[i];
    if (codes_ == nullptr) return FindTruths(queries_.size(), false);
    AZ_RETURN_IF_ERROR(FindTruths(queries_.size(), true));
    AZ_ASSIGN_OR_RETURN(const bool good, CandidatesAreGood());
    return good ? absl::OkStatus() : FindTruths(queries_.size(), false);
  }

  // The error of codes that only the worst near neighbours exceed.
  float Error() {
    MutexLock lock(mu_);
    if (errors_.empty()) return 0;
    const auto at =
        static_cast<std::ptrdiff_t>(kErrorShare * static_cast<double>(errors_.size() - 1));
    std::nth_element(errors_.begin(), errors_.begin() + at, errors_.end());
    return std::max(0.0F, *(errors_.begin() + at));
  }

  // Of the distances of the last of the nearest kLimits[column], as Calibration keeps them: what
  // `share` of them do not exceed.
  float BoundOf(size_t column, double share) const {
    std::vector<float> bounds;
    for (const Query& query : queries_) {
      float bound = query.bound[column];
      if (metric_ == Metric::kIp) {
        bound /= static_cast<float>(std::sqrt(SquaredNorm({vectors_[query.node], dim_})));
      }
      if (std::isfinite(bound)) bounds.push_back(bound);
    }
    if (bounds.empty()) return 0;
    const auto at = static_cast<std::ptrdiff_t>(share * static_cast<double>(bounds.size() - 1));
    std::nth_element(bounds.begin(), bounds.begin() + at, bounds.end());
    return *(bounds.begin() + at);
  }

  absl::StatusOr<Point> Measure(uint32_t ef, float error) {
    results_.assign(queries_.size(), {});
    AZ_RETURN_IF_ERROR(ForQueries(
        queries_.size(), [&](size_t begin, size_t end) { return Walk(begin, end, ef, error); }));
    Point point;
    point.ef = ef;
    const auto count = static_cast<double>(queries_.size());
    double walked = 0;
    double rescored = 0;
    for (const Result& result : results_) {
      walked += static_cast<double>(result.walked);
      rescored += static_cast<double>(result.rescored);
    }
    point.walked = static_cast<float>(walked / count);
    point.rescored = static_cast<float>(rescored / count);
    const auto less = [](double mean, double variance, double of) {
      const double recall = mean - kErrorsLess * std::sqrt(std::max(0.0, variance) / of);
      return static_cast<float>(std::max(0.0, recall));
    };
    std::array<double, kColumns> means = {};
    for (size_t column = 0; column < kColumns; ++column) {
      if (ef < Calibration::kLimits[column]) continue;
      double sum = 0;
      double squares = 0;
      for (const Result& result : results_) {
        sum += result.recall[column];
        squares += result.recall[column] * result.recall[column];
      }
      const double mean = sum / count;
      means[column] = mean;
      point.recall[column] = less(mean, squares / count - mean * mean, count);
    }
    // One neighbour each of a few queries says little: that all are found, nothing.
    if (ef >= Calibration::kLimits[1]) {
      const double of = count + kQueriesAlike;
      const double mean = (count * means[0] + kQueriesAlike * means[1]) / of;
      point.recall[0] = less(mean, mean * (1 - mean), of);
    }
    return point;
  }

  bool has_queries() const { return !queries_.empty(); }

 private:
  struct Result {
    std::array<double, kColumns> recall = {};
    uint64_t walked = 0;
    uint64_t rescored = 0;
  };

  // Runs body(begin, end) over the first `count` queries; the first error.
  template <typename Body>
  absl::Status ForQueries(size_t count, const Body& body) {
    const size_t tasks = (count + kQueriesPerTask - 1) / kQueriesPerTask;
    Mutex mu;
    absl::Status status;
    parallel_(tasks, [&](size_t task) {
      const size_t begin = task * kQueriesPerTask;
      absl::Status done = body(begin, std::min(count, begin + kQueriesPerTask));
      if (done.ok()) return;
      MutexLock lock(mu);
      status.Update(std::move(done));
    });
    return status;
  }

  // Of the first `count` queries, and how far codes err; by codes from candidates.
  absl::Status FindTruths(size_t count, bool by_codes) {
    {
      MutexLock lock(mu_);
      errors_.clear();
    }
    return ForQueries(count,
                      [&](size_t begin, size_t end) { return FindTruth(begin, end, by_codes); });
  }

  // Whether the nearest are among the candidates. Those of codes that are too coarse for how near
  // rows lie are any, and a walk by the same codes would find just them.
  absl::StatusOr<bool> CandidatesAreGood() {
    const std::vector<Query> candidates = queries_;
    std::vector<float> errors;
    {
      MutexLock lock(mu_);
      errors = errors_;
    }
    const size_t count = std::min(kQueriesChecked, queries_.size());
    AZ_RETURN_IF_ERROR(FindTruths(count, false));
    for (size_t column = 0; column < kColumns; ++column) {
      size_t hits = 0;
      size_t all = 0;
      for (size_t i = 0; i < count; ++i) {
        const size_t limit =
            std::min<size_t>(Calibration::kLimits[column], queries_[i].nearest.size());
        const std::vector<float>& found = candidates[i].nearest;
        all += limit;
        for (size_t at = 0; at < std::min(limit, found.size()); ++at) {
          hits += found[at] <= queries_[i].bound[column] ? 1 : 0;
        }
      }
      if (static_cast<double>(hits) < kTruthShareMin * static_cast<double>(all)) return false;
    }
    MutexLock lock(mu_);
    errors_ = std::move(errors);
    return true;
  }

  absl::Status FindTruth(size_t begin, size_t end, bool by_codes) {
    const size_t count = end - begin;
    std::vector<EncodedQuery> encoded(count);
    std::vector<CodeQuery> views(count);
    std::vector<TopK> nearest(count);
    for (size_t i = 0; i < count; ++i) {
      nearest[i].Reset(by_codes ? kTruthCandidates : Calibration::kLimits.back(), nullptr);
      if (codes_ == nullptr) continue;
      codes_->EncodeQuery(vectors_[queries_[begin + i].node], encoded[i]);
      views[i] = encoded[i].view();
    }
    std::vector<float> distances(count * kScanRows);
    for (uint32_t first = 0; first < graph_.node_count(); first += kScanRows) {
      AZ_RETURN_IF_ERROR(cancel_.Check());
      const size_t rows = std::min<size_t>(kScanRows, graph_.node_count() - first);
      if (by_codes) {
        codes_->kernels().tile(views.data(), count, codes_->rows(), first, rows, distances.data());
      } else {
        ScanVectors(begin, count, first, rows, distances.data());
      }
      for (size_t i = 0; i < count; ++i) {
        float bound = nearest[i].bound();
        for (size_t row = 0; row < rows; ++row) {
          const float distance = distances[i * rows + row];
          const auto node = static_cast<uint32_t>(first + row);
          if (!(distance <= bound) || node == queries_[begin + i].node) continue;
          nearest[i].Push({distance, node});
          bound = nearest[i].bound();
        }
      }
    }
    std::vector<float> errors;
    for (size_t i = 0; i < count; ++i) {
      Query& query = queries_[begin + i];
      std::vector<uint32_t> nodes;
      for (const Neighbor& near : nearest[i].Sorted()) nodes.push_back(near.position);
      std::vector<float> coded(nodes.size());
      if (codes_ != nullptr) {
        codes_->kernels().gather(views[i], codes_->rows(), nodes.data(), nodes.size(),
                                 coded.data());
      }
      std::vector<std::pair<float, float>> exact;  // The distance, and that by codes.
      for (size_t near = 0; near < nodes.size(); ++near) {
        const float distance = kernels_.pair(vectors_[query.node], vectors_[nodes[near]], dim_);
        if (!std::isnan(distance)) exact.emplace_back(distance, coded[near]);
      }
      std::sort(exact.begin(), exact.end(),
                [](const auto& a, const auto& b) { return a.first < b.first; });
      query.nearest.clear();
      for (size_t at = 0; at < exact.size() && at < Calibration::kLimits.back(); ++at) {
        query.nearest.push_back(exact[at].first);
      }
      for (size_t column = 0; column < kColumns; ++column) {
        const size_t at = std::min<size_t>(Calibration::kLimits[column], exact.size());
        query.bound[column] =
            at == 0 ? -std::numeric_limits<float>::infinity() : exact[at - 1].first;
      }
      if (!(encoded[i].norm() > 0)) continue;
      for (size_t near = 0; near < std::min(kErrorNeighbors, exact.size()); ++near) {
        const float error = (exact[near].second - exact[near].first) / encoded[i].norm();
        if (std::isfinite(error)) errors.push_back(error);
      }
    }
    MutexLock lock(mu_);
    errors_.insert(errors_.end(), errors.begin(), errors.end());
    return absl::OkStatus();
  }

  // As a tile of codes: out[q * rows + i].
  void ScanVectors(size_t begin, size_t count, uint32_t first, size_t rows, float* out) const {
    for (size_t row = 0; row < rows; ++row) {
      const float* const vector = vectors_[first + row];
      for (size_t i = 0; i < count; ++i) {
        out[i * rows + row] = kernels_.pair(vectors_[queries_[begin + i].node], vector, dim_);
      }
    }
  }

  absl::Status Walk(size_t begin, size_t end, uint32_t ef, float error) {
    EncodedQuery encoded;
    GraphScratch scratch;
    std::vector<float> exact;
    for (size_t i = begin; i < end; ++i) {
      const Query& query = queries_[i];
      const float* const vector = vectors_[query.node];
      WalkOptions options;
      options.ef = ef;
      options.hidden_node = query.node;
      // Without the row its neighbours would be linked to each other: a link to it leads to that of
      // them which is nearest to where the link comes from.
      const std::function<uint32_t(uint32_t)> bypass = [&](uint32_t node) {
        return NearestNeighborOf(query.node, node);
      };
      options.bypass = &bypass;
      AZ_ASSIGN_OR_RETURN(const GraphSearchResult walked,
                          WalkFrom(vector, options, encoded, scratch));
      exact.clear();
      for (const GraphScratch::Candidate& candidate : scratch.found()) {
        exact.push_back(kernels_.pair(vector, vectors_[candidate.node], dim_));
      }
      Result& result = results_[i];
      result.walked = walked.distances_computed;
      for (size_t column = 0; column < kColumns; ++column) {
        const uint32_t limit = Calibration::kLimits[column];
        if (ef < limit) continue;
        const size_t measured =
            codes_ == nullptr ? exact.size()
                              : Rescored(scratch.found(), exact, limit, error * encoded.norm());
        if (limit == 10 && codes_ != nullptr) result.rescored = measured;
        size_t hits = 0;
        for (size_t at = 0; at < measured; ++at) hits += exact[at] <= query.bound[column] ? 1 : 0;
        const size_t all = std::min<size_t>(limit, vectors_.size() - 1);
        result.recall[column] =
            all == 0 ? 1 : std::min(1.0, static_cast<double>(hits) / static_cast<double>(all));
      }
    }
    return absl::OkStatus();
  }

  absl::StatusOr<GraphSearchResult> WalkFrom(const float* vector, const WalkOptions& options,
                                             EncodedQuery& encoded, GraphScratch& scratch) const {
    if (codes_ == nullptr) {
      return WalkGraph(graph_, ScatteredDistances(vectors_, dim_, kernels_, vector), options,
                       scratch, cancel_);
    }
    codes_->EncodeQuery(vector, encoded);
    return WalkGraph(graph_, CodeDistances(codes_->rows(), codes_->kernels(), encoded.view()),
                     options, scratch, cancel_);
  }

  uint32_t NearestNeighborOf(uint32_t hidden, uint32_t node) const {
    uint32_t nearest = WalkOptions::kNoNode;
    float least = std::numeric_limits<float>::infinity();
    for (const uint32_t neighbor : graph_.Level0(hidden)) {
      if (neighbor == hidden || neighbor == node || neighbor >= graph_.node_count()) continue;
      const float distance = kernels_.pair(vectors_[node], vectors_[neighbor], dim_);
      if (distance >= least) continue;
      least = distance;
      nearest = neighbor;
    }
    return nearest;
  }

  // How many of `found` a search for `limit` measures again (SearchGraphByCodes).
  static size_t Rescored(std::span<const GraphScratch::Candidate> found,
                         std::span<const float> exact, uint32_t limit, float slack) {
    TopK top;
    top.Reset(limit, nullptr);
    for (size_t begin = 0; begin < found.size(); begin += kRescoreStep) {
      const size_t end = std::min(found.size(), begin + kRescoreStep);
      const float bound = top.bound();
      for (size_t i = begin; i < end; ++i) {
        if (i >= limit && found[i].distance - slack > bound) return i;
        if (!std::isnan(exact[i])) top.Push({exact[i], static_cast<uint32_t>(i)});
      }
    }
    return found.size();
  }

  const FrozenGraph& graph_;
  const CodedVectors* codes_;
  const std::span<const float* const> vectors_;
  const Metric metric_;
  const size_t dim_;
  const DistanceKernels kernels_;
  const ParallelFor& parallel_;
  const CancelToken& cancel_;
  std::vector<Query> queries_;
  std::vector<Result> results_;
  Mutex mu_;
  std::vector<float> errors_ AZ_GUARDED_BY(mu_);
};
}  // namespace

absl::StatusOr<Calibration> Calibrate(const FrozenGraph& graph, const CodedVectors* codes,
                                      std::span<const float* const> vectors, Metric metric,
                                      size_t dim, const CalibrateOptions& options,
                                      const ParallelFor& parallel, const CancelToken& cancel) {
  Calibration result;
  if (graph.node_count() < 2) return result;
  Calibrator calibrator(graph, codes, vectors, metric, dim, parallel, cancel);
  AZ_RETURN_IF_ERROR(calibrator.ChooseQueries(options));
  if (!calibrator.has_queries()) return result;
  result.error_ = calibrator.Error();
  for (size_t column = 0; column < kColumns; ++column) {
    result.usual_[column] = calibrator.BoundOf(column, kUsualShare);
    // Or two deviations: of a few queries the highest themselves say little.
    const float high = calibrator.BoundOf(column, kHighShare);
    result.far_[column] =
        std::min(calibrator.BoundOf(column, kFarShare), high + (high - result.usual_[column]));
  }
  for (const uint32_t ef : kWidths) {
    AZ_ASSIGN_OR_RETURN(const Point point, calibrator.Measure(ef, result.error_));
    result.points_.push_back(point);
    const bool enough = std::all_of(point.recall.begin() + kFirstSure, point.recall.end(),
                                    [&](float recall) { return recall >= options.recall_enough; });
    if (enough || ef >= graph.node_count()) break;
  }
  return result;
}

}  // namespace azimuth::index
