// How long one distance takes, by kind, dimension and target: `./dev bench kernels`.
//
// Of float rows: in a block of 4 MiB, so that the figures are those of a warm cache. Of codes:
// 16 rows a call, as a walk asks for them, near (in the second-level cache) and far (random in
// 256 MiB of huge pages); and all rows near by runs and by tiles of 4 queries.

#include "index/codes/code_distance.h"
#include "index/distance/distance.h"

#include "benchmark/benchmark.h"

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <numeric>
#include <random>
#include <string>
#include <sys/mman.h>
#include <vector>

namespace azimuth::index {
namespace {

constexpr size_t kBlockFloats = size_t{1} << 20;
constexpr size_t kNearBytes = size_t{256} << 10;
constexpr size_t kFarBytes = size_t{256} << 20;
constexpr size_t kWalkRows = 16;
constexpr size_t kTileQueries = 4;

void BenchGather(benchmark::State& state, const DistanceKernels& kernels, size_t dim) {
  std::vector<float> rows(kBlockFloats);
  for (size_t i = 0; i < rows.size(); ++i) rows[i] = static_cast<float>(i % 97) / 97.0F;
  const size_t count = kBlockFloats / dim;
  std::vector<uint32_t> ids(count);
  std::iota(ids.begin(), ids.end(), 0U);
  std::vector<float> distances(count);
  for (auto _ : state) {
    kernels.gather(rows.data(), rows.data(), dim, dim, ids.data(), count, distances.data());
    benchmark::DoNotOptimize(distances.data());
  }
  state.SetItemsProcessed(state.iterations() * static_cast<int64_t>(count));
  state.SetBytesProcessed(state.iterations() * static_cast<int64_t>(count * dim * sizeof(float)));
}

// kFarBytes of bytes from 0 to 126, as codes of either kind may be.
uint8_t* FarBytes() {
  static uint8_t* const bytes = [] {
    constexpr size_t kHugePage = size_t{2} << 20;
    auto* memory = static_cast<uint8_t*>(std::aligned_alloc(kHugePage, kFarBytes));
    madvise(memory, kFarBytes, MADV_HUGEPAGE);  // Without it the figures are worse, not wrong.
    for (size_t i = 0; i < kFarBytes; ++i) memory[i] = static_cast<uint8_t>(i * 7919 % 127);
    return memory;
  }();
  return bytes;
}

// Rows of codes within `bytes`, their factors in the padding if it has room for them.
struct Codes {
  CodeRows rows;
  size_t count = 0;
};

Codes CodesWithin(size_t bytes, CodeBits bits, size_t dim) {
  const size_t used = bits == CodeBits::k8 ? dim : dim / 128 * 64 + std::min<size_t>(dim % 128, 64);
  Codes codes;
  codes.rows.stride = CodeBytes(bits, dim);
  const bool apart = codes.rows.stride < used + sizeof(CodeFactors);
  codes.rows.codes = FarBytes();
  codes.rows.factors_stride = apart ? sizeof(CodeFactors) : codes.rows.stride;
  codes.count = bytes / (codes.rows.stride + (apart ? sizeof(CodeFactors) : 0));
  codes.rows.factors = apart ? codes.rows.codes + codes.count * codes.rows.stride
                             : codes.rows.codes + codes.rows.stride - sizeof(CodeFactors);
  return codes;
}

struct alignas(kCodeAlignment) QueryBlock {
  int8_t code[kCodeAlignment];
};

// Of as many queries as a tile has.
struct CodeQueries {
  explicit CodeQueries(size_t stride) {
    const size_t blocks = 2 * stride / kCodeAlignment;
    memory.resize(kTileQueries * blocks, QueryBlock{});
    for (size_t i = 0; i < memory.size(); ++i) memory[i].code[i % kCodeAlignment] = 3;
    for (size_t q = 0; q < kTileQueries; ++q) {
      queries.push_back({memory[q * blocks].code, 1, 0.5F, 0.25F});
    }
  }
  std::vector<QueryBlock> memory;
  std::vector<CodeQuery> queries;
};

void BenchCodeGather(benchmark::State& state, const CodeKernels& kernels, const Codes& codes) {
  const CodeQueries queries(codes.rows.stride);
  std::mt19937 random(1);
  std::vector<uint32_t> ids(size_t{1} << 16);
  for (uint32_t& id : ids) id = static_cast<uint32_t>(random() % codes.count);
  float distances[kWalkRows];
  size_t at = 0;
  for (auto _ : state) {
    kernels.gather(queries.queries[0], codes.rows, ids.data() + at, kWalkRows, distances);
    benchmark::DoNotOptimize(distances);
    at = (at + kWalkRows) % ids.size();
  }
  state.SetItemsProcessed(state.iterations() * static_cast<int64_t>(kWalkRows));
}

void BenchCodeRun(benchmark::State& state, const CodeKernels& kernels, const Codes& codes) {
  const CodeQueries queries(codes.rows.stride);
  std::vector<float> distances(codes.count);
  for (auto _ : state) {
    kernels.run(queries.queries[0], codes.rows, 0, codes.count, distances.data());
    benchmark::DoNotOptimize(distances.data());
  }
  state.SetItemsProcessed(state.iterations() * static_cast<int64_t>(codes.count));
}

void BenchCodeTile(benchmark::State& state, const CodeKernels& kernels, const Codes& codes) {
  const CodeQueries queries(codes.rows.stride);
  std::vector<float> distances(kTileQueries * codes.count);
  for (auto _ : state) {
    kernels.tile(queries.queries.data(), kTileQueries, codes.rows, 0, codes.count,
                 distances.data());
    benchmark::DoNotOptimize(distances.data());
  }
  state.SetItemsProcessed(state.iterations() * static_cast<int64_t>(kTileQueries * codes.count));
}

// One benchmark for each metric, dimension and target of this CPU.
void RegisterFloats() {
  for (const Metric metric : {Metric::kL2, Metric::kIp}) {
    for (const size_t dim : {size_t{100}, size_t{128}, size_t{256}, size_t{784}, size_t{1536}}) {
      for (const NamedKernels& named : AllKernelsFor(metric)) {
        const std::string name = std::string(MetricName(metric)) + "/" + std::to_string(dim) + "/" +
                                 std::string(named.target);
        benchmark::RegisterBenchmark(name.c_str(),
                                     [kernels = named.kernels, dim](benchmark::State& state) {
                                       BenchGather(state, kernels, dim);
                                     });
      }
    }
  }
}

// One benchmark for each form, number of bits, dimension and target of this CPU.
void RegisterCodes() {
  struct Form {
    const char* name;
    void (*run)(benchmark::State& state, const CodeKernels& kernels, const Codes& codes);
    size_t bytes;
  };
  constexpr Form kForms[] = {
      {"gather_near", &BenchCodeGather, kNearBytes}, {"gather_far", &BenchCodeGather, kFarBytes},
      {"run_near", &BenchCodeRun, kNearBytes},       {"run_far", &BenchCodeRun, kFarBytes},
      {"tile_near", &BenchCodeTile, kNearBytes},     {"tile_far", &BenchCodeTile, kFarBytes}};
  for (const CodeBits bits : {CodeBits::k8, CodeBits::k4}) {
    for (const size_t dim : {size_t{100}, size_t{128}, size_t{256}, size_t{768}, size_t{784}}) {
      for (const NamedCodeDistanceKernels& named : AllCodeKernelsFor(bits)) {
        for (const Form& form : kForms) {
          const std::string name = "code" + std::to_string(static_cast<int>(bits)) + "/" +
                                   std::to_string(dim) + "/" + std::string(named.target) + "/" +
                                   form.name;
          benchmark::RegisterBenchmark(
              name.c_str(), [kernels = named.kernels, bits, dim, form](benchmark::State& state) {
                form.run(state, kernels, CodesWithin(form.bytes, bits, dim));
              });
        }
      }
    }
  }
}

const bool registered = [] {
  RegisterFloats();
  RegisterCodes();
  return true;
}();

}  // namespace
}  // namespace azimuth::index
