#include "engine/filter/lexer.h"

#include "base/status.h"
#include "base/strings.h"
#include "engine/filter/diagnostic.h"

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_format.h"

#include <array>
#include <utility>

namespace azimuth::engine {
namespace {

bool IsDigit(char c) {
  return c >= '0' && c <= '9';
}
bool StartsName(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}
bool ContinuesName(char c) {
  return StartsName(c) || IsDigit(c);
}

constexpr std::array<std::pair<std::string_view, TokenKind>, 14> kKeywords = {{
    {"and", TokenKind::kAnd},
    {"or", TokenKind::kOr},
    {"not", TokenKind::kNot},
    {"in", TokenKind::kIn},
    {"between", TokenKind::kBetween},
    {"is", TokenKind::kIs},
    {"null", TokenKind::kNull},
    {"true", TokenKind::kTrue},
    {"false", TokenKind::kFalse},
    {"like", TokenKind::kLike},
    {"contains", TokenKind::kContains},
    {"nan", TokenKind::kNotANumber},
    {"inf", TokenKind::kNotANumber},
    {"infinity", TokenKind::kNotANumber},
}};

// kName for a word that is no keyword.
TokenKind KindOfWord(std::string_view word) {
  for (const auto& [keyword, kind] : kKeywords) {
    if (absl::EqualsIgnoreCase(ToAbsl(word), ToAbsl(keyword))) return kind;
  }
  return TokenKind::kName;
}

// Longer operators first.
constexpr std::array<std::pair<std::string_view, TokenKind>, 22> kOperators = {{
    {"==", TokenKind::kEq},          {"=~", TokenKind::kMatches},   {"!=", TokenKind::kNe},
    {"<>", TokenKind::kNe},          {"<=", TokenKind::kLe},        {">=", TokenKind::kGe},
    {"&&", TokenKind::kAnd},         {"||", TokenKind::kOr},        {"=", TokenKind::kEq},
    {"<", TokenKind::kLt},           {">", TokenKind::kGt},         {"!", TokenKind::kNot},
    {"(", TokenKind::kLeftParen},    {")", TokenKind::kRightParen}, {"[", TokenKind::kLeftBracket},
    {"]", TokenKind::kRightBracket}, {",", TokenKind::kComma},      {"+", TokenKind::kPlus},
    {"-", TokenKind::kMinus},        {"*", TokenKind::kStar},       {"/", TokenKind::kSlash},
    {"%", TokenKind::kPercent},
}};

void AppendUtf8(uint32_t code_point, std::string& out) {
  const auto put = [&out](uint32_t byte) { out.push_back(static_cast<char>(byte)); };
  if (code_point < 0x80) {
    put(code_point);
  } else if (code_point < 0x800) {
    put(0xC0 | code_point >> 6);
    put(0x80 | (code_point & 0x3F));
  } else if (code_point < 0x10000) {
    put(0xE0 | code_point >> 12);
    put(0x80 | (code_point >> 6 & 0x3F));
    put(0x80 | (code_point & 0x3F));
  } else {
    put(0xF0 | code_point >> 18);
    put(0x80 | (code_point >> 12 & 0x3F));
    put(0x80 | (code_point >> 6 & 0x3F));
    put(0x80 | (code_point & 0x3F));
  }
}

}  // namespace

bool IsFilterKeyword(std::string_view word) {
  return KindOfWord(word) != TokenKind::kName;
}

void Lexer::Skip(size_t bytes) {
  for (const char c : rest_.substr(0, bytes)) {
    if (c == '\n') {
      position_ = {.line = position_.line + 1, .column = 1};
    } else if ((static_cast<uint8_t>(c) & 0xC0) != 0x80) {
      ++position_.column;
    }
  }
  rest_.remove_prefix(bytes);
}

Token Lexer::Take(TokenKind kind, size_t bytes) {
  Token token{.kind = kind, .position = position_, .text = rest_.substr(0, bytes), .value = {}};
  Skip(bytes);
  return token;
}

absl::Status Lexer::Error(std::string_view message) const {
  return FilterErrorAt(text_, position_, absl::StatusCode::kInvalidArgument, message);
}

absl::StatusOr<Token> Lexer::Next() {
  size_t spaces = 0;
  while (absl::ascii_isspace(static_cast<unsigned char>(Peek(spaces)))) ++spaces;
  Skip(spaces);
  if (rest_.empty()) return Take(TokenKind::kEnd, 0);
  const char c = Peek();
  if (StartsName(c)) return Word();
  if (IsDigit(c)) return Number();
  if (c == '"' || c == '\'') return String();
  if (c == '$') return Parameter();
  return Operator();
}

absl::StatusOr<Token> Lexer::Word() {
  size_t length = 1;
  bool dotted = false;
  while (true) {
    while (ContinuesName(Peek(length))) ++length;
    if (Peek(length) != '.') break;
    if (!StartsName(Peek(length + 1))) {
      Skip(length);
      return Error("expected a name after '.', as in meta.color");
    }
    dotted = true;
    ++length;
  }
  return Take(dotted ? TokenKind::kName : KindOfWord(rest_.substr(0, length)), length);
}

absl::StatusOr<Token> Lexer::Number() {
  size_t length = 0;
  const auto digits = [&] {
    const size_t before = length;
    while (IsDigit(Peek(length))) ++length;
    return length > before;
  };
  digits();
  if (Peek(length) == '.') {
    ++length;
    if (!digits()) return Error("malformed number: expected digits after '.'");
  }
  if (Peek(length) == 'e' || Peek(length) == 'E') {
    ++length;
    if (Peek(length) == '+' || Peek(length) == '-') ++length;
    if (!digits()) return Error("malformed number: expected digits after the exponent's 'e'");
  }
  if (ContinuesName(Peek(length)) || Peek(length) == '.') {
    return Error("malformed number: a space or an operator must follow its digits");
  }
  return Take(TokenKind::kNumber, length);
}

absl::StatusOr<Token> Lexer::Parameter() {
  size_t length = 1;
  while (ContinuesName(Peek(length))) ++length;
  if (length == 1) return Error("expected a parameter's name after '$', as in $price");
  Token token = Take(TokenKind::kParameter, length);
  token.value = token.text.substr(1);
  return token;
}

absl::StatusOr<Token> Lexer::String() {
  const char quote = Peek();
  const Lexer start = *this;
  Token token{.kind = TokenKind::kString, .position = position_, .text = {}, .value = {}};
  Skip(1);
  while (Peek() != quote || rest_.empty()) {
    if (rest_.empty() || Peek() == '\n') {
      return start.Error("unterminated string (a line break is written as \\n)");
    }
    if (Peek() == '\\') {
      AZ_RETURN_IF_ERROR(Escape(token.value));
      continue;
    }
    const size_t length = CharacterLength(rest_);
    token.value += rest_.substr(0, length);
    Skip(length);
  }
  Skip(1);
  if (Peek() == '"' || Peek() == '\'') {
    return Error(
        "a string ends right before another quote (a quote inside a string is written "
        "with a backslash before it)");
  }
  token.text = start.rest_.substr(0, start.rest_.size() - rest_.size());
  return token;
}

absl::StatusOr<uint32_t> Lexer::HexDigits() {
  uint32_t number = 0;
  for (size_t i = 2; i < 6; ++i) {
    const char c = absl::ascii_tolower(static_cast<unsigned char>(Peek(i)));
    if (!IsDigit(c) && !(c >= 'a' && c <= 'f')) {
      return Error("malformed escape: expected four hexadecimal digits after \\u");
    }
    number = number << 4 | static_cast<uint32_t>(IsDigit(c) ? c - '0' : c - 'a' + 10);
  }
  return number;
}

// Reads the escape at the front of rest_ and appends its character.
absl::Status Lexer::Escape(std::string& value) {
  switch (Peek(1)) {
    case '\\':
    case '"':
    case '\'':
      value.push_back(Peek(1));
      break;
    case 'n':
      value.push_back('\n');
      break;
    case 't':
      value.push_back('\t');
      break;
    case 'r':
      value.push_back('\r');
      break;
    case 'u': {
      AZ_ASSIGN_OR_RETURN(uint32_t code_point, HexDigits());
      const Lexer start = *this;
      if (code_point >= 0xD800 && code_point <= 0xDBFF) {
        // Half of a character past U+FFFF: the other half must follow.
        Skip(6);
        uint32_t low = 0;
        if (Peek() == '\\' && Peek(1) == 'u') {
          AZ_ASSIGN_OR_RETURN(low, HexDigits());
        }
        if (low < 0xDC00 || low > 0xDFFF) return start.Error("\\u escape of half a surrogate pair");
        code_point = 0x10000 + ((code_point - 0xD800) << 10) + (low - 0xDC00);
      } else if (code_point >= 0xDC00 && code_point <= 0xDFFF) {
        return start.Error("\\u escape of half a surrogate pair");
      }
      AppendUtf8(code_point, value);
      Skip(6);
      return absl::OkStatus();
    }
    default:
      return Error("unknown escape in a string; allowed are \\\\ \\\" \\' \\n \\t \\r \\uXXXX");
  }
  Skip(2);
  return absl::OkStatus();
}

absl::StatusOr<Token> Lexer::Operator() {
  for (const auto& [spelling, kind] : kOperators) {
    if (rest_.substr(0, spelling.size()) == spelling) return Take(kind, spelling.size());
  }
  switch (Peek()) {
    case '&':
      return Error("unknown operator '&' (did you mean '&&' or 'and'?)");
    case '|':
      return Error("unknown operator '|' (did you mean '||' or 'or'?)");
    case '.':
      return Error("unexpected '.' (a number starts with a digit, as in 0.5)");
    default:
      break;
  }
  return Error(
      absl::StrFormat("unknown character %s", Quoted(rest_.substr(0, CharacterLength(rest_)))));
}

}  // namespace azimuth::engine
