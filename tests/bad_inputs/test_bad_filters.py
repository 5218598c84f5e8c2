"""Entries 94 to 105: the filter language."""

from __future__ import annotations

from typing import Any

import pytest
from azimuth_db._generated.azimuth.v1 import types_pb2
from bad_input_cases import (
    INVALID,
    MARK,
    STRICT,
    UNIMPLEMENTED,
    UNREADABLE,
    Case,
    Check,
    count,
    delete,
    filtered,
    query,
    table,
    with_bytes,
)
from bad_input_server import Server

NAN = float("nan")
KIB = 1024


def bad(entry: int, name: str, expression: str, reason: str, code: Any = INVALID,
        parameters: dict[str, Any] | None = None, of: str = "open") -> Case:  # fmt: skip
    return Case(entry, name, "Count", count(expression, parameters, of), code, reason)


SYNTAX = [
    *(bad(94, f"{text!r}", text, r"1:\d+: .*\n.*\^") for text in (
        "n =", "= 1", "n = = 1", "n 1", "n = 1 and", "or n = 1", "n = 1 n = 2", "(n = 1", "n = 1)",
        "n in", "n in 1", "n in [1", "n in [1,", "n in [,]", "n in [1 2]", "n between 1", "not",
        "n between 1 and", "n is", "n is 1", "n not 1", "1", "'a'", "n < 1 < 2", "1 = 1",
        "n = 1 &", "n = 1 | n = 2", "n & 1", "#", "n = @", "{}", "n = 1; drop", "n = .5",
        "n = 1.", "n = 1e", "n = 1e+", "n = 0x10", "n = 12ab", "n.", "n.1 = 2", "f(n)", "$",
        "n = $", "n in [m]", "n = [1]", "n = null", "n != null", "n in [null]", "null = n")),
    bad(94, "second line", "n = 1\n  and n = =", r"2:11: .*\n.*\^"),
    bad(94, "column in characters", "title = 'éé' and", r"1:17: "),
    Case(94, "query", "Query", query(filter=filtered("n = = 1")), INVALID, r"1:5: "),
    Case(94, "delete", "Delete", delete(filter=filtered("n = = 1")), INVALID, r"1:5: "),
]  # fmt: skip

SIZES = [
    bad(95, "10^6 parentheses", "(" * 10**6, "the filter has 1000000 bytes; at most 65536"),
    bad(95, "65,536 parentheses", "(" * (64 * KIB), "more than 64 parentheses are nested"),
    bad(95, "65 parentheses", "(" * 65 + "n = 1" + ")" * 65, "more than 64 parentheses"),
    bad(95, "not not", "not " * 16000 + "flag", "more than 64 'not' are nested"),
    bad(95, "!!!", "!" * 65000 + "flag", "more than 64 'not' are nested"),
    bad(95, "not (not (", "not (" * 13000 + "flag" + ")" * 500, "more than 64 "),
    bad(95, "deep tree", "(n = 1 and (n = 2 or " * 40 + "flag" + "))" * 40, "more than 64 paren"),
    bad(95, "-----1", "n = " + "-" * 60000 + "1", r"1:5: expected a number after '-', found '-'"),
    bad(95, "brackets", "n in " + "[" * 60000, r"1:7: expected a field or a value, found '\['"),
    bad(96, "10^5 terms", " or ".join(["n = 1"] * 10**5), "bytes; at most 65536"),
    bad(96, "4,097 nodes", " or ".join(["n=1"] * 4097), "more than 4096 conditions and operators"),
    bad(96, "4,097 nodes of and", "&&".join(["n=1"] * 8000), "more than 4096 conditions"),
    bad(97, "10^6 items as text", "n in [" + ",".join("1" * 10**6) + "]", "at most 65536"),
    bad(97, "10^6 items as parameter", "n in $l", "lists have more than 65536 items",
        parameters={"l": [1] * 10**6}),
    bad(97, "65,537 items", "n in $l", "lists have more than 65536 items",
        parameters={"l": list(range(65537))}),
    bad(97, "65,537 items in two lists", "n in $l or n in $m", "lists have more than 65536 items",
        parameters={"l": list(range(65536)), "m": [1]}),
    bad(102, "65,537 bytes", "n = 1" + " " * (64 * KIB - 4), "has 65537 bytes; at most 65536"),
    bad(102, "10 MB", "n = 1 " * 1747626, "bytes; at most 65536"),
    bad(102, "string parameters of 17 MiB", " or ".join(["title = $s"] * 18),
        "strings have more than 16777216 bytes", parameters={"s": "x" * 1000000}),
]  # fmt: skip

