#include "engine/core.h"

#include "base/status.h"

#include <algorithm>

namespace azimuth::engine {
namespace {

// One look-up in one map: another load may give another map.
absl::StatusOr<const std::shared_ptr<Collection>*> FindIn(const CollectionMap& map,
                                                          std::string_view name) {
  if (absl::Status status = CheckCollectionName(name); !status.ok()) {
    return AtPlace("collection", status);
  }
  const auto it = map.find(name);
  if (it == map.end()) return NotFound("collection %s does not exist", Quoted(name));
  return &it->second;
}

}  // namespace

std::vector<std::shared_ptr<Collection>> Core::AllCollections() const {
  const ViewRegistry::Pin pin = views.PinNow();
  std::vector<std::shared_ptr<Collection>> all;
  for (const auto& entry : collections()) all.push_back(entry.second);
  return all;
}

absl::StatusOr<std::shared_ptr<Collection>> Core::FindCollection(std::string_view name) const {
  const ViewRegistry::Pin pin = views.PinNow();
  AZ_ASSIGN_OR_RETURN(const std::shared_ptr<Collection>* found, FindIn(collections(), name));
  return *found;
}

absl::StatusOr<const Collection*> Core::FindPinned(std::string_view name,
                                                   const ViewRegistry::Pin& pin) const {
  AZ_ASSIGN_OR_RETURN(const std::shared_ptr<Collection>* found, FindIn(collections(), name));
  const Collection* collection = found->get();
  // The map is exchanged before the truncation's number is published.
  while (collection->since > pin.seq()) {
    const Collection* before = collection->before_truncation.load(std::memory_order_acquire);
    // Made by a commit that is about to be published.
    if (before == nullptr) return NotFound("collection %s does not exist", Quoted(name));
    collection = before;
  }
  return collection;
}

std::shared_ptr<GrowingSegment> MakeGrowingSegment(Core& core, const Collection& collection,
                                                   RowId first) {
  // Of floats, at 20 to 27 bytes a nanosecond (`./dev bench kernels`). That is from when a scan
  // read all of them; now it reads codes first, a quarter to a half of that, and takes less time.
  // Larger segments were not measured.
  constexpr uint64_t kScanBytes = uint64_t{8} << 20;
  uint64_t row_bytes = 1;
  for (const VectorFieldDef& field : collection.schema.vectors) {
    row_bytes = std::max(row_bytes, field.dim * sizeof(float));
  }
  const auto by_time = static_cast<uint32_t>(kScanBytes / row_bytes);
  const uint32_t capacity =
      std::min(core.options.growing_rows_max, std::max(core.options.graph_rows_min, by_time));
  return std::make_shared<GrowingSegment>(collection.schema, first, capacity, &core.memory);
}

}  // namespace azimuth::engine
