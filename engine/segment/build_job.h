// Background work on segments: closed growing segments, and small sealed ones beside them, become
// one sealed segment.
//
// Thread safety: any thread. One build at a time for each collection.
#pragma once

#include "engine/core.h"

#include "absl/status/status.h"

#include <functional>
#include <memory>
#include <string_view>

namespace azimuth::engine {

enum class PendingWork {
  kNone,
  kLater,  // Something may come without another write: rest, or readers that go.
  kNow,
};
// What there is to build or merge.
PendingWork FindWork(Core& core, Collection& collection);

// Lets a worker look whether `collection` has something to build, unless one already does.
void ScheduleBuild(Core& core, const std::shared_ptr<Collection>& collection);

// As Database::Optimize.
absl::Status Optimize(Core& core, std::string_view name,
                      const std::function<absl::Status(const OptimizeProgress&)>& report,
                      const CancelToken& cancel);

}  // namespace azimuth::engine
