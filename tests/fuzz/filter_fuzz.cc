// Fuzzes the whole way of a filter: text -> tree -> text -> tree, bind, rows. The first byte
// chooses the schema. Aborts where canonical text does not parse to the same text, or where a
// filter and its canonical text do not match the same rows.
#include "base/check.h"
#include "base/strings.h"
#include "engine/filter/filter.h"
#include "engine/limits.h"
#include "tests/engine/filter/row_source.h"

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace azimuth::engine {
namespace {

Schema FuzzSchema(bool dynamic) {
  Schema schema;
  schema.fields = {{.name = "b", .type = FieldType::kBool},
                   {.name = "i", .type = FieldType::kInt64},
                   {.name = "d", .type = FieldType::kDouble},
                   {.name = "s", .type = FieldType::kString}};
  schema.vectors = {{.name = "v", .dim = 2}};
  schema.dynamic = dynamic;
  NumberFields(schema);
  return schema;
}

std::vector<TestRow> FuzzRows() {
  std::vector<TestRow> rows;
  for (int64_t i = 0; i < 70; ++i) {
    TestRow& row = rows.emplace_back();
    row.key = Value{i};
    if (i % 2 == 0) row.fields.emplace("b", Value{i % 4 == 0});
    if (i % 3 == 0) row.fields.emplace("i", Value{i - 10});
    if (i % 5 != 0) row.fields.emplace("d", Value{static_cast<double>(i) / 4});
    if (i % 7 != 0) row.fields.emplace("s", Value{std::string(static_cast<size_t>(i % 4), 'a')});
    row.fields.emplace("x", i % 2 == 0 ? Value{i} : Value{std::string("a")});
    row.fields.emplace("m", Value{ValueMap{{"c", Value{i % 3 == 0}}, {"n", Value{}}}});
  }
  return rows;
}

// The rows that match, or nothing if the filter does not fit the schema.
std::vector<uint64_t> Matches(const Expr& expr, const Schema& schema, std::string_view text) {
  static const auto& rows = *new std::vector<TestRow>(FuzzRows());
  const auto bound = BoundFilter::Bind(expr, schema, text);
  if (!bound.ok()) return {};
  index::Bitset matches;
  AZ_CHECK(EvaluateFilter(*bound, RowSource(*bound, rows), matches, CancelToken()).ok());
  const auto words = std::as_const(matches).words();
  return {words.begin(), words.end()};
}

void Run(std::string_view text, const Schema& schema) {
  const FilterParameters all = {{"n", Value{int64_t{7}}},
                                {"t", Value{std::string("a\"\x01")}},
                                {"l", Value{ValueList{Value{1.5}, Value{true}}}}};
  FilterParameters parameters;
  for (const auto& [name, value] : all) {
    if (text.find("$" + name) != std::string_view::npos) parameters.emplace(name, value);
  }
  const auto expr = ParseFilter(text, parameters);
  if (!expr.ok()) {
    AZ_CHECK(absl::IsInvalidArgument(expr.status()) || absl::IsUnimplemented(expr.status()));
    AZ_CHECK(IsValidUtf8(ToStd(expr.status().message())));
    return;
  }
  const std::string canonical = ToString(*expr);
  const std::vector<uint64_t> matches = Matches(*expr, schema, text);
  if (canonical.size() > kFilterBytesMax) return;
  const auto again = ParseFilter(canonical, {});
  AZ_CHECK(again.ok());
  AZ_CHECK(ToString(*again) == canonical);
  AZ_CHECK(Matches(*again, schema, canonical) == matches);
}

}  // namespace
}  // namespace azimuth::engine

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using azimuth::engine::Schema;
  static const Schema& strict = *new Schema(azimuth::engine::FuzzSchema(false));
  static const Schema& dynamic = *new Schema(azimuth::engine::FuzzSchema(true));
  if (size == 0) return 0;
  const std::string text(reinterpret_cast<const char*>(data) + 1, size - 1);
  azimuth::engine::Run(text, data[0] % 2 == 0 ? strict : dynamic);
  return 0;
}
