// Goal: a filter matches the rows that docs/FILTERS.md says.
// Method: single rules by example; then random filters over random rows against an evaluator that
// is written from the rules alone: one row at a time, recursive, numbers as long double.
#include "engine/filter/filter.h"
#include "tests/engine/filter/row_source.h"
#include "tests/support/matchers.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdlib>
#include <limits>
#include <optional>
#include <random>
#include <string>

namespace azimuth::engine {
namespace {

using azimuth::testing::StatusIs;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

// The 64-bit mantissa holds every int64 and every double: the evaluator below relies on it.
static_assert(std::numeric_limits<long double>::digits >= 64);

Value I(int64_t value) {
  return Value{value};
}
Value D(double value) {
  return Value{value};
}
Value S(std::string value) {
  return Value{std::move(value)};
}
Value B(bool value) {
  return Value{value};
}

Schema DynamicSchema() {
  Schema schema;
  schema.fields = {{.name = "b", .type = FieldType::kBool},
                   {.name = "i", .type = FieldType::kInt64},
                   {.name = "d", .type = FieldType::kDouble},
                   {.name = "s", .type = FieldType::kString}};
  schema.vectors = {{.name = "v", .dim = 2}};
  NumberFields(schema);
  return schema;
}

// The positions where `text` is true if `x` has the values given; no value means missing.
std::vector<size_t> Matching(const std::string& text, std::vector<std::optional<Value>> values) {
  const auto expr = ParseFilter(text, {});
  EXPECT_OK(expr);
  if (!expr.ok()) return {};
  const auto bound = BoundFilter::Bind(*expr, DynamicSchema(), text);
  EXPECT_OK(bound);
  if (!bound.ok()) return {};
  std::vector<TestRow> rows;
  for (auto& value : values) {
    TestRow& row = rows.emplace_back();
    row.key = I(static_cast<int64_t>(rows.size()));
    if (value) row.fields.emplace("x", *std::move(value));
  }
  index::Bitset matches;
  EXPECT_OK(EvaluateFilter(*bound, RowSource(*bound, rows), matches, CancelToken()));
  std::vector<size_t> positions;
  matches.ForEach([&positions](size_t position) { positions.push_back(position); });
  return positions;
}

TEST(EvaluateFilter, ComparesIntegersAndDoublesExactly) {
  constexpr int64_t kBig = int64_t{1} << 53;
  const std::vector<std::optional<Value>> values = {
      I(kBig), I(kBig + 1), D(static_cast<double>(kBig)), D(static_cast<double>(kBig) + 2)};
  EXPECT_THAT(Matching("x == 9007199254740992", values), ElementsAre(0, 2));
  EXPECT_THAT(Matching("x == 9007199254740993", values), ElementsAre(1));
  EXPECT_THAT(Matching("x == 9007199254740992.0", values), ElementsAre(0, 2));
  EXPECT_THAT(Matching("x > 9007199254740992.0", values), ElementsAre(1, 3));
  EXPECT_THAT(Matching("x < 9007199254740993", values), ElementsAre(0, 2));
  EXPECT_THAT(Matching("x in [9007199254740993, 9007199254740994]", values), ElementsAre(1, 3));
  EXPECT_THAT(Matching("x in [9007199254740992.0]", values), ElementsAre(0, 2));
}

TEST(EvaluateFilter, ComparesIntegersAtTheEdgesOfTheirRange) {
  constexpr int64_t kMin = std::numeric_limits<int64_t>::min();
  constexpr int64_t kMax = std::numeric_limits<int64_t>::max();
  const std::vector<std::optional<Value>> values = {I(kMin), I(kMax), D(-0x1p63), D(0x1p63)};
  EXPECT_THAT(Matching("x < 9223372036854775808.0", values), ElementsAre(0, 1, 2));
  EXPECT_THAT(Matching("x == 9223372036854775808.0", values), ElementsAre(3));
  EXPECT_THAT(Matching("x == 9223372036854775807", values), ElementsAre(1));
  EXPECT_THAT(Matching("x > 9223372036854775807", values), ElementsAre(3));
  EXPECT_THAT(Matching("x == -9223372036854775808", values), ElementsAre(0, 2));
  EXPECT_THAT(Matching("x >= -9223372036854775808.0", values), ElementsAre(0, 1, 2, 3));
  EXPECT_THAT(Matching("x < -1e300", values), IsEmpty());
  EXPECT_THAT(Matching("x > 1e300", values), IsEmpty());
  EXPECT_THAT(Matching("x in [1e300, 9223372036854775808.0, -9223372036854775808]", values),
              ElementsAre(0, 2, 3));
}

TEST(EvaluateFilter, ComparesFractionsWithIntegersOnBothSidesOfZero) {
  const std::vector<std::optional<Value>> values = {I(-2), I(-1), I(0), I(1), D(-1.5), D(1.5)};
  EXPECT_THAT(Matching("x < -1.5", values), ElementsAre(0));
  EXPECT_THAT(Matching("x > -1.5", values), ElementsAre(1, 2, 3, 5));
  EXPECT_THAT(Matching("x < -1", values), ElementsAre(0, 4));
  EXPECT_THAT(Matching("x > 1", values), ElementsAre(5));
  EXPECT_THAT(Matching("x > 0.5", values), ElementsAre(3, 5));
  EXPECT_THAT(Matching("x in [1.5, -2]", values), ElementsAre(0, 5));
}

TEST(EvaluateFilter, TakesNegativeZeroForZero) {
  const std::vector<std::optional<Value>> values = {I(0), D(0.0), D(-0.0)};
  EXPECT_THAT(Matching("x == -0.0", values), ElementsAre(0, 1, 2));
  EXPECT_THAT(Matching("x == 0", values), ElementsAre(0, 1, 2));
  EXPECT_THAT(Matching("x < 0", values), IsEmpty());
  EXPECT_THAT(Matching("x in [-0.0]", values), ElementsAre(0, 1, 2));
}

TEST(EvaluateFilter, OrdersStringsByBytes) {
  const std::vector<std::optional<Value>> values = {S(""),  S("a"), S("ab"),
                                                    S("b"), S("é"), S(std::string("a\0", 2))};
  EXPECT_THAT(Matching("x < 'b'", values), ElementsAre(0, 1, 2, 5));
  EXPECT_THAT(Matching("x > 'z'", values), ElementsAre(4));
  EXPECT_THAT(Matching("x == 'a\\u0000'", values), ElementsAre(5));
  EXPECT_THAT(Matching("x != 'a'", values), ElementsAre(0, 2, 3, 4, 5));
  EXPECT_THAT(Matching("x between 'a' and 'ab'", values), ElementsAre(1, 2, 5));
  EXPECT_THAT(Matching("x in ['', 'é', 'b']", values), ElementsAre(0, 3, 4));
}

TEST(EvaluateFilter, LeavesNullAndMissingUnknown) {
  const std::vector<std::optional<Value>> values = {I(1), I(2), Value{}, std::nullopt};
  EXPECT_THAT(Matching("x == 1", values), ElementsAre(0));
  EXPECT_THAT(Matching("x != 1", values), ElementsAre(1));
  EXPECT_THAT(Matching("not x == 1", values), ElementsAre(1));
  EXPECT_THAT(Matching("not (x == 1 and x == 2)", values), ElementsAre(0, 1));
  EXPECT_THAT(Matching("x == 1 or x is null", values), ElementsAre(0, 2, 3));
  EXPECT_THAT(Matching("x is not null", values), ElementsAre(0, 1));
  EXPECT_THAT(Matching("x not in [1]", values), ElementsAre(1));
  EXPECT_THAT(Matching("x in []", values), IsEmpty());
  EXPECT_THAT(Matching("x not in []", values), ElementsAre(0, 1, 2, 3));
  EXPECT_THAT(Matching("x not between 1 and 1", values), ElementsAre(1));
  EXPECT_THAT(Matching("x == 1 or true", values), ElementsAre(0, 1, 2, 3));
  EXPECT_THAT(Matching("not (x == 1 and false)", values), ElementsAre(0, 1, 2, 3));
}

TEST(EvaluateFilter, LeavesOtherKindsUnknown) {
  const std::vector<std::optional<Value>> values = {I(1), S("1"), B(true), Value{ValueList{I(1)}},
                                                    Value{ValueMap{}}};
  EXPECT_THAT(Matching("x == 1", values), ElementsAre(0));
  EXPECT_THAT(Matching("x != 1", values), IsEmpty());
  EXPECT_THAT(Matching("not (x == 1)", values), IsEmpty());
  EXPECT_THAT(Matching("x != '2'", values), ElementsAre(1));
  EXPECT_THAT(Matching("x != false", values), ElementsAre(2));
  EXPECT_THAT(Matching("x in [1, '1', true]", values), ElementsAre(0, 1, 2));
  EXPECT_THAT(Matching("x not in [2, 'x']", values), IsEmpty());
  EXPECT_THAT(Matching("x not in [2]", values), ElementsAre(0));
  EXPECT_THAT(Matching("x is null", values), IsEmpty());
  EXPECT_THAT(Matching("x is not null", values), ElementsAre(0, 1, 2, 3, 4));
  EXPECT_THAT(Matching("x", values), ElementsAre(2));
  EXPECT_THAT(Matching("not x", values), IsEmpty());
  EXPECT_THAT(Matching("x == x", values), ElementsAre(0, 1, 2));
  EXPECT_THAT(Matching("x <= x", values), ElementsAre(0, 1));
}

TEST(EvaluateFilter, TakesTheTruthOfABoolField) {
  const std::vector<std::optional<Value>> values = {B(true), B(false), Value{}, std::nullopt};
  EXPECT_THAT(Matching("x", values), ElementsAre(0));
  EXPECT_THAT(Matching("not x", values), ElementsAre(1));
  EXPECT_THAT(Matching("x == false", values), ElementsAre(1));
  EXPECT_THAT(Matching("x != true", values), ElementsAre(1));
}

TEST(EvaluateFilter, ReadsTheKey) {
  const std::vector<std::optional<Value>> values(70);
  EXPECT_THAT(Matching("key in [1, 64, 65, 70, 71]", values), ElementsAre(0, 63, 64, 69));
  EXPECT_THAT(Matching("key is null", values), IsEmpty());
}

TEST(EvaluateFilter, MatchesAllRowsOfEverySizeWithoutText) {
  for (const size_t size : {0, 1, 63, 64, 65, 128, 200}) {
    const std::vector<std::optional<Value>> values(size, I(1));
    EXPECT_EQ(Matching("", values).size(), size);
    EXPECT_EQ(Matching("x == 1", values).size(), size);
    EXPECT_EQ(Matching("not (x == 2)", values).size(), size);
    EXPECT_EQ(Matching("true or x == 2", values).size(), size);
    EXPECT_EQ(Matching("false or x == 2", values).size(), 0u);
  }
}

TEST(EvaluateFilter, DoesNotReadWhatCannotChangeABlock) {
  const std::vector<TestRow> rows(256);
  const auto reads = [&rows](const std::string& text) {
    const auto expr = ParseFilter(text, {});
    const auto bound = BoundFilter::Bind(*expr, DynamicSchema(), text);
    const RowSource source(*bound, rows);
    index::Bitset matches;
    EXPECT_OK(EvaluateFilter(*bound, source, matches, CancelToken()));
    return source.reads();
  };
  EXPECT_EQ(reads("x is not null and y == 1"), 4);
  EXPECT_EQ(reads("x is null or y == 1"), 4);
  EXPECT_EQ(reads("x is null and y == 1"), 8);
  EXPECT_EQ(reads("x is null and x == 1 and x != 2"), 4);
  EXPECT_EQ(reads("true"), 0);
}

TEST(EvaluateFilter, StopsWhenCancelled) {
  const std::vector<TestRow> rows(200000);
  ASSERT_OK_AND_ASSIGN(const Expr expr, ParseFilter("x == 1", {}));
  ASSERT_OK_AND_ASSIGN(const BoundFilter bound, BoundFilter::Bind(expr, DynamicSchema(), ""));
  const RowSource source(bound, rows);
  index::Bitset matches;
  std::atomic<int> asked = 0;
  const CancelToken cancel(CancelToken::TimePoint::max(), [&asked] { return ++asked == 3; });
  EXPECT_THAT(EvaluateFilter(bound, source, matches, cancel),
              StatusIs(absl::StatusCode::kCancelled));
  EXPECT_EQ(source.reads(), 2048);  // Twice 64 K rows.
  const CancelToken late(CancelToken::TimePoint{}, {});
  EXPECT_THAT(EvaluateFilter(bound, source, matches, late),
              StatusIs(absl::StatusCode::kDeadlineExceeded));
}

TEST(EvaluateFilter, RunsCopiesAfterTheOriginalIsGone) {
  const std::vector<TestRow> rows(
      3, TestRow{.key = {}, .fields = {{"x", S("a long string of text")}}});
  std::optional<BoundFilter> copy;
  {
    const auto expr = ParseFilter("x in ['a long string of text', 'b'] and x > 'a long'", {});
    const auto bound = BoundFilter::Bind(*expr, DynamicSchema(), "");
    ASSERT_OK(bound);
    copy = *bound;
  }
  index::Bitset matches;
  ASSERT_OK(EvaluateFilter(*copy, RowSource(*copy, rows), matches, CancelToken()));
  EXPECT_EQ(matches.Count(), 3u);
  const BoundFilter none;
  ASSERT_OK(EvaluateFilter(none, RowSource(none, rows), matches, CancelToken()));
  EXPECT_EQ(matches.Count(), 3u);
}

// The evaluator written from the rules. Unknown is nullopt.
using Tristate = std::optional<bool>;

std::optional<long double> AsNumber(const Value& value) {
  if (const auto* integer = std::get_if<int64_t>(&value.data)) return *integer;
  if (const auto* number = std::get_if<double>(&value.data)) return *number;
  return std::nullopt;
}

template <typename T>
bool Holds(CompareOp op, const T& a, const T& b) {
  switch (op) {
    case CompareOp::kEq:
      return a == b;
    case CompareOp::kNe:
      return a != b;
    case CompareOp::kLt:
      return a < b;
    case CompareOp::kLe:
      return a <= b;
    case CompareOp::kGt:
      return a > b;
    case CompareOp::kGe:
      return a >= b;
  }
  return false;
}

Tristate ModelCompare(CompareOp op, const Value* a, const Value* b) {
  if (a == nullptr || b == nullptr) return std::nullopt;
  if (AsNumber(*a) && AsNumber(*b)) return Holds(op, *AsNumber(*a), *AsNumber(*b));
  const auto* a_text = std::get_if<std::string>(&a->data);
  const auto* b_text = std::get_if<std::string>(&b->data);
  if (a_text != nullptr && b_text != nullptr) return Holds(op, *a_text, *b_text);
  const auto* a_bool = std::get_if<bool>(&a->data);
  const auto* b_bool = std::get_if<bool>(&b->data);
  if (a_bool == nullptr || b_bool == nullptr) return std::nullopt;
  if (op != CompareOp::kEq && op != CompareOp::kNe) return std::nullopt;
  return Holds(op, *a_bool, *b_bool);
}

Tristate ModelOr(Tristate a, Tristate b) {
  if (a == true || b == true) return true;
  if (!a || !b) return std::nullopt;
  return false;
}

Tristate ModelNot(Tristate a) {
  return a ? Tristate(!*a) : std::nullopt;
}

Tristate ModelEvaluate(const Expr& expr, const TestRow& row) {
  const Value* value = expr.field.empty() ? nullptr : row.Find(expr.field);
  switch (expr.kind) {
    case Expr::Kind::kTrue:
      return true;
    case Expr::Kind::kAnd: {
      Tristate result = true;
      for (const Expr& child : expr.children) {
        result = ModelNot(ModelOr(ModelNot(result), ModelNot(ModelEvaluate(child, row))));
      }
      return result;
    }
    case Expr::Kind::kOr: {
      Tristate result = false;
      for (const Expr& child : expr.children) result = ModelOr(result, ModelEvaluate(child, row));
      return result;
    }
    case Expr::Kind::kNot:
      return ModelNot(ModelEvaluate(expr.children[0], row));
    case Expr::Kind::kCompare:
      return ModelCompare(expr.op, value, &expr.literals[0]);
    case Expr::Kind::kCompareFields:
      return ModelCompare(expr.op, value, row.Find(expr.other_field));
    case Expr::Kind::kIn: {
      Tristate result = false;
      for (const Value& literal : expr.literals) {
        result = ModelOr(result, ModelCompare(CompareOp::kEq, value, &literal));
      }
      return result;
    }
    case Expr::Kind::kIsNull:
      return value == nullptr || value->is_null();
    case Expr::Kind::kBoolField: {
      const auto* boolean = value == nullptr ? nullptr : std::get_if<bool>(&value->data);
      return boolean == nullptr ? std::nullopt : Tristate(*boolean);
    }
  }
  return std::nullopt;
}

// Random rows and filters. Values come from small pools, so that they often meet.
class Generator {
 public:
  explicit Generator(uint64_t seed) : random_(seed) {}

