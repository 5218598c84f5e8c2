// The bridge between std::string_view and abseil's own string_view, and maps keyed by string.
//
// In Debian 12's abseil, absl::string_view is a type of its own that does not convert to or from
// std::string_view. Our interfaces take std::string_view only; convert here.
#pragma once

#include "absl/container/flat_hash_map.h"
#include "absl/hash/hash.h"
#include "absl/strings/string_view.h"

#include <cstddef>
#include <functional>
#include <string>
#include <string_view>

namespace azimuth {

inline absl::string_view ToAbsl(std::string_view text) {
  return {text.data(), text.size()};
}
inline std::string_view ToStd(absl::string_view text) {
  return {text.data(), text.size()};
}

// Hash for maps that are looked up by std::string_view without a copy.
struct StringHash {
  using is_transparent = void;
  size_t operator()(std::string_view text) const { return absl::HashOf(ToAbsl(text)); }
};

template <typename V>
using StringMap = absl::flat_hash_map<std::string, V, StringHash, std::equal_to<>>;

// True if `text` is well-formed UTF-8 (no surrogates, no overlong forms, at most U+10FFFF).
bool IsValidUtf8(std::string_view text);

// `text` for an error message: cut at 64 bytes, control characters and bad UTF-8 escaped, in
// quotes.
std::string Quoted(std::string_view text);

}  // namespace azimuth
