// Lexer: the words, values and operators of a filter's text, one after the other.
//
// Thread safety: none; a Lexer belongs to one parse.
// Ownership: borrows the text; tokens point into it.
#pragma once

#include "engine/filter/expr.h"

#include "absl/status/statusor.h"

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace azimuth::engine {

enum class TokenKind : uint8_t {
  kEnd,
  kName,       // A field: `price`, or a path `meta.color`.
  kNumber,     // Without a sign.
  kString,     // Token::value is the string without quotes and escapes.
  kParameter,  // `$name`; Token::value is the name.
  kLeftParen,
  kRightParen,
  kLeftBracket,
  kRightBracket,
  kComma,
  kEq,
  kNe,
  kLt,
  kLe,
  kGt,
  kGe,
  kAnd,
  kOr,
  kNot,
  kIn,
  kBetween,
  kIs,
  kNull,
  kTrue,
  kFalse,
  kNotANumber,  // `nan`, `inf`, `infinity`: reserved, so that they never become fields.
  // Of the full language; recognised, so that the answer can say that they are not served.
  kLike,
  kContains,
  kMatches,
  kPlus,
  kMinus,
  kStar,
  kSlash,
  kPercent,
};

struct Token {
  TokenKind kind = TokenKind::kEnd;
  TextPosition position;
  std::string_view text;  // As written.
  std::string value;
};

// True for a word that no field may have as its name, in any case of letters.
bool IsFilterKeyword(std::string_view word);

class Lexer final {
 public:
  // REQUIRES: CheckFilterCharacters(text) is OK.
  explicit Lexer(std::string_view text) : text_(text), rest_(text) {}

  // The next token; kEnd again and again at the end. InvalidArgument with the position.
  absl::StatusOr<Token> Next();

 private:
  char Peek(size_t ahead = 0) const { return ahead < rest_.size() ? rest_[ahead] : '\0'; }
  void Skip(size_t bytes);
  Token Take(TokenKind kind, size_t bytes);
  absl::Status Error(std::string_view message) const;

  absl::StatusOr<Token> Word();
  absl::StatusOr<Token> Number();
  absl::StatusOr<Token> Parameter();
  absl::StatusOr<Token> String();
  absl::StatusOr<Token> Operator();
  absl::Status Escape(std::string& value);
  absl::StatusOr<uint32_t> HexDigits();

  std::string_view text_;
  std::string_view rest_;
  TextPosition position_;  // Of rest_'s first character.
};

}  // namespace azimuth::engine
