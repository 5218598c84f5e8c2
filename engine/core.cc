#include "engine/core.h"

#include "base/status.h"

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

absl::StatusOr<std::shared_ptr<Collection>> Core::FindCollection(std::string_view name) const {
  const ViewRegistry::Pin pin = views.PinNow();
  AZ_ASSIGN_OR_RETURN(const std::shared_ptr<Collection>* found, FindIn(collections(), name));
  return *found;
}

absl::StatusOr<Collection*> Core::FindPinned(std::string_view name,
                                             const ViewRegistry::Pin&) const {
  AZ_ASSIGN_OR_RETURN(const std::shared_ptr<Collection>* found, FindIn(collections(), name));
  return found->get();
}

}  // namespace azimuth::engine
