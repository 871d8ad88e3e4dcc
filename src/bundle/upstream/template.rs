//! Templates of addresses and tags: `{name}` stands for a value.

use std::collections::BTreeMap;

/// Values by the names that templates call them.
pub(super) type Values<'a> = BTreeMap<&'a str, &'a str>;

/// Fills in a template. A name without a value and a brace without its fellow are told.
pub(super) fn fill(template: &str, values: &Values<'_>) -> Result<String, String> {
    let mut text = String::new();
    let mut rest = template;
    while let Some((before, behind)) = rest.split_once('{') {
        let (name, after) = behind
            .split_once('}')
            .ok_or_else(|| format!("\"{template}\" has a brace that nothing closes"))?;
        let value = values
            .get(name)
            .ok_or_else(|| format!("\"{template}\": there is nothing called {name}"))?;
        text.push_str(before);
        text.push_str(value);
        rest = after;
    }
    text.push_str(rest);
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_replaced_and_unknown_ones_told() {
        let values = Values::from([("arch", "arm64"), ("version", "1.2")]);
        assert_eq!(
            fill("https://x/v{version}/y-{version}.{arch}", &values).unwrap(),
            "https://x/v1.2/y-1.2.arm64"
        );
        assert_eq!(fill("plain", &values).unwrap(), "plain");
        assert!(fill("{cpu}", &values).unwrap_err().contains("called cpu"));
        assert!(fill("{arch", &values).unwrap_err().contains("nothing closes"));
    }
}
