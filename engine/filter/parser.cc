#include "engine/filter/parser.h"

#include "base/status.h"
#include "engine/filter/diagnostic.h"
#include "engine/limits.h"

#include "absl/strings/str_format.h"

#include <algorithm>
#include <optional>
#include <utility>

namespace azimuth::engine {
namespace {

std::optional<CompareOp> AsCompareOp(TokenKind kind) {
  switch (kind) {
    case TokenKind::kEq:
      return CompareOp::kEq;
    case TokenKind::kNe:
      return CompareOp::kNe;
    case TokenKind::kLt:
      return CompareOp::kLt;
    case TokenKind::kLe:
      return CompareOp::kLe;
    case TokenKind::kGt:
      return CompareOp::kGt;
    case TokenKind::kGe:
      return CompareOp::kGe;
    default:
      return std::nullopt;
  }
}

// The operator of `b op a` for `a op b`.
CompareOp TurnedRound(CompareOp op) {
  switch (op) {
    case CompareOp::kLt:
      return CompareOp::kGt;
    case CompareOp::kLe:
      return CompareOp::kGe;
    case CompareOp::kGt:
      return CompareOp::kLt;
    case CompareOp::kGe:
      return CompareOp::kLe;
    case CompareOp::kEq:
    case CompareOp::kNe:
      break;
  }
  return op;
}

}  // namespace

bool IsLaterOperator(TokenKind kind) {
  switch (kind) {
    case TokenKind::kLike:
    case TokenKind::kContains:
    case TokenKind::kMatches:
    case TokenKind::kPlus:
    case TokenKind::kMinus:
    case TokenKind::kStar:
    case TokenKind::kSlash:
    case TokenKind::kPercent:
      return true;
    default:
      return false;
  }
}

std::string Found(const Token& token) {
  return token.kind == TokenKind::kEnd ? "the end of the filter" : Quoted(token.text);
}

absl::Status FilterParser::Error(TextPosition position, std::string_view message) const {
  return FilterErrorAt(text_, position, absl::StatusCode::kInvalidArgument, message);
}

absl::Status FilterParser::NotServed(const Token& token) const {
  return FilterErrorAt(
      text_, token.position, absl::StatusCode::kUnimplemented,
      absl::StrFormat("%s is part of the filter language that this server does not serve",
                      Quoted(token.text)));
}

absl::Status FilterParser::Advance() {
  AZ_ASSIGN_OR_RETURN(token_, lexer_.Next());
  return absl::OkStatus();
}

absl::StatusOr<Expr> FilterParser::Run() {
  AZ_RETURN_IF_ERROR(Advance());
  Parsed parsed;
  if (token_.kind != TokenKind::kEnd) {
    AZ_ASSIGN_OR_RETURN(parsed, ParseOr());
    if (token_.kind != TokenKind::kEnd) {
      return Error(token_.position,
                   absl::StrFormat("expected 'and', 'or' or the end of the filter, found %s",
                                   Found(token_)));
    }
  }
  AZ_RETURN_IF_ERROR(CheckAllParametersUsed());
  return std::move(parsed.expr);
}

absl::StatusOr<FilterParser::Parsed> FilterParser::NewNode(Expr::Kind kind, TextPosition position) {
  if (++nodes_ > kFilterNodesMax) {
    return Error(position, absl::StrFormat("the filter has more than %d conditions and operators",
                                           kFilterNodesMax));
  }
  Parsed parsed;
  parsed.expr.kind = kind;
  parsed.expr.position = position;
  return parsed;
}

absl::Status FilterParser::AddChild(Parsed& parent, Parsed child) const {
  parent.height = std::max(parent.height, child.height + 1);
  if (parent.height > kFilterDepthMax) {
    return Error(parent.expr.position,
                 absl::StrFormat("the filter is nested deeper than %d levels", kFilterDepthMax));
  }
  parent.expr.children.push_back(std::move(child.expr));
  return absl::OkStatus();
}

absl::StatusOr<FilterParser::Parsed> FilterParser::Negated(absl::StatusOr<Parsed> child,
                                                           TextPosition position) {
  AZ_RETURN_IF_ERROR(child.status());
  AZ_ASSIGN_OR_RETURN(Parsed negation, NewNode(Expr::Kind::kNot, position));
  AZ_RETURN_IF_ERROR(AddChild(negation, *std::move(child)));
  return negation;
}

absl::StatusOr<FilterParser::Parsed> FilterParser::ParseOr() {
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

absl::StatusOr<FilterParser::Parsed> FilterParser::ParseAnd() {
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

absl::StatusOr<FilterParser::Parsed> FilterParser::ParseNot() {
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

absl::StatusOr<FilterParser::Parsed> FilterParser::ParseGroup() {
  const TextPosition position = token_.position;
  if (++open_parens_ > kFilterDepthMax) {
    return Error(position, absl::StrFormat("more than %d parentheses are nested", kFilterDepthMax));
  }
  AZ_RETURN_IF_ERROR(Advance());
  AZ_ASSIGN_OR_RETURN(Parsed inner, ParseOr());
  if (token_.kind != TokenKind::kRightParen) {
    return Error(token_.position, absl::StrFormat("expected ')' for the '(' at %d:%d, found %s",
                                                  position.line, position.column, Found(token_)));
  }
  --open_parens_;
  AZ_RETURN_IF_ERROR(Advance());
  return inner;
}

absl::StatusOr<FilterParser::Parsed> FilterParser::ParsePredicate() {
  AZ_ASSIGN_OR_RETURN(const Operand left, ParseOperand());
  if (const auto op = AsCompareOp(token_.kind)) return ParseComparison(left, *op);
  switch (token_.kind) {
    case TokenKind::kIn:
      return ParseIn(left);
    case TokenKind::kBetween:
      return ParseBetween(left);
    case TokenKind::kIs:
      return ParseIs(left);
    case TokenKind::kNot:
      return ParseNegatedTail(left);
    default:
      return Standalone(left);
  }
}

absl::StatusOr<FilterParser::Parsed> FilterParser::ParseComparison(const Operand& left,
                                                                   CompareOp op) {
  AZ_RETURN_IF_ERROR(Advance());
  AZ_ASSIGN_OR_RETURN(const Operand right, ParseOperand());
  if (AsCompareOp(token_.kind)) {
    return Error(token_.position, "comparisons are not chained; join two of them with 'and'");
  }
  return Comparison(left, op, right);
}

// `not in`, `not between`.
absl::StatusOr<FilterParser::Parsed> FilterParser::ParseNegatedTail(const Operand& left) {
  const TextPosition position = token_.position;
  AZ_RETURN_IF_ERROR(Advance());
  if (token_.kind == TokenKind::kIn) return Negated(ParseIn(left), position);
  if (token_.kind == TokenKind::kBetween) return Negated(ParseBetween(left), position);
  if (IsLaterOperator(token_.kind)) return NotServed(token_);
  return Error(token_.position,
               absl::StrFormat("expected 'in' or 'between' after 'not', found %s", Found(token_)));
}

absl::StatusOr<FilterParser::Parsed> FilterParser::ParseIn(const Operand& left) {
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
absl::StatusOr<FilterParser::Parsed> FilterParser::ParseBetween(const Operand& left) {
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

absl::StatusOr<FilterParser::Parsed> FilterParser::ParseIs(const Operand& left) {
  if (!left.is_field()) return Error(left.position, "the left side of 'is' must be a field");
  AZ_RETURN_IF_ERROR(Advance());
  const Token negation = token_;
  if (negation.kind == TokenKind::kNot) AZ_RETURN_IF_ERROR(Advance());
  if (token_.kind != TokenKind::kNull) {
    return Error(
        token_.position,
        absl::StrFormat("expected 'null' or 'not null' after 'is', found %s", Found(token_)));
  }
  AZ_RETURN_IF_ERROR(Advance());
  AZ_ASSIGN_OR_RETURN(Parsed is_null, NewNode(Expr::Kind::kIsNull, left.position));
  is_null.expr.field = left.field;
  if (negation.kind == TokenKind::kNot) return Negated(std::move(is_null), negation.position);
  return is_null;
}

absl::StatusOr<FilterParser::Parsed> FilterParser::Standalone(const Operand& operand) {
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

absl::Status FilterParser::CheckNotNull(const Operand& operand, CompareOp op) const {
  if (operand.is_field() || !operand.literal.is_null()) return absl::OkStatus();
  return Error(operand.position,
               absl::StrFormat("a comparison with null is never true; use `is %snull`",
                               op == CompareOp::kNe ? "not " : ""));
}

absl::StatusOr<FilterParser::Parsed> FilterParser::Comparison(const Operand& left, CompareOp op,
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
  return FilterParser(text, parameters).Run();
}

}  // namespace azimuth::engine
