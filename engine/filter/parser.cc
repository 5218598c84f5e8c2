#include <algorithm>
#include <charconv>
#include <cmath>
#include <optional>
#include <utility>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/charconv.h"
#include "absl/strings/match.h"
#include "absl/strings/str_format.h"
#include "base/status.h"
#include "engine/filter/diagnostic.h"
#include "engine/filter/filter.h"
#include "engine/filter/lexer.h"
#include "engine/limits.h"

namespace azimuth::engine {
namespace {

// A parameter may be named many times, and each time its value is copied into the tree.
constexpr size_t kLiteralBytesMax = size_t{16} << 20;

constexpr std::string_view kLaterFunctions[] = {"exists", "match", "near", "len", "any", "all"};

std::optional<CompareOp> AsCompareOp(TokenKind kind) {
  switch (kind) {
    case TokenKind::kEq: return CompareOp::kEq;
    case TokenKind::kNe: return CompareOp::kNe;
    case TokenKind::kLt: return CompareOp::kLt;
    case TokenKind::kLe: return CompareOp::kLe;
    case TokenKind::kGt: return CompareOp::kGt;
    case TokenKind::kGe: return CompareOp::kGe;
    default: return std::nullopt;
  }
}

// The operator of `b op a` for `a op b`.
CompareOp TurnedRound(CompareOp op) {
  switch (op) {
    case CompareOp::kLt: return CompareOp::kGt;
    case CompareOp::kLe: return CompareOp::kGe;
    case CompareOp::kGt: return CompareOp::kLt;
    case CompareOp::kGe: return CompareOp::kLe;
    case CompareOp::kEq:
    case CompareOp::kNe: break;
  }
  return op;
}

bool IsLaterOperator(TokenKind kind) {
  switch (kind) {
    case TokenKind::kLike:
    case TokenKind::kContains:
    case TokenKind::kMatches:
    case TokenKind::kPlus:
    case TokenKind::kMinus:
    case TokenKind::kStar:
    case TokenKind::kSlash:
    case TokenKind::kPercent: return true;
    default: return false;
  }
}

std::string Found(const Token& token) {
  return token.kind == TokenKind::kEnd ? "the end of the filter" : Quoted(token.text);
}

// Recursive descent, one token ahead:
//   or = and {"or" and}, and = not {"and" not}, not = {"not"} ( "(" or ")" | predicate ).
class Parser final {
 public:
  Parser(std::string_view text, const FilterParameters& parameters)
      : text_(text), parameters_(parameters), lexer_(text) {}

  absl::StatusOr<Expr> Run();

 private:
  // A tree and the nodes on its longest path downward.
  struct Parsed {
    Expr expr;
    int height = 1;
  };
  // One side of a comparison: a field, or (when `field` is empty) a value.
  struct Operand {
    std::string field;
    Value literal;
    TextPosition position;
    bool is_field() const { return !field.empty(); }
  };

  absl::Status Advance();
  absl::Status Error(TextPosition position, std::string_view message) const;
  absl::Status NotServed(const Token& token) const;

  absl::StatusOr<Parsed> NewNode(Expr::Kind kind, TextPosition position);
  absl::Status AddChild(Parsed& parent, Parsed child) const;
  absl::StatusOr<Parsed> Negated(absl::StatusOr<Parsed> child, TextPosition position);

  absl::StatusOr<Parsed> ParseOr();
  absl::StatusOr<Parsed> ParseAnd();
  absl::StatusOr<Parsed> ParseNot();
  absl::StatusOr<Parsed> ParseGroup();
  absl::StatusOr<Parsed> ParsePredicate();
  absl::StatusOr<Parsed> ParseComparison(const Operand& left, CompareOp op);
  absl::StatusOr<Parsed> ParseNegatedTail(const Operand& left);
  absl::StatusOr<Parsed> ParseIn(const Operand& left);
  absl::StatusOr<Parsed> ParseBetween(const Operand& left);
  absl::StatusOr<Parsed> ParseIs(const Operand& left);
  absl::StatusOr<Parsed> Standalone(const Operand& operand);
  absl::StatusOr<Parsed> Comparison(const Operand& left, CompareOp op, const Operand& right);
  absl::Status CheckNotNull(const Operand& operand, CompareOp op) const;

