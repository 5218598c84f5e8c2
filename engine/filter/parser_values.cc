// The part of FilterParser that reads fields, values, lists and parameters.
#include "base/status.h"
#include "base/strings.h"
#include "engine/filter/parser.h"
#include "engine/limits.h"

#include "absl/strings/charconv.h"
#include "absl/strings/match.h"
#include "absl/strings/str_format.h"

#include <charconv>
#include <cmath>
#include <cstdint>
#include <system_error>
#include <utility>
#include <variant>

namespace azimuth::engine {
namespace {

// A parameter may be named many times, and each time its value is copied into the tree.
constexpr size_t kLiteralBytesMax = size_t{16} << 20;

constexpr std::string_view kLaterFunctions[] = {"exists", "match", "near", "len", "any", "all"};

}  // namespace

absl::Status FilterParser::ParseItems(Expr& in) {
  AZ_RETURN_IF_ERROR(Advance());
  if (token_.kind == TokenKind::kRightBracket) return Advance();
  while (true) {
    AZ_ASSIGN_OR_RETURN(Operand item, ParseOperand());
    if (item.is_field()) {
      return Error(item.position, absl::StrFormat("a list holds values, not fields such as %s",
                                                  Quoted(item.field)));
    }
    AZ_RETURN_IF_ERROR(AddItem(std::move(item.literal), item.position, in));
    if (token_.kind == TokenKind::kRightBracket) return Advance();
    if (token_.kind != TokenKind::kComma) {
      return Error(token_.position,
                   absl::StrFormat("expected ',' or ']' in the list, found %s", Found(token_)));
    }
    AZ_RETURN_IF_ERROR(Advance());
  }
}

absl::Status FilterParser::AddItem(Value item, TextPosition position, Expr& in) {
  if (++list_items_ > kFilterListMax) {
    return Error(position,
                 absl::StrFormat("the filter's lists have more than %d items", kFilterListMax));
  }
  if (item.is_null()) {
    return Error(position,
                 absl::StrFormat("null in a list never matches; write `%s is null`", in.field));
  }
  AZ_RETURN_IF_ERROR(CheckLiteral(item, position));
  in.literals.push_back(std::move(item));
  return absl::OkStatus();
}

absl::StatusOr<FilterParser::Operand> FilterParser::ParseOperand() {
  Operand operand;
  if (token_.kind == TokenKind::kName) {
    AZ_ASSIGN_OR_RETURN(operand, ParseField());
  } else {
    operand.position = token_.position;
    AZ_ASSIGN_OR_RETURN(operand.literal, ParseLiteral());
  }
  if (IsLaterOperator(token_.kind)) return NotServed(token_);
  return operand;
}

absl::StatusOr<FilterParser::Operand> FilterParser::ParseField() {
  const Token name = token_;
  AZ_RETURN_IF_ERROR(Advance());
  if (token_.kind == TokenKind::kLeftParen) {
    for (const std::string_view function : kLaterFunctions) {
      if (absl::EqualsIgnoreCase(ToAbsl(name.text), ToAbsl(function))) return NotServed(name);
    }
    return Error(name.position, absl::StrFormat("unknown function %s", Quoted(name.text)));
  }
  return Operand{.field = std::string(name.text), .literal = {}, .position = name.position};
}

absl::StatusOr<Value> FilterParser::ParseLiteral() {
  const Token token = token_;
  switch (token.kind) {
    case TokenKind::kParameter: {
      AZ_ASSIGN_OR_RETURN(const Value* value, TakeParameter());
      if (value->kind() == ValueKind::kList || value->kind() == ValueKind::kMap) {
        return Error(token.position,
                     absl::StrFormat("parameter %s is a %s; a single value is needed here",
                                     token.text, ValueKindName(value->kind())));
      }
      return *value;
    }
    case TokenKind::kMinus: {
      AZ_RETURN_IF_ERROR(Advance());
      if (token_.kind != TokenKind::kNumber) {
        return Error(token.position,
                     absl::StrFormat("expected a number after '-', found %s", Found(token_)));
      }
      return ParseNumber(/*negative=*/true, token.position);
    }
    case TokenKind::kNumber:
      return ParseNumber(/*negative=*/false, token.position);
    case TokenKind::kNotANumber:
      return Error(token.position,
                   absl::StrFormat("%s is not a value; numbers are finite", Quoted(token.text)));
    case TokenKind::kString:
    case TokenKind::kTrue:
    case TokenKind::kFalse:
    case TokenKind::kNull:
      break;
    default:
      return Error(token.position,
                   absl::StrFormat("expected a field or a value, found %s", Found(token)));
  }
  AZ_RETURN_IF_ERROR(Advance());
  if (token.kind == TokenKind::kString) return Value{token.value};
  if (token.kind == TokenKind::kNull) return Value{};
  return Value{token.kind == TokenKind::kTrue};
}

absl::StatusOr<Value> FilterParser::ParseNumber(bool negative, TextPosition position) {
  const std::string digits = (negative ? "-" : "") + std::string(token_.text);
  const char* const end = digits.data() + digits.size();
  AZ_RETURN_IF_ERROR(Advance());
  if (digits.find_first_of(".eE") == std::string::npos) {
    int64_t number = 0;
    if (std::from_chars(digits.data(), end, number).ec != std::errc()) {
      return Error(position,
                   "integer is outside the range of int64, -9223372036854775808 to "
                   "9223372036854775807");
    }
    return Value{number};
  }
  double number = 0;
  if (absl::from_chars(digits.data(), end, number).ec != std::errc()) {
    // Too small is nearest to zero; too large is nearest to nothing.
    if (std::fabs(number) >= 1) return Error(position, "number is outside the range of a double");
    number = negative ? -0.0 : 0.0;
  }
  return Value{number};
}

absl::StatusOr<const Value*> FilterParser::TakeParameter() {
  const auto it = parameters_.find(token_.value);
  if (it == parameters_.end()) {
    return Error(token_.position,
                 absl::StrFormat("parameter %s has no value", Quoted(token_.text)));
  }
  used_parameters_.insert(token_.value);
  AZ_RETURN_IF_ERROR(Advance());
  return &it->second;
}

absl::Status FilterParser::CheckLiteral(const Value& value, TextPosition position) {
  switch (value.kind()) {
    case ValueKind::kList:
    case ValueKind::kMap:
    case ValueKind::kMissing:
    case ValueKind::kNull:
      return Error(position, absl::StrFormat("a list of single values is needed; it holds a %s",
                                             ValueKindName(value.kind())));
    case ValueKind::kBool:
    case ValueKind::kInt64:
      break;
    case ValueKind::kDouble:
      if (!std::isfinite(std::get<double>(value.data))) {
        return Error(position, "the value is not a finite number");
      }
      break;
    case ValueKind::kString: {
      const auto& text = std::get<std::string>(value.data);
      literal_bytes_ += text.size();
      if (literal_bytes_ > kLiteralBytesMax) {
        return Error(position, absl::StrFormat("the filter's strings have more than %d bytes",
                                               kLiteralBytesMax));
      }
      if (!IsValidUtf8(text)) return Error(position, "the string is not valid UTF-8");
      break;
    }
  }
  return absl::OkStatus();
}

absl::Status FilterParser::CheckAllParametersUsed() const {
  if (used_parameters_.size() == parameters_.size()) return absl::OkStatus();
  const std::string* first = nullptr;
  for (const auto& [name, value] : parameters_) {
    if (!used_parameters_.contains(name) && (first == nullptr || name < *first)) first = &name;
  }
  return InvalidArgument("parameter %s is given a value but not used in the filter",
                         Quoted(std::string("$") + *first));
}

}  // namespace azimuth::engine
