//! Writes YAML that kubectl reads as it was meant.
//!
//! kubectl reads YAML 1.1, where an unquoted `on`, `yes` or `12_3` is no text; the YAML library quotes by the rules of 1.2. So every
//! text that is not plainly a word is quoted here, the way JSON does it.

use yaml_serde::{Mapping, Value};

/// The contents of a file. None when there is something in it that only the YAML library can write: tags, or keys that are not scalars.
pub(super) fn document(mapping: &Mapping) -> Option<String> {
    let mut out = String::new();
    fields(mapping, 0, &mut out)?;
    Some(out)
}

/// One field a line, each line after an indent, except the first, for which the caller has made room.
fn fields(mapping: &Mapping, indent: usize, out: &mut String) -> Option<()> {
    for (number, (key, value)) in mapping.iter().enumerate() {
        if number > 0 {
            out.push_str(&" ".repeat(indent));
        }
        out.push_str(&scalar(key)?);
        out.push(':');
        match value {
            Value::Mapping(inner) if !inner.is_empty() => {
                out.push('\n');
                out.push_str(&" ".repeat(indent + 2));
                fields(inner, indent + 2, out)?;
            }
            Value::Sequence(inner) if !inner.is_empty() => {
                out.push('\n');
                out.push_str(&" ".repeat(indent));
                // As kubectl writes it: the dashes stand below the key.
                items(inner, indent, out)?;
            }
            value => {
                out.push(' ');
                out.push_str(&scalar(value)?);
                out.push('\n');
            }
        }
    }
    Some(())
}

fn items(sequence: &[Value], indent: usize, out: &mut String) -> Option<()> {
    for (number, value) in sequence.iter().enumerate() {
        if number > 0 {
            out.push_str(&" ".repeat(indent));
        }
        out.push_str("- ");
        match value {
            Value::Mapping(inner) if !inner.is_empty() => fields(inner, indent + 2, out)?,
            Value::Sequence(inner) if !inner.is_empty() => items(inner, indent + 2, out)?,
            value => {
                out.push_str(&scalar(value)?);
                out.push('\n');
            }
        }
    }
    Some(())
}

/// A value on one line.
fn scalar(value: &Value) -> Option<String> {
    Some(match value {
        Value::Null => "null".to_owned(),
        Value::Bool(value) => value.to_string(),
        Value::Number(value) => value.to_string(),
        Value::String(text) if is_word(text) => text.clone(),
        Value::String(text) => serde_json::to_string(text).ok()?,
        Value::Mapping(mapping) if mapping.is_empty() => "{}".to_owned(),
        Value::Sequence(sequence) if sequence.is_empty() => "[]".to_owned(),
        Value::Mapping(_) | Value::Sequence(_) | Value::Tagged(_) => return None,
    })
}

/// Whether a text without quotes is this text to every reader: names, addresses with a scheme, base64.
fn is_word(text: &str) -> bool {
    const SPECIAL: [&str; 9] = ["y", "yes", "n", "no", "on", "off", "true", "false", "null"];
    let inner = |character: char| character.is_ascii_alphanumeric() || "_./@+=-:".contains(character);
    text.starts_with(|first: char| first.is_ascii_alphabetic() || first == '/')
        && text.chars().all(inner)
        && !text.ends_with(':')
        && !SPECIAL.contains(&text.to_ascii_lowercase().as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_looks_as_kubectl_writes_it() {
        let text = "\
apiVersion: v1
clusters:
- cluster:
    server: https://127.77.0.2:8443
    list:
    - - a
      - \"b c\"
    - []
  name: \"on\"
preferences: {}
number: 1
float: 1.5
flag: true
nothing: null
\"12\": \"12\"
current-context: \"\"
";
        let value: Mapping = yaml_serde::from_str(text).unwrap();
        assert_eq!(document(&value).unwrap(), text);
    }

    #[test]
    fn what_only_the_library_can_write_is_left_to_it() {
        for text in ["a: !tag x", "? [a, b]\n: c"] {
            assert_eq!(document(&yaml_serde::from_str(text).unwrap()), None, "{text}");
        }
    }
}
