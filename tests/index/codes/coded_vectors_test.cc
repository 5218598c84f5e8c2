#include "index/codes/coded_vectors.h"

#include "tests/index/codes/coded.h"
#include "tests/support/aligned_bytes.h"
#include "tests/support/matchers.h"

#include "gtest/gtest.h"

#include <algorithm>
#include <cstring>
#include <memory>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

namespace azimuth::index {
namespace {

using azimuth::testing::StatusIs;
using testing::CodedRows;
using testing::CodeKind;
using testing::kCodeKinds;
using testing::kMetrics;
using testing::NameOf;
using testing::NormalVectors;
using testing::Vectors;
using Bytes = azimuth::testing::AlignedBytes;

constexpr size_t kHeaderBytes = 64;

Quantizer Train(Metric metric, const Vectors& vectors, CodeKind kind) {
  return Quantizer::Train(metric, vectors.dim, vectors.rows(), {kind.bits, kind.transform, 1});
}

std::string Encoded(const Quantizer& quantizer, const Vectors& vectors,
                    const ParallelFor& parallel = testing::OneThread) {
  const AlignedBytes bytes = EncodeVectors(quantizer, vectors.rows(), parallel);
  return {reinterpret_cast<const char*>(bytes.span().data()), bytes.span().size()};
}

std::vector<float> Distances(const CodedVectors& codes, const float* query) {
  EncodedQuery encoded;
  codes.EncodeQuery(query, encoded);
  std::vector<uint32_t> ids(codes.count());
  std::iota(ids.begin(), ids.end(), 0);
  std::vector<float> out(ids.size());
  codes.kernels().gather(encoded.view(), codes.rows(), ids.data(), ids.size(), out.data());
  return out;
}

size_t Aligned(size_t bytes) {
  return (bytes + 63) / 64 * 64;
}

template <typename T>
T At(const std::string& bytes, size_t offset) {
  T value;
  std::memcpy(&value, bytes.data() + offset, sizeof(value));
  return value;
}

template <typename T>
std::string With(std::string bytes, size_t offset, T value) {
  std::memcpy(&bytes[offset], &value, sizeof(value));
  return bytes;
}

// The factors of a row stand behind its code where there is room, else behind all codes.
TEST(CodedVectors, AreAsTheTableOfBytesSays) {
  const std::pair<CodeBits, std::vector<std::pair<size_t, bool>>> cases[] = {
      {CodeBits::k8, {{1, true}, {56, true}, {57, false}, {64, false}, {65, true}, {128, false}}},
      {CodeBits::k4, {{1, true}, {112, true}, {113, false}, {128, false}, {129, true}}},
  };
  for (const auto& [bits, dims] : cases) {
    for (const auto& [dim, inside] : dims) {
      const Vectors rows = NormalVectors(37, dim, 1);
      const Quantizer quantizer = Train(Metric::kL2, rows, {bits, CodeTransform::kPerDimension});
      const std::string bytes = Encoded(quantizer, rows);
      const std::string saved = quantizer.Save();
      const size_t stride = quantizer.code_bytes();
      EXPECT_EQ(At<uint16_t>(bytes, 4), 1) << "version";
      EXPECT_EQ(At<uint16_t>(bytes, 6), inside ? 1 : 0) << "flags, dim " << dim;
      EXPECT_EQ(At<uint32_t>(bytes, 8), 37u);
      EXPECT_EQ(At<uint32_t>(bytes, 12), saved.size());
      EXPECT_EQ(bytes.substr(16, 48), std::string(48, '\0'));
      EXPECT_EQ(bytes.substr(kHeaderBytes, saved.size()), saved);
      const size_t codes = Aligned(kHeaderBytes + saved.size());
      const size_t factors = codes + 37 * stride;
      EXPECT_EQ(bytes.size(), inside ? factors : Aligned(factors + 37 * sizeof(CodeFactors)));
      CodedRows expected(quantizer, rows);
      for (size_t i = 0; i < 37; ++i) {
        EXPECT_EQ(
            bytes.compare(codes + i * stride, quantizer.used_bytes(),
                          reinterpret_cast<const char*>(expected.code(i)), quantizer.used_bytes()),
            0);
        const auto at = inside ? codes + (i + 1) * stride - sizeof(CodeFactors)
                               : factors + i * sizeof(CodeFactors);
        EXPECT_EQ(At<float>(bytes, at), expected.factors()[i].add) << "dim " << dim;
        EXPECT_EQ(At<float>(bytes, at + 4), expected.factors()[i].mul) << "dim " << dim;
      }
    }
  }
}

TEST(CodedVectors, MeasureAsTheCodesOfTheirRows) {
  for (const Metric metric : kMetrics) {
    for (const CodeKind kind : kCodeKinds) {
      for (const size_t dim : {1, 3, 56, 57, 64, 65, 112, 113, 128, 129, 784}) {
        if (testing::TakesLong(kind, dim)) continue;
        const Vectors rows = NormalVectors(601, dim, 1, metric);
        const Quantizer quantizer = Train(metric, rows, kind);
        const Bytes bytes(Encoded(quantizer, rows));
        ASSERT_OK_AND_ASSIGN(const CodedVectors codes,
                             CodedVectors::Open(metric, dim, bytes.span()));
        EXPECT_EQ(codes.count(), 601u);
        EXPECT_EQ(codes.rows().stride, quantizer.code_bytes());
        // Every target gives the same bits.
        EXPECT_EQ(Distances(codes, rows.row(600)),
                  CodedRows(quantizer, rows).Distances(rows.row(600)))
            << NameOf(kind) << ", dim " << dim;
      }
    }
  }
}

TEST(CodedVectors, AreTheSameWhoeverEncodesThem) {
  for (const size_t dim : {size_t{64}, size_t{65}}) {
    const Vectors rows = NormalVectors(1500, dim, 1);
    const Quantizer quantizer = Train(Metric::kL2, rows, kCodeKinds[3]);
    EXPECT_EQ(Encoded(quantizer, rows), Encoded(quantizer, rows, testing::FourThreads));
    EXPECT_EQ(Encoded(quantizer, rows),
              Encoded(quantizer, rows, [](size_t count, const std::function<void(size_t)>& body) {
                for (size_t i = count; i > 0; --i) body(i - 1);
              }));
  }
}

TEST(CodedVectors, OfNothing) {
  for (const CodeKind kind : kCodeKinds) {
    for (const size_t dim : {size_t{64}, size_t{65}}) {
      const Quantizer quantizer = Train(Metric::kL2, NormalVectors(9, dim, 1), kind);
      const Bytes bytes(Encoded(quantizer, Vectors{dim, {}}));
      ASSERT_OK_AND_ASSIGN(const CodedVectors codes,
                           CodedVectors::Open(Metric::kL2, dim, bytes.span()));
      EXPECT_EQ(codes.count(), 0u);
      EXPECT_TRUE(Distances(codes, NormalVectors(1, dim, 2).row(0)).empty());
    }
  }
}

class DamagedCodes : public ::testing::TestWithParam<size_t> {
 protected:
  DamagedCodes() : dim_(GetParam()), rows_(NormalVectors(20, dim_, 1)) {}

