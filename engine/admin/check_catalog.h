// The check of the catalog: collections, their definitions, the row stores that they name, segment
// entries, the ids that are next, remembered requests, and whether everything belongs to a
// collection.
//
// Thread safety: functions only.
#pragma once

#include "engine/admin/findings.h"
#include "engine/schema.h"

#include "absl/status/statusor.h"

#include <string>
#include <string_view>
#include <vector>

namespace azimuth::engine {

// The place of the finding that the remembered requests cannot be read.
inline constexpr std::string_view kRequestsPlace = "remembered requests";

// A collection of the catalog whose definition can be read, with its segments in order of rows.
struct CatalogCollection {
  std::string name;
  RowStoreId row_store{};
  Schema schema;
  std::vector<storage::SegmentEntry> segments;
  RowId ids_end{};

  CheckedCollection checked() const { return {name, row_store, schema, ids_end}; }
};

// What of it can be read. Errors: of `cancel`, and others than damage.
absl::StatusOr<std::vector<CatalogCollection>> CheckCatalog(CheckContext& context);

// That the segments of a collection do not overlap. The later of two that do is taken out.
void CheckSegmentRanges(CheckContext& context, const CatalogCollection& collection);

}  // namespace azimuth::engine