TYPES = [
    bad(98, "unknown field", "titel = 'x'",
        r"1:1: unknown field 'titel' \(did you mean 'title'\?\)", of=STRICT),
    bad(98, "unknown path", "meta.color = 1", "1:1: unknown field 'meta.color'", of=STRICT),
    *(bad(98, text, text, r"1:1: field '\w+' is \w+ and cannot be compared with a value of kind")
      for text in ("n = 'x'", "n = true", "price = '1'", "title = 1", "title = true", "flag = 1",
                   "flag = 'x'", "n in [1, 'x']", "title in ['x', 1]", "n between 'a' and 'b'",
                   "key = 'x'")),
    *(bad(98, text, text, r"1:1: .*cannot be compared with field")
      for text in ("n = title", "flag = price")),
    *(bad(98, text, text, "bool values can be compared with == and != only")
      for text in ("flag < true", "flag >= false")),
    bad(98, "number as a condition", "n", "1:1: field 'n' is int64; only a bool field can stand"),
    bad(98, "path within a number", "n.a = 1", "1:1: .*'n' is int64 and has no fields within"),
    bad(98, "path within the key", "key.a = 1", "1:1: .*record's key and has no fields within"),
    bad(98, "vector field", "v = 1", "1:1: 'v' is a vector field; a filter reads scalar fields"),
    *(bad(99, text, text, "1:5: integer is outside the range of int64")
      for text in ("n = 9223372036854775808", "n = -9223372036854775809", "n = " + "9" * 5000)),
    *(bad(99, text, text, r"1:\d+: number is outside the range of a double")
      for text in ("price = 1e999", "price = -1e999", "price = 1e400", "price < 1e999999999999")),
    *(bad(99, text, text, "is not a value; numbers are finite")
      for text in ("price = NaN", "price = inf", "price = nan", "price in [Infinity]")),
    bad(99, "-inf", "price = -inf", "expected a number after '-'"),
    *(bad(100, name, text, reason) for name, text, reason in (
        ("unterminated", "title = 'abc", "1:9: unterminated string"),
        ("unterminated by an escape", "title = 'abc\\'", "1:9: unterminated string"),
        ("ends in an escape", "title = 'abc\\", "unknown escape|unterminated"),
        ("line break inside", "title = 'a\nb'", "1:9: unterminated string"),
        ("unknown escape", "title = 'a\\x41'", "1:11: unknown escape in a string; allowed are"),
        ("octal escape", "title = '\\0'", "unknown escape"),
        ("short escape", "title = '\\u12'", "expected four hexadecimal digits"),
        ("high surrogate", "title = '\\ud800'", "half a surrogate pair"),
        ("low surrogate", "title = '\\udc00'", "half a surrogate pair"),
        ("two high surrogates", "title = '\\ud800\\ud800'", "half a surrogate pair"),
        ("doubled quote", "title = 'it''s'", "a quote inside a string is written"),
        ("NUL", "title = 'a\0b'", r"1:11: control character U\+0000"),
        ("bell", "title = 'a\ab'", r"control character U\+0007"),
        ("delete character", "n\x7f = 1", r"1:2: control character U\+007F"),
        ("right-to-left override", "title = 'a\u202eb'", "1:11: bidirectional control"),
        ("right-to-left isolate outside", "n \u2067= 1", "1:3: bidirectional control"),
        ("letter mark", "title = '\u061c'", "bidirectional control"),
        ("no-break space", "n\u00a0= 1", "1:2: unknown character"),
        ("full-width letters", "\uff4e = 1", "1:1: unknown character"),
        ("BOM", "\ufeffn = 1", "1:1: unknown character"))),
    Case(100, "invalid UTF-8", "Count", with_bytes(count(f"title = '{MARK}'"), b"a\xff\xfeb"),
         UNREADABLE, ""),
    Case(100, "lone surrogate", "Count", with_bytes(count(f"title = '{MARK}'"), b"a\xed\xa0\x80"),
         UNREADABLE, ""),
]  # fmt: skip

UNSERVED = [
    *(bad(entry, text, text, r"1:\d+: .* is part of the filter language that this server does not "
          "serve", UNIMPLEMENTED)
      for entry, text in (
        (101, "title like '%a%a%a%a%a%a%b'"), (101, "title not like 'a%'"),
        (101, "title =~ '(a+)+$'"), (101, "title =~ '" + "(" * 30000 + "'"),
        (101, "match(title, 'x')"),
        (103, "near(location, lat: 91, lon: 0, 10 km)"), (103, "near(title, 1)"),
        (104, "n / 0 = 1"), (104, "n % 0 = 1"), (104, "-9223372036854775808 / -1 = n"),
        (104, "n * 2 = 4"), (104, "n + 9223372036854775807 > 0"), (104, "n - 1 = 0"),
        (94, "exists(n)"), (94, "len(title) > 1"), (94, "any(tags, n = 1)"),
        (94, "tags contains 'x'"))),
]  # fmt: skip

