// CodeChoice: which codes a graph is walked by, and what it costs to reach a recall with them.
#pragma once

#include "base/deadline.h"
#include "engine/schema.h"
#include "index/aligned_bytes.h"
#include "index/graph/calibration.h"
#include "index/graph/frozen_graph.h"
#include "index/graph/hnsw_builder.h"

#include "absl/status/statusor.h"

#include <cstdint>
#include <optional>
#include <span>

namespace azimuth::engine {

struct CodeChoice {
  std::optional<index::AlignedBytes> codes;  // The codes section; none: walked by the vectors.
  index::Calibration calibration;
};

// A graph without some of its nodes, which are asked for as queries: they stand alone in it.
struct MeasuredGraph {
  const index::FrozenGraph* graph = nullptr;
  std::span<const uint32_t> held_out;
  // Of a vector where it is measured again; 0: dim floats.
  size_t vector_bytes = 0;
};

// For the vectors of a graph, in node order. The field says which codes; `auto` takes those that
// are cheapest at recalls of 0.95 and 0.99 by what calibrations of a few queries say
// (Calibration::Cost), or none where codes would hardly be shorter. Nothing depends on time: the
// same input gives the same choice. Errors: those of `cancel`.
absl::StatusOr<CodeChoice> ChooseCodes(const VectorFieldDef& field, const MeasuredGraph& measured,
                                       std::span<const float* const> vectors, uint64_t seed,
                                       const index::ParallelFor& parallel,
                                       const CancelToken& cancel);

}  // namespace azimuth::engine
