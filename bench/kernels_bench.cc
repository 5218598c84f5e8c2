// How long one distance takes, by kind, dimension and target: `./dev bench kernels`.
//
// Of rows of floats and of half floats: in a block of 4 MiB, one after another; and far, 16 rows a
// call as rescoring asks for them, random in 256 MiB. Of codes: 16 rows a call, as a walk asks for
// them, near (in the second-level cache) and far; and all rows by runs and by tiles of 4 queries.

#include "index/codes/code_distance.h"
#include "index/distance/distance.h"
#include "index/distance/half.h"

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

constexpr size_t kBlockBytes = size_t{4} << 20;
constexpr size_t kNearBytes = size_t{256} << 10;
constexpr size_t kFarBytes = size_t{256} << 20;
constexpr size_t kCallRows = 16;
constexpr size_t kTileQueries = 4;

// kFarBytes of numbers that `number(i)` gives.
template <typename Element, typename Number>
Element* FarMemory(const Number& number) {
  constexpr size_t kHugePage = size_t{2} << 20;
  auto* memory = static_cast<Element*>(std::aligned_alloc(kHugePage, kFarBytes));
  // Codes stand in huge pages, rows in a mapped file, which has small ones.
  madvise(memory, kFarBytes, sizeof(Element) == 1 ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
  for (size_t i = 0; i < kFarBytes / sizeof(Element); ++i) memory[i] = number(i);
  return memory;
}

// From 0 to 126, as codes of either kind may be.
const uint8_t* FarCodes() {
  static const uint8_t* const codes =
      FarMemory<uint8_t>([](size_t i) { return static_cast<uint8_t>(i * 7919 % 127); });
  return codes;
}

float SomeFloat(size_t i) {
  return static_cast<float>(i % 97) / 97.0F;
}

template <typename Element>
const Element* FarRows();

template <>
const float* FarRows<float>() {
  static const float* const rows = FarMemory<float>(&SomeFloat);
  return rows;
}

template <>
const Half* FarRows<Half>() {
  static const Half* const rows = FarMemory<Half>([](size_t i) {
    const float number = SomeFloat(i);
    Half half = 0;
    ToHalf(&number, 1, &half);
    return half;
  });
  return rows;
}

std::vector<uint32_t> RandomIds(size_t rows) {
  std::mt19937 random(1);
  std::vector<uint32_t> ids(size_t{1} << 16);
  for (uint32_t& id : ids) id = static_cast<uint32_t>(random() % rows);
  return ids;
}

// Kernels is DistanceKernels or HalfKernels.
template <typename Kernels, typename Element>
void BenchGather(benchmark::State& state, const Kernels& kernels, size_t dim) {
  const float* query = FarRows<float>();
  const Element* rows = FarRows<Element>();
  const size_t count = kBlockBytes / sizeof(Element) / dim;
  std::vector<uint32_t> ids(count);
  std::iota(ids.begin(), ids.end(), 0U);
  std::vector<float> distances(count);
  for (auto _ : state) {
    kernels.gather(query, rows, dim, dim, ids.data(), count, distances.data());
    benchmark::DoNotOptimize(distances.data());
  }
  state.SetItemsProcessed(state.iterations() * static_cast<int64_t>(count));
  state.SetBytesProcessed(state.iterations() * static_cast<int64_t>(count * dim * sizeof(Element)));
}

template <typename Kernels, typename Element>
void BenchGatherFar(benchmark::State& state, const Kernels& kernels, size_t dim) {
  const float* query = FarRows<float>();
  const Element* rows = FarRows<Element>();
  const std::vector<uint32_t> ids = RandomIds(kFarBytes / sizeof(Element) / dim);
  float distances[kCallRows];
  size_t at = 0;
  for (auto _ : state) {
    kernels.gather(query, rows, dim, dim, ids.data() + at, kCallRows, distances);
    benchmark::DoNotOptimize(distances);
    at = (at + kCallRows) % ids.size();
  }
  state.SetItemsProcessed(state.iterations() * static_cast<int64_t>(kCallRows));
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
  codes.rows.codes = FarCodes();
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
  const std::vector<uint32_t> ids = RandomIds(codes.count);
  float distances[kCallRows];
  size_t at = 0;
  for (auto _ : state) {
    kernels.gather(queries.queries[0], codes.rows, ids.data() + at, kCallRows, distances);
    benchmark::DoNotOptimize(distances);
    at = (at + kCallRows) % ids.size();
  }
  state.SetItemsProcessed(state.iterations() * static_cast<int64_t>(kCallRows));
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

template <typename Kernels, typename Element>
void RegisterRows(const std::string& name, const Kernels& kernels, size_t dim) {
  benchmark::RegisterBenchmark(name.c_str(), [kernels, dim](benchmark::State& state) {
    BenchGather<Kernels, Element>(state, kernels, dim);
  });
  benchmark::RegisterBenchmark((name + "/far").c_str(), [kernels, dim](benchmark::State& state) {
    BenchGatherFar<Kernels, Element>(state, kernels, dim);
  });
}

// Two benchmarks for each element, metric, dimension and target of this CPU.
void RegisterFloats() {
  for (const Metric metric : {Metric::kL2, Metric::kIp}) {
    for (const size_t dim : {size_t{100}, size_t{128}, size_t{256}, size_t{784}, size_t{1536}}) {
      const std::string of = std::string(MetricName(metric)) + "/" + std::to_string(dim) + "/";
      for (const NamedKernels& named : AllKernelsFor(metric)) {
        RegisterRows<DistanceKernels, float>(of + std::string(named.target), named.kernels, dim);
      }
      for (const NamedHalfKernels& named : AllHalfKernelsFor(metric)) {
        RegisterRows<HalfKernels, Half>("half/" + of + std::string(named.target), named.kernels,
                                        dim);
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
