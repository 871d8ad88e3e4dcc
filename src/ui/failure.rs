//! How an error is told: what happened, why, what to do.

use std::error::Error as StdError;

use crate::error::Error;

use super::known;
use super::terminal::Style;

/// The causes of an error that say something new, outermost first.
fn causes(error: &Error) -> Vec<String> {
    let mut told = error.to_string().to_lowercase();
    let mut causes = Vec::new();
    let mut source = error.source();
    while let Some(cause) = source {
        let text = cause.to_string();
        let plain = text.split(" (os error").next().unwrap_or(&text).to_lowercase();
        if !told.contains(&plain) {
            told.push_str(&plain);
            causes.push(text);
        }
        source = cause.source();
    }
    causes
}

/// What the user can do: what the error says itself, else what is known about its text.
fn hints(error: &Error, causes: &[String]) -> Vec<String> {
    if !error.hints().is_empty() {
        return error.hints().to_vec();
    }
    let text = format!("{error}\n{}", causes.join("\n"));
    known::advice(&text).map(str::to_owned).into_iter().collect()
}

/// The error for people, several lines with a newline at the end.
pub(super) fn text(error: &Error, colour: bool) -> String {
    let causes = causes(error);
    let head = format!("X Exiting due to {}:", error.kind().id());
    let mut text = format!("{} {error}\n", Style::Bad.paint(&head, colour));
    for cause in &causes {
        text.push_str(&format!(
            "  because: {}\n",
            cause.trim_end().replace('\n', "\n    ")
        ));
    }
    for hint in hints(error, &causes) {
        text.push_str(&format!("{} {hint}\n", Style::Bold.paint("hint:", colour)));
    }
    text
}

/// The error for scripts: the data of an error event.
pub(super) fn data(error: &Error) -> Vec<(&'static str, String)> {
    let causes = causes(error);
    let mut message = error.to_string();
    for cause in &causes {
        message.push_str(&format!(": {cause}"));
    }
    vec![
        ("message", message),
        ("exitcode", error.kind().exit_code().to_string()),
        ("name", error.kind().id().to_owned()),
        ("advice", hints(error, &causes).join("\n")),
        ("url", String::new()),
        ("issues", String::new()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    #[test]
    fn an_error_tells_what_why_and_what_to_do() {
        let error = Error::new(Kind::NotRunning, "cluster \"a\" is not running")
            .because(std::io::Error::other("the machine is gone"))
            .hint("run `sampan start -p a`");
        insta::assert_snapshot!(text(&error, false), @r#"
        X Exiting due to GUEST_NOT_RUNNING: cluster "a" is not running
          because: the machine is gone
        hint: run `sampan start -p a`
        "#);
    }

    #[test]
    fn a_cause_that_says_nothing_new_is_left_out_and_a_known_problem_gets_advice() {
        let source = std::io::Error::from_raw_os_error(28);
        let error = Error::new(Kind::Driver, "x: no space left on device").because(source);
        assert_eq!(
            text(&error, false),
            "X Exiting due to DRV_ERROR: x: no space left on device\n\
             hint: free some space on the host, or set SAMPAN_HOME to a directory on a larger disk\n"
        );
        let data = data(&error);
        assert_eq!(data[1], ("exitcode", "50".to_owned()));
    }
}
