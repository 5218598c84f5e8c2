// Every target that this CPU runs against the scalar functions, to the last bit, and those against
// what the header says of codes and distances.
#include "index/codes/code_distance.h"

#include "gtest/gtest.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <vector>

namespace azimuth::index {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr CodeBits kAllBits[] = {CodeBits::k4, CodeBits::k8};
constexpr uint32_t kCanary = 0x7FC0BEEF;

struct alignas(kCodeAlignment) Block {
  uint8_t bytes[kCodeAlignment];
};

// Where the factors of rows are.
enum class Place { kApart, kInPadding };

// Codes without what is around them: row i's dimension d is codes[i][d].
struct Numbers {
  std::vector<std::vector<uint8_t>> codes;
  std::vector<CodeFactors> factors;
};

class Rows {
 public:
  // All that is not code or factors is garbage of `seed`.
  Rows(CodeBits bits, size_t dim, const Numbers& numbers, Place place, uint64_t seed) {
    const size_t used =
        bits == CodeBits::k8 ? dim : dim / 128 * 64 + std::min(dim % 128, kCodeAlignment);
    size_t stride = CodeBytes(bits, dim);
    if (place == Place::kInPadding) {
      stride = (used + sizeof(CodeFactors) + kCodeAlignment - 1) / kCodeAlignment * kCodeAlignment;
    }
    const size_t count = numbers.codes.size();
    blocks_.resize(count * stride / kCodeAlignment);
    factors_.resize(12 * count + 4);
    std::mt19937_64 random(seed);
    auto* bytes = reinterpret_cast<uint8_t*>(blocks_.data());
    for (size_t i = 0; i < count * stride; ++i) bytes[i] = static_cast<uint8_t>(random());
    rows_.codes = bytes;
    rows_.stride = stride;
    // Apart they are 4-byte aligned and no more, with garbage between them.
    rows_.factors =
        place == Place::kApart ? factors_.data() + 4 : bytes + stride - sizeof(CodeFactors);
    rows_.factors_stride = place == Place::kApart ? 12 : stride;
    for (size_t i = 0; i < count; ++i) {
      uint8_t* row = bytes + i * stride;
      for (size_t d = 0; d < dim; ++d) Set(bits, row, d, numbers.codes[i][d]);
      std::memcpy(const_cast<uint8_t*>(rows_.factors) + i * rows_.factors_stride,
                  &numbers.factors[i], sizeof(CodeFactors));
    }
  }

  const CodeRows& get() const { return rows_; }

 private:
  static void Set(CodeBits bits, uint8_t* row, size_t d, uint8_t number) {
    if (bits == CodeBits::k8) {
      row[d] = number;
      return;
    }
    uint8_t& byte = row[d / 128 * 64 + d % 64];
    const bool high = d % 128 >= 64;
    byte = static_cast<uint8_t>(high ? (byte & 0x0F) | number << 4 : (byte & 0xF0) | number);
  }

  std::vector<Block> blocks_;
  std::vector<uint8_t> factors_;
  CodeRows rows_;
};

class Query {
 public:
  Query(CodeBits bits, const CodeRows& rows, const std::vector<int8_t>& code, float add, float mul,
        float off) {
    const size_t bytes = bits == CodeBits::k8 ? rows.stride : 2 * rows.stride;
    blocks_.resize(bytes / kCodeAlignment);
    auto* to = reinterpret_cast<int8_t*>(blocks_.data());
    std::fill_n(to, bytes, int8_t{0});
    std::copy(code.begin(), code.end(), to);
    query_ = {to, add, mul, off};
  }

  const CodeQuery& get() const { return query_; }

