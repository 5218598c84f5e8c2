// SearchScratch: the memory of searches by one thread, one query after the other. It is used again
// (scratch_pool.h), so that a search takes from the heap what its answer needs and no more.
//
// Thread safety: one owner at a time. What it points at is the search's that used it last: nothing
// in it may be read by the next one.
#pragma once

#include "engine/query/matches.h"
#include "engine/record.h"
#include "engine/segment/segment.h"
#include "index/graph/search.h"
#include "index/topk.h"

#include <cstddef>
#include <cstdint>
#include <vector>

namespace azimuth::engine {

// A row of a view.
struct RowRef {
  const Segment* segment = nullptr;
  uint32_t position = 0;
};

// A hit before its fields are fetched.
struct Candidate {
  float distance = 0;
  RowRef row;
};

// A segment and its rows with a vector of the field; more may come meanwhile.
struct SegmentRows {
  const Segment* segment = nullptr;
  uint64_t vectors = 0;
  size_t place = 0;  // In the list of segments.
};

struct SearchScratch {
  index::GraphScratch graph;
  index::TopK top;                     // Of one segment.
  std::vector<float> query;            // Of unit length, where the metric is the cosine.
  std::vector<Candidate> found;        // Of all segments so far, nearest first.
  std::vector<Candidate> merged;       // With those of one more.
  std::vector<RowRef> rows;            // Hits that are still to be fetched,
  std::vector<RecordOutput*> records;  // and where to.
  std::vector<SegmentRows> order;
  Matches matches;  // Of one segment.
  uint64_t matches_bytes_most = 0;

  // Before a search: forgets what one that failed has left.
  void Begin() {
    found.clear();
    rows.clear();
    records.clear();
  }
  // For the next search, after one for so many hits: lets go of what few searches need.
  void Trim(uint32_t limit) {
    if (limit <= kHitsKept) return;
    top = index::TopK();
    found = {};
    merged = {};
    rows = {};
    records = {};
  }
  // What is kept; the few neighbours of `top` are not counted.
  size_t memory_bytes() const {
    return graph.memory_bytes() + query.capacity() * sizeof(float) +
           (found.capacity() + merged.capacity()) * sizeof(Candidate) +
           rows.capacity() * sizeof(RowRef) + records.capacity() * sizeof(RecordOutput*) +
           order.capacity() * sizeof(SegmentRows) + matches_bytes_most;
  }

 private:
  static constexpr uint32_t kHitsKept = 1024;
};

}  // namespace azimuth::engine
