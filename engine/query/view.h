// View: what one request reads: a pinned sequence number, and one time that decides which records
// have ended.
//
// Ownership: holds the pin; lives as long as anything that it led to is used.
// Thread safety: immutable; moves.
#pragma once

#include "base/deadline.h"
#include "engine/core.h"
#include "engine/segment/segment.h"

#include "absl/status/statusor.h"

#include <cstdint>

namespace azimuth::engine {

struct View {
  ViewRegistry::Pin pin;
  int64_t now_unix_us = 0;

  Seq seq() const { return pin.seq(); }
  ReadPoint point() const { return {pin.seq(), now_unix_us}; }
};

// Errors: of `cancel`; DeadlineExceeded when min_seq does not come.
absl::StatusOr<View> OpenView(const Core& core, const ReadOptions& options,
                              const CancelToken& cancel);

}  // namespace azimuth::engine
