// hnswlib beside a restart: builds an index and saves it, or loads it and answers one query.
//
//   azimuth_hnswlib_load_bench build VECTORS INDEX [ROWS [THREADS]]
//   azimuth_hnswlib_load_bench load INDEX QUERIES K EF
//
// `build`: M 16, efConstruction 200, squared distances, row i has label i, THREADS 2. Both print
// one line of JSON. `load` answers the first query, prints, and then answers the others for the
// recall that goes with the time: {"load_s", "first_answer_s", "labels": [[...], ...]}.

#include "bench/peers/hnswlib_index.h"

#include <cstring>
#include <exception>

namespace {

using azimuth::bench::BuildHnswlib;
using azimuth::bench::HnswlibClock;
using azimuth::bench::HnswlibIndex;
using azimuth::bench::MakeHnswlibIndex;
using azimuth::bench::ReadVectorsOrExit;
using azimuth::bench::SecondsSince;
using azimuth::bench::Vectors;

int Build(const std::string& path, const std::string& index_path, size_t rows_max, size_t threads) {
  const Vectors vectors = ReadVectorsOrExit(path, rows_max);
  hnswlib::L2Space space(vectors.dim);
  const auto index = MakeHnswlibIndex(space, vectors.rows);
  const double seconds = BuildHnswlib(vectors, threads, *index);
  index->saveIndex(index_path);
  std::printf("{\"rows\": %zu, \"threads\": %zu, \"build_s\": %.3f}\n", vectors.rows, threads,
              seconds);
  return 0;
}

// Labels of the nearest, nearest first.
std::string Answer(const HnswlibIndex& index, const float* query, size_t k) {
  auto found = index.searchKnn(query, k);
  std::string text = "]";
  for (; !found.empty(); found.pop()) {
    text = (found.size() == 1 ? "" : ", ") + std::to_string(found.top().second) + text;
  }
  return "[" + text;
}

int Load(const std::string& index_path, const std::string& query_path, size_t k, size_t ef) {
  const Vectors queries = ReadVectorsOrExit(query_path);
  const HnswlibClock::time_point start = HnswlibClock::now();
  hnswlib::L2Space space(queries.dim);
  HnswlibIndex index(&space, index_path);
  const double loaded = SecondsSince(start);
  index.setEf(ef);
  const std::string first = Answer(index, queries.row(0), k);
  const double answered = SecondsSince(start);
  std::printf("{\"load_s\": %.6f, \"first_answer_s\": %.6f, \"labels\": [%s", loaded, answered,
              first.c_str());
  std::fflush(stdout);
  for (size_t i = 1; i < queries.rows; ++i) {
    std::printf(", %s", Answer(index, queries.row(i), k).c_str());
  }
  std::printf("]}\n");
  return 0;
}

size_t Number(const char* text) {
  return std::strtoull(text, nullptr, 10);
}

}  // namespace

int main(int argc, char** argv) {
  try {
    if (argc >= 4 && argc <= 6 && std::strcmp(argv[1], "build") == 0) {
      return Build(argv[2], argv[3], argc > 4 ? Number(argv[4]) : SIZE_MAX,
                   argc > 5 ? Number(argv[5]) : 2);
    }
    if (argc == 6 && std::strcmp(argv[1], "load") == 0) {
      return Load(argv[2], argv[3], Number(argv[4]), Number(argv[5]));
    }
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
  std::fprintf(stderr, "usage: %s build VECTORS INDEX [ROWS [THREADS]] | load INDEX QUERIES K EF\n",
               argv[0]);
  return 2;
}
