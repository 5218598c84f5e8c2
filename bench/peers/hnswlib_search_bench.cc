// hnswlib beside our searches.
//
//   azimuth_hnswlib_search_bench build METRIC VECTORS INDEX [THREADS]
//   azimuth_hnswlib_search_bench serve METRIC INDEX QUERIES
//
// METRIC: l2, or ip (of rows of length 1). `build` saves the index and prints {"rows", "threads",
// "build_s"}; THREADS are 2. `serve` loads it, prints one line about it and then answers the lines
// of bench/lib/search_session.h; its effort is ef.

#include "bench/lib/search_session.h"
#include "bench/peers/hnswlib_index.h"

#include <cstring>
#include <exception>
#include <iostream>

namespace azimuth::bench {
namespace {

class HnswlibSearcher final : public Searcher {
 public:
  explicit HnswlibSearcher(HnswlibIndex& index) : index_(index) {}

  absl::Status SetEffort(const Effort& effort, uint32_t limit) override {
    if (effort.name != "ef") return absl::InvalidArgumentError("hnswlib has no effort but ef");
    index_.setEf(static_cast<size_t>(effort.value));
    limit_ = limit;
    return absl::OkStatus();
  }

  absl::StatusOr<uint64_t> Search(const float* query, std::vector<int64_t>& ids) const override {
    auto found = index_.searchKnn(query, limit_);
    ids.resize(found.size());
    for (size_t i = ids.size(); i-- > 0; found.pop()) {
      ids[i] = static_cast<int64_t>(found.top().second);
    }
    return 0;
  }

 private:
  HnswlibIndex& index_;
  size_t limit_ = 0;
};

// Rows, links and labels; without the map of labels and the lists of visited rows.
size_t IndexBytes(const HnswlibIndex& index) {
  size_t bytes = index.cur_element_count * (index.size_data_per_element_ + sizeof(void*));
  for (size_t i = 0; i < index.cur_element_count; ++i) {
    const int levels = index.element_levels_[i];
    bytes += static_cast<size_t>(levels) * index.size_links_per_element_;
  }
  return bytes;
}

const char* Simd() {
#if defined(USE_AVX512)
  return "avx512";
#elif defined(USE_AVX)
  return "avx";
#elif defined(USE_SSE)
  return "sse";
#else
  return "none";
#endif
}

int Build(const std::string& metric, const std::string& path, const std::string& index_path,
          size_t threads) {
  const Vectors vectors = ReadVectorsOrExit(path);
  const auto space = MakeHnswlibSpace(metric, vectors.dim);
  const auto index = MakeHnswlibIndex(*space, vectors.rows);
  const double seconds = BuildHnswlib(vectors, threads, *index);
  index->saveIndex(index_path);
  std::printf("{\"rows\": %zu, \"threads\": %zu, \"build_s\": %.3f}\n", vectors.rows, threads,
              seconds);
  return 0;
}

int Serve(const std::string& metric, const std::string& index_path, const std::string& query_path) {
  const Vectors queries = ReadVectorsOrExit(query_path);
  const auto space = MakeHnswlibSpace(metric, queries.dim);
  HnswlibIndex index(space.get(), index_path);
  std::printf(
      "{\"rows\": %zu, \"index_bytes\": %zu, \"bytes_of_a_row\": %zu, \"simd\": \"%s\", "
      "\"flags\": \"%s\", \"compiler\": \"%s\"}\n",
      static_cast<size_t>(index.cur_element_count), IndexBytes(index),
      static_cast<size_t>(index.size_data_per_element_), Simd(), AZIMUTH_PEER_FLAGS, __VERSION__);
  std::fflush(stdout);
  HnswlibSearcher searcher(index);
  RunSearchSession(searcher, queries, std::cin, stdout);
  return 0;
}

int Main(int argc, char** argv) {
  if (argc >= 5 && argc <= 6 && std::strcmp(argv[1], "build") == 0) {
    return Build(argv[2], argv[3], argv[4], argc > 5 ? std::strtoull(argv[5], nullptr, 10) : 2);
  }
  if (argc == 5 && std::strcmp(argv[1], "serve") == 0) return Serve(argv[2], argv[3], argv[4]);
  std::fprintf(stderr,
               "usage: %s build METRIC VECTORS INDEX [THREADS] | serve METRIC INDEX QUERIES\n",
               argv[0]);
  return 2;
}

}  // namespace
}  // namespace azimuth::bench

int main(int argc, char** argv) {
  try {
    return azimuth::bench::Main(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