  absl::Status ParseItems(Expr& in);
  absl::Status AddItem(Value item, TextPosition position, Expr& in);
  absl::StatusOr<Operand> ParseOperand();
  absl::StatusOr<Operand> ParseField();
  absl::StatusOr<Value> ParseLiteral();
  absl::StatusOr<Value> ParseNumber(bool negative, TextPosition position);
  absl::StatusOr<const Value*> TakeParameter();
  absl::Status CheckLiteral(const Value& value, TextPosition position);
  absl::Status CheckAllParametersUsed() const;

  std::string_view text_;
  const FilterParameters& parameters_;
  Lexer lexer_;
  Token token_;  // The one ahead.
  absl::flat_hash_set<std::string> used_parameters_;
  int open_parens_ = 0;
  int open_nots_ = 0;
  size_t nodes_ = 0;
  size_t list_items_ = 0;
  size_t literal_bytes_ = 0;
};

absl::Status Parser::Error(TextPosition position, std::string_view message) const {
  return FilterErrorAt(text_, position, absl::StatusCode::kInvalidArgument, message);
}

absl::Status Parser::NotServed(const Token& token) const {
  return FilterErrorAt(
      text_, token.position, absl::StatusCode::kUnimplemented,
      absl::StrFormat("%s is part of the filter language that this server does not serve",
                      Quoted(token.text)));
}

absl::Status Parser::Advance() {
  AZ_ASSIGN_OR_RETURN(token_, lexer_.Next());
  return absl::OkStatus();
}

absl::StatusOr<Expr> Parser::Run() {
  AZ_RETURN_IF_ERROR(Advance());
  Parsed parsed;
  if (token_.kind != TokenKind::kEnd) {
    AZ_ASSIGN_OR_RETURN(parsed, ParseOr());
    if (AsCompareOp(token_.kind)) {
      return Error(token_.position, "comparisons are not chained; join two of them with 'and'");
    }
    if (token_.kind != TokenKind::kEnd) {
      return Error(token_.position,
                   absl::StrFormat("expected 'and', 'or' or the end of the filter, found %s",
                                   Found(token_)));
    }
  }
  AZ_RETURN_IF_ERROR(CheckAllParametersUsed());
  return std::move(parsed.expr);
}

absl::StatusOr<Parser::Parsed> Parser::NewNode(Expr::Kind kind, TextPosition position) {
  if (++nodes_ > kFilterNodesMax) {
    return Error(position, absl::StrFormat("the filter has more than %d conditions and operators",
                                           kFilterNodesMax));
  }
  Parsed parsed;
  parsed.expr.kind = kind;
  parsed.expr.position = position;
  return parsed;
}

absl::Status Parser::AddChild(Parsed& parent, Parsed child) const {
  parent.height = std::max(parent.height, child.height + 1);
  if (parent.height > kFilterDepthMax) {
    return Error(parent.expr.position,
                 absl::StrFormat("the filter is nested deeper than %d levels", kFilterDepthMax));
  }
  parent.expr.children.push_back(std::move(child.expr));
  return absl::OkStatus();
}

absl::StatusOr<Parser::Parsed> Parser::Negated(absl::StatusOr<Parsed> child,
                                               TextPosition position) {
  AZ_RETURN_IF_ERROR(child.status());
  AZ_ASSIGN_OR_RETURN(Parsed negation, NewNode(Expr::Kind::kNot, position));
  AZ_RETURN_IF_ERROR(AddChild(negation, *std::move(child)));
  return negation;
}

absl::StatusOr<Parser::Parsed> Parser::ParseOr() {
  AZ_ASSIGN_OR_RETURN(Parsed first, ParseAnd());
  if (token_.kind != TokenKind::kOr) return first;
  AZ_ASSIGN_OR_RETURN(Parsed junction, NewNode(Expr::Kind::kOr, token_.position));
  AZ_RETURN_IF_ERROR(AddChild(junction, std::move(first)));
  while (token_.kind == TokenKind::kOr) {
    AZ_RETURN_IF_ERROR(Advance());
    AZ_ASSIGN_OR_RETURN(Parsed next, ParseAnd());
    AZ_RETURN_IF_ERROR(AddChild(junction, std::move(next)));
  }
  return junction;
}

absl::StatusOr<Parser::Parsed> Parser::ParseAnd() {
  AZ_ASSIGN_OR_RETURN(Parsed first, ParseNot());
  if (token_.kind != TokenKind::kAnd) return first;
  AZ_ASSIGN_OR_RETURN(Parsed junction, NewNode(Expr::Kind::kAnd, token_.position));
  AZ_RETURN_IF_ERROR(AddChild(junction, std::move(first)));
  while (token_.kind == TokenKind::kAnd) {
    AZ_RETURN_IF_ERROR(Advance());
    AZ_ASSIGN_OR_RETURN(Parsed next, ParseNot());
    AZ_RETURN_IF_ERROR(AddChild(junction, std::move(next)));
  }
  return junction;
}

absl::StatusOr<Parser::Parsed> Parser::ParseNot() {
  if (token_.kind == TokenKind::kLeftParen) return ParseGroup();
  if (token_.kind != TokenKind::kNot) return ParsePredicate();
  const TextPosition position = token_.position;
  if (++open_nots_ > kFilterDepthMax) {
    return Error(position, absl::StrFormat("more than %d 'not' are nested", kFilterDepthMax));
  }
  AZ_RETURN_IF_ERROR(Advance());
  AZ_ASSIGN_OR_RETURN(Parsed child, ParseNot());
  --open_nots_;
  return Negated(std::move(child), position);
}

absl::StatusOr<Parser::Parsed> Parser::ParseGroup() {
  const TextPosition position = token_.position;
  if (++open_parens_ > kFilterDepthMax) {
    return Error(position,
                 absl::StrFormat("more than %d parentheses are nested", kFilterDepthMax));
  }
  AZ_RETURN_IF_ERROR(Advance());
  AZ_ASSIGN_OR_RETURN(Parsed inner, ParseOr());
  if (token_.kind != TokenKind::kRightParen) {
    return Error(token_.position,
                 absl::StrFormat("expected ')' for the '(' at %d:%d, found %s", position.line,
                                 position.column, Found(token_)));
  }
  --open_parens_;
  AZ_RETURN_IF_ERROR(Advance());
  return inner;
}

absl::StatusOr<Parser::Parsed> Parser::ParsePredicate() {
  AZ_ASSIGN_OR_RETURN(const Operand left, ParseOperand());
  if (const auto op = AsCompareOp(token_.kind)) return ParseComparison(left, *op);
  switch (token_.kind) {
    case TokenKind::kIn: return ParseIn(left);
    case TokenKind::kBetween: return ParseBetween(left);
    case TokenKind::kIs: return ParseIs(left);
    case TokenKind::kNot: return ParseNegatedTail(left);
    default: return Standalone(left);
  }
}

absl::StatusOr<Parser::Parsed> Parser::ParseComparison(const Operand& left, CompareOp op) {
  AZ_RETURN_IF_ERROR(Advance());
  AZ_ASSIGN_OR_RETURN(const Operand right, ParseOperand());
  if (AsCompareOp(token_.kind)) {
    return Error(token_.position, "comparisons are not chained; join two of them with 'and'");
  }
  return Comparison(left, op, right);
}

// `not in`, `not between`.
absl::StatusOr<Parser::Parsed> Parser::ParseNegatedTail(const Operand& left) {
  const TextPosition position = token_.position;
  AZ_RETURN_IF_ERROR(Advance());
  if (token_.kind == TokenKind::kIn) return Negated(ParseIn(left), position);
  if (token_.kind == TokenKind::kBetween) return Negated(ParseBetween(left), position);
  if (IsLaterOperator(token_.kind)) return NotServed(token_);
  return Error(token_.position, absl::StrFormat("expected 'in' or 'between' after 'not', found %s",
                                                Found(token_)));
}

absl::StatusOr<Parser::Parsed> Parser::ParseIn(const Operand& left) {
  if (!left.is_field()) return Error(left.position, "the left side of 'in' must be a field");
  AZ_ASSIGN_OR_RETURN(Parsed in, NewNode(Expr::Kind::kIn, left.position));
  in.expr.field = left.field;
  AZ_RETURN_IF_ERROR(Advance());
  if (token_.kind == TokenKind::kLeftBracket) {
    AZ_RETURN_IF_ERROR(ParseItems(in.expr));
    return in;
  }
  if (token_.kind != TokenKind::kParameter) {
    return Error(token_.position,
                 absl::StrFormat("expected a list in brackets or a parameter after 'in', as in "
                                 "[1, 2], found %s",
                                 Found(token_)));
  }
  const Token token = token_;
  AZ_ASSIGN_OR_RETURN(const Value* value, TakeParameter());
  const auto* list = std::get_if<ValueList>(&value->data);
  if (list == nullptr) {
    return Error(token.position, absl::StrFormat("parameter %s is %s; 'in' needs a list",
                                                 token.text, ValueKindName(value->kind())));
  }
  for (const Value& item : *list) AZ_RETURN_IF_ERROR(AddItem(item, token.position, in.expr));
  return in;
}

// `[item, ...]`, with the bracket ahead.
absl::Status Parser::ParseItems(Expr& in) {
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

absl::Status Parser::AddItem(Value item, TextPosition position, Expr& in) {
  if (++list_items_ > kFilterListMax) {
    return Error(position,
                 absl::StrFormat("the filter's lists have more than %d items", kFilterListMax));
  }
  if (item.is_null()) {
    return Error(position, absl::StrFormat("null in a list never matches; write `%s is null`",
                                           in.field));
  }
  AZ_RETURN_IF_ERROR(CheckLiteral(item, position));
  in.literals.push_back(std::move(item));
  return absl::OkStatus();
}

absl::StatusOr<Parser::Parsed> Parser::ParseBetween(const Operand& left) {
  AZ_ASSIGN_OR_RETURN(Parsed both, NewNode(Expr::Kind::kAnd, token_.position));
  AZ_RETURN_IF_ERROR(Advance());
  AZ_ASSIGN_OR_RETURN(const Operand low, ParseOperand());
  if (token_.kind != TokenKind::kAnd) {
    return Error(token_.position,
                 absl::StrFormat("expected 'and' and the upper bound of 'between', found %s",
                                 Found(token_)));
  }
  AZ_RETURN_IF_ERROR(Advance());
  AZ_ASSIGN_OR_RETURN(const Operand high, ParseOperand());
  AZ_ASSIGN_OR_RETURN(Parsed above, Comparison(left, CompareOp::kGe, low));
  AZ_ASSIGN_OR_RETURN(Parsed below, Comparison(left, CompareOp::kLe, high));
  AZ_RETURN_IF_ERROR(AddChild(both, std::move(above)));
  AZ_RETURN_IF_ERROR(AddChild(both, std::move(below)));
  return both;
}

absl::StatusOr<Parser::Parsed> Parser::ParseIs(const Operand& left) {
  if (!left.is_field()) return Error(left.position, "the left side of 'is' must be a field");
  AZ_RETURN_IF_ERROR(Advance());
  const Token negation = token_;
  if (negation.kind == TokenKind::kNot) AZ_RETURN_IF_ERROR(Advance());
  if (token_.kind != TokenKind::kNull) {
    return Error(token_.position,
                 absl::StrFormat("expected 'null' or 'not null' after 'is', found %s",
                                 Found(token_)));
  }
  AZ_RETURN_IF_ERROR(Advance());
  AZ_ASSIGN_OR_RETURN(Parsed is_null, NewNode(Expr::Kind::kIsNull, left.position));
  is_null.expr.field = left.field;
  if (negation.kind == TokenKind::kNot) return Negated(std::move(is_null), negation.position);
  return is_null;
}

absl::StatusOr<Parser::Parsed> Parser::Standalone(const Operand& operand) {
  if (operand.is_field()) {
    AZ_ASSIGN_OR_RETURN(Parsed field, NewNode(Expr::Kind::kBoolField, operand.position));
    field.expr.field = operand.field;
    return field;
  }
  const bool* constant = std::get_if<bool>(&operand.literal.data);
  if (constant == nullptr) {
    return Error(operand.position, "a value alone is no condition; compare it with a field");
  }
  AZ_ASSIGN_OR_RETURN(Parsed all, NewNode(Expr::Kind::kTrue, operand.position));
  if (*constant) return all;
  return Negated(std::move(all), operand.position);
}

absl::Status Parser::CheckNotNull(const Operand& operand, CompareOp op) const {
  if (operand.is_field() || !operand.literal.is_null()) return absl::OkStatus();
  return Error(operand.position,
               absl::StrFormat("a comparison with null is never true; use `is %snull`",
                               op == CompareOp::kNe ? "not " : ""));
}

absl::StatusOr<Parser::Parsed> Parser::Comparison(const Operand& left, CompareOp op,
                                                  const Operand& right) {
  AZ_RETURN_IF_ERROR(CheckNotNull(left, op));
  AZ_RETURN_IF_ERROR(CheckNotNull(right, op));
  if (!left.is_field() && !right.is_field()) {
    return Error(left.position, "one side of a comparison must be a field");
  }
  if (!left.is_field()) return Comparison(right, TurnedRound(op), left);
  const auto kind = right.is_field() ? Expr::Kind::kCompareFields : Expr::Kind::kCompare;
  AZ_ASSIGN_OR_RETURN(Parsed comparison, NewNode(kind, left.position));
  comparison.expr.op = op;
  comparison.expr.field = left.field;
  if (right.is_field()) {
    comparison.expr.other_field = right.field;
    comparison.expr.other_position = right.position;
  } else {
    AZ_RETURN_IF_ERROR(CheckLiteral(right.literal, right.position));
    comparison.expr.literals.push_back(right.literal);
  }
  return comparison;
}

absl::StatusOr<Parser::Operand> Parser::ParseOperand() {
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

absl::StatusOr<Parser::Operand> Parser::ParseField() {
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

absl::StatusOr<Value> Parser::ParseLiteral() {
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
    case TokenKind::kNumber: return ParseNumber(/*negative=*/false, token.position);
    case TokenKind::kNotANumber:
      return Error(token.position, absl::StrFormat("%s is not a value; numbers are finite",
                                                   Quoted(token.text)));
    case TokenKind::kString:
    case TokenKind::kTrue:
    case TokenKind::kFalse:
    case TokenKind::kNull: break;
    default:
      return Error(token.position,
                   absl::StrFormat("expected a field or a value, found %s", Found(token)));
  }
  AZ_RETURN_IF_ERROR(Advance());
  if (token.kind == TokenKind::kString) return Value{token.value};
  if (token.kind == TokenKind::kNull) return Value{};
  return Value{token.kind == TokenKind::kTrue};
}

absl::StatusOr<Value> Parser::ParseNumber(bool negative, TextPosition position) {
  const std::string digits = (negative ? "-" : "") + std::string(token_.text);
  const char* const end = digits.data() + digits.size();
  AZ_RETURN_IF_ERROR(Advance());
  if (digits.find_first_of(".eE") == std::string::npos) {
    int64_t number = 0;
    if (std::from_chars(digits.data(), end, number).ec != std::errc()) {
      return Error(position, "integer is outside the range of int64, -9223372036854775808 to "
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

absl::StatusOr<const Value*> Parser::TakeParameter() {
  const auto it = parameters_.find(token_.value);
  if (it == parameters_.end()) {
    return Error(token_.position,
                 absl::StrFormat("parameter %s has no value", Quoted(token_.text)));
  }
  used_parameters_.insert(token_.value);
  AZ_RETURN_IF_ERROR(Advance());
  return &it->second;
}

absl::Status Parser::CheckLiteral(const Value& value, TextPosition position) {
  switch (value.kind()) {
    case ValueKind::kList:
    case ValueKind::kMap:
    case ValueKind::kMissing:
    case ValueKind::kNull:
      return Error(position, absl::StrFormat("a list of single values is needed; it holds a %s",
                                             ValueKindName(value.kind())));
    case ValueKind::kBool:
    case ValueKind::kInt64: break;
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

absl::Status Parser::CheckAllParametersUsed() const {
  if (used_parameters_.size() == parameters_.size()) return absl::OkStatus();
  const std::string* first = nullptr;
  for (const auto& [name, value] : parameters_) {
    if (!used_parameters_.contains(name) && (first == nullptr || name < *first)) first = &name;
  }
  return InvalidArgument("parameter %s is given a value but not used in the filter",
                         Quoted(std::string("$") + *first));
}

}  // namespace

absl::StatusOr<Expr> ParseFilter(std::string_view text, const FilterParameters& parameters) {
  if (text.size() > kFilterBytesMax) {
    return InvalidArgument("the filter has %d bytes; at most %d are allowed", text.size(),
                           kFilterBytesMax);
  }
  if (parameters.size() > kFilterParametersMax) {
    return InvalidArgument("the filter has %d parameters; at most %d are allowed",
                           parameters.size(), kFilterParametersMax);
  }
  AZ_RETURN_IF_ERROR(CheckFilterCharacters(text));
  return Parser(text, parameters).Run();
}

}  // namespace azimuth::engine
