// How one segment is searched: by scan or by graph, and how wide; and by how many threads a batch.
// Pure.
//
// A scan costs one distance for each match. A walk of width ef over n rows of which m match has to
// meet about ef x n / m rows before it knows ef that match, and computes some kDistancesPerHop
// distances for each. The guard bounds the whole at about twice the better plan: a walk that has
// cost as much as the scan would have is abandoned for it. Thread safety: pure function.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>

namespace azimuth::engine {

struct SegmentPlan {
  bool by_graph = false;
  uint64_t distances_max = UINT64_MAX;  // By graph: give up beyond this.
};

struct PlanInput {
  uint64_t rows = 0;     // Of the segment.
  uint64_t matches = 0;  // Rows that are admitted.
  uint64_t ef = 0;
  bool has_graph = false;
  bool exact = false;
};

SegmentPlan PlanSegment(const PlanInput& input);

// A walk of one of several segments, once the others have given `limit` hits: only what is nearer
// than the last of those is of use. If rows stand in segments whatever their distance from the
// query, few of the nearest are in a small one, and a walk that is as much narrower finds them as
// surely. That they do is not known (new rows may be all that is near): a walk that has found
// `hits_max` hits of use may have missed others, and is done again at full width.
struct NarrowWalk {
  uint64_t ef = 0;
  uint64_t hits_max = 0;
};

// For a segment with `rows` of the `rows_all` rows of the search. Full width, `limit` hits, where
// a narrower one would not do.
NarrowWalk NarrowFor(uint64_t ef, uint64_t limit, uint64_t rows, uint64_t rows_all);

// How the rest of a batch is spread over threads.
struct BatchPlan {
  size_t companions = 0;  // Beside the thread of the request.
  size_t run = 0;         // Queries that a thread takes at a time.
};

// For `queries` of which each takes about `each`, and `idle` threads that could help. A thread that
// is woken for less than about 0.2 ms of work costs more than it saves.
BatchPlan PlanBatch(size_t queries, std::chrono::nanoseconds each, size_t idle);

}  // namespace azimuth::engine
