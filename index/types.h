// The few types that all of index/ shares. A *position* numbers the rows of one segment from 0; a
// *node* numbers the vectors of one graph from 0 in the graph's own order.
#pragma once

#include <cstdint>
#include <string_view>

namespace azimuth::index {

// The numbers are on disk; never renumber.
enum class Metric : uint8_t {
  kL2 = 1,      // Squared Euclidean distance.
  kIp = 2,      // Minus the inner product.
  kCosine = 3,  // 1 - inner product, over vectors that NormalizeL2 made unit length.
};

std::string_view MetricName(Metric metric);

// A row and its distance to a query. Less is nearer.
struct Neighbor {
  float distance = 0;
  uint32_t position = 0;
};

// Decides between rows of equal distance: which one comes first. Asked only on ties.
// Thread safety: const, any number of threads.
class TieOrder {
 public:
  virtual ~TieOrder() = default;
  virtual bool Before(uint32_t position_a, uint32_t position_b) const = 0;
};

}  // namespace azimuth::index
