// FilterParser: from a filter's text to its tree. The public way in is ParseFilter (filter.h).
//
// Depth is bounded by counters, never by the stack: parentheses, `not`s and the levels of the tree.
// Thread safety: none; a FilterParser belongs to one parse. Ownership: borrows text and parameters.
#pragma once

#include "engine/filter/expr.h"
#include "engine/filter/filter.h"
#include "engine/filter/lexer.h"

#include "absl/container/flat_hash_set.h"
#include "absl/status/statusor.h"

#include <cstddef>
#include <string>
#include <string_view>

namespace azimuth::engine {

// True for what stands after an operand in the full language and is not served.
bool IsLaterOperator(TokenKind kind);
// The token as error messages name it.
std::string Found(const Token& token);

// Recursive descent, one token ahead:
//   or = and {"or" and}, and = not {"and" not}, not = {"not"} ( "(" or ")" | predicate ).
class FilterParser final {
 public:
  FilterParser(std::string_view text, const FilterParameters& parameters)
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

}  // namespace azimuth::engine
