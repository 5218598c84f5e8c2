// Goal: every text gives the tree that docs/FILTERS.md says, or an error that shows where and why.
// Method: golden tables of texts and trees; the limits and the raw bytes that a table cannot hold.
#include "engine/filter/expr.h"
#include "engine/filter/filter.h"
#include "engine/limits.h"
#include "tests/support/golden.h"
#include "tests/support/matchers.h"

#include <cmath>
#include <limits>
#include <string>

namespace azimuth::engine {
namespace {

using azimuth::testing::CheckGolden;
using azimuth::testing::StatusIs;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::StartsWith;

constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;

std::string Repeated(std::string_view text, size_t times) {
  std::string out;
  for (size_t i = 0; i < times; ++i) out += text;
  return out;
}

// Only the parameters of the golden tables that `text` names: a parameter that is not used is an
// error.
FilterParameters TableParameters(std::string_view text) {
  const FilterParameters all = {
      {"n", Value{int64_t{7}}},
      {"x", Value{1.5}},
      {"s", Value{std::string("a\"b")}},
      {"yes", Value{true}},
      {"list", Value{ValueList{Value{int64_t{1}}, Value{2.5}, Value{std::string("three")}}}},
      {"none", Value{ValueList{}}},
      {"nothing", Value{}},
  };
  FilterParameters used;
  for (const auto& [name, value] : all) {
    const size_t at = text.find("$" + name);
    if (at == std::string_view::npos) continue;
    const size_t end = at + 1 + name.size();
    if (end < text.size() && std::isalnum(static_cast<unsigned char>(text[end])) != 0) continue;
    used.emplace(name, value);
  }
  return used;
}

std::string ParsedText(const std::string& input) {
  const auto expr = ParseFilter(input, TableParameters(input));
  if (!expr.ok()) {
    return absl::StatusCodeToString(expr.status().code()) + ": " +
           std::string(expr.status().message());
  }
  const std::string text = ToString(*expr);
  const auto again = ParseFilter(text, {});
  EXPECT_OK(again) << text;
  if (again.ok()) {
    EXPECT_EQ(ToString(*again), text);
  }
  return text;
}

TEST(FilterParser, GivesTheTreesOfTheGoldenTable) {
  CheckGolden("filter_parse/trees.txt", ParsedText);
}

TEST(FilterParser, GivesTheErrorsOfTheGoldenTable) {
  CheckGolden("filter_parse/errors.txt", ParsedText);
}

TEST(FilterParser, MatchesAllForBlankText) {
  for (const std::string_view text : {"", " ", "\t\r\n  "}) {
    ASSERT_OK_AND_ASSIGN(const Expr expr, ParseFilter(text, {}));
    EXPECT_EQ(expr.kind, Expr::Kind::kTrue);
  }
}

TEST(FilterParser, SaysLineAndColumnInCharacters) {
  EXPECT_THAT(ParseFilter("s == 'é€😀' ? 1", {}), StatusIs(kInvalid, StartsWith("1:12: ")));
  EXPECT_THAT(ParseFilter("a == 1\r\n and\r\n  # b", {}),
              StatusIs(kInvalid, "3:3: unknown character '#'\n    # b\n    ^"));
}

TEST(FilterParser, TakesTabsForBlanksAndKeepsThemInStrings) {
  ASSERT_OK_AND_ASSIGN(const Expr expr, ParseFilter("\ta\t==  'tab\tinside'\t ", {}));
  EXPECT_EQ(ToString(expr), "(a == \"tab\\tinside\")");
  EXPECT_THAT(ParseFilter("a\t==\t# 1", {}),
              StatusIs(kInvalid, "1:6: unknown character '#'\n  a == # 1\n       ^"));
}

TEST(FilterParser, KeepsThePositionsOfNodes) {
  ASSERT_OK_AND_ASSIGN(const Expr expr, ParseFilter("aa == 1\n  or (1 < b and c < dd)", {}));
  EXPECT_EQ(expr.position.line, 2u);
  EXPECT_EQ(expr.position.column, 3u);
  ASSERT_EQ(expr.children.size(), 2u);
  EXPECT_EQ(expr.children[0].position.column, 1u);
  const Expr& both = expr.children[1];
  EXPECT_EQ(both.children[0].position.column, 11u);
  EXPECT_EQ(both.children[1].position.column, 17u);
  EXPECT_EQ(both.children[1].other_position.column, 21u);
}

TEST(FilterParser, RefusesRawBytesThatHideOrBreakText) {
  using std::string_literals::operator""s;
  const auto expect = [](const std::string& text, std::string_view message) {
    EXPECT_THAT(ParseFilter(text, {}), StatusIs(kInvalid, HasSubstr(std::string(message)))) << text;
  };
  expect("a == 'x\0y'"s, "1:8: control character U+0000");
  expect("a\0"s, "1:2: control character U+0000");
  expect("a == '\x1b[31m'", "1:7: control character U+001B");
  expect("a == '\x7f'", "1:7: control character U+007F");
  expect("a == '\xff'", "1:7: byte 0xff is not valid UTF-8");
  expect("a == 'é\xc3'", "1:8: byte 0xc3 is not valid UTF-8");
  expect("a == '\xed\xa0\x80'", "1:7: byte 0xed is not valid UTF-8");
  for (const char* bidi : {"\u061c", "\u200e", "\u200f", "\u202a", "\u202e", "\u2066", "\u2069"}) {
    const std::string mark = bidi;
    expect("a == '" + mark + "'", "1:7: bidirectional control character");
    expect("a " + mark + "== 1", "1:3: bidirectional control character");
  }
  // What is shown of the line is safe to print.
  EXPECT_THAT(ParseFilter("a == '\u202e\x1b\xff'", {}),
              StatusIs(kInvalid, HasSubstr("a == '\?\?\?'")));
  EXPECT_OK(ParseFilter("a == '\u2029\u2065\u202f'", {}));
}

TEST(FilterParser, BoundsTheBytesOfTheText) {
  const std::string text = "a == 1" + std::string(kFilterBytesMax - 6, ' ');
  EXPECT_OK(ParseFilter(text, {}));
  EXPECT_THAT(ParseFilter(text + " ", {}),
              StatusIs(kInvalid, "the filter has 65537 bytes; at most 65536 are allowed"));
  EXPECT_THAT(ParseFilter(Repeated("(", 1000000), {}), StatusIs(kInvalid, HasSubstr("65536")));
}

TEST(FilterParser, BoundsTheDepth) {
  const size_t depth = kFilterDepthMax;
  EXPECT_OK(ParseFilter(Repeated("(", depth) + "a" + Repeated(")", depth), {}));
  EXPECT_THAT(ParseFilter(Repeated("(", depth + 1) + "a" + Repeated(")", depth + 1), {}),
              StatusIs(kInvalid, StartsWith("1:65: more than 64 parentheses are nested")));
  EXPECT_THAT(ParseFilter(Repeated("(", 60000), {}), StatusIs(kInvalid, HasSubstr("64")));
  EXPECT_OK(ParseFilter(Repeated("not ", depth - 1) + "a", {}));
  EXPECT_THAT(ParseFilter(Repeated("not ", depth) + "a", {}),
              StatusIs(kInvalid, StartsWith("1:1: the filter is nested deeper than 64 levels")));
  EXPECT_THAT(ParseFilter(Repeated("not ", 16000) + "a", {}),
              StatusIs(kInvalid, StartsWith("1:257: more than 64 'not' are nested")));
  EXPECT_THAT(ParseFilter(Repeated("!", 60000) + "a", {}), StatusIs(kInvalid, HasSubstr("64")));
  EXPECT_THAT(ParseFilter("a == " + Repeated("-", 60000) + "1", {}),
              StatusIs(kInvalid, StartsWith("1:6: expected a number after '-', found '-'")));
  // Two levels for each pair of parentheses: the tree is too deep, though the parentheses are not.
  EXPECT_THAT(ParseFilter(Repeated("not (b and ", 40) + "a" + Repeated(")", 40), {}),
              StatusIs(kInvalid, HasSubstr("nested deeper than 64 levels")));
  // `not between` is three levels; parentheses that were closed do not count.
  EXPECT_OK(ParseFilter(Repeated("not ", depth - 3) + "a not between 1 and 2", {}));
  EXPECT_OK(ParseFilter(Repeated("(a) and not b and ", 200) + "c", {}));
}

TEST(FilterParser, PrintsTheDeepestTreesSoThatTheyParse) {
  for (const std::string& text : {Repeated("not ", kFilterDepthMax - 1) + "a",
                                  Repeated("not (b and ", 31) + "a" + Repeated(")", 31),
                                  Repeated("(", 63) + "a" + Repeated(" and b)", 63)}) {
    ASSERT_OK_AND_ASSIGN(const Expr expr, ParseFilter(text, {}));
    ASSERT_OK_AND_ASSIGN(const Expr again, ParseFilter(ToString(expr), {}));
    EXPECT_EQ(ToString(again), ToString(expr));
  }
}

TEST(FilterParser, MakesOneNodeOfAFlatChain) {
  ASSERT_OK_AND_ASSIGN(const Expr expr,
                       ParseFilter(Repeated("a or ", kFilterNodesMax - 2) + "a", {}));
  EXPECT_EQ(expr.kind, Expr::Kind::kOr);
  EXPECT_EQ(expr.children.size(), kFilterNodesMax - 1);
  EXPECT_THAT(ParseFilter(Repeated("a or ", kFilterNodesMax - 1) + "a", {}),
              StatusIs(kInvalid, HasSubstr("more than 4096 conditions")));
  EXPECT_THAT(ParseFilter(Repeated("a or ", 13000) + "a", {}), StatusIs(kInvalid));
}

TEST(FilterParser, BoundsTheItemsOfAllLists) {
  ValueList list(kFilterListMax, Value{int64_t{1}});
  FilterParameters parameters = {{"ids", Value{list}}};
  EXPECT_OK(ParseFilter("a in $ids", parameters));
  EXPECT_THAT(ParseFilter("a in $ids or b in [1]", parameters),
              StatusIs(kInvalid, AllOf(StartsWith("1:20: "), HasSubstr("65536"))));
  list.push_back(Value{int64_t{1}});
  parameters["ids"] = Value{list};
  EXPECT_THAT(ParseFilter("a in $ids", parameters),
              StatusIs(kInvalid, AllOf(StartsWith("1:6: "), HasSubstr("65536"))));
}

TEST(FilterParser, BoundsTheBytesThatParametersMultiply) {
  const FilterParameters parameters = {{"s", Value{std::string(size_t{9} << 20, 'x')}}};
  EXPECT_OK(ParseFilter("a == $s", parameters));
  EXPECT_THAT(ParseFilter("a == $s or b == $s", parameters),
              StatusIs(kInvalid, AllOf(StartsWith("1:17: "), HasSubstr("16777216"))));
}

TEST(FilterParser, BoundsAndDemandsTheUseOfParameters) {
  FilterParameters parameters = {{"b", Value{true}}, {"a", Value{true}}, {"c", Value{true}}};
  EXPECT_THAT(ParseFilter("x == $b", parameters),
              StatusIs(kInvalid, "parameter '$a' is given a value but not used in the filter"));
  EXPECT_THAT(ParseFilter("", parameters), StatusIs(kInvalid, HasSubstr("'$a'")));
  EXPECT_OK(ParseFilter("x in [$b, $a, $c, $a]", parameters));
  for (size_t i = 0; i < kFilterParametersMax; ++i) {
    parameters.emplace("p" + std::to_string(i), Value{true});
  }
  EXPECT_THAT(ParseFilter("x", parameters), StatusIs(kInvalid, HasSubstr("at most 1024")));
}

TEST(FilterParser, RefusesParametersOfWrongType) {
  const auto expect = [](std::string_view text, Value value, std::string_view message) {
    EXPECT_THAT(ParseFilter(text, {{"p", std::move(value)}}),
                StatusIs(kInvalid, HasSubstr(std::string(message))));
  };
  const Value map{ValueMap{{"x", Value{true}}}};
  expect("a == $p", map, "1:6: parameter $p is a map");
  expect("a == $p", Value{ValueList{}}, "1:6: parameter $p is a list");
  expect("a in $p", map, "1:6: parameter $p is map; 'in' needs a list");
  expect("a in $p", Value{}, "1:6: parameter $p is null");
  expect("a in $p", Value{ValueList{map}}, "1:6: a list of single values is needed");
  expect("a in $p", Value{ValueList{Value{}}}, "write `a is null`");
  expect("a == $p", Value{std::nan("")}, "1:6: the value is not a finite number");
  expect("a < $p", Value{std::numeric_limits<double>::infinity()}, "not a finite number");
  expect("a in $p", Value{ValueList{Value{std::nan("")}}}, "not a finite number");
  expect("a == $p", Value{std::string("\xff")}, "1:6: the string is not valid UTF-8");
  expect("$p", Value{int64_t{1}}, "1:1: a value alone is no condition");
}

TEST(FilterParser, TakesParametersAsValuesNeverAsText) {
  const Value attack{std::string("' or true or a == '")};
  ASSERT_OK_AND_ASSIGN(const Expr expr, ParseFilter("a == $p", {{"p", attack}}));
  EXPECT_EQ(expr.kind, Expr::Kind::kCompare);
  EXPECT_EQ(expr.literals.front(), attack);
}

}  // namespace
}  // namespace azimuth::engine
