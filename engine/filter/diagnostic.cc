#include "engine/filter/diagnostic.h"

#include "base/strings.h"

#include "absl/strings/str_format.h"

#include <algorithm>
#include <cstdint>
#include <string>

namespace azimuth::engine {
namespace {

// Characters of the line that are shown on either side of the caret.
constexpr size_t kContext = 40;

bool IsControl(std::string_view character) {
  const auto first = static_cast<uint8_t>(character.front());
  return first < 0x20 || first == 0x7F;
}

std::string Shown(std::string_view character) {
  if (character == "\t") return " ";
  if (IsControl(character) || IsBidiControl(character) || !IsValidUtf8(character)) return "?";
  return std::string(character);
}

std::string_view LineOf(std::string_view text, uint32_t line) {
  for (uint32_t i = 1; i < line; ++i) {
    const size_t end = text.find('\n');
    if (end == std::string_view::npos) return {};
    text.remove_prefix(end + 1);
  }
  text = text.substr(0, text.find('\n'));
  if (!text.empty() && text.back() == '\r') text.remove_suffix(1);
  return text;
}

// The line and the caret under its character `column`, counted from 1.
std::string LineAndCaret(std::string_view line, size_t column) {
  const size_t at = column - 1;
  const size_t first = at > kContext ? at - kContext : 0;
  std::string shown = first > 0 ? "..." : "";
  const size_t caret = shown.size() + at - first;
  size_t i = 0;
  for (; !line.empty() && i <= at + kContext; ++i) {
    const size_t length = CharacterLength(line);
    if (i >= first) shown += Shown(line.substr(0, length));
    line.remove_prefix(length);
  }
  if (!line.empty()) shown += "...";
  return absl::StrFormat("\n  %s\n  %s^", shown, std::string(caret, ' '));
}

}  // namespace

absl::Status FilterErrorAt(std::string_view text, TextPosition position, absl::StatusCode code,
                           std::string_view message) {
  if (text.empty()) return absl::Status(code, ToAbsl(message));
  return absl::Status(code,
                      absl::StrFormat("%d:%d: %s%s", position.line, position.column, message,
                                      LineAndCaret(LineOf(text, position.line), position.column)));
}

absl::Status CheckFilterCharacters(std::string_view text) {
  TextPosition position;
  for (std::string_view rest = text; !rest.empty();) {
    const std::string_view character = rest.substr(0, CharacterLength(rest));
    const auto first = static_cast<uint8_t>(character.front());
    std::string problem;
    if (!IsValidUtf8(character)) {
      problem = absl::StrFormat("byte 0x%02x is not valid UTF-8", first);
    } else if (IsBidiControl(character)) {
      problem = "bidirectional control character (in a string, write it as \\uXXXX)";
    } else if (IsControl(character) && character != "\t" && character != "\n" &&
               character != "\r") {
      problem = absl::StrFormat("control character U+%04X (in a string, write it as \\u%04X)",
                                first, first);
    }
    if (!problem.empty()) {
      return FilterErrorAt(text, position, absl::StatusCode::kInvalidArgument, problem);
    }
    ++position.column;
    if (character == "\n") position = {.line = position.line + 1, .column = 1};
    rest.remove_prefix(character.size());
  }
  return absl::OkStatus();
}

size_t CharacterLength(std::string_view text) {
  if (static_cast<uint8_t>(text.front()) < 0x80) return 1;
  for (size_t length = 2; length <= std::min<size_t>(4, text.size()); ++length) {
    if (IsValidUtf8(text.substr(0, length))) return length;
  }
  return 1;
}

bool IsBidiControl(std::string_view character) {
  // U+061C; U+200E, U+200F, U+202A to U+202E; U+2066 to U+2069.
  if (character == "\xD8\x9C") return true;
  if (character.size() != 3 || character[0] != '\xE2') return false;
  const auto second = static_cast<uint8_t>(character[1]);
  const auto third = static_cast<uint8_t>(character[2]);
  if (second == 0x80) return third == 0x8E || third == 0x8F || (third >= 0xAA && third <= 0xAE);
  return second == 0x81 && third >= 0xA6 && third <= 0xA9;
}

}  // namespace azimuth::engine
