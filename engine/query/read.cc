#include "engine/query/read.h"

#include "base/status.h"
#include "engine/limits.h"
#include "engine/query/fetch.h"
#include "engine/query/matches.h"
#include "engine/write/validate.h"

#include <algorithm>
#include <utility>

namespace azimuth::engine {
namespace {

// Calls visit(segment, position) for every row of the view that matches.
template <typename F>
absl::Status ForEachMatch(const Collection& collection, const View& view, RequestFilter& filter,
                          const CancelToken& cancel, F&& visit) {
  for (const auto& segment : collection.segments().segments) {
    AZ_RETURN_IF_ERROR(cancel.Check());
    AZ_ASSIGN_OR_RETURN(const Matches matches,
                        filter.Match(*segment, view.point(), collection.retired, cancel));
    if (matches.all) {
      for (uint32_t position = 0; position < matches.limit; ++position) visit(*segment, position);
    } else {
      matches.bits.ForEach([&](size_t i) { visit(*segment, static_cast<uint32_t>(i)); });
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<GetResult> Get(const Core& core, std::string_view name, std::span<const Key> keys,
                              const Projection& projection, const ReadOptions& options,
                              const CancelToken& cancel) {
  AZ_ASSIGN_OR_RETURN(const View view, OpenView(core, options, cancel));
  AZ_ASSIGN_OR_RETURN(const Collection* collection, core.FindPinned(name, view.pin));
  if (keys.empty() || keys.size() > kGetKeysMax) {
    return InvalidArgument("keys: %d keys; allowed are 1 to %d", keys.size(), kGetKeysMax);
  }
  for (size_t i = 0; i < keys.size(); ++i) {
    AZ_RETURN_IF_ERROR(CheckKey(collection->schema, keys[i], absl::StrFormat("keys[%d]", i)));
  }
  AZ_RETURN_IF_ERROR(CheckProjection(collection->schema, projection));
  AZ_ASSIGN_OR_RETURN(const auto entries,
                      core.store->LookUpKeys(collection->row_store, keys, &view.pin.snapshot()));
  GetResult result;
  result.as_of = view.seq();
  std::vector<RowRef> rows;
  const SegmentSet& segments = collection->segments();
  for (size_t i = 0; i < keys.size(); ++i) {
    if (!entries[i].has_value() || HasExpired(entries[i]->expires_at_unix_us, view.now_unix_us)) {
      result.missing.push_back(keys[i]);
      continue;
    }
    const Segment* segment = segments.Find(entries[i]->row);
    const auto position = segment == nullptr ? std::nullopt : segment->Find(entries[i]->row);
    if (!position.has_value()) {
      return DataLoss("record %s: row %d is in no segment", KeyToText(keys[i]),
                      Raw(entries[i]->row));
    }
    rows.push_back({segment, *position});
  }
  AZ_ASSIGN_OR_RETURN(result.records, FetchRows(core, *collection, view, rows, projection));
  return result;
}

absl::StatusOr<QueryResult> Query(const Core& core, std::string_view name, const FilterText& filter,
                                  uint32_t limit, const Projection& projection,
                                  const ReadOptions& options, const CancelToken& cancel) {
  AZ_ASSIGN_OR_RETURN(const View view, OpenView(core, options, cancel));
  AZ_ASSIGN_OR_RETURN(const Collection* collection, core.FindPinned(name, view.pin));
  if (limit < 1 || limit > kLimitMax) {
    return InvalidArgument("limit: %d; allowed are 1 to %d", limit, kLimitMax);
  }
  AZ_RETURN_IF_ERROR(CheckProjection(collection->schema, projection));
  AZ_ASSIGN_OR_RETURN(RequestFilter bound,
                      RequestFilter::Compile(collection->schema, filter.text, filter.parameters));
  // The `limit` rows of the smallest keys: a heap whose top is the largest of them.
  using Entry = std::pair<KeyView, RowRef>;
  const auto by_key = [](const Entry& a, const Entry& b) { return a.first < b.first; };
  std::vector<Entry> smallest;
  AZ_RETURN_IF_ERROR(ForEachMatch(*collection, view, bound, cancel,
                                  [&](const Segment& segment, uint32_t position) {
                                    Entry entry{segment.key(position), {&segment, position}};
                                    if (smallest.size() < limit) {
                                      smallest.push_back(std::move(entry));
                                      std::push_heap(smallest.begin(), smallest.end(), by_key);
                                    } else if (by_key(entry, smallest.front())) {
                                      std::pop_heap(smallest.begin(), smallest.end(), by_key);
                                      smallest.back() = std::move(entry);
                                      std::push_heap(smallest.begin(), smallest.end(), by_key);
                                    }
                                  }));
  std::sort_heap(smallest.begin(), smallest.end(), by_key);
  std::vector<RowRef> rows;
  rows.reserve(smallest.size());
  for (const Entry& entry : smallest) rows.push_back(entry.second);
  QueryResult result;
  result.as_of = view.seq();
  AZ_ASSIGN_OR_RETURN(result.records, FetchRows(core, *collection, view, rows, projection));
  result.warnings = bound.Warnings(collection->schema);
  return result;
}

absl::StatusOr<CountResult> Count(const Core& core, std::string_view name, const FilterText& filter,
                                  const ReadOptions& options, const CancelToken& cancel) {
  AZ_ASSIGN_OR_RETURN(const View view, OpenView(core, options, cancel));
  AZ_ASSIGN_OR_RETURN(const Collection* collection, core.FindPinned(name, view.pin));
  AZ_ASSIGN_OR_RETURN(RequestFilter bound,
                      RequestFilter::Compile(collection->schema, filter.text, filter.parameters));
  CountResult result;
  result.as_of = view.seq();
  for (const auto& segment : collection->segments().segments) {
    AZ_ASSIGN_OR_RETURN(const Matches matches,
                        bound.Match(*segment, view.point(), collection->retired, cancel));
    result.count += matches.count;
  }
  result.warnings = bound.Warnings(collection->schema);
  return result;
}

absl::StatusOr<MatchingRows> FindMatching(const Core& core, std::string_view name,
                                          const FilterText& filter, int64_t now_unix_us,
                                          const CancelToken& cancel) {
  const View view{.pin = core.views.PinNow(), .now_unix_us = now_unix_us};
  AZ_ASSIGN_OR_RETURN(const Collection* collection, core.FindPinned(name, view.pin));
  AZ_ASSIGN_OR_RETURN(RequestFilter bound,
                      RequestFilter::Compile(collection->schema, filter.text, filter.parameters));
  MatchingRows matching;
  matching.row_store = collection->row_store;
  matching.as_of = view.seq();
  AZ_RETURN_IF_ERROR(ForEachMatch(*collection, view, bound, cancel,
                                  [&](const Segment& segment, uint32_t position) {
                                    matching.keys.push_back(segment.key(position).ToKey());
                                    matching.rows.push_back(segment.row_id(position));
                                  }));
  return matching;
}

}  // namespace azimuth::engine
