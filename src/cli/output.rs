//! `-o`: the flag of most verbs, in the forms that several of them share.

use clap::{Args, ValueEnum};

/// How a verb that changes something talks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people
    #[default]
    Text,
    /// For scripts
    Json,
}

/// A table or JSON.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum TableFormat {
    /// For people
    #[default]
    Table,
    /// For scripts
    Json,
}

/// `-o` of a verb that tells what it does.
#[derive(Debug, Clone, Copy, Default, Args)]
pub struct EventOutput {
    /// text for people, or json for one event a line
    #[arg(
        id = "output",
        short = 'o',
        long = "output",
        value_enum,
        default_value_t,
        hide_possible_values = true,
        value_name = "FORMAT"
    )]
    pub format: Format,
}

/// `-o` of a verb that shows one thing.
#[derive(Debug, Clone, Copy, Default, Args)]
pub struct TextOutput {
    /// text for people, or json
    #[arg(
        id = "output",
        short = 'o',
        long = "output",
        value_enum,
        default_value_t,
        hide_possible_values = true,
        value_name = "FORMAT"
    )]
    pub format: Format,
}

/// `-o` of a verb that lists things.
#[derive(Debug, Clone, Copy, Default, Args)]
pub struct TableOutput {
    /// table, or json
    #[arg(
        id = "output",
        short = 'o',
        long = "output",
        value_enum,
        default_value_t,
        hide_possible_values = true,
        value_name = "FORMAT"
    )]
    pub format: TableFormat,
}