  absl::StatusOr<CodedVectors> Open(const std::string& bytes, const CodedVectors::Load& load = {}) {
    bytes_ = std::make_unique<Bytes>(bytes);
    return CodedVectors::Open(Metric::kL2, dim_, bytes_->span(), load);
  }
  std::string Good(CodeKind kind) const { return Encoded(Train(Metric::kL2, rows_, kind), rows_); }

  size_t dim_;
  Vectors rows_;
  std::unique_ptr<Bytes> bytes_;
};

TEST_P(DamagedCodes, AreRefusedByName) {
  for (const CodeKind kind : kCodeKinds) {
    const std::string good = Good(kind);
    ASSERT_OK(Open(good));
    const auto says = [&](const std::string& bytes, const std::string& what) {
      EXPECT_THAT(Open(bytes), StatusIs(absl::StatusCode::kDataLoss, ::testing::HasSubstr(what)))
          << NameOf(kind);
    };
    for (size_t size = 0; size < good.size(); ++size) {
      EXPECT_THAT(Open(good.substr(0, size)), StatusIs(absl::StatusCode::kDataLoss)) << size;
    }
    says(good + std::string(64, '\0'), "instead of");
    says(With(good, 0, 'x'), "magic");
    EXPECT_THAT(Open(With(good, 4, uint16_t{3})), StatusIs(absl::StatusCode::kFailedPrecondition));
    // The version of other codes.
    const uint16_t other = kind.transform == CodeTransform::kProjected ? 1 : 2;
    EXPECT_THAT(
        Open(With(good, 4, other)),
        StatusIs(absl::StatusCode::kDataLoss, ::testing::HasSubstr("does not fit transform")));
    const auto flags = At<uint16_t>(good, 6);
    says(With(good, 6, static_cast<uint16_t>(1 - flags)), "flags");
    says(With(good, 6, static_cast<uint16_t>(flags + 2)), "flags");
    for (const uint32_t count : {0U, 19U, 21U, UINT32_MAX}) says(With(good, 8, count), "vectors");
    const auto quantizer_bytes = At<uint32_t>(good, 12);
    for (const uint32_t bytes : {0U, UINT32_MAX}) says(With(good, 12, bytes), "quantizer");
    const bool projected = kind.transform == CodeTransform::kProjected;
    for (const uint32_t bytes : {quantizer_bytes - 1, quantizer_bytes + 1}) {
      says(With(good, 12, bytes), projected ? "projection" : "quantizer");
    }
    says(With(good, 16, uint8_t{1}), "reserved");
    says(With(good, 63, uint8_t{1}), "reserved");
    says(With(good, kHeaderBytes, 'x'), "quantizer: magic");
    // Of another dimension.
    const Bytes bytes(good);
    EXPECT_THAT(CodedVectors::Open(Metric::kL2, dim_ + 1, bytes.span()),
                StatusIs(absl::StatusCode::kDataLoss));
    EXPECT_THAT(CodedVectors::Open(Metric::kL2, dim_, bytes.span().subspan(4)),
                StatusIs(absl::StatusCode::kDataLoss, ::testing::HasSubstr("multiple of 64")));
  }
}

TEST_P(DamagedCodes, OrGiveAnyDistancesAndNoMore) {
  for (const CodeKind kind : kCodeKinds) {
    const std::string good = Good(kind);
    for (size_t at = 0; at < good.size(); ++at) {
      for (const char byte : {'\0', '\1', '\x80', '\xFF'}) {
        const auto codes = Open(With(good, at, byte));
        if (!codes.ok()) continue;
        EXPECT_EQ(codes->count(), 20u);
        EXPECT_EQ(Distances(*codes, rows_.row(0)).size(), 20u);
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Dims, DamagedCodes, ::testing::Values(3, 64));

TEST_P(DamagedCodes, AreReadOnlyWhereTheyHaveBeenLoaded) {
  const std::string good = Good(kCodeKinds[0]);
  uint64_t loaded = 0;
  ASSERT_OK(Open(good, [&](uint64_t offset, uint64_t count) {
    EXPECT_LE(offset, loaded);
    loaded = std::max(loaded, offset + count);
    return absl::OkStatus();
  }));
  EXPECT_EQ(loaded, kHeaderBytes + At<uint32_t>(good, 12));
  int calls = 0;
  for (int fails = 0; fails < 2; ++fails) {
    calls = 0;
    EXPECT_THAT(Open(good,
                     [&](uint64_t, uint64_t) {
                       return calls++ == fails ? absl::UnavailableError("gone") : absl::OkStatus();
                     }),
                StatusIs(absl::StatusCode::kUnavailable));
  }
}

}  // namespace
}  // namespace azimuth::index
