// Maintenance: what happens by time: idle growing segments are closed, records whose time has
// passed are retired, builds that failed are tried again, freed things are collected.
//
// Only collections that stand in the list of active ones are looked at, so that thousands at rest
// cost nothing.
// Thread safety: NoteActive from any thread; RunMaintenance from one thread at a time.
#pragma once

#include "engine/core.h"

#include <cstdint>
#include <memory>

namespace azimuth::engine {

// One round. Called about ten times a second.
void RunMaintenance(Core& core);

// Puts `collection` on the list; `earliest_expiry` (INT64_MAX for none) is that of rows which came.
void NoteActive(Core& core, const std::shared_ptr<Collection>& collection, int64_t earliest_expiry);

}  // namespace azimuth::engine
