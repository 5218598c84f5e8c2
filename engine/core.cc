#include "engine/core.h"

#include "base/status.h"

namespace azimuth::engine {
absl::StatusOr<std::shared_ptr<Collection>> Core::FindCollection(std::string_view name) const {
  const ViewRegistry::Pin pin = views.PinNow();
  AZ_RETURN_IF_ERROR(FindPinned(name, pin).status());
  return collections().find(name)->second;
}

absl::StatusOr<Collection*> Core::FindPinned(std::string_view name,
                                             const ViewRegistry::Pin&) const {
  if (absl::Status status = CheckCollectionName(name); !status.ok()) {
    return AtPlace("collection", status);
  }
  const auto it = collections().find(name);
  if (it == collections().end()) return NotFound("collection %s does not exist", Quoted(name));
  return it->second.get();
}

}  // namespace azimuth::engine
