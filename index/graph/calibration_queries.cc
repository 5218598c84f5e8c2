#include "index/graph/calibration_queries.h"

#include "base/mutex.h"
#include "base/status.h"
#include "index/bitset.h"
#include "index/distance/distance.h"
#include "index/topk.h"

#include <algorithm>
#include <cmath>
#include <utility>

namespace azimuth::index {
namespace {

// A graph of few rows has few queries, so that measuring stays short beside building it.
constexpr size_t kRowsPerQuery = 55;
constexpr size_t kQueriesMin = 32;
constexpr size_t kQueriesMax = 500;
// So much of a graph stays in it.
constexpr size_t kRowsPerQueryMin = 4;
constexpr size_t kNearest = 100;
constexpr size_t kQueriesPerTask = 8;
// The true neighbours are looked for among so many of the nearest by codes.
constexpr size_t kCandidates = 256;
// So many queries are answered by the vectors, too; unless the candidates have this share of what
// those find, all are.
constexpr size_t kQueriesChecked = 32;
constexpr double kShareMin = 0.995;
constexpr size_t kScanRows = 512;

class Finder final {
 public:
  Finder(std::span<const uint32_t> held_out, const CodedVectors* codes,
         std::span<const float* const> vectors, Metric metric, size_t dim,
         const ParallelFor& parallel, const CancelToken& cancel)
      : codes_(codes),
        vectors_(vectors),
        dim_(dim),
        kernels_(KernelsFor(metric)),
        parallel_(parallel),
        cancel_(cancel),
        left_out_(vectors.size()) {
    for (const uint32_t node : held_out) {
      left_out_.Set(node);
      if (AllFinite({vectors_[node], dim_})) queries_.push_back({node, {}});
    }
  }

  absl::StatusOr<std::vector<CalibrationQuery>> Run() {
    bool good = false;
    if (codes_ != nullptr) {
      AZ_RETURN_IF_ERROR(FindAll(queries_.size(), true));
      AZ_ASSIGN_OR_RETURN(good, CandidatesAreGood());
    }
    if (!good) AZ_RETURN_IF_ERROR(FindAll(queries_.size(), false));
    return std::move(queries_);
  }

 private:
  // Of the first `count` queries.
  absl::Status FindAll(size_t count, bool by_codes) {
    Mutex mu;
    absl::Status status;
    parallel_((count + kQueriesPerTask - 1) / kQueriesPerTask, [&](size_t task) {
      const size_t begin = task * kQueriesPerTask;
      absl::Status done = Find(begin, std::min(count, begin + kQueriesPerTask), by_codes);
      if (done.ok()) return;
      MutexLock lock(mu);
      status.Update(std::move(done));
    });
    return status;
  }

  // Whether the nearest are among the candidates. Those of codes that are too coarse for how near
  // rows lie are any, and a walk by the same codes would find just them.
  absl::StatusOr<bool> CandidatesAreGood() {
    const size_t count = std::min(kQueriesChecked, queries_.size());
    const std::vector<CalibrationQuery> candidates(
        queries_.begin(), queries_.begin() + static_cast<std::ptrdiff_t>(count));
    AZ_RETURN_IF_ERROR(FindAll(count, false));
    for (const size_t limit : {size_t{1}, size_t{10}, kNearest}) {
      size_t hits = 0;
      size_t all = 0;
      for (size_t i = 0; i < count; ++i) {
        const size_t owed = std::min(limit, queries_[i].nearest.size());
        if (owed == 0) continue;
        all += owed;
        const float bound = queries_[i].nearest[owed - 1].distance;
        const std::vector<Neighbor>& found = candidates[i].nearest;
        for (size_t at = 0; at < std::min(owed, found.size()); ++at) {
          hits += found[at].distance <= bound ? 1 : 0;
        }
      }
      if (static_cast<double>(hits) < kShareMin * static_cast<double>(all)) return false;
    }
    return true;
  }

  absl::Status Find(size_t begin, size_t end, bool by_codes) {
    const size_t count = end - begin;
    std::vector<EncodedQuery> encoded(by_codes ? count : 0);
    std::vector<CodeQuery> views(encoded.size());
    std::vector<TopK> nearest(count);
    for (size_t i = 0; i < count; ++i) {
      nearest[i].Reset(by_codes ? kCandidates : kNearest, nullptr);
      if (!by_codes) continue;
      codes_->EncodeQuery(vectors_[queries_[begin + i].node], encoded[i]);
      views[i] = encoded[i].view();
    }
    std::vector<float> distances(count * kScanRows);
    for (size_t first = 0; first < vectors_.size(); first += kScanRows) {
      AZ_RETURN_IF_ERROR(cancel_.Check());
      const size_t rows = std::min(kScanRows, vectors_.size() - first);
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
          if (!(distance <= bound) || left_out_.Test(node)) continue;
          nearest[i].Push({distance, node});
          bound = nearest[i].bound();
        }
      }
    }
    for (size_t i = 0; i < count; ++i) {
      CalibrationQuery& query = queries_[begin + i];
      query.nearest.clear();
      for (const Neighbor& near : nearest[i].Sorted()) {
        const float distance = kernels_.pair(vectors_[query.node], vectors_[near.position], dim_);
        if (!std::isnan(distance)) query.nearest.push_back({distance, near.position});
      }
      std::sort(query.nearest.begin(), query.nearest.end(),
                [](const Neighbor& a, const Neighbor& b) { return a.distance < b.distance; });
      if (query.nearest.size() > kNearest) query.nearest.resize(kNearest);
    }
    return absl::OkStatus();
  }

  // As a tile of codes: out[q * rows + i].
  void ScanVectors(size_t begin, size_t count, size_t first, size_t rows, float* out) const {
    for (size_t row = 0; row < rows; ++row) {
      const float* const vector = vectors_[first + row];
      for (size_t i = 0; i < count; ++i) {
        out[i * rows + row] = kernels_.pair(vectors_[queries_[begin + i].node], vector, dim_);
      }
    }
  }

  const CodedVectors* codes_;
  const std::span<const float* const> vectors_;
  const size_t dim_;
  const DistanceKernels kernels_;
  const ParallelFor& parallel_;
  const CancelToken& cancel_;
  Bitset left_out_;
  std::vector<CalibrationQuery> queries_;
};

}  // namespace

uint32_t CalibrationQueryCount(size_t rows) {
  const size_t wanted = std::clamp(rows / kRowsPerQuery, kQueriesMin, kQueriesMax);
  return static_cast<uint32_t>(std::min(wanted, rows / kRowsPerQueryMin));
}

absl::StatusOr<std::vector<CalibrationQuery>> FindCalibrationQueries(
    std::span<const uint32_t> held_out, const CodedVectors* codes,
    std::span<const float* const> vectors, Metric metric, size_t dim, const ParallelFor& parallel,
    const CancelToken& cancel) {
  return Finder(held_out, codes, vectors, metric, dim, parallel, cancel).Run();
}

}  // namespace azimuth::index
