//! The same variables for programs: text, JSON, YAML.

use serde_json::{Map, Value};

use super::{Change, Environment, Shell};
use crate::error::{Error, Kind, Result};

/// How variables are told where no shell reads them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notation {
    /// `K=V`, one a line.
    Text,
    /// One object of texts; an array of names for what is removed.
    Json,
    /// The same.
    Yaml,
}

/// The two that minikube always tells, so that scripts find them.
const AGENT: [&str; 2] = ["SSH_AUTH_SOCK", "SSH_AGENT_PID"];

/// Variables to set, or names to remove, with a newline at the end.
///
/// # Errors
/// None that a value can cause; the serializer's own.
pub fn notate(notation: Notation, changes: &[Change], remove: bool, user: Environment<'_>) -> Result<String> {
    let value = if remove {
        Value::Array(changes.iter().map(|(name, _)| name.clone().into()).collect())
    } else {
        let told = changes
            .iter()
            .map(|(name, value)| (name.clone(), value.clone().unwrap_or_default().into()));
        let agent = AGENT.map(|name| (name.to_owned(), user(name).unwrap_or_default().into()));
        Value::Object(told.chain(agent).collect::<Map<_, _>>())
    };
    let internal = |error: String| Error::new(Kind::Internal, "cannot write variables").because(error);
    match notation {
        Notation::Text => Ok(Shell::None.lines(changes)),
        Notation::Json => Ok(format!("{value}\n")),
        Notation::Yaml => yaml_serde::to_string(&value).map_err(|error| internal(error.to_string())),
    }
}
