// Builds one sealed segment file out of the rows of other segments.
//
// Thread safety: independent of all other calls; reads segments that others may read and retire in.
#pragma once

#include "base/deadline.h"
#include "base/ids.h"
#include "engine/schema.h"
#include "engine/segment/retired_map.h"
#include "engine/segment/segment.h"
#include "index/graph/hnsw_builder.h"
#include "storage/file.h"
#include "storage/row.h"

#include "absl/status/statusor.h"

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace azimuth::engine {

struct SegmentBuildInput {
  std::span<const std::shared_ptr<Segment>> segments;  // Closed or sealed, in order, adjacent.
  const RetiredMap& retired;
  Seq horizon;  // Rows retired at or before this are left out.
  const Schema& schema;
  uint32_t graph_rows_min;  // Index kind `auto` builds a graph for this many vectors or more.
  SegmentId id;
  RowStoreId row_store;
  uint64_t incarnation;
  std::string path;  // Of the file to write.
  storage::Files& files;
  bool graphs = true;  // False: none is made, whatever the schema says.
};

struct SegmentBuildOutput {
  std::optional<storage::SegmentEntry> entry;  // nullopt if no row was left: then there is no file.
  std::vector<RowId> dropped;                  // The rows that were left out.
  // Of the graphs in the file: made out of that of the largest input, and anew.
  uint32_t graphs_reused = 0;
  uint32_t graphs_built = 0;
};

// True if the file of a sealed segment is without a graph that a build of its rows would make.
bool LacksGraph(const Segment& segment, const Schema& schema, uint32_t graph_rows_min);

// Verifies the inputs, makes the graphs, writes the file. Errors: DataLoss (an input is bad),
// those of `cancel` and of the file.
absl::StatusOr<SegmentBuildOutput> BuildSegment(const SegmentBuildInput& input,
                                                const index::ParallelFor& parallel,
                                                const CancelToken& cancel);

}  // namespace azimuth::engine
