// The engine's metric as the index layer's, and scores from distances.
#pragma once

#include "engine/schema.h"
#include "index/types.h"

namespace azimuth::engine {

static_assert(static_cast<int>(Metric::kL2) == static_cast<int>(index::Metric::kL2) &&
              static_cast<int>(Metric::kIp) == static_cast<int>(index::Metric::kIp) &&
              static_cast<int>(Metric::kCosine) == static_cast<int>(index::Metric::kCosine));

inline index::Metric ToIndexMetric(Metric metric) {
  return static_cast<index::Metric>(metric);
}

// More is better: minus the squared distance, the inner product, or the cosine.
inline float ScoreOf(Metric metric, float distance) {
  return metric == Metric::kCosine ? 1.0F - distance : 0.0F - distance;
}

}  // namespace azimuth::engine
