#include "index/graph/pair_codes.h"

#include "index/distance/distance.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

namespace azimuth::index {
namespace {

// Below so many dimensions a row is hardly longer than its code.
constexpr size_t kDimMin = 48;
constexpr size_t kMeanRows = 4096;
// Rows of which the distance to the nearest of the others is looked at, and the others.
constexpr size_t kNearRows = 64;
constexpr size_t kOtherRows = 1024;
// How many times the error of an element the distance of near rows has to be. Rows have nearer ones
// than a sample shows, by a factor of 2 or so.
constexpr double kErrorsMin = 32;
// The same of squared distances: how many roundings of the largest terms that an l2 distance is the
// difference of. Some 4 of them are what it is off by.
constexpr double kRoundingsMin = 128;

size_t Step(size_t count, size_t wanted) {
  return std::max<size_t>(1, count / std::max<size_t>(1, wanted));
}

// Whether nothing that is computed of codes can overflow: no sum and no term of one is more than
// 16 * dim times the square of an element less the mean.
bool Fits(size_t dim, std::span<const float* const> vectors) {
  const float most = std::sqrt(std::numeric_limits<float>::max() / static_cast<float>(dim)) / 8;
  return std::all_of(vectors.begin(), vectors.end(), [&](const float* row) {
    size_t beyond = 0;
    for (size_t j = 0; j < dim; ++j) beyond += std::abs(row[j]) <= most ? 0U : 1U;  // Or is NaN.
    return beyond == 0;
  });
}

}  // namespace

std::optional<PairCodes> PairCodes::Make(Metric metric, size_t dim,
                                         std::span<const float* const> vectors) {
  // All rows, not a sample: one that overflows would be wrong about its distance to each other one.
  if (dim < kDimMin || vectors.empty() || !Fits(dim, vectors)) return std::nullopt;
  PairCodes codes(metric, dim);
  std::vector<double> sums(dim, 0.0);
  const size_t step = Step(vectors.size(), kMeanRows);
  size_t count = 0;
  for (size_t i = 0; i < vectors.size(); i += step, ++count) {
    for (size_t j = 0; j < dim; ++j) sums[j] += double{vectors[i][j]};
  }
  codes.mean_.resize(dim);
  for (size_t j = 0; j < dim; ++j) {
    codes.mean_[j] = static_cast<float>(sums[j] / static_cast<double>(count));
  }
  codes.mean_square_ = static_cast<float>(SquaredNorm(codes.mean_));
  if (!codes.TellsApart(vectors)) return std::nullopt;
  return codes;
}

bool PairCodes::TellsApart(std::span<const float* const> vectors) const {
  const DistanceKernels kernels = KernelsFor(Metric::kL2);
  std::vector<float> scratch;
  std::vector<std::byte> coded(bytes());
  std::vector<double> nearest;
  double error = 0;
  double terms = 0;  // Of l2 distances.
  const size_t step = Step(vectors.size(), kNearRows);
  const size_t other_step = Step(vectors.size(), kOtherRows);
  for (size_t i = 0; i < vectors.size(); i += step) {
    const float error_of_row = Encode(vectors[i], scratch, coded.data());
    if (!std::isfinite(error_of_row)) return false;
    error = std::max(error, double{error_of_row});
    if (metric_ == Metric::kL2) {
      Head head;
      std::memcpy(&head, coded.data(), sizeof(head));
      terms =
          std::max(terms, static_cast<double>(dim_) * double{head.offset} * double{head.offset} +
                              double{head.own});
    }
    float least = std::numeric_limits<float>::infinity();
    for (size_t other = 0; other < vectors.size(); other += other_step) {
      if (other == i) continue;
      least = std::min(least, kernels.pair(vectors[i], vectors[other], dim_));
    }
    nearest.push_back(std::sqrt(double{least}));
  }
  const auto middle = nearest.begin() + static_cast<std::ptrdiff_t>(nearest.size() / 2);
  std::nth_element(nearest.begin(), middle, nearest.end());
  constexpr double kRounding = std::numeric_limits<float>::epsilon();
  return std::isfinite(*middle) &&
         *middle >= kErrorsMin * error / std::sqrt(static_cast<double>(dim_)) &&
         *middle * *middle >= kRoundingsMin * kRounding * terms;
}

float PairCodes::Encode(const float* row, std::vector<float>& scratch, void* out) const {
  scratch.resize(dim_);
  for (size_t j = 0; j < dim_; ++j) scratch[j] = row[j] - mean_[j];
  auto* const code = static_cast<uint8_t*>(out) + sizeof(Head);
  const RowCode coded = EncodeRow(scratch, code);
  uint32_t sum = 0;
  uint32_t squares = 0;
  for (size_t j = 0; j < code_bytes_; ++j) {
    sum += code[j];
    squares += uint32_t{code[j]} * code[j];
  }
  const auto dim = static_cast<float>(dim_);
  Head head{coded.offset, coded.scale, coded.scale * static_cast<float>(sum), 0};
  if (metric_ == Metric::kL2) {
    head.own = dim * head.offset * head.offset + 2 * head.offset * head.sum +
               head.scale * head.scale * static_cast<float>(squares);
  } else {
    float product = 0;
    for (size_t j = 0; j < dim_; ++j) {
      product += mean_[j] * (head.offset + head.scale * static_cast<float>(code[j]));
    }
    head.own = product;
  }
  std::memcpy(out, &head, sizeof(head));
  return coded.error;
}

float PairCodes::Distance(const void* a, const void* b) const {
  Head x;
  Head y;
  std::memcpy(&x, a, sizeof(x));
  std::memcpy(&y, b, sizeof(y));
  int32_t sum = 0;
  dots_(static_cast<const int8_t*>(a) + sizeof(Head), static_cast<const uint8_t*>(b) + sizeof(Head),
        code_bytes_, 1, &sum);
  const float product = static_cast<float>(dim_) * x.offset * y.offset + x.offset * y.sum +
                        y.offset * x.sum + x.scale * y.scale * static_cast<float>(sum);
  float distance = product;
  switch (metric_) {
    case Metric::kL2:
      distance = std::max(x.own + y.own - 2 * product, 0.0F);  // In this order NaN stays.
      break;
    case Metric::kIp:
      distance = -(product + x.own + y.own + mean_square_);
      break;
    case Metric::kCosine:
      distance = 1 - (product + x.own + y.own + mean_square_);
      break;
  }
  return std::isnan(distance) ? std::numeric_limits<float>::infinity() : distance;
}

}  // namespace azimuth::index