  size_t Below(size_t bound) {
    return std::uniform_int_distribution<size_t>(0, bound - 1)(random_);
  }
  bool OneIn(size_t n) { return Below(n) == 0; }
  template <typename T, size_t N>
  const T& Pick(const std::array<T, N>& pool) {
    return pool[Below(N)];
  }

  Value Int64() {
    constexpr std::array<int64_t, 12> kPool = {0,
                                               1,
                                               -1,
                                               2,
                                               3,
                                               -7,
                                               std::numeric_limits<int64_t>::min(),
                                               std::numeric_limits<int64_t>::max(),
                                               int64_t{1} << 53,
                                               (int64_t{1} << 53) + 1,
                                               std::numeric_limits<int64_t>::max() - 1,
                                               1000000007};
    return I(Pick(kPool));
  }
  Value Double() {
    constexpr std::array<double, 14> kPool = {0.0,    -0.0,    1.0,      -1.0,   1.5,
                                              -1.5,   3.0,     1e308,    -1e308, 0x1p53,
                                              0x1p63, -0x1p63, 4.9e-324, 0.1};
    return D(Pick(kPool));
  }
  Value String() {
    static const std::array<std::string, 10> kPool = {
        "", "a", "ab", "b", "é", "日本", "😀", "quote\"'\\", std::string("\0\x1f\u202e", 5), "\n"};
    return S(Pick(kPool));
  }
  Value Scalar() {
    switch (Below(4)) {
      case 0:
        return B(OneIn(2));
      case 1:
        return Int64();
      case 2:
        return Double();
      default:
        return String();
    }
  }

