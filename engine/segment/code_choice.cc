#include "engine/segment/code_choice.h"

#include "base/status.h"
#include "engine/segment/metric.h"
#include "index/codes/coded_vectors.h"

#include <algorithm>
#include <random>
#include <utility>
#include <vector>

namespace azimuth::engine {
namespace {

using index::CodeBits;
using index::CodeTransform;

// Below, a vector takes hardly more lines of memory than a code.
constexpr uint32_t kCodeDimMin = 32;
constexpr size_t kSampleRows = 4096;
// Codes of 4 bits are taken even if they cost a little more: they take half the memory.
constexpr double kFourBitsCostMax = 1.05;
// Codes that reach less, however wide the walk, are too coarse.
constexpr double kRecallMin = 0.985;
constexpr size_t kTrialQueries = 128;
constexpr index::CalibrateOptions kTrial = {.recall_enough = 0.99F};
// Codes of 4 bits of so many dimensions, and the factors, fill whole lines of memory.
constexpr size_t kLineDims = 128;
constexpr size_t kFactorDims = 16;
// A map to fewer dimensions is a table of dim x dimensions, through which each query goes.
constexpr size_t kProjectedDimMax = 4096;
constexpr size_t kProjectedToMax = 5 * kLineDims;

std::vector<const float*> Sample(std::span<const float* const> vectors, size_t rows) {
  // From all over: nodes that stand together are near each other.
  std::vector<const float*> sample(std::min(rows, vectors.size()));
  for (size_t i = 0; i < sample.size(); ++i)
    sample[i] = vectors[i * vectors.size() / sample.size()];
  return sample;
}

// To how many dimensions rows may be mapped, ascending.
std::vector<size_t> ProjectedDims(size_t dim) {
  std::vector<size_t> dims;
  if (dim > kProjectedDimMax) return dims;
  for (size_t lines = kLineDims; lines - kFactorDims < dim && lines <= kProjectedToMax;
       lines += kLineDims) {
    dims.push_back(lines - kFactorDims);
  }
  if (dim <= kProjectedToMax) dims.push_back(dim);
  return dims;
}

class Chooser final {
 public:
  Chooser(const VectorFieldDef& field, const MeasuredGraph& measured,
          std::span<const float* const> vectors, uint64_t seed, const index::ParallelFor& parallel,
          const CancelToken& cancel)
      : field_(field),
        metric_(ToIndexMetric(field.metric)),
        measured_(measured),
        vectors_(vectors),
        seed_(seed),
        parallel_(parallel),
        cancel_(cancel),
        sample_(Sample(vectors, kSampleRows)) {}

  absl::StatusOr<CodeChoice> Choose() {
    switch (field_.index.quantization) {
      case Quantization::kNone:
        break;
      case Quantization::kSq8:
        return Only({.bits = CodeBits::k8});
      case Quantization::kSq4:
        return Only({.bits = CodeBits::k4});
      case Quantization::kRabitq4:
        return Only({.bits = CodeBits::k4, .transform = CodeTransform::kRotated});
      case Quantization::kPca4:
        return Projected();
      case Quantization::kAuto:
        if (field_.dim >= kCodeDimMin) return Cheapest();
        break;
    }
    AZ_RETURN_IF_ERROR(FindQueries(nullptr));
    return Calibrated(std::nullopt);
  }

 private:
  // Codes, and what searches by them cost by the few queries of a trial.
  struct Trial {
    index::AlignedBytes codes;
    double cost = 0;
  };

  index::AlignedBytes Encode(index::QuantizerOptions options) const {
    options.seed = seed_;
    return index::EncodeVectors(index::Quantizer::Train(metric_, field_.dim, sample_, options),
                                vectors_, parallel_);
  }

  absl::Status FindQueries(const index::AlignedBytes* bytes) {
    std::optional<index::CodedVectors> codes;
    if (bytes != nullptr) {
      AZ_ASSIGN_OR_RETURN(codes, Open(*bytes));
    }
    AZ_ASSIGN_OR_RETURN(queries_, index::FindCalibrationQueries(
                                      measured_.held_out, codes.has_value() ? &*codes : nullptr,
                                      vectors_, metric_, field_.dim, parallel_, cancel_));
    // Trials take the first of them: any, not those of one region.
    std::shuffle(queries_.begin(), queries_.end(), std::mt19937_64(seed_));
    return absl::OkStatus();
  }

  absl::StatusOr<CodeChoice> Only(const index::QuantizerOptions& options) {
    index::AlignedBytes codes = Encode(options);
    AZ_RETURN_IF_ERROR(FindQueries(&codes));
    return Calibrated(std::move(codes));
  }

