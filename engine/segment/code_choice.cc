#include "engine/segment/code_choice.h"

#include "base/status.h"
#include "engine/segment/metric.h"
#include "index/codes/coded_vectors.h"

#include <algorithm>
#include <utility>
#include <vector>

namespace azimuth::engine {
namespace {

using index::CodeBits;
using index::CodeTransform;

// Below, a vector takes hardly more lines of memory than a code.
constexpr uint32_t kCodeDimMin = 32;
constexpr size_t kSampleRows = 4096;
constexpr size_t kLossRows = 256;
// A rotation costs each query some time, and must lose so much less.
constexpr double kRotatedLossMax = 0.8;
// Codes of 4 bits are taken even if they cost a little more: they take half the memory.
constexpr double kFourBitsCostMax = 1.05;
// Codes that reach less, however wide the walk, are too coarse.
constexpr double kRecallMin = 0.985;
constexpr index::CalibrateOptions kTrial = {.seed = 2, .queries_max = 128, .recall_enough = 0.96F};

std::vector<const float*> Sample(std::span<const float* const> vectors, size_t rows) {
  // From all over: nodes that stand together are near each other.
  std::vector<const float*> sample(std::min(rows, vectors.size()));
  for (size_t i = 0; i < sample.size(); ++i)
    sample[i] = vectors[i * vectors.size() / sample.size()];
  return sample;
}

class Chooser final {
 public:
  Chooser(const VectorFieldDef& field, const index::FrozenGraph& graph,
          std::span<const float* const> vectors, uint64_t seed, const index::ParallelFor& parallel,
          const CancelToken& cancel)
      : field_(field),
        metric_(ToIndexMetric(field.metric)),
        graph_(graph),
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
        return Calibrated(Encode(Train(CodeBits::k8, CodeTransform::kPerDimension)));
      case Quantization::kSq4:
        return Calibrated(Encode(Train(CodeBits::k4, CodeTransform::kPerDimension)));
      case Quantization::kRabitq4:
        return Calibrated(Encode(Train(CodeBits::k4, CodeTransform::kRotated)));
      case Quantization::kAuto:
        if (field_.dim >= kCodeDimMin) return Cheapest();
        break;
    }
    return Calibrated(std::nullopt);
  }

 private:
  index::Quantizer Train(CodeBits bits, CodeTransform transform) const {
    return index::Quantizer::Train(metric_, field_.dim, sample_, {bits, transform, seed_});
  }
  std::optional<index::AlignedBytes> Encode(const index::Quantizer& quantizer) const {
    return index::EncodeVectors(quantizer, vectors_, parallel_);
  }

  index::Quantizer TrainFourBits() const {
    index::Quantizer plain = Train(CodeBits::k4, CodeTransform::kPerDimension);
    index::Quantizer rotated = Train(CodeBits::k4, CodeTransform::kRotated);
    const std::vector<const float*> rows = Sample(vectors_, kLossRows);
    return rotated.Loss(rows) < kRotatedLossMax * plain.Loss(rows) ? rotated : plain;
  }

  // Codes that are too coarse for how near rows lie to each other do not reach a high recall,
  // however wide the walk, and are not taken.
  absl::StatusOr<CodeChoice> Cheapest() const {
    std::optional<index::AlignedBytes> four = Encode(TrainFourBits());
    AZ_ASSIGN_OR_RETURN(const double four_cost, CostOf(*four));
    std::optional<index::AlignedBytes> eight =
        Encode(Train(CodeBits::k8, CodeTransform::kPerDimension));
    AZ_ASSIGN_OR_RETURN(const double eight_cost, CostOf(*eight));
    const bool four_first = four_cost <= kFourBitsCostMax * eight_cost;
    std::optional<index::AlignedBytes>* const in_order[] = {four_first ? &four : &eight,
                                                            four_first ? &eight : &four};
    for (std::optional<index::AlignedBytes>* codes : in_order) {
      AZ_ASSIGN_OR_RETURN(CodeChoice choice, Calibrated(std::move(*codes)));
      if (choice.calibration.Reaches(kRecallMin)) return choice;
    }
    return Calibrated(std::nullopt);
  }

  absl::StatusOr<double> CostOf(const index::AlignedBytes& bytes) const {
    AZ_ASSIGN_OR_RETURN(const index::CodedVectors codes, Open(bytes));
    AZ_ASSIGN_OR_RETURN(const index::Calibration calibration,
                        index::Calibrate(graph_, &codes, vectors_, metric_, field_.dim, kTrial,
                                         parallel_, cancel_));
    return calibration.Cost(codes.rows().stride, field_.dim * sizeof(float));
  }

  absl::StatusOr<CodeChoice> Calibrated(std::optional<index::AlignedBytes> bytes) const {
    std::optional<index::CodedVectors> codes;
    if (bytes.has_value()) {
      AZ_ASSIGN_OR_RETURN(codes, Open(*bytes));
    }
    AZ_ASSIGN_OR_RETURN(index::Calibration calibration,
                        index::Calibrate(graph_, codes.has_value() ? &*codes : nullptr, vectors_,
                                         metric_, field_.dim, {.seed = seed_}, parallel_, cancel_));
    return CodeChoice{std::move(bytes), std::move(calibration)};
  }

  absl::StatusOr<index::CodedVectors> Open(const index::AlignedBytes& bytes) const {
    return index::CodedVectors::Open(metric_, field_.dim, bytes.span());
  }

  const VectorFieldDef& field_;
  const index::Metric metric_;
  const index::FrozenGraph& graph_;
  const std::span<const float* const> vectors_;
  const uint64_t seed_;
  const index::ParallelFor& parallel_;
  const CancelToken& cancel_;
  const std::vector<const float*> sample_;
};

}  // namespace

absl::StatusOr<CodeChoice> ChooseCodes(const VectorFieldDef& field, const index::FrozenGraph& graph,
                                       std::span<const float* const> vectors, uint64_t seed,
                                       const index::ParallelFor& parallel,
                                       const CancelToken& cancel) {
  return Chooser(field, graph, vectors, seed, parallel, cancel).Choose();
}

}  // namespace azimuth::engine
