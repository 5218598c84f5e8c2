#include "index/graph/hnsw_builder.h"

#include "base/huge_bytes.h"
#include "base/mutex.h"
#include "base/status.h"
#include "index/distance/distance.h"
#include "index/graph/frozen_graph.h"
#include "index/graph/graph_repair.h"
#include "index/graph/hnsw_insert.h"
#include "index/graph/pair_codes.h"

#include "hnswlib/hnswlib.h"

#include <algorithm>
#include <atomic>
#include <bit>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <limits>
#include <memory>
#include <new>
#include <numeric>
#include <optional>
#include <thread>
#include <utility>

namespace azimuth::index {
namespace {

constexpr uint32_t kMMin = 2;
constexpr uint32_t kMMax = 512;
constexpr uint32_t kEfConstructionMax = 65536;
// hnswlib counts elements with int.
constexpr size_t kNodesMax = std::numeric_limits<int32_t>::max();
// These come first and from one thread: while a graph is tiny, threads that insert at the same time
// do not find each other and leave it in pieces.
constexpr size_t kSerialNodes = 256;
constexpr size_t kNodesPerTask = 16;
constexpr size_t kLine = HnswInsert::kLine;

// A build shares its processors with searches, and a scheduler leaves a running thread a slice of
// milliseconds even where one of a higher priority waits. So a build offers the processor itself
// after so many distances, which take some tens of microseconds. What searches take meanwhile:
// `./dev bench storage --part under_ingest`.
constexpr unsigned kDistancesPerYield = 512;

// hnswlib's view of our vectors and kernels. Its own kernels are fixed at compile time; ours suit
// the CPU. What it copies and calls the data of an element is the vector's code where codes are
// good enough, else the vector.
class Space final : public hnswlib::SpaceInterface<float> {
 public:
  Space(Metric metric, size_t dim, std::span<const float* const> vectors)
      : codes_(PairCodes::Make(metric, dim, vectors)), pair_(KernelsFor(metric).pair), dim_(dim) {}

  size_t get_data_size() override {
    return codes_.has_value() ? codes_->bytes() : dim_ * sizeof(float);
  }
  hnswlib::DISTFUNC<float> get_dist_func() override {
    return codes_.has_value() ? &CodeDistance : &Distance;
  }
  void* get_dist_func_param() override { return this; }

  // The data of a vector, valid until the next call with this scratch.
  struct Scratch {
    std::vector<float> floats;
    std::vector<std::byte> code;
  };
  const void* DataOf(const float* vector, Scratch& scratch) const {
    if (!codes_.has_value()) return vector;
    scratch.code.resize(codes_->bytes() + kLine);
    // As rows are (Level0Memory).
    const size_t past = (std::bit_cast<uintptr_t>(scratch.code.data()) + head_bytes()) % kLine;
    std::byte* const code = scratch.code.data() + (kLine - past) % kLine;
    codes_->Encode(vector, scratch.floats, code);
    return code;
  }
  // What is before the numbers of a row.
  size_t head_bytes() const { return codes_.has_value() ? PairCodes::head_bytes() : 0; }

 private:
  static void OfferProcessor() {
    static thread_local unsigned computed = 0;
    if (++computed % kDistancesPerYield == 0) std::this_thread::yield();
  }
  static float Distance(const void* a, const void* b, const void* space) {
    OfferProcessor();
    const auto* self = static_cast<const Space*>(space);
    return self->pair_(static_cast<const float*>(a), static_cast<const float*>(b), self->dim_);
  }
  static float CodeDistance(const void* a, const void* b, const void* space) {
    OfferProcessor();
    return static_cast<const Space*>(space)->codes_->Distance(a, b);
  }

