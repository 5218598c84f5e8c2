#include "base/check.h"
#include "base/status.h"
#include "engine/filter/compare.h"
#include "engine/filter/diagnostic.h"
#include "engine/filter/filter.h"
#include "engine/filter/program.h"
#include "engine/limits.h"

#include "absl/strings/str_format.h"

#include <cmath>
#include <optional>
#include <utility>

namespace azimuth::engine {
namespace {

// What a field's values compare with. kAny: a dynamic field, whose rows decide.
enum class Comparable : uint8_t { kAny, kBool, kNumber, kString };

Comparable ComparableOf(FieldType type) {
  switch (type) {
    case FieldType::kBool:
      return Comparable::kBool;
    case FieldType::kInt64:
    case FieldType::kDouble:
      return Comparable::kNumber;
    case FieldType::kString:
      return Comparable::kString;
  }
  return Comparable::kAny;
}

// Nothing for what is no scalar.
std::optional<Comparable> ComparableOf(ValueKind kind) {
  switch (kind) {
    case ValueKind::kBool:
      return Comparable::kBool;
    case ValueKind::kInt64:
    case ValueKind::kDouble:
      return Comparable::kNumber;
    case ValueKind::kString:
      return Comparable::kString;
    case ValueKind::kMissing:
    case ValueKind::kNull:
    case ValueKind::kList:
    case ValueKind::kMap:
      break;
  }
  return std::nullopt;
}

struct FieldInfo {
  FilterField field;
  Comparable comparable = Comparable::kAny;
  std::string_view type = "dynamic";
};

// Checks a tree from any front end: nothing about it is taken for granted.
class Binder final {
 public:
  Binder(const Schema& schema, std::string_view text) : schema_(schema), text_(text) {}

  absl::Status Visit(const Expr& expr, int depth);

  std::vector<FilterField> TakeFields();
  const StringMap<size_t>& slots() const { return slots_; }

 private:
  absl::Status Error(TextPosition position, std::string_view message) const {
    return FilterErrorAt(text_, position, absl::StatusCode::kInvalidArgument, message);
  }
  // The field of that name, resolved once and given a slot.
  absl::StatusOr<const FieldInfo*> Resolve(const std::string& name, TextPosition position);
  absl::StatusOr<FieldInfo> Find(const std::string& name, TextPosition position) const;
  absl::Status Unknown(const std::string& name, TextPosition position) const;
  absl::Status CheckShape(const Expr& expr, int depth) const;
  absl::Status VisitLeaf(const Expr& expr);
  absl::Status CheckLiteral(const Expr& expr, const FieldInfo& info, const Value& literal) const;
  absl::Status CheckTwoFields(const Expr& expr, const FieldInfo& left,
                              const FieldInfo& right) const;

