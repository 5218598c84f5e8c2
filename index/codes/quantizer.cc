#include "index/codes/quantizer.h"

#include "base/check.h"
#include "base/status.h"
#include "index/codes/encode_kernels.h"
#include "index/distance/distance.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

namespace azimuth::index {
namespace {

constexpr uint32_t kMagic = 0x31515A41;  // "AZQ1"
constexpr float kQueryMax = 127;
constexpr size_t kBlock4 = 128;  // Dimensions of a block of 4-bit codes.
// A row's own step, as shares of the one that its largest element needs: more levels for the many
// small elements may be worth more than the few large ones.
constexpr float kSteps[] = {0.5F, 0.6F, 0.7F, 0.8F, 0.9F, 1.0F};

// No step is less, so that its inverse is finite.
constexpr float kStepMin = 1e-30F;

struct Header {
  uint32_t magic = kMagic;
  uint8_t bits = 0;
  uint8_t transform = 0;
  uint16_t reserved = 0;
  uint64_t seed = 0;
};
static_assert(sizeof(Header) == 16);

// Of the dimensions in the last block of codes of 4 bits, which need not be full, the first half is
// in the low halves of bytes; this is the first that is not.
constexpr size_t SplitOf(size_t dim) {
  return dim / kBlock4 * kBlock4 + (dim % kBlock4 + 1) / 2;
}

// The place of dimension i among those of a code of 4 bits (code_distance.h). Of the last block the
// low and the high halves of the same bytes are used, so that the others are free.
constexpr size_t Nibble(size_t i, size_t dim) {
  const size_t split = SplitOf(dim);
  return i < split ? i : split / kBlock4 * kBlock4 + kBlock4 / 2 + (i - split);
}

// Writes `levels` (whole numbers) to their places in `code`, which is 0.
void Pack(CodeBits bits, std::span<const float> levels, uint8_t* code) {
  if (bits == CodeBits::k8) {
    for (size_t i = 0; i < levels.size(); ++i) code[i] = static_cast<uint8_t>(levels[i]);
    return;
  }
  for (size_t i = 0; i < levels.size(); ++i) {
    const size_t place = Nibble(i, levels.size());
    const size_t in_block = place % kBlock4;
    const auto level = static_cast<uint8_t>(levels[i]);
    uint8_t& byte = code[place / kBlock4 * (kBlock4 / 2) + in_block % (kBlock4 / 2)];
    byte = static_cast<uint8_t>(byte | (in_block < kBlock4 / 2 ? level : level << 4));
  }
}

struct Range {
  float low = 0;
  float high = 0;
};

// The range of `levels` + 1 levels that loses least of the squares of `sorted`, which is not empty:
// some values at the ends are better cut off than that all others are coarse.
Range BestRange(std::span<const float> sorted, float levels) {
  constexpr double kCuts[] = {0, 0.001, 0.005, 0.01, 0.02};
  const auto at = [&](double share) {
    return sorted[static_cast<size_t>(share * static_cast<double>(sorted.size() - 1))];
  };
  Range best{sorted.front(), sorted.back()};
  float least = std::numeric_limits<float>::infinity();
  for (const double low_cut : kCuts) {
    for (const double high_cut : kCuts) {
      const Range range{at(low_cut), at(1 - high_cut)};
      const float step = range.high / levels - range.low / levels;
      const float inverse = step >= kStepMin ? 1 / step : 0;
      float loss = 0;
      for (const float value : sorted) {
        const float level = std::min(std::max((value - range.low) * inverse, 0.0F), levels);
        const auto whole = static_cast<float>(static_cast<int32_t>(level + 0.5F));
        const float error = value - (range.low + whole * step);
        loss += error * error;
      }
      if (loss >= least) continue;
      least = loss;
      best = range;
    }
  }
  return best;
}

// Those rows of a sample that are trained for: finite, and not so far out that few would spoil the
// codes of all others.
std::vector<const float*> TrainedRows(std::span<const float* const> sample, size_t dim) {
  constexpr double kUsualShare = 0.99;
  constexpr double kSquareMax = 1e4;  // Times that which the usual share of rows does not exceed.
  std::vector<const float*> rows;
  std::vector<double> squares;
  for (const float* row : sample) {
    if (!AllFinite({row, dim})) continue;
    rows.push_back(row);
    squares.push_back(SquaredNorm({row, dim}));
  }
  if (rows.empty()) return rows;
  std::vector<double> sorted = squares;
  const auto at = sorted.begin() +
                  static_cast<std::ptrdiff_t>(kUsualShare * static_cast<double>(sorted.size() - 1));
  std::nth_element(sorted.begin(), at, sorted.end());
  if (!(*at > 0)) return rows;
  size_t kept = 0;
  for (size_t i = 0; i < rows.size(); ++i) {
    if (squares[i] <= kSquareMax * *at) rows[kept++] = rows[i];
  }
  rows.resize(kept);
  return rows;
}

std::vector<float> MeanOf(std::span<const float* const> rows, size_t dim) {
  std::vector<float> mean(dim, 0);
  for (size_t i = 0; i < dim && !rows.empty(); ++i) {
    double sum = 0;
    for (const float* row : rows) sum += row[i];
    mean[i] = static_cast<float>(sum / static_cast<double>(rows.size()));
  }
  return mean;
}

}  // namespace

Quantizer Quantizer::Train(Metric metric, size_t dim, std::span<const float* const> sample,
                           const QuantizerOptions& options) {
  AZ_CHECK(!sample.empty());
  Quantizer result(metric, dim, options);
  const std::vector<const float*> rows = TrainedRows(sample, dim);
  result.center_.assign(dim, 0);
  if (options.transform == CodeTransform::kRotated) {
    result.rotation_ = Rotation(dim, options.seed);
    result.center_ = MeanOf(rows, dim);
    return result;
  }
  if (options.transform == CodeTransform::kProjected) {
    const size_t count = options.components == 0 ? dim : std::min(options.components, dim);
    result.center_ = MeanOf(rows, dim);
    result.projection_ =
        options.known != nullptr
            ? Projection(*options.known, count, options.seed)
            : Projection(FindPrincipalComponents(dim, count, rows, result.center_, options.seed),
                         count, options.seed);
    return result;
  }
  result.scale_.assign(dim, 0);
  double width = 0;
  std::vector<float> values(rows.size());
  for (size_t i = 0; i < dim && !rows.empty(); ++i) {
    for (size_t row = 0; row < rows.size(); ++row) values[row] = rows[row][i];
    std::sort(values.begin(), values.end());
    const Range range = BestRange(values, result.levels());
    result.center_[i] = range.low / 2 + range.high / 2;
    result.scale_[i] = range.high / result.levels() - range.low / result.levels();
    width += result.scale_[i];
  }
  // A dimension that hardly varies in the sample may do so in other rows.
  const auto share = static_cast<float>(width / static_cast<double>(dim) / 64);
  const float least = std::max(share, kStepMin);
  for (float& scale : result.scale_) scale = std::max(scale, least);
  return result;
}

PrincipalComponents Quantizer::Components(size_t dim, std::span<const float* const> sample,
                                          size_t count, uint64_t seed) {
  const std::vector<const float*> rows = TrainedRows(sample, dim);
  return FindPrincipalComponents(dim, count, rows, MeanOf(rows, dim), seed);
}

std::string Quantizer::Save() const {
  Header header;
  header.bits = static_cast<uint8_t>(bits_);
  header.transform = static_cast<uint8_t>(transform_);
  header.seed = seed_;
  std::string out(reinterpret_cast<const char*>(&header), sizeof(header));
  for (const std::vector<float>* part : {&center_, &scale_}) {
    out.append(reinterpret_cast<const char*>(part->data()), part->size() * sizeof(float));
  }
  if (transform_ == CodeTransform::kProjected) out += projection_.Save();
  return out;
}

absl::StatusOr<Quantizer> Quantizer::Open(Metric metric, size_t dim,
                                          std::span<const std::byte> bytes) {
  Header header;
  if (bytes.size() < sizeof(header)) {
    return DataLoss("quantizer: %d bytes are too few for the header of %d", bytes.size(),
                    sizeof(header));
  }
  std::memcpy(&header, bytes.data(), sizeof(header));
  if (header.magic != kMagic) {
    return DataLoss("quantizer: magic is %08x, not %08x", header.magic, kMagic);
  }
  if (header.reserved != 0) {
    return DataLoss("quantizer: reserved bytes of the header are not zero");
  }
  QuantizerOptions options;
  options.bits = static_cast<CodeBits>(header.bits);
  options.transform = static_cast<CodeTransform>(header.transform);
  options.seed = header.seed;
  if (options.bits != CodeBits::k4 && options.bits != CodeBits::k8) {
    return DataLoss("quantizer: codes of %d bits", header.bits);
  }
  if (options.transform < CodeTransform::kPerDimension ||
      options.transform > CodeTransform::kProjected) {
    return DataLoss("quantizer: transform %d", header.transform);
  }
  Quantizer result(metric, dim, options);
  result.center_.resize(dim);
  if (options.transform == CodeTransform::kPerDimension) result.scale_.resize(dim);
  std::span<const std::byte> rest = bytes.subspan(sizeof(header));
  for (std::vector<float>* part : {&result.center_, &result.scale_}) {
    const size_t size = part->size() * sizeof(float);
    if (rest.size() < size) {
      return DataLoss("quantizer: %d bytes are too few for %d dimensions", bytes.size(), dim);
    }
    if (size > 0) std::memcpy(part->data(), rest.data(), size);
    rest = rest.subspan(size);
    if (!AllFinite(*part)) return DataLoss("quantizer: a number is not finite");
  }
  if (options.transform == CodeTransform::kProjected) {
    AZ_ASSIGN_OR_RETURN(result.projection_, Projection::Open(dim, rest));
    rest = {};
  }
  if (!rest.empty()) {
    return DataLoss("quantizer: %d bytes are too many for %d dimensions", bytes.size(), dim);
  }
  if (std::any_of(result.scale_.begin(), result.scale_.end(),
                  [](float scale) { return !(scale > 0); })) {
    return DataLoss("quantizer: a scale is not above 0");
  }
  if (options.transform == CodeTransform::kRotated) result.rotation_ = Rotation(dim, header.seed);
  return result;
}

size_t Quantizer::used_bytes() const {
  if (bits_ == CodeBits::k8) return code_dim();
  const size_t rest = code_dim() % kBlock4;
  return code_dim() / kBlock4 * (kBlock4 / 2) + (rest + 1) / 2;
}

// A row as levels, whole numbers from 0 on, and what they mean.
struct Quantizer::Levels {
  std::span<const float> levels;  // In the scratch.
  double square = 0;     // Of the row relative to the center; not finite: there is no code.
  double mapped = 0;     // The same of what is mapped of it.
  float step = 1;        // Of the row, between two levels.
  double code_row = 0;   // Product of the row and the decoded one,
  double code_code = 0;  // and the square of that.
};

void Quantizer::Quantize(const float* row, EncodeScratch& scratch, Levels& out) const {
  const float middle = levels() / 2;
  const size_t count = code_dim();
  scratch.values.resize(dim_ + 3 * count);
  const std::span<float> whole = std::span(scratch.values).first(dim_);
  std::span<float> chosen = std::span(scratch.values).subspan(dim_, count);
  std::span<float> tried = std::span(scratch.values).subspan(dim_ + count, count);
  for (size_t i = 0; i < dim_; ++i) whole[i] = row[i] - center_[i];
  out.square = SquaredNorm(whole);
  out.mapped = out.square;
  if (!(out.square < std::numeric_limits<float>::max())) return;
  // Each row has a step of its own.
  const bool rotated = transform_ != CodeTransform::kPerDimension;
  std::span<float> values = whole;
  if (transform_ == CodeTransform::kProjected) {
    values = std::span(scratch.values).subspan(dim_ + 2 * count, count);
    projection_.Apply(whole.data(), scratch.bytes, values.data());
    out.mapped = SquaredNorm(values);
    if (!(out.mapped < std::numeric_limits<float>::max())) return;
  } else if (rotated) {
    rotation_.Apply(values);
  }
  float largest = 0;
  for (const float value : values) largest = std::max(largest, std::abs(value));
  double best = -1;
  for (const float share : kSteps) {
    if (!rotated && share < 1) continue;
    const float step = rotated ? std::max(largest * share / middle, kStepMin) : 1;
    float code_row = 0;
    float code_code = 0;
    for (size_t i = 0; i < count; ++i) {
      const float width = rotated ? step : scale_[i];
      const float level = std::min(std::max(values[i] / width + middle, 0.0F), levels());
      tried[i] = static_cast<float>(static_cast<int32_t>(level + 0.5F));
      const float decoded = (tried[i] - middle) * width;
      code_row += decoded * values[i];
      code_code += decoded * decoded;
    }
    const double along = code_code > 0 ? double{code_row} * code_row / code_code : 0;
    if (along <= best) continue;
    best = along;
    out.step = step;
    out.code_row = code_row;
    out.code_code = code_code;
    std::swap(tried, chosen);
  }
  out.levels = chosen;
}

double Quantizer::Loss(std::span<const float* const> sample) const {
  EncodeScratch scratch;
  double lost = 0;
  size_t count = 0;
  for (const float* row : sample) {
    Levels code;
    Quantize(row, scratch, code);
    if (code.levels.empty() || !(code.mapped > 0)) continue;
    ++count;
    const double along = code.code_code > 0 ? code.code_row * code.code_row / code.code_code : 0;
    lost += 1 - std::min(1.0, along / code.mapped);
  }
  return count == 0 ? 0 : lost / static_cast<double>(count);
}

CodeFactors Quantizer::Encode(const float* row, EncodeScratch& scratch, uint8_t* code) const {
  std::memset(code, 0, code_bytes());
  Levels levels;
  Quantize(row, scratch, levels);
  if (levels.levels.empty()) {
    const float nan = std::numeric_limits<float>::quiet_NaN();
    return {nan, nan};
  }
  Pack(bits_, levels.levels, code);
  // The code is in levels: the scale of the row is in `mul`, that of dimensions in the query.
  // At the center no code is right: the row has none.
  const double unbiased = levels.code_row > 0 ? levels.mapped / levels.code_row : 0;
  const auto scale = static_cast<float>(unbiased * levels.step);
  return metric_ == Metric::kL2 ? CodeFactors{static_cast<float>(levels.square), -2 * scale}
                                : CodeFactors{0, -scale};
}

void Quantizer::EncodeQuery(const float* query, size_t stride, EncodedQuery& out) const {
  const EncodeKernels& kernels = BestEncodeKernels();
  out.values_.resize(dim_ + (transform_ == CodeTransform::kProjected ? code_dim() : 0));
  float* values = out.values_.data();
  float square = 0;
  if (metric_ == Metric::kL2) {
    square = kernels.subtract(query, center_.data(), dim_, values);
    out.add_ = square;
  } else {
    float product = 0;
    square = kernels.copy(query, center_.data(), dim_, values, &product);
    out.add_ = (metric_ == Metric::kCosine ? 1.0F : 0.0F) - product;
  }
  out.norm_ = std::sqrt(square);
  const size_t count = code_dim();
  if (transform_ == CodeTransform::kProjected) {
    projection_.Apply(values, out.mapped_, values + dim_);
    values += dim_;
  } else if (transform_ == CodeTransform::kRotated) {
    rotation_.Apply({values, dim_});
  }
  const bool scaled = transform_ == CodeTransform::kPerDimension;
  const float largest = kernels.scale(scaled ? scale_.data() : nullptr, count, values);

  const size_t size = bits_ == CodeBits::k8 ? stride : 2 * stride;
  if (out.bytes_.size() < size + kCodeAlignment) out.bytes_.resize(size + kCodeAlignment);
  const size_t misaligned = std::bit_cast<uintptr_t>(out.bytes_.data()) % kCodeAlignment;
  int8_t* const code = out.bytes_.data() + (kCodeAlignment - misaligned) % kCodeAlignment;
  std::memset(code, 0, size);
  out.code_ = code;
  out.mul_ = 0;
  out.off_ = 0;
  if (!std::isfinite(square) || !std::isfinite(largest)) {
    out.add_ = std::numeric_limits<float>::quiet_NaN();
    return;
  }
  const float inverse = kQueryMax / largest;
  if (!std::isfinite(inverse)) return;  // Nothing, or next to it.
  // Where the second half of the last block of 4 bits begins.
  const size_t split = bits_ == CodeBits::k8 ? count : SplitOf(count);
  int32_t sum = kernels.round(values, inverse, split, code);
  if (split < count) {
    int8_t* const rest = code + split / kBlock4 * kBlock4 + kBlock4 / 2;
    sum += kernels.round(values + split, inverse, count - split, rest);
  }
  out.mul_ = largest / kQueryMax;
  out.off_ = -out.mul_ * levels() / 2 * static_cast<float>(sum);
}

}  // namespace azimuth::index