  const std::optional<PairCodes> codes_;
  const PairDistance pair_;
  const size_t dim_;
};

using Hnsw = hnswlib::HierarchicalNSW<float>;

// Memory for level 0 in which the numbers of each row begin with a line of the cache, so that no
// load is of two lines; in huge pages, as it is read at random. hnswlib would free it.
class Level0Memory final {
 public:
  Level0Memory(Hnsw& hnsw, size_t head_bytes) : hnsw_(hnsw) {
    hnsw.label_offset_ = (hnsw.size_links_level0_ + 7) / 8 * 8;
    const size_t used = hnsw.label_offset_ + sizeof(hnswlib::labeltype) + head_bytes;
    hnsw.offsetData_ = (used + kLine - 1) / kLine * kLine - head_bytes;
    hnsw.size_data_per_element_ = (hnsw.offsetData_ + hnsw.data_size_ + kLine - 1) / kLine * kLine;
    bytes_ = HugeBytes(std::max<size_t>(1, hnsw.max_elements_) * hnsw.size_data_per_element_);
    if (bytes_.data() == nullptr) return;
    std::free(hnsw.data_level0_memory_);
    hnsw.data_level0_memory_ = reinterpret_cast<char*>(bytes_.data());
  }
  Level0Memory(const Level0Memory&) = delete;
  Level0Memory& operator=(const Level0Memory&) = delete;
  ~Level0Memory() {
    if (is_there()) hnsw_.data_level0_memory_ = nullptr;
  }
  bool is_there() const { return bytes_.span().data() != nullptr; }

 private:
  Hnsw& hnsw_;
  HugeBytes bytes_;
};

absl::Status CheckOptions(size_t count, const HnswBuildOptions& options) {
  if (options.dim == 0) return InvalidArgument("hnsw build: dim is 0; it must be at least 1");
  if (options.m < kMMin || options.m > kMMax) {
    return InvalidArgument("hnsw build: m is %d; allowed are %d to %d", options.m, kMMin, kMMax);
  }
  if (options.ef_construction < 1 || options.ef_construction > kEfConstructionMax) {
    return InvalidArgument("hnsw build: ef_construction is %d; allowed are 1 to %d",
                           options.ef_construction, kEfConstructionMax);
  }
  if (count > kNodesMax) {
    return InvalidArgument("hnsw build: %d vectors; at most %d are allowed", count, kNodesMax);
  }
  return absl::OkStatus();
}

// SplitMix64 (Steele, Lea and Flood 2014).
uint64_t NextRandom(uint64_t& state) {
  state += 0x9E3779B97F4A7C15u;
  uint64_t z = state;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
  return z ^ (z >> 31);
}

// Levels as in the paper, algorithm 1, line 4, with mL = 1 / ln(m): at most 53 for m = 2.
std::vector<uint8_t> DrawLevels(size_t count, uint32_t m, uint64_t seed) {
  const double scale = 1.0 / std::log(static_cast<double>(m));
  std::vector<uint8_t> levels(count);
  for (uint8_t& level : levels) {
    // In (0, 1], so that the logarithm is finite.
    const double uniform = static_cast<double>((NextRandom(seed) >> 11) + 1) * 0x1p-53;
    level = static_cast<uint8_t>(-std::log(uniform) * scale);
  }
  return levels;
}

// Inserts from several threads; keeps the first error, after which the rest is skipped.
class Inserter final {
 public:
  Inserter(Hnsw& hnsw, const Space& space, std::span<const float* const> vectors,
           std::span<const uint8_t> levels, const CancelToken& cancel)
      : hnsw_(hnsw), space_(space), vectors_(vectors), levels_(levels), cancel_(cancel) {
    idle_.reserve(kIdleMax);
  }

  void Insert(std::span<const uint32_t> numbers) {
    std::unique_ptr<Memory> memory;
    for (const uint32_t number : numbers) {
      if (stopped_.load(std::memory_order_relaxed)) break;
      if (absl::Status status = InsertOne(number, memory); !status.ok()) {
        MutexLock lock(mu_);
        if (status_.ok()) status_ = std::move(status);
        stopped_.store(true, std::memory_order_relaxed);
      }
    }
    MutexLock lock(mu_);
    if (memory != nullptr && idle_.size() < idle_.capacity()) idle_.push_back(std::move(memory));
  }

  absl::Status status() {
    MutexLock lock(mu_);
    return status_;
  }

 private:
  static constexpr size_t kIdleMax = 64;

  // Of one thread.
  struct Memory {
    explicit Memory(Hnsw& hnsw) : insert(hnsw) {}
    Space::Scratch scratch;
    HnswInsert insert;
  };

