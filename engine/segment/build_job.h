// Background work on segments: closed growing segments, and small sealed ones beside them, become
// one sealed segment.
//
// Thread safety: any thread. One build at a time for each collection.
#pragma once

#include "engine/core.h"

#include <memory>

namespace azimuth::engine {

// True if something waits for a build: a closed segment, or a sealed one with many retired rows.
bool HasWork(const Core& core, const Collection& collection);

// Lets a worker look whether `collection` has something to build, unless one already does.
void ScheduleBuild(Core& core, const std::shared_ptr<Collection>& collection);

}  // namespace azimuth::engine