 private:
  std::vector<Block> blocks_;
  CodeQuery query_;
};

Numbers RandomNumbers(CodeBits bits, size_t dim, size_t count, std::mt19937_64& random) {
  const uint64_t levels = bits == CodeBits::k8 ? kCode8Max + 1 : kCode4Max + 1;
  std::normal_distribution<float> normal;
  Numbers numbers;
  for (size_t i = 0; i < count; ++i) {
    std::vector<uint8_t>& code = numbers.codes.emplace_back(dim);
    for (uint8_t& x : code) x = static_cast<uint8_t>(random() % levels);
    numbers.factors.push_back({normal(random), normal(random)});
  }
  return numbers;
}

std::vector<int8_t> RandomCode(size_t dim, std::mt19937_64& random) {
  std::vector<int8_t> code(dim);
  for (int8_t& x : code) x = static_cast<int8_t>(static_cast<int>(random() % 255) - 127);
  return code;
}

std::vector<uint32_t> Bits(const std::vector<float>& floats) {
  std::vector<uint32_t> bits;
  // One NaN is as good as another.
  for (const float x : floats) bits.push_back(std::bit_cast<uint32_t>(std::isnan(x) ? kNan : x));
  return bits;
}

// Calls with room for one float more, and fails if it is written.
template <typename Call>
std::vector<float> Into(size_t size, const Call& call) {
  std::vector<float> out(size + 1, std::bit_cast<float>(kCanary));
  call(out.data());
  EXPECT_EQ(std::bit_cast<uint32_t>(out.back()), kCanary) << "wrote behind the end";
  out.pop_back();
  return out;
}

std::vector<float> GatherOf(const CodeKernels& kernels, const CodeQuery& query,
                            const CodeRows& rows, const std::vector<uint32_t>& ids) {
  return Into(ids.size(),
              [&](float* out) { kernels.gather(query, rows, ids.data(), ids.size(), out); });
}

std::vector<float> RunOf(const CodeKernels& kernels, const CodeQuery& query, const CodeRows& rows,
                         size_t first, size_t count) {
  return Into(count, [&](float* out) { kernels.run(query, rows, first, count, out); });
}

std::vector<float> TileOf(const CodeKernels& kernels, const std::vector<CodeQuery>& queries,
                          const CodeRows& rows, size_t first, size_t count) {
  return Into(queries.size() * count, [&](float* out) {
    kernels.tile(queries.data(), queries.size(), rows, first, count, out);
  });
}

// Every form of every target gives the bits of the scalar one.
void ExpectSameBits(CodeBits bits, const std::vector<CodeQuery>& queries, const CodeRows& rows,
                    size_t first, size_t count, const std::string& where) {
  const CodeKernels scalar = ScalarCodeKernelsFor(bits);
  std::vector<uint32_t> ids;
  for (size_t i = 0; i < count; ++i) ids.push_back(static_cast<uint32_t>(first + i * 7 % count));
  const std::vector<uint32_t> tile = Bits(TileOf(scalar, queries, rows, first, count));
  for (const NamedCodeDistanceKernels& named : AllCodeKernelsFor(bits)) {
    const std::string at = std::string(named.target) + " " + where;
    EXPECT_EQ(Bits(TileOf(named.kernels, queries, rows, first, count)), tile) << at;
    for (size_t q = 0; q < std::min(queries.size(), size_t{2}); ++q) {
      const std::vector<uint32_t> run(tile.begin() + q * count, tile.begin() + (q + 1) * count);
      EXPECT_EQ(Bits(RunOf(named.kernels, queries[q], rows, first, count)), run) << at;
      const std::vector<uint32_t> got = Bits(GatherOf(named.kernels, queries[q], rows, ids));
      for (size_t i = 0; i < count; ++i) EXPECT_EQ(got[i], run[ids[i] - first]) << at << " " << i;
    }
  }
}

void ExpectSameBits(CodeBits bits, size_t dim, size_t count, size_t query_count, Place place,
                    std::mt19937_64& random) {
  constexpr size_t kFirst = 3;
  const Rows rows(bits, dim, RandomNumbers(bits, dim, kFirst + count, random), place, random());
  std::normal_distribution<float> normal;
  std::vector<Query> owners;
  std::vector<CodeQuery> queries;
  owners.reserve(query_count);
  for (size_t q = 0; q < query_count; ++q) {
    owners.emplace_back(bits, rows.get(), RandomCode(dim, random), normal(random), normal(random),
                        normal(random));
    queries.push_back(owners.back().get());
  }
  ExpectSameBits(bits, queries, rows.get(), kFirst, count,
                 std::to_string(static_cast<int>(bits)) + " bits, dim " + std::to_string(dim) +
                     ", count " + std::to_string(count));
}

TEST(CodeDistance, TakesTheBestTargetAndListsTheScalarOneLast) {
  for (const CodeBits bits : kAllBits) {
    const std::vector<NamedCodeDistanceKernels> all = AllCodeKernelsFor(bits);
    ASSERT_GE(all.size(), 2U);
    EXPECT_EQ(all.front().kernels.gather, CodeKernelsFor(bits).gather);
    EXPECT_EQ(all.front().kernels.run, CodeKernelsFor(bits).run);
    EXPECT_EQ(all.front().kernels.tile, CodeKernelsFor(bits).tile);
    EXPECT_EQ(all.back().target, "scalar");
    EXPECT_EQ(all.back().kernels.gather, ScalarCodeKernelsFor(bits).gather);
  }
}

TEST(CodeDistance, OfTheScalarTargetIsWhatTheHeaderSays) {
  std::mt19937_64 random(1);
  for (const CodeBits bits : kAllBits) {
    for (const size_t dim : {1, 2, 63, 64, 65, 100, 127, 128, 129, 200, 784}) {
      const Numbers numbers = RandomNumbers(bits, dim, 5, random);
      const Rows rows(bits, dim, numbers, Place::kApart, random());
      const std::vector<int8_t> code = RandomCode(dim, random);
      const Query query(bits, rows.get(), code, 0.75F, 0.5F, -3);
      const std::vector<float> got =
          RunOf(ScalarCodeKernelsFor(bits), query.get(), rows.get(), 0, 5);
      for (size_t i = 0; i < 5; ++i) {
        int64_t dot = 0;
        for (size_t d = 0; d < dim; ++d) dot += int64_t{code[d]} * int64_t{numbers.codes[i][d]};
        const auto [add, mul] = numbers.factors[i];
        const double product = double{mul} * (0.5 * static_cast<double>(dot) - 3);
        const double expected = 0.75 + double{add} + product;
        EXPECT_NEAR(got[i], expected, 0x1p-22 * (1 + std::abs(add) + std::abs(product)))
            << static_cast<int>(bits) << " bits, dim " << dim;
      }
    }
  }
}

TEST(CodeDistance, HasTheSameBitsOnEveryTargetAtEveryDimension) {
  std::mt19937_64 random(2);
  for (const CodeBits bits : kAllBits) {
    for (size_t dim = 1; dim <= 300; ++dim) {
      ExpectSameBits(bits, dim, dim % 23 + 1, dim % 6,
                     dim % 2 == 0 ? Place::kApart : Place::kInPadding, random);
    }
    for (const size_t dim : {768, 784, 785, 1023, 1536, 4096}) {
      ExpectSameBits(bits, dim, 11, 5, Place::kApart, random);
      ExpectSameBits(bits, dim, 11, 5, Place::kInPadding, random);
    }
  }
}

TEST(CodeDistance, HasTheSameBitsOnEveryTargetForEveryCount) {
  std::mt19937_64 random(3);
  for (const CodeBits bits : kAllBits) {
    for (size_t count = 0; count <= 70; ++count) {
      for (const size_t dim : {20, 100, 256}) {
        ExpectSameBits(bits, dim, count, count % 10, Place::kInPadding, random);
      }
    }
  }
}

TEST(CodeDistance, OfTheGreatestCodesIsExact) {
  for (const CodeBits bits : kAllBits) {
    // The dimension at which the sums are largest.
    for (const size_t dim : {64, 784, 65536}) {
      for (const int8_t level : {int8_t{-127}, int8_t{127}}) {
        const uint8_t greatest = bits == CodeBits::k8 ? kCode8Max : kCode4Max;
        Numbers numbers;
        for (size_t i = 0; i < 7; ++i) {
          numbers.codes.emplace_back(dim, greatest);
          numbers.factors.push_back({0, 1});
        }
        const Rows rows(bits, dim, numbers, Place::kApart, 4);
        const Query query(bits, rows.get(), std::vector<int8_t>(dim, level), 0, 1, 0);
        const std::vector<CodeQuery> queries(4, query.get());
        const int64_t dot = int64_t{greatest} * level * static_cast<int64_t>(dim);
        for (const NamedCodeDistanceKernels& named : AllCodeKernelsFor(bits)) {
          for (const float distance : TileOf(named.kernels, queries, rows.get(), 0, 7)) {
            EXPECT_EQ(distance, static_cast<float>(dot)) << named.target << " " << dim;
          }
          for (const float distance : RunOf(named.kernels, query.get(), rows.get(), 0, 7)) {
            EXPECT_EQ(distance, static_cast<float>(dot)) << named.target << " " << dim;
          }
        }
      }
    }
  }
}

// Of rows and of queries: what is not finite comes out as the formula says, and only where it is.
TEST(CodeDistance, HasTheSameBitsOnEveryTargetForFactorsThatAreNotFiniteOrOverflow) {
  std::mt19937_64 random(5);
  constexpr size_t kDim = 100;
  const float huge = std::numeric_limits<float>::max();
  const float least = std::numeric_limits<float>::denorm_min();
  const std::vector<float> extremes = {0,     -0.0F,     1,          huge, -huge,
                                       least, kInfinity, -kInfinity, kNan};
  for (const CodeBits bits : kAllBits) {
    Numbers numbers = RandomNumbers(bits, kDim, extremes.size() * extremes.size(), random);
    for (size_t i = 0; i < numbers.factors.size(); ++i) {
      numbers.factors[i] = {extremes[i / extremes.size()], extremes[i % extremes.size()]};
    }
    const Rows rows(bits, kDim, numbers, Place::kApart, 6);
    const std::vector<int8_t> code = RandomCode(kDim, random);
    for (const float add : extremes) {
      for (const float mul : extremes) {
        const Query query(bits, rows.get(), code, add, mul, 1);
        const Query other(bits, rows.get(), code, 1, mul, add);
        const std::vector<CodeQuery> queries = {query.get(), other.get(), query.get(), other.get(),
                                                other.get()};
        ExpectSameBits(bits, queries, rows.get(), 0, numbers.codes.size(), "extremes");
      }
    }
    const Query plain(bits, rows.get(), code, 1, 1, 1);
    const std::vector<float> got =
        RunOf(CodeKernelsFor(bits), plain.get(), rows.get(), 0, numbers.codes.size());
    for (size_t i = 0; i < got.size(); ++i) {
      const auto [add, mul] = numbers.factors[i];
      const std::string where = std::to_string(add) + " " + std::to_string(mul);
      if (std::isnan(add) || std::isnan(mul)) {
        EXPECT_TRUE(std::isnan(got[i])) << where;
      } else if (std::abs(mul) > 1) {
        EXPECT_FALSE(std::isfinite(got[i])) << where;
      } else if (std::isinf(add)) {
        EXPECT_EQ(got[i], add) << where;
      } else {
        EXPECT_TRUE(std::isfinite(got[i])) << where;
      }
    }
  }
}

TEST(CodeDistance, DoesNotDependOnWhatIsNotCode) {
  std::mt19937_64 random(7);
  for (const CodeBits bits : kAllBits) {
    for (const size_t dim : {1, 33, 100, 129, 784}) {
      for (const Place place : {Place::kApart, Place::kInPadding}) {
        const Numbers numbers = RandomNumbers(bits, dim, 6, random);
        const Rows one(bits, dim, numbers, place, random());
        const Rows two(bits, dim, numbers, place, random());
        const Query query(bits, one.get(), RandomCode(dim, random), 1, 2, 3);
        for (const NamedCodeDistanceKernels& named : AllCodeKernelsFor(bits)) {
          EXPECT_EQ(RunOf(named.kernels, query.get(), one.get(), 0, 6),
                    RunOf(named.kernels, query.get(), two.get(), 0, 6))
              << named.target << " " << dim;
        }
      }
    }
  }
}

}  // namespace
}  // namespace azimuth::index
