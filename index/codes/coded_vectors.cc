#include "index/codes/coded_vectors.h"

#include "base/check.h"
#include "base/status.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <vector>

namespace azimuth::index {
namespace {

constexpr uint32_t kMagic = 0x314B5A41;  // "AZK1"
constexpr uint16_t kVersion = 1;
constexpr uint16_t kVersionProjected = 2;  // Exactly of those codes.
constexpr uint16_t kFactorsInCodes = 1;    // A flag: they are the last bytes of each row.
constexpr size_t kAlignment = 64;
constexpr size_t kRowsPerTask = 256;

struct Header {
  uint32_t magic = kMagic;
  uint16_t version = kVersion;
  uint16_t flags = 0;
  uint32_t count = 0;
  uint32_t quantizer_bytes = 0;
  uint8_t reserved[48] = {};
};
static_assert(sizeof(Header) == kAlignment);

constexpr uint64_t Aligned(uint64_t bytes) {
  return (bytes + kAlignment - 1) / kAlignment * kAlignment;
}

// Where the parts begin. No sum overflows: a count is below 2^32, a stride below 2^17.
struct Layout {
  uint64_t codes = 0;
  uint64_t factors = 0;
  uint64_t end = 0;
};

Layout LayoutOf(const Header& header, size_t stride) {
  Layout layout;
  layout.codes = Aligned(sizeof(Header) + uint64_t{header.quantizer_bytes});
  layout.factors = layout.codes + uint64_t{header.count} * stride;
  const bool inside = (header.flags & kFactorsInCodes) != 0;
  layout.end = inside ? layout.factors
                      : Aligned(layout.factors + uint64_t{header.count} * sizeof(CodeFactors));
  return layout;
}

uint16_t VersionOf(const Quantizer& quantizer) {
  return quantizer.transform() == CodeTransform::kProjected ? kVersionProjected : kVersion;
}

bool FactorsFit(const Quantizer& quantizer) {
  return quantizer.used_bytes() + sizeof(CodeFactors) <= quantizer.code_bytes();
}

}  // namespace

AlignedBytes EncodeVectors(const Quantizer& quantizer, std::span<const float* const> vectors,
                           const ParallelFor& parallel) {
  const std::string saved = quantizer.Save();
  const size_t stride = quantizer.code_bytes();
  Header header;
  header.version = VersionOf(quantizer);
  header.flags = FactorsFit(quantizer) ? kFactorsInCodes : 0;
  header.count = static_cast<uint32_t>(vectors.size());
  header.quantizer_bytes = static_cast<uint32_t>(saved.size());
  const Layout layout = LayoutOf(header, stride);
  AlignedBytes out(layout.end);
  std::memcpy(out.data(), &header, sizeof(header));
  std::memcpy(out.data() + sizeof(header), saved.data(), saved.size());
  const size_t tasks = (vectors.size() + kRowsPerTask - 1) / kRowsPerTask;
  parallel(tasks, [&](size_t task) {
    EncodeScratch scratch;
    const size_t end = std::min(vectors.size(), (task + 1) * kRowsPerTask);
    for (size_t i = task * kRowsPerTask; i < end; ++i) {
      std::byte* const code = out.data() + layout.codes + i * stride;
      const CodeFactors factors =
          quantizer.Encode(vectors[i], scratch, reinterpret_cast<uint8_t*>(code));
      std::byte* const at = FactorsFit(quantizer)
                                ? code + stride - sizeof(factors)
                                : out.data() + layout.factors + i * sizeof(factors);
      std::memcpy(at, &factors, sizeof(factors));
    }
  });
  return out;
}

absl::StatusOr<CodedVectors> CodedVectors::Open(Metric metric, size_t dim,
                                                std::span<const std::byte> bytes,
                                                const Load& load) {
  if (std::bit_cast<uintptr_t>(bytes.data()) % kAlignment != 0) {
    return DataLoss("codes: begin at an address that is not a multiple of %d", kAlignment);
  }
  Header header;
  if (bytes.size() < sizeof(header)) {
    return DataLoss("codes: %d bytes are too few for the header of %d", bytes.size(),
                    sizeof(header));
  }
  if (load) AZ_RETURN_IF_ERROR(load(0, sizeof(header)));
  std::memcpy(&header, bytes.data(), sizeof(header));
  if (header.magic != kMagic) {
    return DataLoss("codes: magic is %08x, not %08x", header.magic, kMagic);
  }
  if (header.version != kVersion && header.version != kVersionProjected) {
    return FailedPrecondition("codes: version is %d; this program reads %d and %d", header.version,
                              kVersion, kVersionProjected);
  }
  if (std::any_of(std::begin(header.reserved), std::end(header.reserved),
                  [](uint8_t byte) { return byte != 0; })) {
    return DataLoss("codes: reserved bytes of the header are not zero");
  }
  if (bytes.size() - sizeof(header) < header.quantizer_bytes) {
    return DataLoss("codes: %d bytes are too few for a quantizer of %d", bytes.size(),
                    header.quantizer_bytes);
  }
  if (load) AZ_RETURN_IF_ERROR(load(sizeof(header), header.quantizer_bytes));
  AZ_ASSIGN_OR_RETURN(
      Quantizer quantizer,
      Quantizer::Open(metric, dim, bytes.subspan(sizeof(header), header.quantizer_bytes)));
  if (header.version != VersionOf(quantizer)) {
    return DataLoss("codes: version is %d, which does not fit transform %d", header.version,
                    static_cast<int>(quantizer.transform()));
  }
  CodedVectors result(std::move(quantizer));
  const size_t stride = result.quantizer_.code_bytes();
  const bool inside = (header.flags & kFactorsInCodes) != 0;
  if (inside != FactorsFit(result.quantizer_) || header.flags > kFactorsInCodes) {
    return DataLoss("codes: flags are %d, which do not fit codes of %d bytes", header.flags,
                    stride);
  }
  const Layout layout = LayoutOf(header, stride);
  if (layout.end != bytes.size()) {
    return DataLoss("codes: %d bytes instead of %d for %d vectors", bytes.size(), layout.end,
                    header.count);
  }
  const auto* const base = reinterpret_cast<const uint8_t*>(bytes.data());
  result.count_ = header.count;
  result.rows_.codes = base + layout.codes;
  result.rows_.stride = stride;
  result.rows_.factors =
      inside ? result.rows_.codes + stride - sizeof(CodeFactors) : base + layout.factors;
  result.rows_.factors_stride = inside ? stride : sizeof(CodeFactors);
  result.kernels_ = CodeKernelsFor(result.quantizer_.bits());
  return result;
}

}  // namespace azimuth::index
