// Where in a filter an error stands, shown to the user: position, message, the line, a caret.
//
// Thread safety: stateless.
#pragma once

#include "engine/filter/expr.h"

#include "absl/status/status.h"

#include <cstddef>
#include <string_view>

namespace azimuth::engine {

// A status of `code` with the message
//   1:16: unknown character '#'
//     price < 10 and # 3
//                    ^
// Long lines are clipped around the caret; characters that a terminal would not show become '?'. An
// empty `text` gives the message alone: the tree came from no text.
absl::Status FilterErrorAt(std::string_view text, TextPosition position, absl::StatusCode code,
                           std::string_view message);

// InvalidArgument at the first NUL, other control character, bidirectional control or invalid UTF-8
// in `text`. Tabs and line breaks are allowed.
absl::Status CheckFilterCharacters(std::string_view text);

// The bytes of the character at the front of `text`, 1 if it is not valid UTF-8. REQUIRES:
// non-empty.
size_t CharacterLength(std::string_view text);
// True for a character (its UTF-8 bytes) that reorders the text around it on a screen.
bool IsBidiControl(std::string_view character);

}  // namespace azimuth::engine