  std::unique_ptr<Memory> TakeMemory() {
    {
      MutexLock lock(mu_);
      if (!idle_.empty()) {
        std::unique_ptr<Memory> memory = std::move(idle_.back());
        idle_.pop_back();
        return memory;
      }
    }
    return std::make_unique<Memory>(hnsw_);
  }

  absl::Status OutOfMemory(size_t i) const {
    return ResourceExhausted("hnsw build: out of memory at vector %d of %d", i, vectors_.size());
  }

  absl::Status InsertOne(size_t i, std::unique_ptr<Memory>& memory) {
    AZ_RETURN_IF_ERROR(cancel_.Check());
    try {
      if (memory == nullptr) memory = TakeMemory();
      const void* const data = space_.DataOf(vectors_[i], memory->scratch);
      if (!memory->insert.Insert(data, i, levels_[i])) return OutOfMemory(i);
    } catch (const std::bad_alloc&) {
      return OutOfMemory(i);
    } catch (const std::exception& error) {
      return absl::InternalError(
          absl::StrFormat("hnsw build: vector %d of %d: %s", i, vectors_.size(), error.what()));
    }
    return absl::OkStatus();
  }

  Hnsw& hnsw_;
  const Space& space_;
  const std::span<const float* const> vectors_;
  const std::span<const uint8_t> levels_;
  const CancelToken& cancel_;
  std::atomic<bool> stopped_{false};
  Mutex mu_;
  absl::Status status_ AZ_GUARDED_BY(mu_);
  std::vector<std::unique_ptr<Memory>> idle_ AZ_GUARDED_BY(mu_);
};

// Takes the lists of a finished graph out of hnswlib, which numbers nodes by arrival and keeps our
// number of each as its label.
class Extractor final {
 public:
  Extractor(const Hnsw& hnsw, uint32_t m) : hnsw_(hnsw), m_(m) {}

  // Those that have not been inserted stand alone, on level 0.
  BuiltGraph Extract(std::vector<uint8_t> levels) {
    constexpr hnswlib::tableint kAbsent = std::numeric_limits<hnswlib::tableint>::max();
    BuiltGraph graph;
    graph.m = m_;
    graph.node_count = static_cast<uint32_t>(levels.size());
    graph.entry_node = NodeOf(hnsw_.enterpoint_node_);
    graph.max_level = static_cast<uint32_t>(hnsw_.maxlevel_);
    graph.levels = std::move(levels);

    std::vector<hnswlib::tableint> internal_of(graph.node_count, kAbsent);
    const auto inserted = static_cast<uint32_t>(hnsw_.cur_element_count);
    for (uint32_t internal = 0; internal < inserted; ++internal) {
      internal_of[NodeOf(internal)] = internal;
    }
    graph.level0.reserve(size_t{graph.node_count} * 2 * m_);
    for (uint32_t node = 0; node < graph.node_count; ++node) {
      const hnswlib::tableint internal = internal_of[node];
      if (internal == kAbsent) {
        graph.level0.resize(graph.level0.size() + size_t{2} * m_, node);
        graph.levels[node] = 0;
        continue;
      }
      Append(node, hnsw_.get_linklist0(internal), 2 * m_, graph.level0);
      if (graph.levels[node] == 0) continue;
      graph.upper_nodes.push_back(node);
      for (int level = 1; level <= graph.levels[node]; ++level) {
        Append(node, hnsw_.get_linklist(internal, level), m_, graph.upper_lists);
      }
    }
    return graph;
  }

 private:
  uint32_t NodeOf(hnswlib::tableint internal) const {
    return static_cast<uint32_t>(hnsw_.getExternalLabel(internal));
  }

  void Append(uint32_t node, hnswlib::linklistsizeint* list, uint32_t slots,
              std::vector<uint32_t>& out) const {
    const uint32_t used = std::min<uint32_t>(hnsw_.getListCount(list), slots);
    for (uint32_t slot = 0; slot < used; ++slot) out.push_back(NodeOf(list[1 + slot]));
    out.resize(out.size() + (slots - used), node);
  }

