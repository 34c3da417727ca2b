//! Expressions with the results of jsonata-js 2.0.6, the version that Step Functions follows. Their values were made once
//! with `npm install jsonata@2.0.6`, over the variables of `seen()`.

#![allow(clippy::unwrap_used, clippy::panic)]

use serde_json::json;

use super::*;

/// Expressions and their values as JSON; `undefined` is nothing.
const VALUES: &[(&str, &str)] = &[
    (r#"$next = "PROCEED""#, "true"),
    ("$next = 'WAIT'", "false"),
    (r#"$next != "WAIT""#, "true"),
    (r#"$missing = "WAIT""#, "false"),
    (r#"$missing != "WAIT""#, "false"),
    ("$missing = $missing", "false"),
    ("null = null", "true"),
    ("$nothing = null", "true"),
    ("$work.none = null", "true"),
    ("$work.missing = null", "false"),
    ("1 = 1.0", "true"),
    ("$work.whole = 1", "true"),
    ("$string($work.whole)", r#""1""#),
    (r#"1 = "1""#, "false"),
    (r#"{"a": [1, 2]} = {"a": [1, 2]}"#, "true"),
    ("[1, 2] = [2, 1]", "false"),
    ("$work.pause_seconds", "15"),
    ("$work.missing.deeper", "undefined"),
    ("$work.swapped", r#"["a"]"#),
    ("$count($work.swapped)", "1"),
    ("$count($work.ahead)", "0"),
    ("$count($work.missing)", "0"),
    ("$count($work.none)", "1"),
    (r#"$count("x")"#, "1"),
    (
        r#"$next = "PROCEED" and $work.settings.launch_ahead > 1 and $count($work.swapped) > 0 and $count($work.queue) > $count($work.ahead)"#,
        "true",
    ),
    ("$work.settings.launch_ahead >= 2", "true"),
    ("$work.settings.launch_ahead < 2", "false"),
    ("$work.settings.launch_ahead <= 1", "false"),
    ("$work.missing > 1", "undefined"),
    (r#""b" > "a""#, "true"),
    ("$exists($work.node)", "false"),
    ("$exists($work.none)", "true"),
    ("$exists($work.ahead)", "true"),
    ("$not($work.missing)", "undefined"),
    ("$not($work.none)", "true"),
    ("$not(true)", "false"),
    (r#"$not("")"#, "true"),
    ("$boolean([])", "false"),
    ("$boolean([0])", "false"),
    ("$boolean([0, 1])", "true"),
    ("$boolean({})", "false"),
    (r#"$boolean("false")"#, "true"),
    ("$boolean($missing)", "undefined"),
    ("true and $missing", "false"),
    ("$missing or true", "true"),
    ("false and $work.none > 1", "false"),
    ("true or $work.none > 1", "true"),
    ("true or false and false", "true"),
    ("1 + 2 * 3", "7"),
    ("(1 + 2) * 3", "9"),
    ("10 - 2 - 3", "5"),
    ("7 % 4", "3"),
    ("-$work.pause_seconds", "-15"),
    ("1 / 4", "0.25"),
    ("$work.missing + 1", "undefined"),
    (r#""a" & "b" & 1"#, r#""ab1""#),
    (r#""a" & $missing"#, r#""a""#),
    (r#""a" & null & true"#, r#""anulltrue""#),
    (r#""n: " & $work.price & ", " & $work.half"#, r#""n: 0.1, 1.5""#),
    ("0.1 + 0.2", "0.30000000000000004"),
    ("$string(0.1 + 0.2)", r#""0.3""#),
    (r#"$next = "WAIT" ? 1 : 2"#, "2"),
    (r#"$next = "WAIT" ? 1"#, "undefined"),
    ("$missing ? 1 : 2", "2"),
    ("false ? 1 : true ? 2 : 3", "2"),
    ("true ? false ? 1 : 2 : 3", "2"),
    (
        r#"$substring($error.Cause, 0, 1) = "{" ? $parse($error.Cause).errorMessage : $error.Cause"#,
        r#""its words""#,
    ),
    (
        r#"$substring($plain.Cause, 0, 1) = "{" ? $parse($plain.Cause).errorMessage : $plain.Cause"#,
        r#""plain words""#,
    ),
    (r#"$substring("hello", 3)"#, r#""lo""#),
    (r#"$substring("hello", -3, 2)"#, r#""ll""#),
    (r#"$substring("hello", -9, 2)"#, r#""he""#),
    (r#"$substring("hello", 1, 0)"#, r#""""#),
    (r#"$substring("hello", 9)"#, r#""""#),
    ("$substring($missing, 0, 1)", "undefined"),
    (r#"$substring("äöü", 1, 1)"#, r#""ö""#),
    (r#"$merge([$report, {"continued_in": "arn"}])"#, r#"{"swapped":2,"left":1,"continued_in":"arn"}"#),
    (r#"$merge([{"a": 1}, {"a": 2, "b": 3}])"#, r#"{"a":2,"b":3}"#),
    ("$merge($report)", r#"{"swapped":2,"left":1}"#),
    (r#"$merge([$missing, {"a": 1}])"#, r#"{"a":1}"#),
    ("$merge($missing)", "undefined"),
    (r#"$parse("[1, 2]")"#, "[1,2]"),
    ("$string(5)", r#""5""#),
    (r#"$string("x")"#, r#""x""#),
    ("$string(null)", r#""null""#),
    ("$string($missing)", "undefined"),
    (r#"$string([1, "a", null])"#, r#""[1,\"a\",null]""#),
    ("$string(true)", r#""true""#),
    (r#"$length("hello")"#, "5"),
    (r#"$length("äö")"#, "2"),
    ("$length($missing)", "undefined"),
    (r#"$lookup($report, "left")"#, "1"),
    (r#"$lookup($report, "missing")"#, "undefined"),
    (r#"$lookup($missing, "a")"#, "undefined"),
    (r#"$lookup($work.members, "id")"#, r#"["i-1","i-2","i-3"]"#),
    ("$type($nothing)", r#""null""#),
    ("$type($missing)", "undefined"),
    ("$type([])", r#""array""#),
    ("$type({})", r#""object""#),
    ("$type(1)", r#""number""#),
    (r#"$type("")"#, r#""string""#),
    ("$type(true)", r#""boolean""#),
    (r#"$number("12.5")"#, "12.5"),
    ("$number(true)", "1"),
    ("$number($missing)", "undefined"),
    (r#"$keys({"a": 1})"#, r#""a""#),
    (r#"$keys({"a": 1, "b": 2})"#, r#"["a","b"]"#),
    ("$keys({})", "undefined"),
    ("$append([1], [2, 3])", "[1,2,3]"),
    ("$append(1, 2)", "[1,2]"),
    ("$append($missing, 2)", "2"),
    (r#"$contains("abc", "b")"#, "true"),
    (r#"$contains("abc", "d")"#, "false"),
    (r#"$contains($missing, "d")"#, "undefined"),
    ("$work.members.id", r#"["i-1","i-2","i-3"]"#),
    ("$work.members.az", r#"["a","b"]"#),
    ("$work.members.tags", r#"["x"]"#),
    ("$work.members.none", "undefined"),
    ("$work.one.id", r#""i-9""#),
    ("$work.one", r#"[{"id":"i-9"}]"#),
    ("$work.nested", "[[1,2],[3]]"),
    ("$work.nested.x", "undefined"),
    ("$work.matrix", "[[1]]"),
    ("$work.matrix[0]", "[1]"),
    ("$work.members[0].id", r#""i-1""#),
    ("$work.members[-1].id", r#""i-3""#),
    ("$work.members[9].id", "undefined"),
    ("$work.queue[1]", r#""c""#),
    ("$list[0]", "1"),
    ("$list[-1]", "3"),
    ("$list[3]", "undefined"),
    ("$work.pause_seconds[0]", "15"),
    ("$work.members.tags[0]", r#""x""#),
    ("$work.members.id[0]", r#"["i-1","i-2","i-3"]"#),
    ("($work.members.id)[0]", r#""i-1""#),
    ("$work.one[0].id", r#""i-9""#),
    ("$work.`pause_seconds`", "15"),
    (r#"["a", $missing, "b"]"#, r#"["a","b"]"#),
    ("[$list, 4]", "[1,2,3,4]"),
    ("[[1], 2]", "[[1],2]"),
    ("[$work.nested]", "[[1,2],[3]]"),
    ("[]", "[]"),
    (r#"{"a": $missing, "b": 1}"#, r#"{"b":1}"#),
    (r#"{"a" & "b": 1}"#, r#"{"ab":1}"#),
    ("{$missing: 2}", "{}"),
    ("{}.a", "undefined"),
    (r#"[{"a": 1}, {"a": 2}].a"#, "[1,2]"),
    (r#""b" in ["a", "b"]"#, "true"),
    (r#""z" in ["a", "b"]"#, "false"),
    (r#""a" in "a""#, "true"),
    (r#"$missing in ["a"]"#, "false"),
    (r#""a" in $missing"#, "false"),
    ("/* a comment */ 1", "1"),
    ("1e3", "1000"),
    ("1.50", "1.5"),
    ("$work.lab.capture and true", "true"),
    ("$work.name or $work.zero", "false"),
    ("$nothing.x", "undefined"),
    ("$next.x", "undefined"),
    ("$work . settings . launch_ahead", "2"),
    (r#"$string({"a": 1.0, "b": [true]})"#, r#""{\"a\":1,\"b\":[true]}""#),
    (r#""10" < "9""#, "true"),
    ("$count([[1, 2]])", "1"),
    ("$exists($missing) = false", "true"),
    ("$not($exists($work.node)) and true", "true"),
    ("3 = 3 = true", "true"),
    ("1 < 2 = true", "true"),
    (r#""a" & "b" = "ab""#, "true"),
    (r#"$number("1e2")"#, "100"),
    ("$keys($missing)", "undefined"),
    (r#"$keys("x")"#, "undefined"),
    ("$lookup($report, $missing)", "undefined"),
    (r#"$substring("abc", $missing)"#, r#""abc""#),
    ("-$work.missing", "undefined"),
    ("-5", "-5"),
    ("3-1", "2"),
    (r#"$substring("abc",-1)"#, r#""c""#),
    ("$work.members[0]", r#"{"id":"i-1","az":"a"}"#),
    ("$work.swapped[0]", r#""a""#),
    ("$string(12345.678901234567)", r#""12345.6789012346""#),
    ("true and true or false", "true"),
    (r#""\u00e9\ud83d\ude00""#, r#""é😀""#),
    (r#"$type({"a":1}.a)"#, r#""number""#),
    (r#"$merge([$work.one, {"id": 2}])"#, r#"{"id":2}"#),
    ("$work.and", "undefined"),
    ("[1,[]]", "[1,[]]"),
    ("$append([], [])", "[]"),
    ("$count($append([], []))", "0"),
];

/// Expressions and the codes of their errors.
const ERRORS: &[(&str, &str)] = &[
    ("$work.none > 1", "T2010"),
    ("1 > $work.none", "T2010"),
    ("$next > 1", "T2009"),
    ("true > false", "T2010"),
    ("$work.missing > true", "T2010"),
    (r#""a" + 1"#, "T2001"),
    ("$work.none + 1", "T2001"),
    ("$substring($work.none, 0, 1)", "T0410"),
    ("$substring(5, 0, 1)", "T0410"),
    ("$merge([1])", "T0412"),
    ("$length(5)", "T0410"),
    (r#"$number("x")"#, "D3030"),
    (r#"{"a": 1, "a": 2}"#, "D1009"),
    ("{1: 2}", "T1003"),
    ("$number(null)", "T0410"),
    (r#"$number("")"#, "D3030"),
    (r#"$contains("a", 1)"#, "T0410"),
    (r#"$number(" 12 ")"#, "D3030"),
    (r#"-"a""#, "D1002"),
];

/// Texts that are no JSONata, or that this subset does not have, with a word of the refusal.
const REFUSED: &[(&str, &str)] = &[
    ("$x and", "the end"),
    ("$foo(1)", "$foo()"),
    ("$uppercase(\"a\")", "$uppercase()"),
    ("$exists()", "0 arguments"),
    ("$substring(\"a\")", "1 arguments"),
    ("foo", "no context item"),
    ("not true", "no context item"),
    ("$", "no meaning"),
    ("$$.a", "no meaning"),
    ("\"abc", "no end"),
    ("`abc", "no end"),
    ("/* abc", "no end"),
    (r#""\'""#, "no escape"),
    (r#""\ud83d""#, "half a character"),
    ("$work.*", "field's name"),
    ("$a.$b", "field's name"),
    ("$work.members.(id)", "field's name"),
    ("$work.members[id=\"i-1\"]", "whole number"),
    ("$work.members[0.5]", "whole number"),
    ("$work.settings{\"a\": 1}", "`{`"),
    ("$work.members^(id)", "`^`"),
    ("1 ?: 2", "`?:`"),
    ("1 ?? 2", "`??`"),
    ("function($x){$x}", "no context item"),
    ("($x := 1; $x)", "`:=`"),
    ("[1..3]", "`..`"),
    ("$x ~> $y", "`~>`"),
    ("1 2", "`2`"),
    ("(1", "`)`"),
    ("{\"a\" 1}", "`:`"),
    ("$a !", "no symbol"),
];

fn seen() -> BTreeMap<String, Value> {
    let seen = json!({
        "next": "PROCEED",
        "work": {
            "pause_seconds": 15, "settings": { "launch_ahead": 2 }, "swapped": ["a"], "queue": ["b", "c"], "ahead": [],
            "none": null, "zero": 0, "name": "", "flag": true, "lab": { "capture": true },
            "members": [{ "id": "i-1", "az": "a" }, { "id": "i-2" }, { "id": "i-3", "az": "b", "tags": ["x"] }],
            "one": [{ "id": "i-9" }], "nested": [[1, 2], [3]], "matrix": [[1]], "price": 0.1, "whole": 1.0, "half": 1.5,
        },
        "report": { "swapped": 2, "left": 1 },
        "error": { "Error": "Stuck", "Cause": r#"{"errorMessage":"its words","errorType":"Stuck"}"# },
        "plain": { "Cause": "plain words" },
        "nothing": null,
        "list": [1, 2, 3],
    });
    serde_json::from_value(seen).unwrap()
}

fn evaluate(text: &str) -> Result<Option<Value>, EvaluationError> {
    let (input, result, context) =
        (json!({ "asg_name": "web" }), json!({ "next": "WAIT" }), json!({ "a": { "b": 1 } }));
    let bindings = Bindings {
        input: &input,
        result: Some(&result),
        error_output: None,
        context: &context,
        variables: &seen(),
    };
    Expression::parse(text).unwrap_or_else(|error| panic!("{error}")).evaluate(&bindings)
}

#[test]
fn expressions_have_the_values_of_jsonata() {
    for (text, expected) in VALUES {
        let expected = (*expected != "undefined").then(|| serde_json::from_str::<Value>(expected).unwrap());
        let found = evaluate(text).unwrap_or_else(|error| panic!("`{text}`: {error}"));
        assert_eq!(found, expected, "`{text}`");
    }
}

#[test]
fn expressions_fail_with_the_errors_of_jsonata() {
    for (text, code) in ERRORS {
        let error = evaluate(text).map_err(|error| error.to_string());
        assert!(matches!(&error, Err(error) if error.starts_with(code)), "`{text}`: {error:?}, not {code}");
    }
}

#[test]
fn what_is_not_supported_is_refused_with_its_text() {
    for (text, word) in REFUSED {
        let error = Expression::parse(text).map(|_| ()).map_err(|error| error.to_string());
        let refused = matches!(&error, Err(error) if error.contains(word) && error.contains(*text));
        assert!(refused, "`{text}`: {error:?} does not say {word}");
    }
}

#[test]
fn the_states_variable_has_the_fields_that_step_functions_gives_it() {
    for (text, expected) in [
        ("$states.input.asg_name", json!("web")),
        ("$states.result.next = \"WAIT\" ? 1 : null", json!(1)),
        ("$states.context.a.b", json!(1)),
        ("$states.result", json!({ "next": "WAIT" })),
        ("$exists($states.errorOutput)", json!(false)),
        ("$exists($states.next)", json!(false)),
        ("$keys($states)", json!(["context", "input", "result"])),
    ] {
        assert_eq!(evaluate(text).unwrap(), Some(expected), "`{text}`");
    }
}

#[test]
fn what_jsonata_leaves_to_its_host_is_an_error_here() {
    for (text, words) in [
        ("1 / 0", "D1001"),
        ("$parse($missing)", "T0410"),
        ("$parse(\"{\")", "$parse"),
        ("$contains(\"abc\", $missing)", "T0410"),
    ] {
        assert!(evaluate(text).unwrap_err().to_string().contains(words), "`{text}`");
    }
}