  TestRow Row() {
    TestRow row{.key = Int64(), .fields = {}};
    const auto put = [&](const char* name, Value value) {
      if (OneIn(6)) return;
      row.fields.emplace(name, OneIn(6) ? Value{} : std::move(value));
    };
    put("b", B(OneIn(2)));
    put("i", Int64());
    put("d", Double());
    put("s", String());
    put("x", OneIn(8) ? Value{ValueList{I(1)}} : Scalar());
    put("m", OneIn(4) ? Scalar() : Value{ValueMap{{"c", Scalar()}, {"n", Value{}}}});
    return row;
  }

  Expr Filter(int depth) {
    if (depth == 0 || OneIn(3)) return Leaf();
    Expr expr;
    const size_t kind = Below(3);
    expr.kind = kind == 0 ? Expr::Kind::kNot : kind == 1 ? Expr::Kind::kAnd : Expr::Kind::kOr;
    const size_t children = kind == 0 ? 1 : 2 + Below(3);
    for (size_t i = 0; i < children; ++i) expr.children.push_back(Filter(depth - 1));
    return expr;
  }

 private:
  // A literal that Bind accepts for the field.
  Value LiteralFor(const std::string& field) {
    if (field == "b") return B(OneIn(2));
    if (field == "s") return String();
    if (field == "i" || field == "d" || field == "key") return OneIn(2) ? Int64() : Double();
    return Scalar();
  }