  // The cheapest number of dimensions. The costs of more and more fall and then rise: the first one
  // that costs more than the one before it ends the trials.
  absl::StatusOr<std::optional<Trial>> CheapestProjected() const {
    std::optional<Trial> best;
    const std::vector<size_t> dims = ProjectedDims(field_.dim);
    if (dims.empty()) return best;
    // Most often the third costs more than one of the first two.
    constexpr size_t kTrials = 3;
    index::PrincipalComponents known;
    for (size_t i = 0; i < dims.size(); ++i) {
      if (dims[i] > known.count()) {
        const size_t most = dims[std::min(std::max(i, kTrials - 1), dims.size() - 1)];
        known = index::Quantizer::Components(field_.dim, sample_, most, seed_);
      }
      Trial trial;
      trial.codes = Encode({.bits = CodeBits::k4,
                            .transform = CodeTransform::kProjected,
                            .components = dims[i],
                            .known = &known});
      AZ_ASSIGN_OR_RETURN(trial.cost, CostOf(trial.codes));
      if (best.has_value() && trial.cost >= best->cost) break;
      best = std::move(trial);
    }
    return best;
  }

  absl::StatusOr<CodeChoice> Projected() {
    // Too many dimensions to be mapped are rotated only.
    if (ProjectedDims(field_.dim).empty()) {
      return Only({.bits = CodeBits::k4, .transform = CodeTransform::kRotated});
    }
    AZ_RETURN_IF_ERROR(FindQueries(nullptr));
    AZ_ASSIGN_OR_RETURN(std::optional<Trial> best, CheapestProjected());
    return Calibrated(std::move(best->codes));
  }

  // Codes that are too coarse for how near rows lie to each other do not reach a high recall,
  // however wide the walk, and are not taken.
  absl::StatusOr<CodeChoice> Cheapest() {
    Trial eight{Encode({.bits = CodeBits::k8}), 0};
    AZ_RETURN_IF_ERROR(FindQueries(&eight.codes));
    AZ_ASSIGN_OR_RETURN(eight.cost, CostOf(eight.codes));
    AZ_ASSIGN_OR_RETURN(std::optional<Trial> four, CheapestProjected());
    if (!four.has_value()) {
      four = Trial{Encode({.bits = CodeBits::k4, .transform = CodeTransform::kRotated}), 0};
      AZ_ASSIGN_OR_RETURN(four->cost, CostOf(four->codes));
    }
    const bool four_first = four->cost <= kFourBitsCostMax * eight.cost;
    Trial* const in_order[] = {four_first ? &*four : &eight, four_first ? &eight : &*four};
    for (Trial* trial : in_order) {
      AZ_ASSIGN_OR_RETURN(CodeChoice choice, Calibrated(std::move(trial->codes)));
      if (choice.calibration.Reaches(kRecallMin)) return choice;
    }
    return Calibrated(std::nullopt);
  }

  absl::StatusOr<double> CostOf(const index::AlignedBytes& bytes) const {
    AZ_ASSIGN_OR_RETURN(const index::CodedVectors codes, Open(bytes));
    const auto queries = std::span(queries_).first(std::min(queries_.size(), kTrialQueries));
    AZ_ASSIGN_OR_RETURN(const index::Calibration calibration,
                        index::Calibrate(*measured_.graph, &codes, vectors_, metric_, field_.dim,
                                         queries, kTrial, parallel_, cancel_));
    const size_t floats = field_.dim * sizeof(float);
    return calibration.Cost(codes.rows().stride,
                            measured_.vector_bytes == 0 ? floats : measured_.vector_bytes);
  }

  absl::StatusOr<CodeChoice> Calibrated(std::optional<index::AlignedBytes> bytes) const {
    std::optional<index::CodedVectors> codes;
    if (bytes.has_value()) {
      AZ_ASSIGN_OR_RETURN(codes, Open(*bytes));
    }
    AZ_ASSIGN_OR_RETURN(
        index::Calibration calibration,
        index::Calibrate(*measured_.graph, codes.has_value() ? &*codes : nullptr, vectors_, metric_,
                         field_.dim, queries_, {}, parallel_, cancel_));
    return CodeChoice{std::move(bytes), std::move(calibration)};
  }

  absl::StatusOr<index::CodedVectors> Open(const index::AlignedBytes& bytes) const {
    return index::CodedVectors::Open(metric_, field_.dim, bytes.span());
  }

  const VectorFieldDef& field_;
  const index::Metric metric_;
  const MeasuredGraph& measured_;
  const std::span<const float* const> vectors_;
  const uint64_t seed_;
  const index::ParallelFor& parallel_;
  const CancelToken& cancel_;
  const std::vector<const float*> sample_;
  std::vector<index::CalibrationQuery> queries_;
};

}  // namespace

absl::StatusOr<CodeChoice> ChooseCodes(const VectorFieldDef& field, const MeasuredGraph& measured,
                                       std::span<const float* const> vectors, uint64_t seed,
                                       const index::ParallelFor& parallel,
                                       const CancelToken& cancel) {
  return Chooser(field, measured, vectors, seed, parallel, cancel).Choose();
}

}  // namespace azimuth::engine
