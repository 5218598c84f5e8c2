// Codes of any bytes: Open says no, or queries are encoded and measured inside the bytes.
//
// Input: the first byte says whether the rest is a section as it is (even), or a list of changes
// (offset u16, byte) to one that was encoded well, of one of six kinds; the second byte is the
// metric.
#include "index/codes/coded_vectors.h"
#include "tests/support/aligned_bytes.h"

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <limits>
#include <string>
#include <string_view>
#include <vector>

namespace {

using namespace azimuth::index;  // NOLINT(google-build-using-namespace): one file, one layer.

constexpr size_t kDim = 5;
constexpr size_t kRows = 6;

void OneThread(size_t count, const std::function<void(size_t)>& body) {
  for (size_t i = 0; i < count; ++i) body(i);
}

std::string SomeCodes(Metric metric, uint8_t kind) {
  std::vector<float> values(kRows * kDim);
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i * 7 % 11) - 5;
  std::vector<const float*> rows;
  for (size_t i = 0; i < kRows; ++i) rows.push_back(values.data() + i * kDim);
  const QuantizerOptions options{.bits = kind % 2 == 0 ? CodeBits::k4 : CodeBits::k8,
                                 .transform = static_cast<CodeTransform>(1 + kind / 2 % 3),
                                 .components = 3};
  const AlignedBytes bytes =
      EncodeVectors(Quantizer::Train(metric, kDim, rows, options), rows, OneThread);
  return {reinterpret_cast<const char*>(bytes.span().data()), bytes.span().size()};
}

std::string Codes(std::string_view input, uint8_t form, Metric metric) {
  if (form % 2 == 0) return std::string(input);
  std::string codes = SomeCodes(metric, form / 2);
  for (size_t i = 0; i + 3 <= input.size(); i += 3) {
    const size_t offset = static_cast<uint8_t>(input[i]) |
                          static_cast<size_t>(static_cast<uint8_t>(input[i + 1])) << 8;
    codes[offset % codes.size()] = input[i + 2];
  }
  return codes;
}

void Check(bool condition) {
  if (!condition) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 2) return 0;
  const auto metric = static_cast<Metric>(1 + data[1] % 3);
  const azimuth::testing::AlignedBytes bytes(
      Codes({reinterpret_cast<const char*>(data) + 2, size - 2}, data[0], metric));
  const auto codes = CodedVectors::Open(metric, kDim, bytes.span());
  if (!codes.ok()) return 0;
  Check(codes->quantizer().code_bytes() == codes->rows().stride);

  // A section of few bytes has few rows, so this is small. Twice, the other way round.
  std::vector<uint32_t> ids(codes->count());
  for (uint32_t i = 0; i < codes->count(); ++i) ids[i] = codes->count() - 1 - i;
  std::vector<float> gathered(ids.size());
  std::vector<float> run(ids.size());
  constexpr float kHuge = std::numeric_limits<float>::max();
  const float queries[][kDim] = {
      {1, -2, 3, 0.5F, 0}, {0, 0, 0, 0, 0}, {kHuge, -kHuge, 1e30F, 0, 1}, {1e-40F, 0, 0, 0, 0}};
  EncodedQuery encoded;
  for (const auto& query : queries) {
    codes->EncodeQuery(query, encoded);
    const CodeKernels kernels = codes->kernels();
    kernels.gather(encoded.view(), codes->rows(), ids.data(), ids.size(), gathered.data());
    kernels.run(encoded.view(), codes->rows(), 0, ids.size(), run.data());
    for (size_t i = 0; i < ids.size(); ++i) {
      const float other = run[ids[i]];
      Check(gathered[i] == other || (std::isnan(gathered[i]) && std::isnan(other)));
    }
  }
  // What was opened is written as it was read.
  const std::string saved = codes->quantizer().Save();
  Check(std::memcmp(bytes.span().data() + 64, saved.data(), saved.size()) == 0);
  return 0;
}
