// Goal: names find their fields and types are checked before a row is read.
// Method: golden tables for one strict schema; cases for dynamic schemas and for trees that no text
// gives.
#include "engine/filter/filter.h"
#include "engine/limits.h"
#include "tests/support/golden.h"
#include "tests/support/matchers.h"

#include <limits>
#include <string>

namespace azimuth::engine {
namespace {

using azimuth::testing::CheckGolden;
using azimuth::testing::StatusIs;
using ::testing::HasSubstr;

constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;

Schema TestSchema(bool dynamic, KeyType key_type = KeyType::kInt64) {
  Schema schema;
  schema.key_type = key_type;
  schema.fields = {{.name = "available", .type = FieldType::kBool},
                   {.name = "count", .type = FieldType::kInt64},
                   {.name = "price", .type = FieldType::kDouble},
                   {.name = "brand", .type = FieldType::kString}};
  schema.vectors = {{.name = "image", .dim = 4}};
  schema.dynamic = dynamic;
  NumberFields(schema);
  return schema;
}

absl::StatusOr<BoundFilter> Bind(const std::string& text, const Schema& schema) {
  const auto expr = ParseFilter(text, {});
  if (!expr.ok()) return expr.status();
  return BoundFilter::Bind(*expr, schema, text);
}

std::string BoundText(const std::string& input) {
  const auto bound = Bind(input, TestSchema(/*dynamic=*/false));
  if (!bound.ok()) {
    return absl::StatusCodeToString(bound.status().code()) + ": " +
           std::string(bound.status().message());
  }
  std::string out = ToString(bound->expr());
  for (const FilterField& field : bound->fields()) {
    const bool key = field.source == FilterField::Source::kKey;
    out += "\n  " + field.path + (key ? " (key)" : " #" + std::to_string(Raw(field.id)));
  }
  return out;
}

TEST(BoundFilter, BindsTheFiltersOfTheGoldenTable) {
  CheckGolden("filter_bind/trees.txt", BoundText);
}

TEST(BoundFilter, GivesTheErrorsOfTheGoldenTable) {
  CheckGolden("filter_bind/errors.txt", BoundText);
}

TEST(BoundFilter, TakesUndeclaredNamesAndPathsOfDynamicCollections) {
  ASSERT_OK_AND_ASSIGN(const BoundFilter bound,
                       Bind("meta.color == 'red' and size > 2 and price < meta.color and key == 1",
                            TestSchema(/*dynamic=*/true)));
  ASSERT_EQ(bound.fields().size(), 4u);
  const FilterField& color = bound.fields()[bound.slot("meta.color")];
  EXPECT_EQ(color.source, FilterField::Source::kDynamic);
  EXPECT_EQ(color.path, "meta.color");
  EXPECT_EQ(bound.fields()[bound.slot("size")].source, FilterField::Source::kDynamic);
  const FilterField& price = bound.fields()[bound.slot("price")];
  EXPECT_EQ(price.source, FilterField::Source::kDeclared);
  EXPECT_EQ(price.id, FieldId{3});
  EXPECT_EQ(bound.fields()[bound.slot("key")].source, FilterField::Source::kKey);
}

TEST(BoundFilter, ChecksWhatItCanInDynamicCollections) {
  const Schema schema = TestSchema(/*dynamic=*/true);
  EXPECT_OK(Bind("anything == 1 and anything == 'x'", schema));
  EXPECT_OK(Bind("price == anything and anything", schema));
  EXPECT_THAT(Bind("anything < true", schema), StatusIs(kInvalid, HasSubstr("== and != only")));
  EXPECT_THAT(Bind("anything < available", schema),
              StatusIs(kInvalid, HasSubstr("== and != only")));
  EXPECT_THAT(Bind("price.x == 1", schema), StatusIs(kInvalid, HasSubstr("no fields within")));
  EXPECT_THAT(Bind("key.x == 1", schema), StatusIs(kInvalid, HasSubstr("no fields within")));
  EXPECT_THAT(Bind("image == 1", schema), StatusIs(kInvalid, HasSubstr("vector field")));
}

TEST(BoundFilter, ChecksTheTypeOfTheKey) {
  const Schema schema = TestSchema(/*dynamic=*/true, KeyType::kString);
  EXPECT_OK(Bind("key == 'a' and key < brand", schema));
  EXPECT_THAT(Bind("key == 1", schema), StatusIs(kInvalid, HasSubstr("'key' is string")));
}

TEST(BoundFilter, LeavesPositionsOutWithoutText) {
  Expr expr{.kind = Expr::Kind::kIsNull, .field = "pric"};
  EXPECT_THAT(BoundFilter::Bind(expr, TestSchema(false), ""),
              StatusIs(kInvalid, "unknown field 'pric' (did you mean 'price'?)"));
}

TEST(BoundFilter, RefusesTreesThatNoTextGives) {
  const Schema schema = TestSchema(/*dynamic=*/false);
  const auto expect = [&schema](const Expr& expr, std::string_view message) {
    EXPECT_THAT(BoundFilter::Bind(expr, schema, ""),
                StatusIs(kInvalid, HasSubstr(std::string(message))));
  };
  const Expr leaf{.kind = Expr::Kind::kIsNull, .field = "price"};
  Expr deep = leaf;
  for (int i = 1; i < kFilterDepthMax; ++i) deep = {.kind = Expr::Kind::kNot, .children = {deep}};
  EXPECT_OK(BoundFilter::Bind(deep, schema, ""));
  expect({.kind = Expr::Kind::kNot, .children = {deep}}, "nested deeper than 64 levels");
  expect({.kind = Expr::Kind::kOr, .children = std::vector<Expr>(kFilterNodesMax, leaf)},
         "more than 4096");
  expect({.kind = Expr::Kind::kNot}, "wrong number of operands");
  expect({.kind = Expr::Kind::kAnd, .children = {leaf}}, "wrong number of operands");
  expect({.kind = Expr::Kind::kIsNull, .field = "price", .children = {leaf}}, "wrong number");
  expect({.kind = Expr::Kind::kCompare, .field = "price"}, "wrong number of operands");
  expect({.kind = Expr::Kind::kCompare, .field = "price", .literals = {Value{}}}, "kind null");
  expect({.kind = Expr::Kind::kIn, .field = "price", .literals = {Value{ValueList{}}}},
         "kind list");
  expect({.kind = Expr::Kind::kIn,
          .field = "price",
          .literals = std::vector<Value>(kFilterListMax + 1, Value{1.0})},
         "wrong number of operands");
  expect({.kind = Expr::Kind::kCompare,
          .field = "price",
          .literals = {Value{std::numeric_limits<double>::quiet_NaN()}}},
         "not finite");
}

}  // namespace
}  // namespace azimuth::engine
