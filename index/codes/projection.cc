#include "index/codes/projection.h"

#include "base/check.h"
#include "base/status.h"
#include "index/codes/encode_kernels.h"
#include "index/codes/rotation.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

namespace azimuth::index {
namespace {

constexpr float kValueMax = 127;
constexpr float kLevelMax = 63;
constexpr uint8_t kLevelZero = 64;

struct Header {
  uint32_t count = 0;
  uint32_t reserved = 0;
};

}  // namespace

void Projection::SetRows(size_t dim, size_t count) {
  dim_ = dim;
  count_ = count;
  codes_ = std::make_shared<AlignedBytes>(count * CodeBytes(CodeBits::k8, dim));
  factors_ = std::make_shared<std::vector<CodeFactors>>(count);
}

Projection::Projection(const PrincipalComponents& components, size_t count, uint64_t seed) {
  const size_t dim = components.dim;
  AZ_CHECK(count >= 1 && count <= components.count());
  SetRows(dim, count);
  std::vector<float> rows(components.rows.begin(),
                          components.rows.begin() + static_cast<std::ptrdiff_t>(count * dim));
  const Rotation rotation(count, seed);
  std::vector<float> column(count);
  for (size_t at = 0; at < dim; ++at) {
    for (size_t i = 0; i < count; ++i) column[i] = rows[i * dim + at];
    rotation.Apply(column);
    for (size_t i = 0; i < count; ++i) rows[i * dim + at] = column[i];
  }
  const size_t stride = CodeBytes(CodeBits::k8, dim);
  for (size_t i = 0; i < count; ++i) {
    const std::span<const float> row = std::span(rows).subspan(i * dim, dim);
    float largest = 0;
    for (const float value : row) largest = std::max(largest, std::abs(value));
    const float scale = largest / kLevelMax;
    (*factors_)[i] = {0, scale};
    std::byte* const code = codes_->data() + i * stride;
    for (size_t at = 0; at < dim; ++at) {
      const float level = scale > 0 ? std::nearbyint(row[at] / scale) : 0;
      code[at] = static_cast<std::byte>(kLevelZero + static_cast<int>(level));
    }
  }
}

std::string Projection::Save() const {
  const Header header{.count = static_cast<uint32_t>(count_)};
  std::string out(reinterpret_cast<const char*>(&header), sizeof(header));
  for (size_t i = 0; i < count_; ++i) {
    out.append(reinterpret_cast<const char*>(&(*factors_)[i].mul), sizeof(float));
  }
  const size_t stride = CodeBytes(CodeBits::k8, dim_);
  for (size_t i = 0; i < count_; ++i) {
    out.append(reinterpret_cast<const char*>(codes_->span().data()) + i * stride, dim_);
  }
  return out;
}

absl::StatusOr<Projection> Projection::Open(size_t dim, std::span<const std::byte> bytes) {
  Header header;
  if (bytes.size() < sizeof(header)) {
    return DataLoss("projection: %d bytes are too few for the header of %d", bytes.size(),
                    sizeof(header));
  }
  std::memcpy(&header, bytes.data(), sizeof(header));
  if (header.count < 1 || header.count > dim) {
    return DataLoss("projection: to %d dimensions of %d", header.count, dim);
  }
  if (header.reserved != 0) {
    return DataLoss("projection: reserved bytes of the header are not zero");
  }
  const uint64_t size = sizeof(header) + uint64_t{header.count} * (sizeof(float) + dim);
  if (bytes.size() != size) {
    return DataLoss("projection: %d bytes instead of %d for %d x %d elements", bytes.size(), size,
                    header.count, dim);
  }
  Projection result;
  result.SetRows(dim, header.count);
  const size_t stride = CodeBytes(CodeBits::k8, dim);
  const std::span<const std::byte> scales = bytes.subspan(sizeof(header));
  const std::span<const std::byte> codes = scales.subspan(header.count * sizeof(float));
  for (size_t i = 0; i < header.count; ++i) {
    float& scale = (*result.factors_)[i].mul;
    std::memcpy(&scale, scales.data() + i * sizeof(float), sizeof(scale));
    if (!(scale >= 0) || std::isinf(scale)) {
      return DataLoss("projection: the scale of dimension %d is %g", i, scale);
    }
    const std::span<const std::byte> row = codes.subspan(i * dim, dim);
    const bool good = std::all_of(row.begin(), row.end(),
                                  [](std::byte level) { return level <= std::byte{kCode8Max}; });
    if (!good) return DataLoss("projection: an element of dimension %d is above %d", i, kCode8Max);
    std::memcpy(result.codes_->data() + i * stride, row.data(), dim);
  }
  return result;
}

CodeRows Projection::rows() const {
  return {reinterpret_cast<const uint8_t*>(codes_->span().data()), CodeBytes(CodeBits::k8, dim_),
          reinterpret_cast<const uint8_t*>(factors_->data()), sizeof(CodeFactors)};
}

void Projection::Apply(float* values, std::vector<int8_t>& memory, float* out) const {
  const EncodeKernels& kernels = BestEncodeKernels();
  const size_t size = CodeBytes(CodeBits::k8, dim_);
  if (memory.size() < size + kCodeAlignment) memory.resize(size + kCodeAlignment);
  const size_t misaligned = std::bit_cast<uintptr_t>(memory.data()) % kCodeAlignment;
  int8_t* const code = memory.data() + (kCodeAlignment - misaligned) % kCodeAlignment;
  const float largest = kernels.scale(nullptr, dim_, values);
  const float inverse = kValueMax / largest;
  if (!std::isfinite(largest) || !std::isfinite(inverse)) {
    const float nothing = std::isfinite(largest) ? 0 : std::numeric_limits<float>::quiet_NaN();
    std::fill_n(out, count_, nothing);
    return;
  }
  std::memset(code + dim_, 0, size - dim_);
  const int32_t sum = kernels.round(values, inverse, dim_, code);
  CodeQuery query;
  query.code = code;
  query.mul = largest / kValueMax;
  query.off = -query.mul * kLevelZero * static_cast<float>(sum);
  CodeKernelsFor(CodeBits::k8).run(query, rows(), 0, count_, out);
}

}  // namespace azimuth::index