  const Schema& schema_;
  std::string_view text_;
  std::vector<std::unique_ptr<FieldInfo>> infos_;  // By slot.
  StringMap<size_t> slots_;
  size_t nodes_ = 0;
};

std::vector<FilterField> Binder::TakeFields() {
  std::vector<FilterField> fields;
  fields.reserve(infos_.size());
  for (const auto& info : infos_) fields.push_back(std::move(info->field));
  return fields;
}

absl::Status Binder::Unknown(const std::string& name, TextPosition position) const {
  const std::string head = name.substr(0, name.find('.'));
  const std::optional<std::string> closest = ClosestFieldName(schema_, head);
  return Error(
      position,
      absl::StrFormat("unknown field %s%s", Quoted(name),
                      closest ? absl::StrFormat(" (did you mean %s?)", Quoted(*closest)) : ""));
}

absl::StatusOr<FieldInfo> Binder::Find(const std::string& name, TextPosition position) const {
  const std::string head = name.substr(0, name.find('.'));
  FieldInfo info;
  info.field.path = name;
  if (schema_.FindVector(head) != nullptr) {
    return Error(position, absl::StrFormat("%s is a vector field; a filter reads scalar fields",
                                           Quoted(head)));
  }
  const FieldDef* def = schema_.FindField(head);
  const bool is_key = head == kKeyFieldName;
  if (head.size() != name.size() && (is_key || def != nullptr)) {
    return Error(position, absl::StrFormat("unknown field %s: %s is %s and has no fields within",
                                           Quoted(name), Quoted(head),
                                           is_key ? "the record's key" : FieldTypeName(def->type)));
  }
  if (is_key) {
    info.field.source = FilterField::Source::kKey;
    const bool is_int64 = schema_.key_type == KeyType::kInt64;
    info.comparable = is_int64 ? Comparable::kNumber : Comparable::kString;
    info.type = KeyTypeName(schema_.key_type);
  } else if (def != nullptr) {
    info.field.source = FilterField::Source::kDeclared;
    info.field.id = def->id;
    info.comparable = ComparableOf(def->type);
    info.type = FieldTypeName(def->type);
  } else if (!schema_.dynamic) {
    return Unknown(name, position);
  }
  return info;
}

absl::StatusOr<const FieldInfo*> Binder::Resolve(const std::string& name, TextPosition position) {
  if (const auto it = slots_.find(name); it != slots_.end()) return infos_[it->second].get();
  AZ_ASSIGN_OR_RETURN(FieldInfo info, Find(name, position));
  slots_.emplace(name, infos_.size());
  infos_.push_back(std::make_unique<FieldInfo>(std::move(info)));
  return infos_.back().get();
}

absl::Status Binder::CheckLiteral(const Expr& expr, const FieldInfo& info,
                                  const Value& literal) const {
  const std::optional<Comparable> comparable = ComparableOf(literal.kind());
  if (!comparable) {
    return Error(expr.position,
                 absl::StrFormat("a field cannot be compared with a value of kind %s",
                                 ValueKindName(literal.kind())));
  }
  if (const auto* number = std::get_if<double>(&literal.data);
      number != nullptr && !std::isfinite(*number)) {
    return Error(expr.position, "a field cannot be compared with a number that is not finite");
  }
  if (info.comparable != Comparable::kAny && info.comparable != *comparable) {
    return Error(expr.position,
                 absl::StrFormat("field %s is %s and cannot be compared with a value of kind %s",
                                 Quoted(expr.field), info.type, ValueKindName(literal.kind())));
  }
  if (expr.kind == Expr::Kind::kCompare && *comparable == Comparable::kBool &&
      IsOrdering(expr.op)) {
    return Error(expr.position, "bool values can be compared with == and != only");
  }
  return absl::OkStatus();
}

absl::Status Binder::CheckTwoFields(const Expr& expr, const FieldInfo& left,
                                    const FieldInfo& right) const {
  if (IsOrdering(expr.op) &&
      (left.comparable == Comparable::kBool || right.comparable == Comparable::kBool)) {
    return Error(expr.position, "bool values can be compared with == and != only");
  }
  if (left.comparable != Comparable::kAny && right.comparable != Comparable::kAny &&
      left.comparable != right.comparable) {
    return Error(
        expr.position,
        absl::StrFormat("field %s is %s and cannot be compared with field %s, which is %s",
                        Quoted(expr.field), left.type, Quoted(expr.other_field), right.type));
  }
  return absl::OkStatus();
}

absl::Status Binder::CheckShape(const Expr& expr, int depth) const {
  if (depth > kFilterDepthMax) {
    return Error(expr.position,
                 absl::StrFormat("the filter is nested deeper than %d levels", kFilterDepthMax));
  }
  if (nodes_ > kFilterNodesMax) {
    return Error(
        expr.position,
        absl::StrFormat("the filter has more than %d conditions and operators", kFilterNodesMax));
  }
  const size_t children = expr.children.size();
  bool sound = children == 0;
  if (expr.kind == Expr::Kind::kAnd || expr.kind == Expr::Kind::kOr) sound = children >= 2;
  if (expr.kind == Expr::Kind::kNot) sound = children == 1;
  if (expr.kind == Expr::Kind::kCompare) sound = sound && expr.literals.size() == 1;
  if (expr.kind == Expr::Kind::kIn) sound = sound && expr.literals.size() <= kFilterListMax;
  if (!sound) return Error(expr.position, "malformed filter: wrong number of operands");
  return absl::OkStatus();
}

absl::Status Binder::VisitLeaf(const Expr& expr) {
  if (expr.kind == Expr::Kind::kTrue) return absl::OkStatus();
  AZ_ASSIGN_OR_RETURN(const FieldInfo* info, Resolve(expr.field, expr.position));
  if (expr.kind == Expr::Kind::kCompareFields) {
    AZ_ASSIGN_OR_RETURN(const FieldInfo* other, Resolve(expr.other_field, expr.other_position));
    return CheckTwoFields(expr, *info, *other);
  }
  if (expr.kind == Expr::Kind::kBoolField && info->comparable != Comparable::kAny &&
      info->comparable != Comparable::kBool) {
    return Error(expr.position,
                 absl::StrFormat("field %s is %s; only a bool field can stand alone as a condition",
                                 Quoted(expr.field), info->type));
  }
  for (const Value& literal : expr.literals) {
    AZ_RETURN_IF_ERROR(CheckLiteral(expr, *info, literal));
  }
  return absl::OkStatus();
}

absl::Status Binder::Visit(const Expr& expr, int depth) {
  ++nodes_;
  AZ_RETURN_IF_ERROR(CheckShape(expr, depth));
  if (expr.children.empty()) return VisitLeaf(expr);
  for (const Expr& child : expr.children) AZ_RETURN_IF_ERROR(Visit(child, depth + 1));
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<BoundFilter> BoundFilter::Bind(const Expr& expr, const Schema& schema,
                                              std::string_view text) {
  Binder binder(schema, text);
  AZ_RETURN_IF_ERROR(binder.Visit(expr, 1));
  BoundFilter bound;
  bound.expr_ = expr;
  bound.program_ = CompileFilter(expr, binder.slots());
  bound.slots_ = binder.slots();
  bound.fields_ = binder.TakeFields();
  return bound;
}

size_t BoundFilter::slot(std::string_view field) const {
  const auto it = slots_.find(field);
  AZ_CHECK(it != slots_.end());
  return it->second;
}

}  // namespace azimuth::engine