  CompareOp OpFor(bool boolean) { return static_cast<CompareOp>(Below(boolean ? 2 : 6)); }

  Expr Leaf() {
    static const std::array<std::string, 9> kFields = {"b", "i",   "d",   "s",  "x",
                                                       "m", "m.c", "m.n", "key"};
    static const std::array<std::string, 5> kNumbers = {"i", "d", "key", "x", "m.c"};
    Expr expr;
    expr.field = Pick(kFields);
    switch (Below(8)) {
      case 0:
        expr.kind = Expr::Kind::kIsNull;
        break;
      case 1:
        expr.kind = Expr::Kind::kBoolField;
        expr.field = OneIn(2) ? "b" : "x";
        break;
      case 2:
        expr.kind = Expr::Kind::kCompareFields;
        expr.field = Pick(kNumbers);
        expr.other_field = Pick(kNumbers);
        expr.op = OpFor(false);
        break;
      case 3:
        expr.kind = Expr::Kind::kIn;
        for (size_t i = Below(5); i > 0; --i) expr.literals.push_back(LiteralFor(expr.field));
        break;
      case 4:
        if (OneIn(4)) {
          expr = {.kind = Expr::Kind::kTrue};
          break;
        }
        [[fallthrough]];
      default: {
        expr.kind = Expr::Kind::kCompare;
        Value literal = LiteralFor(expr.field);
        expr.op = OpFor(literal.kind() == ValueKind::kBool);
        expr.literals.push_back(std::move(literal));
      }
    }
    return expr;
  }

