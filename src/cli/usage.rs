//! From clap's errors to ours: exit status 14, one line that says what is wrong, the nearest right word as a hint.

use clap::Command;
use clap::error::{ContextKind, ContextValue, ErrorKind};

use crate::error::{Error, Kind};

/// What a command line that is no verb to run comes to.
#[derive(Debug)]
pub enum Rejected {
    /// Help or the version was asked for: this text, with ANSI styles, goes to standard output.
    Help(clap::builder::StyledStr),
    /// It is wrong.
    Wrong(Error),
}

/// Sorts out why clap did not accept a command line.
pub(super) fn explain(error: &clap::Error, root: &Command) -> Rejected {
    match error.kind() {
        ErrorKind::DisplayHelp
        | ErrorKind::DisplayVersion
        | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => Rejected::Help(error.render()),
        kind => Rejected::Wrong(wrong(error, kind, root)),
    }
}

fn wrong(error: &clap::Error, kind: ErrorKind, root: &Command) -> Error {
    let text = |kind| error.get(kind).map(first).unwrap_or_default();
    let (message, near) = match kind {
        ErrorKind::InvalidSubcommand => {
            let word = text(ContextKind::InvalidSubcommand);
            let near = nearest_verb(&word, root);
            (format!("unknown command `{word}`"), near)
        }
        ErrorKind::UnknownArgument => {
            let word = text(ContextKind::InvalidArg);
            let what = if word.starts_with('-') { "flag" } else { "argument" };
            (
                format!("unknown {what} `{word}`"),
                error.get(ContextKind::SuggestedArg).map(first),
            )
        }
        ErrorKind::InvalidValue | ErrorKind::ValueValidation => {
            let (word, value) = (text(ContextKind::InvalidArg), text(ContextKind::InvalidValue));
            let flag = word
                .split_whitespace()
                .next()
                .unwrap_or_default()
                .trim_end_matches("[=<BOOL>]");
            let message = match (value.as_str(), flag.starts_with('-')) {
                ("", _) => format!("`{flag}` needs a value"),
                (_, true) => format!("`{flag} {value}` is not a value it can have"),
                (_, false) => format!("`{value}` is not a value that {word} can have"),
            };
            let near = error.get(ContextKind::SuggestedValue).map(first);
            let near = near.or_else(|| nearest_value(error, &value));
            return hinted(Error::new(Kind::Usage, message), near, choices(error));
        }
        _ => (plain(error), None),
    };
    hinted(Error::new(Kind::Usage, message), near, None)
}

fn hinted(error: Error, near: Option<String>, otherwise: Option<String>) -> Error {
    match (near, otherwise) {
        (Some(near), _) => error.hint(format!("did you mean `{near}`?")),
        (None, Some(choices)) => error.hint(format!("choose one of {choices}")),
        (None, None) => error.hint("`sampan help`, or `--help` behind a command, tells what there is"),
    }
}

/// The first of what clap has to say.
fn first(value: &ContextValue) -> String {
    match value {
        ContextValue::Strings(words) => words.first().cloned().unwrap_or_default(),
        other => other.to_string(),
    }
}

/// The nearest verb that the help names too: nobody is led to what is not there yet.
fn nearest_verb(word: &str, root: &Command) -> Option<String> {
    let verbs = root.get_subcommands().filter(|verb| !verb.is_hide_set());
    crate::settings::nearest(word, verbs.map(Command::get_name)).map(str::to_owned)
}

fn valid(error: &clap::Error) -> &[String] {
    match error.get(ContextKind::ValidValue) {
        Some(ContextValue::Strings(words)) => words,
        _ => &[],
    }
}

fn nearest_value(error: &clap::Error, value: &str) -> Option<String> {
    crate::settings::nearest(value, valid(error).iter().map(String::as_str)).map(str::to_owned)
}

fn choices(error: &clap::Error) -> Option<String> {
    let words = valid(error);
    (!words.is_empty()).then(|| words.join(", "))
}

/// What clap says, without "error:", its usage lines and its tips.
fn plain(error: &clap::Error) -> String {
    let text = error.render().to_string();
    let text = text.split("\n\n").next().unwrap_or(&text);
    let words: Vec<&str> = text.trim_start_matches("error:").split_whitespace().collect();
    words.join(" ")
}
