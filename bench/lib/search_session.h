// A program of searches that is driven line by line: two of them take turns point by point, and so
// meet the same minutes of a machine that others use too.
//
//   time EFFORT LIMIT THREADS SECONDS   whole rounds over all queries, about that long, after one
//                                       round that does not count
//   answers EFFORT LIMIT FILE           writes what each query finds: LIMIT ids as int64, nearest
//                                       first, -1 where there are fewer
//   check EFFORT LIMIT                  only whether the searcher takes this effort
//
// EFFORT is one word, "NAME=NUMBER" or "default". Each line is answered by one line of JSON, which
// is {"error": TEXT} if it failed. The program ends with its input.
#pragma once

#include "bench/lib/vector_file.h"

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include <cstdint>
#include <cstdio>
#include <istream>
#include <string>
#include <vector>

namespace azimuth::bench {

struct Effort {
  std::string name;  // "default" has no value.
  double value = 0;
};

// What is measured.
class Searcher {
 public:
  Searcher() = default;
  Searcher(const Searcher&) = delete;
  Searcher& operator=(const Searcher&) = delete;
  virtual ~Searcher() = default;

  // Sets how all searches from now on are made; none runs. InvalidArgument if it does not know such
  // an effort.
  virtual absl::Status SetEffort(const Effort& effort, uint32_t limit) = 0;
  // Puts what it finds into `ids`, nearest first; returns how many distances it computed, 0 if it
  // does not know. Called by several threads.
  virtual absl::StatusOr<uint64_t> Search(const float* query, std::vector<int64_t>& ids) const = 0;
};

// Answers the lines of `in` on `out` until it ends. While it measures, thread t runs on the t-th
// processor of those that the process may use. REQUIRES: queries of the searcher's dimension.
void RunSearchSession(Searcher& searcher, const Vectors& queries, std::istream& in, std::FILE* out);

}  // namespace azimuth::bench
