//! `completion`: the script for a shell, and the answers to it when the shell asks.

use std::ffi::OsString;

use clap_complete::CompleteEnv;
use clap_complete::env::Shells;

use crate::cli::{self, CompletionArgs};
use crate::error::{Error, Kind, Result};

use super::App;

/// Set by the script when it asks.
const VARIABLE: &str = "SAMPAN_COMPLETE";

/// Answers a shell that asks what could come next; false when no shell asks.
pub(super) fn answer(words: &[OsString]) -> bool {
    if std::env::var_os(VARIABLE).is_none() {
        return false;
    }
    let here = std::env::current_dir().ok();
    // A shell has no use for an error in the middle of a line: no answer is the answer.
    CompleteEnv::with_factory(cli::command)
        .var(VARIABLE)
        .try_complete(words.to_vec(), here.as_deref())
        .unwrap_or(true)
}

pub(super) fn run(app: &App, args: &CompletionArgs) -> Result<u8> {
    let failed = |what: &str| {
        Error::new(
            Kind::Internal,
            format!("cannot write the script for {}: {what}", args.shell),
        )
    };
    let shells = Shells::builtins();
    let shell = shells
        .completer(&args.shell)
        .ok_or_else(|| failed("unknown shell"))?;
    let mut script = Vec::new();
    shell
        .write_registration(VARIABLE, "sampan", "sampan", "sampan", &mut script)
        .map_err(|error| failed(&error.to_string()))?;
    app.ui.bytes(&script);
    Ok(0)
}
