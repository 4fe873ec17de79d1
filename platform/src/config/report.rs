//! The effective configuration as an operator reads it: every value with where it came from, and no
//! secret.

use super::layers::Origins;
use serde_json::Value;
use std::fmt::Write;

/// Calls `visit` for every value that is not a section, with its dotted name; for the elements of a
/// list with the list's name.
pub(super) fn leaves(values: &Value, visit: &mut impl FnMut(&str, &Value)) {
    walk("", values, visit, true);
}

fn walk(name: &str, value: &Value, visit: &mut impl FnMut(&str, &Value), into_lists: bool) {
    match value {
        Value::Object(fields) => {
            for (field, value) in fields {
                let name = if name.is_empty() { field.clone() } else { format!("{name}.{field}") };
                walk(&name, value, visit, into_lists);
            }
        }
        Value::Array(elements) if into_lists => {
            for element in elements {
                walk(name, element, visit, into_lists);
            }
        }
        _ => visit(name, value),
    }
}

/// One line a value, in TOML.
pub(super) fn lines(values: &Value, origins: &Origins) -> String {
    let mut text = String::new();
    walk(
        "",
        values,
        &mut |name, value| {
            // Writing to a text cannot fail.
            let _written = writeln!(text, "{name} = {value}  # {}", origins.of(name));
        },
        false,
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_report_has_one_line_a_value() {
        let text = lines(&json!({"a": {"b_ms": 1, "list": [1, 2]}, "c": "x"}), &Origins::default());
        assert_eq!(text, "a.b_ms = 1  # default\na.list = [1,2]  # default\nc = \"x\"  # default\n");
    }
}