  std::mt19937_64 random_;
};

bool SameTree(const Expr& a, const Expr& b) {
  return a.kind == b.kind && a.op == b.op && a.field == b.field && a.other_field == b.other_field &&
         a.literals == b.literals &&
         std::equal(a.children.begin(), a.children.end(), b.children.begin(), b.children.end(),
                    SameTree);
}

uint64_t Seed() {
  const char* given = std::getenv("AZIMUTH_SEED");
  return given == nullptr ? 20260101 : std::strtoull(given, nullptr, 10);
}

TEST(EvaluateFilter, AgreesWithThePlainEvaluatorOnRandomFilters) {
  const uint64_t seed = Seed();
  SCOPED_TRACE("AZIMUTH_SEED=" + std::to_string(seed));
  Generator generator(seed);
  const Schema schema = DynamicSchema();
  std::vector<TestRow> rows;
  size_t matched = 0, total = 0;
  for (int round = 0; round < 24000; ++round) {
    if (round % 200 == 0) {
      rows.clear();
      for (size_t i = 1 + generator.Below(180); i > 0; --i) rows.push_back(generator.Row());
    }
    const Expr expr = generator.Filter(3);
    const std::string text = ToString(expr);
    ASSERT_OK_AND_ASSIGN(const Expr parsed, ParseFilter(text, {}));
    ASSERT_TRUE(SameTree(parsed, expr)) << text << "\n" << ToString(parsed);
    ASSERT_OK_AND_ASSIGN(const BoundFilter bound, BoundFilter::Bind(parsed, schema, text));
    index::Bitset matches;
    ASSERT_OK(EvaluateFilter(bound, RowSource(bound, rows), matches, CancelToken()));
    ASSERT_EQ(matches.size(), rows.size());
    for (size_t i = 0; i < rows.size(); ++i) {
      ASSERT_EQ(matches.Test(i), ModelEvaluate(expr, rows[i]) == true)
          << "row " << i << " in round " << round << ": " << text;
    }
    matched += matches.Count();
    total += rows.size();
  }
  // A generator whose filters hardly ever match, or always do, would prove little.
  EXPECT_GT(matched * 5, total);
  EXPECT_LT(matched * 5, total * 4);
}

}  // namespace
}  // namespace azimuth::engine
