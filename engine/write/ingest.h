// Bulk loads: batches of records that are applied in the order of their numbers, many to a commit,
// and once each, over breaks of the connection and restarts of the server.
//
// The store remembers how far a load has come, in the batch of its last batch. So a batch that
// comes again changes nothing, and one that comes before its turn is refused: after a batch that
// was refused all later ones are, until that number comes again. The records go the way of all
// writes (docs/ARCHITECTURE.md), the vectors of large groups in tables (storage/row_tables.h).
//
// Thread safety: any number of threads; the batches of one load are ordered by their numbers alone.
#pragma once

#include "engine/core.h"

#include "absl/status/statusor.h"

#include <vector>

namespace azimuth::engine {

// As Database::OpenIngest.
absl::StatusOr<IngestState> OpenIngest(Core& core, const IngestSpec& spec,
                                       const CancelToken& cancel);
// As Database::Ingest.
std::vector<absl::StatusOr<WriteResult>> Ingest(Core& core, const IngestSpec& spec,
                                                std::vector<IngestBatch> batches,
                                                const CancelToken& cancel);

}  // namespace azimuth::engine