  const Hnsw& hnsw_;
  const uint32_t m_;
};

// Puts a finished graph into an empty hnswlib one, its nodes first.
absl::Status Load(Hnsw& hnsw, const Space& space, std::span<const float* const> vectors,
                  const RepairedGraph& from) {
  const BuiltGraph& graph = from.graph;
  const size_t degree = size_t{2} * graph.m;
  const auto put_list = [](hnswlib::linklistsizeint* list, uint32_t node,
                           std::span<const uint32_t> slots) {
    const auto used =
        static_cast<size_t>(std::find(slots.begin(), slots.end(), node) - slots.begin());
    std::memset(list, 0, (slots.size() + 1) * sizeof(*list));
    std::memcpy(list + 1, slots.data(), used * sizeof(*list));
    const auto count = static_cast<uint16_t>(used);
    std::memcpy(list, &count, sizeof(count));
  };
  const std::span<const uint32_t> level0(graph.level0);
  std::span<const uint32_t> upper(graph.upper_lists);
  Space::Scratch scratch;
  for (uint32_t node = 0; node < graph.node_count; ++node) {
    const uint32_t number = from.numbers[node];
    const int level = graph.levels[node];
    if (level > 0) {
      const size_t bytes = hnsw.size_links_per_element_ * static_cast<size_t>(level);
      hnsw.linkLists_[node] = static_cast<char*>(std::malloc(bytes));
      if (hnsw.linkLists_[node] == nullptr) {
        return ResourceExhausted("hnsw build: out of memory at node %d of %d", node,
                                 graph.node_count);
      }
    }
    hnsw.element_levels_[node] = level;
    hnsw.cur_element_count = node + size_t{1};  // From here on its destructor frees the lists.
    put_list(hnsw.get_linklist0(node), node, level0.subspan(node * degree, degree));
    std::memcpy(hnsw.getDataByInternalId(node), space.DataOf(vectors[number], scratch),
                hnsw.data_size_);
    hnsw.setExternalLabel(node, number);
    for (int l = 1; l <= level; ++l) {
      put_list(hnsw.get_linklist(node, l), node, upper.first(graph.m));
      upper = upper.subspan(graph.m);
    }
  }
  hnsw.enterpoint_node_ = graph.entry_node;
  hnsw.maxlevel_ = static_cast<int>(graph.max_level);
  return absl::OkStatus();
}

// As many of the numbers below `count` as are wanted, ascending; never all of them.
std::vector<uint32_t> DrawHeldOut(size_t count, size_t wanted, uint64_t seed) {
  std::vector<uint32_t> numbers(count);
  std::iota(numbers.begin(), numbers.end(), 0);
  wanted = count == 0 ? 0 : std::min(wanted, count - 1);
  for (size_t i = 0; i < wanted; ++i) {
    std::swap(numbers[i], numbers[i + NextRandom(seed) % (count - i)]);
  }
  numbers.resize(wanted);
  std::sort(numbers.begin(), numbers.end());
  return numbers;
}

// Inserts from one thread until the graph has kSerialNodes, then from all.
absl::Status InsertAll(Inserter& inserter, std::span<const uint32_t> numbers, size_t already,
                       const ParallelFor& parallel) {
  const size_t serial = std::min(numbers.size(), kSerialNodes - std::min(kSerialNodes, already));
  inserter.Insert(numbers.first(serial));
  const size_t tasks = (numbers.size() - serial + kNodesPerTask - 1) / kNodesPerTask;
  if (tasks > 0 && inserter.status().ok()) {
    parallel(tasks, [&](size_t task) {
      const size_t first = serial + task * kNodesPerTask;
      inserter.Insert(numbers.subspan(first, std::min(kNodesPerTask, numbers.size() - first)));
    });
  }
  return inserter.status();
}

// `start` may be empty; none of it is held out.
absl::StatusOr<BuiltGraph> Build(std::span<const float* const> vectors,
                                 const HnswBuildOptions& options, RepairedGraph start,
                                 const ParallelFor& parallel, const CancelToken& cancel,
                                 HeldOut* held_out) {
  const size_t count = vectors.size();
  std::vector<uint8_t> levels = DrawLevels(count, options.m, options.seed);
  std::vector<bool> taken(count, false);
  for (size_t node = 0; node < start.numbers.size(); ++node) {
    levels[start.numbers[node]] = start.graph.levels[node];
    taken[start.numbers[node]] = true;
  }
  if (held_out != nullptr) {
    for (const uint32_t number : held_out->numbers) taken[number] = true;
  }
  std::vector<uint32_t> missing;
  missing.reserve(count - start.numbers.size());
  for (uint32_t number = 0; number < count; ++number) {
    if (!taken[number]) missing.push_back(number);
  }

  Space space(options.metric, options.dim, vectors);
  Hnsw hnsw(&space, count, options.m, options.ef_construction);
  const Level0Memory memory(hnsw, space.head_bytes());
  if (!memory.is_there()) {
    return ResourceExhausted("hnsw build: no memory for the rows of %d vectors", count);
  }
  const size_t loaded = start.numbers.size();
  if (loaded > 0) AZ_RETURN_IF_ERROR(Load(hnsw, space, vectors, start));
  start = RepairedGraph();

  Inserter inserter(hnsw, space, vectors, levels, cancel);
  AZ_RETURN_IF_ERROR(InsertAll(inserter, missing, loaded, parallel));
  Extractor extractor(hnsw, options.m);
  if (held_out != nullptr) {
    held_out->before = extractor.Extract(levels);
    AZ_RETURN_IF_ERROR(
        InsertAll(inserter, held_out->numbers, count - held_out->numbers.size(), parallel));
  }
  return extractor.Extract(std::move(levels));
}

absl::StatusOr<BuiltGraph> BuildFrom(std::span<const float* const> vectors,
                                     const HnswBuildOptions& options, const GraphSeed* seed,
                                     const ParallelFor& parallel, const CancelToken& cancel,
                                     HeldOut* held_out) {
  AZ_RETURN_IF_ERROR(CheckOptions(vectors.size(), options));
  if (seed != nullptr && seed->graph->m() != options.m) {
    return InvalidArgument("hnsw build: m is %d, but the graph to extend has %d", options.m,
                           seed->graph->m());
  }
  try {
    if (held_out != nullptr) {
      held_out->numbers = DrawHeldOut(vectors.size(), held_out->wanted, options.seed);
      held_out->before = {};
      held_out->before.m = options.m;
    }
    RepairedGraph start;
    if (seed != nullptr) {
      GraphSeed kept = *seed;
      std::vector<uint32_t> new_node;
      if (held_out != nullptr) {
        new_node.assign(seed->new_node.begin(), seed->new_node.end());
        for (uint32_t& number : new_node) {
          if (std::ranges::binary_search(held_out->numbers, number)) number = GraphSeed::kGone;
        }
        kept.new_node = new_node;
      }
      AZ_ASSIGN_OR_RETURN(start, RepairGraph(vectors, options.dim, KernelsFor(options.metric), kept,
                                             parallel, cancel));
    }
    if (vectors.empty()) {
      BuiltGraph graph;
      graph.m = options.m;
      return graph;
    }
    return Build(vectors, options, std::move(start), parallel, cancel, held_out);
  } catch (const std::bad_alloc&) {
    return ResourceExhausted("hnsw build: out of memory for %d vectors", vectors.size());
  } catch (const std::exception& error) {
    // hnswlib answers a failed malloc of its arrays with a plain runtime_error.
    return ResourceExhausted("hnsw build: %d vectors: %s", vectors.size(), error.what());
  }
}

}  // namespace

absl::StatusOr<BuiltGraph> BuildHnsw(std::span<const float* const> vectors,
                                     const HnswBuildOptions& options, const ParallelFor& parallel,
                                     const CancelToken& cancel, HeldOut* held_out) {
  return BuildFrom(vectors, options, nullptr, parallel, cancel, held_out);
}

absl::StatusOr<BuiltGraph> ExtendHnsw(std::span<const float* const> vectors,
                                      const HnswBuildOptions& options, const GraphSeed& seed,
                                      const ParallelFor& parallel, const CancelToken& cancel,
                                      HeldOut* held_out) {
  return BuildFrom(vectors, options, &seed, parallel, cancel, held_out);
}

}  // namespace azimuth::index
