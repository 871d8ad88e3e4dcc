//! The part of Go's templates that scripts use with `-f`: text and `{{.Field}}`.

use crate::error::{Error, Kind, Result};
use crate::settings::did_you_mean;

/// Puts fields into a template. `\n` and `\t` in it become a newline and a tab.
///
/// # Errors
/// [`Kind::Usage`] for an unknown field and for anything else Go's templates can do.
pub(super) fn render(template: &str, fields: &[(&str, &str)]) -> Result<String> {
    let mut text = String::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once("{{") {
        text.push_str(&unescape(before));
        let (action, after) = after
            .split_once("}}")
            .ok_or_else(|| Error::new(Kind::Usage, "the template has a `{{` without `}}`").hint(FORM))?;
        text.push_str(value(action.trim(), fields)?);
        rest = after;
    }
    text.push_str(&unescape(rest));
    Ok(text)
}

const FORM: &str = "write fields as {{.Host}}, with any text between them";

fn value<'a>(action: &str, fields: &[(&str, &'a str)]) -> Result<&'a str> {
    let name = action
        .strip_prefix('.')
        .filter(|name| name.chars().all(|c| c.is_ascii_alphanumeric()));
    let Some(name) = name.filter(|name| !name.is_empty()) else {
        let message = format!("`{{{{{action}}}}}` is more of a template than sampan understands");
        return Err(Error::new(Kind::Usage, message)
            .hint(FORM)
            .hint("or use -o json and jq"));
    };
    let names: Vec<&str> = fields.iter().map(|(name, _)| *name).collect();
    match fields.iter().find(|(field, _)| *field == name) {
        Some((_, value)) => Ok(value),
        None => {
            Err(Error::new(Kind::Usage, format!("there is no field `.{name}`"))
                .hint(did_you_mean(name, &names)))
        }
    }
}

fn unescape(text: &str) -> String {
    text.replace("\\n", "\n").replace("\\t", "\t")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_and_text_are_rendered_and_the_rest_is_an_error() {
        let fields = [("Name", "a"), ("Host", "Running")];
        assert_eq!(
            render("{{.Name}}: {{ .Host }}\\n", &fields).unwrap(),
            "a: Running\n"
        );
        for (template, hint) in [
            ("{{.Hots}}", "did you mean `Host`?"),
            ("{{if .Host}}x{{end}}", FORM),
            ("{{.Host", FORM),
            ("{{.}}", FORM),
        ] {
            let error = render(template, &fields).unwrap_err();
            assert_eq!(
                (error.kind(), error.hints()[0].as_str()),
                (Kind::Usage, hint),
                "{template}"
            );
        }
    }
}
