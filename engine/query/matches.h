// Which rows of a segment a reader sees, and which of those a filter admits.
//
// Thread safety: pure functions over immutable things.
#pragma once

#include "base/deadline.h"
#include "base/ids.h"
#include "engine/filter/filter.h"
#include "engine/schema.h"
#include "engine/segment/retired_map.h"
#include "engine/segment/segment.h"
#include "index/bitset.h"

#include "absl/status/statusor.h"

#include <cstdint>
#include <string>
#include <vector>

namespace azimuth::engine {

// The rows of a segment that a request works on.
struct Matches {
  uint32_t limit = 0;  // Positions at or past it are not visible.
  bool all = false;    // Every position below limit: `bits` says nothing.
  index::Bitset bits;  // Over the limit rounded up to the segment's size when it was computed.
  uint64_t count = 0;

  const index::Bitset* admitted() const { return all ? nullptr : &bits; }
};

// A filter of a request, bound to a schema, and what evaluating it showed.
class RequestFilter final {
 public:
  // InvalidArgument, Unimplemented: of the text.
  static absl::StatusOr<RequestFilter> Compile(const Schema& schema, std::string_view text,
                                               const FilterParameters& parameters);

  bool always_true() const { return bound_.always_true(); }
  const BoundFilter& bound() const { return bound_; }

  // Rows of `segment` that are visible at `at` and match.
  absl::StatusOr<Matches> Match(const Segment& segment, const ReadPoint& at,
                                const RetiredMap& retired, const CancelToken& cancel);
  // The same into `out`, whose memory is used again.
  absl::Status MatchInto(const Segment& segment, const ReadPoint& at, const RetiredMap& retired,
                         const CancelToken& cancel, Matches& out);
  // Undeclared fields that no row had that was looked at: probably misspelt.
  std::vector<std::string> Warnings(const Schema& schema) const;

 private:
  explicit RequestFilter(BoundFilter bound)
      : bound_(std::move(bound)), read_(bound_.fields().size()), present_(bound_.fields().size()) {}
  BoundFilter bound_;
  std::vector<bool> read_;     // Of each field: a row was looked at.
  std::vector<bool> present_;  // ... and had it.
};

}  // namespace azimuth::engine
