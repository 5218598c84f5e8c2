#include "index/graph/frozen_graph.h"

#include "base/bytes.h"
#include "base/check.h"
#include "base/status.h"

#include <algorithm>
#include <cstring>
#include <limits>

namespace azimuth::index {
namespace {

constexpr uint32_t kMagic = 0x31475A41;  // "AZG1"
constexpr uint16_t kVersion = 1;
constexpr size_t kHeaderBytes = 64;
constexpr size_t kReservedBytes = 32;  // The end of the header.
constexpr size_t kAlignment = 64;
constexpr uint32_t kMMax = 4096;
constexpr uint32_t kLevelMax = 255;

struct Header {
  uint32_t magic = kMagic;
  uint16_t version = kVersion;
  uint16_t reserved = 0;
  uint32_t m = 0;
  uint32_t node_count = 0;
  uint32_t entry_node = 0;
  uint32_t max_level = 0;
  uint32_t upper_count = 0;
  uint32_t upper_list_count = 0;
};
static_assert(sizeof(Header) + kReservedBytes == kHeaderBytes);

// Where the parts begin. No sum overflows: every factor is below 2^32 and m at most kMMax.
struct Layout {
  uint64_t level0 = kHeaderBytes;
  uint64_t upper_nodes = 0;
  uint64_t upper_first = 0;
  uint64_t upper_lists = 0;
  uint64_t end = 0;
};

constexpr uint64_t Aligned(uint64_t bytes) {
  return (bytes + kAlignment - 1) / kAlignment * kAlignment;
}

Layout LayoutOf(const Header& header) {
  constexpr uint64_t kWord = sizeof(uint32_t);
  const uint64_t m = header.m;
  Layout layout;
  layout.upper_nodes = Aligned(layout.level0 + header.node_count * (2 * m) * kWord);
  layout.upper_first = Aligned(layout.upper_nodes + header.upper_count * kWord);
  layout.upper_lists = Aligned(layout.upper_first + (uint64_t{header.upper_count} + 1) * kWord);
  layout.end = Aligned(layout.upper_lists + header.upper_list_count * m * kWord);
  return layout;
}

absl::Status CheckHeader(const Header& header) {
  if (header.magic != kMagic) {
    return DataLoss("graph: magic is %08x, not %08x", header.magic, kMagic);
  }
  if (header.version != kVersion) {
    return FailedPrecondition("graph: version is %d; this program reads %d", header.version,
                              kVersion);
  }
  if (header.m < 1 || header.m > kMMax) {
    return DataLoss("graph: m is %d; allowed are 1 to %d", header.m, kMMax);
  }
  if (header.node_count == 0 ? header.entry_node != 0 : header.entry_node >= header.node_count) {
    return DataLoss("graph: the entry node is %d of %d nodes", header.entry_node,
                    header.node_count);
  }
  if (header.max_level > kLevelMax) {
    return DataLoss("graph: the highest level is %d; at most %d is allowed", header.max_level,
                    kLevelMax);
  }
  if (header.upper_count > header.node_count ||
      (header.upper_count == 0) != (header.max_level == 0) ||
      header.upper_list_count < header.upper_count) {
    return DataLoss("graph: %d nodes with %d lists on upper levels, of %d nodes and %d levels",
                    header.upper_count, header.upper_list_count, header.node_count,
                    header.max_level);
  }
  return absl::OkStatus();
}

void CopyTo(std::string& out, uint64_t offset, std::span<const uint32_t> words) {
  if (!words.empty()) std::memcpy(out.data() + offset, words.data(), words.size_bytes());
}

// A list of the old numbering at `out` + `offset` in the new one.
void PutList(std::string& out, uint64_t offset, std::span<const uint32_t> list,
             std::span<const uint32_t> new_of_old) {
  for (size_t slot = 0; slot < list.size(); ++slot) {
    const uint32_t node = new_of_old[list[slot]];
    std::memcpy(out.data() + offset + slot * sizeof(node), &node, sizeof(node));
  }
}

// Index of the first list of each node of `graph.upper_nodes` among graph.upper_lists.
std::vector<uint32_t> FirstUpperLists(const BuiltGraph& graph) {
  std::vector<uint32_t> first(graph.node_count, 0);
  uint32_t next = 0;
  for (const uint32_t node : graph.upper_nodes) {
    first[node] = next;
    next += graph.levels[node];
  }
  return first;
}

}  // namespace

std::vector<uint32_t> BreadthFirstOrder(const BuiltGraph& graph) {
  std::vector<uint32_t> order;
  if (graph.node_count == 0) return order;
  const size_t degree = size_t{2} * graph.m;
  order.reserve(graph.node_count);
  std::vector<bool> seen(graph.node_count, false);
  const auto add = [&](uint32_t node) {
    if (seen[node]) return;
    seen[node] = true;
    order.push_back(node);
  };
  add(graph.entry_node);
  for (size_t next = 0; next < order.size(); ++next) {
    const uint32_t* list = graph.level0.data() + order[next] * degree;
    for (size_t slot = 0; slot < degree; ++slot) add(list[slot]);
  }
  for (uint32_t node = 0; node < graph.node_count; ++node) add(node);
  return order;
}

std::string FreezeGraph(const BuiltGraph& graph, std::span<const uint32_t> order) {
  AZ_CHECK(order.size() == graph.node_count);
  AZ_CHECK(graph.m >= 1 && graph.m <= kMMax);
  std::vector<uint32_t> new_of_old(graph.node_count);
  for (uint32_t node = 0; node < graph.node_count; ++node) new_of_old[order[node]] = node;

  Header header;
  header.m = graph.m;
  header.node_count = graph.node_count;
  header.entry_node = graph.node_count == 0 ? 0 : new_of_old[graph.entry_node];
  header.max_level = graph.node_count == 0 ? 0 : graph.max_level;
  header.upper_count = static_cast<uint32_t>(graph.upper_nodes.size());
  header.upper_list_count = static_cast<uint32_t>(graph.upper_lists.size() / graph.m);
  const Layout layout = LayoutOf(header);
  std::string out(layout.end, '\0');
  std::memcpy(out.data(), &header, sizeof(header));

  const size_t degree = size_t{2} * graph.m;
  const std::span<const uint32_t> level0(graph.level0);
  for (uint32_t node = 0; node < graph.node_count; ++node) {
    PutList(out, layout.level0 + node * degree * sizeof(uint32_t),
            level0.subspan(order[node] * degree, degree), new_of_old);
  }

  const std::vector<uint32_t> first_of_old = FirstUpperLists(graph);
  const std::span<const uint32_t> lists(graph.upper_lists);
  std::vector<uint32_t> upper_nodes;
  std::vector<uint32_t> upper_first;
  uint32_t next = 0;
  for (uint32_t node = 0; node < graph.node_count; ++node) {
    const uint32_t old = order[node];
    const uint32_t level = graph.levels[old];
    if (level == 0) continue;
    upper_nodes.push_back(node);
    upper_first.push_back(next);
    PutList(out, layout.upper_lists + size_t{next} * graph.m * sizeof(uint32_t),
            lists.subspan(size_t{first_of_old[old]} * graph.m, size_t{level} * graph.m),
            new_of_old);
    next += level;
  }
  upper_first.push_back(next);
  AZ_CHECK(upper_nodes.size() == header.upper_count && next == header.upper_list_count);
  CopyTo(out, layout.upper_nodes, upper_nodes);
  CopyTo(out, layout.upper_first, upper_first);
  return out;
}

absl::StatusOr<FrozenGraph> FrozenGraph::Open(std::span<const std::byte> bytes, const Load& load) {
  if (reinterpret_cast<uintptr_t>(bytes.data()) % kAlignment != 0) {
    return DataLoss("graph: begins at an address that is not a multiple of %d", kAlignment);
  }
  if (bytes.size() < kHeaderBytes) {
    return DataLoss("graph: %d bytes are too few for the header of %d", bytes.size(), kHeaderBytes);
  }
  if (load) AZ_RETURN_IF_ERROR(load(0, kHeaderBytes));
  Header header;
  std::memcpy(&header, bytes.data(), sizeof(header));
  AZ_RETURN_IF_ERROR(CheckHeader(header));
  const std::span<const std::byte> reserved = bytes.subspan(sizeof(Header), kReservedBytes);
  if (header.reserved != 0 || std::any_of(reserved.begin(), reserved.end(),
                                          [](std::byte b) { return b != std::byte{0}; })) {
    return DataLoss("graph: reserved bytes of the header are not zero");
  }
  const Layout layout = LayoutOf(header);
  if (layout.end != bytes.size()) {
    return DataLoss("graph: has %d bytes, but its header says %d", bytes.size(), layout.end);
  }

  const auto words = [&](uint64_t offset) {
    return reinterpret_cast<const uint32_t*>(bytes.data() + offset);
  };
  FrozenGraph graph;
  graph.node_count_ = header.node_count;
  graph.m_ = header.m;
  graph.entry_node_ = header.entry_node;
  graph.max_level_ = header.max_level;
  graph.upper_count_ = header.upper_count;
  graph.level0_ = words(layout.level0);
  graph.upper_nodes_ = words(layout.upper_nodes);
  graph.upper_first_ = words(layout.upper_first);
  graph.upper_lists_ = words(layout.upper_lists);
  // Upper() relies on this last entry as the number of lists.
  if (load) {
    const uint64_t last = layout.upper_first + uint64_t{header.upper_count} * sizeof(uint32_t);
    AZ_RETURN_IF_ERROR(load(last, sizeof(uint32_t)));
  }
  if (graph.upper_first_[header.upper_count] != header.upper_list_count) {
    return DataLoss("graph: the lists of upper levels end at %d, not at %d",
                    graph.upper_first_[header.upper_count], header.upper_list_count);
  }
  return graph;
}

std::span<const uint32_t> FrozenGraph::Upper(uint32_t node, uint32_t level) const {
  if (level == 0 || upper_count_ == 0) return {};
  const uint32_t* end = upper_nodes_ + upper_count_;
  const uint32_t* found = std::lower_bound(upper_nodes_, end, node);
  if (found == end || *found != node) return {};
  const uint32_t* range = upper_first_ + (found - upper_nodes_);
  // The bytes may be unverified, and then a range may be anything.
  if (range[0] > range[1] || range[1] > upper_first_[upper_count_]) return {};
  if (level > range[1] - range[0]) return {};
  return {upper_lists_ + (size_t{range[0]} + level - 1) * m_, m_};
}

absl::Status FrozenGraph::Verify() const {
  for (uint32_t node = 0; node < node_count_; ++node) {
    for (const uint32_t neighbor : Level0(node)) {
      if (neighbor < node_count_) continue;
      return DataLoss("graph: node %d of %d has neighbour %d on level 0", node, node_count_,
                      neighbor);
    }
  }
  if (upper_count_ == 0) return absl::OkStatus();

  std::vector<uint8_t> levels(node_count_, 0);
  for (uint32_t i = 0; i < upper_count_; ++i) {
    const uint32_t node = upper_nodes_[i];
    if (node >= node_count_ || (i > 0 && node <= upper_nodes_[i - 1])) {
      return DataLoss("graph: entry %d of the upper levels names node %d of %d, after node %d", i,
                      node, node_count_, i > 0 ? upper_nodes_[i - 1] : 0);
    }
    const uint32_t first = upper_first_[i];
    const uint32_t end = upper_first_[i + 1];
    if ((i == 0 && first != 0) || first >= end || end - first > max_level_) {
      return DataLoss("graph: node %d has lists %d to %d on %d upper levels", node, first, end,
                      max_level_);
    }
    levels[node] = static_cast<uint8_t>(end - first);
  }
  if (levels[entry_node_] != max_level_) {
    return DataLoss("graph: the entry node %d is on level %d, not on the highest, %d", entry_node_,
                    levels[entry_node_], max_level_);
  }
  for (uint32_t i = 0; i < upper_count_; ++i) {
    const uint32_t node = upper_nodes_[i];
    for (uint32_t level = 1; level <= levels[node]; ++level) {
      for (const uint32_t neighbor : Upper(node, level)) {
        if (neighbor < node_count_ && levels[neighbor] >= level) continue;
        return DataLoss("graph: node %d has neighbour %d on level %d, where that is not", node,
                        neighbor, level);
      }
    }
  }
  return absl::OkStatus();
}

}  // namespace azimuth::index
