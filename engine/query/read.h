// Reads by key and by filter over a view: Get, Query, Count, and the choice of rows for a delete.
//
// Thread safety: any number of threads.
#pragma once

#include "base/deadline.h"
#include "engine/core.h"
#include "engine/query/request.h"

#include "absl/status/statusor.h"

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

namespace azimuth::engine {

// As the functions of Database of the same names.
absl::StatusOr<GetResult> Get(const Core& core, std::string_view collection,
                              std::span<const Key> keys, const Projection& projection,
                              const ReadOptions& options, const CancelToken& cancel);
absl::StatusOr<QueryResult> Query(const Core& core, std::string_view collection,
                                  const FilterText& filter, uint32_t limit,
                                  const Projection& projection, const ReadOptions& options,
                                  const CancelToken& cancel);
absl::StatusOr<CountResult> Count(const Core& core, std::string_view collection,
                                  const FilterText& filter, const ReadOptions& options,
                                  const CancelToken& cancel);

// Keys and row ids of the rows that match at one sequence number.
struct MatchingRows {
  std::vector<Key> keys;
  std::vector<RowId> rows;
  RowStoreId row_store{};  // Of the rows: a truncation makes another one.
  Seq as_of{};
};
absl::StatusOr<MatchingRows> FindMatching(const Core& core, std::string_view collection,
                                          const FilterText& filter, int64_t now_unix_us,
                                          const CancelToken& cancel);

}  // namespace azimuth::engine
