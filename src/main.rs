//! The `sampan` program: everything is in the library, see [`sampan::commands::main`].

use std::process::ExitCode;

fn main() -> ExitCode {
    sampan::commands::main()
}