PARAMETERS = [
    bad(105, "missing", "n = $a", r"1:5: parameter '\$a' has no value"),
    bad(105, "missing in a list", "n in $a", r"1:6: parameter '\$a' has no value"),
    bad(105, "extra", "n = 1", r"parameter '\$a' is given a value but not used",
        parameters={"a": 1}),
    bad(105, "extra without a filter", "", r"parameter '\$a' is given a value but not used",
        parameters={"a": 1}),
    bad(105, "string for a number", "n = $a", "cannot be compared with a value of kind string",
        parameters={"a": "1 or true"}),
    bad(105, "list for a value", "n = $a", r"1:5: parameter \$a is a list; a single value",
        parameters={"a": [1]}),
    bad(105, "map for a value", "n = $a", r"parameter \$a is a map; a single value",
        parameters={"a": {"b": 1}}),
    bad(105, "value for a list", "n in $a", r"1:6: parameter \$a is int64; 'in' needs a list",
        parameters={"a": 1}),
    bad(105, "list of lists", "n in $a", "a list of single values is needed",
        parameters={"a": [[1]]}),
    bad(105, "null", "n = $a", "comparison with null is never true; use `is null`",
        parameters={"a": None}),
    bad(105, "null in a list", "n in $a", "null in a list never matches", parameters={"a": [None]}),
    bad(105, "mixed list", "n in $a", "cannot be compared with a value of kind string",
        parameters={"a": [1, "x"]}),
    bad(105, "no case", "n = $a", r'filter: parameters\["a"\]: a value has no case set',
        parameters={"a": types_pb2.Value()}),
    bad(105, "1025 of them", "n = 1", "has 1025 parameters; at most 1024",
        parameters={f"p{i}": i for i in range(1025)}),
    bad(105, "nested too deep", "n = $a", r'parameters\["a"\]: .*nested deeper than 16 levels',
        parameters={"a": [[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]}),
    *(bad(99, f"parameter {number}", "price = $a", "not (a )?finite", parameters={"a": number})
      for number in (NAN, float("inf"))),
]  # fmt: skip


@pytest.mark.parametrize("case", table(SYNTAX))
def test_syntax_error_has_a_position(refused: Check, case: Case) -> None:
    refused(case)


@pytest.mark.parametrize("case", table(SIZES))
def test_a_filter_beyond_the_limits_is_refused(refused: Check, case: Case) -> None:
    refused(case)


@pytest.mark.parametrize("case", table(TYPES))
def test_what_cannot_be_compared_is_refused(refused: Check, case: Case) -> None:
    refused(case)


@pytest.mark.parametrize("case", table(UNSERVED))
def test_later_parts_of_the_language_are_unimplemented(refused: Check, case: Case) -> None:
    refused(case)


@pytest.mark.parametrize("case", table(PARAMETERS))
def test_bad_parameter_is_refused(refused: Check, case: Case) -> None:
    refused(case)


@pytest.mark.parametrize(
    ("expression", "parameters"),
    [
        pytest.param("(" * 63 + "n = 1" + ")" * 63, {}, id="63 parentheses",
                     marks=pytest.mark.bad_input(95)),
        pytest.param(" or ".join(["n=1"] * 4000), {}, id="4,000 terms",
                     marks=pytest.mark.bad_input(96)),
        pytest.param("n in $l", {"l": list(range(1, 65536, 2)) + list(range(4, 65540, 2))},
                     id="65,536 items", marks=pytest.mark.bad_input(97)),
        pytest.param("n = 1" + " " * (64 * KIB - 5), {}, id="65,536 bytes",
                     marks=pytest.mark.bad_input(102)),
        pytest.param("n = $a and title is null and $a = n", {"a": 1}, id="a parameter twice",
                     marks=pytest.mark.bad_input(105)),
    ],
)  # fmt: skip
def test_a_filter_at_the_limits_works(
    server: Server, expression: str, parameters: dict[str, Any]
) -> None:
    found = server.stubs.call("Query", query(filter=filtered(expression, parameters))).records
    assert 1 in [record.key.int64_key for record in found]


@pytest.mark.bad_input(98)
def test_a_dynamic_collection_warns_of_a_field_that_no_record_has(server: Server) -> None:
    reply = server.stubs.call("Count", count("pric = 1"))
    assert reply.count == 0
    (warning,) = reply.warnings
    assert "'pric'" in warning
    assert "'price'" in warning


@pytest.mark.bad_input(105)
def test_a_parameter_is_never_read_as_filter_text(server: Server) -> None:
    hostile = {"a": "x' or true or title = 'x"}
    assert server.stubs.call("Count", count("title = $a", hostile)).count == 0
