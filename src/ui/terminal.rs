//! What the terminal can do, and what the user wants of it.

use std::io::IsTerminal;

/// Where output goes and how it may look.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Terminal {
    /// Standard output takes colours.
    pub colour_out: bool,
    /// Standard error takes colours.
    pub colour_err: bool,
    /// Spinners and bars may be drawn (on standard error).
    pub progress: bool,
}

impl Terminal {
    /// Looks at the standard streams and at the environment: `NO_COLOR`, `CLICOLOR`, `CLICOLOR_FORCE` and `TERM`.
    pub fn detect(variable: &dyn Fn(&str) -> Option<String>) -> Self {
        Self::decide(
            std::io::stdout().is_terminal(),
            std::io::stderr().is_terminal(),
            variable,
        )
    }

    fn decide(out: bool, err: bool, variable: &dyn Fn(&str) -> Option<String>) -> Self {
        let said = |name: &str| variable(name).filter(|value| !value.is_empty());
        let dumb = said("TERM").is_none_or(|term| term == "dumb");
        let forced = said("CLICOLOR_FORCE").is_some_and(|value| value != "0");
        let refused = said("NO_COLOR").is_some() || said("CLICOLOR").is_some_and(|value| value == "0");
        let colour = |terminal: bool| !refused && (forced || (terminal && !dumb));
        Self {
            colour_out: colour(out),
            colour_err: colour(err),
            progress: out && err && !dumb,
        }
    }
}

/// A colour or weight of text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// Went well.
    Good,
    /// Went wrong.
    Bad,
    /// Could go wrong.
    Caution,
    /// Less important than the rest.
    Dim,
    /// More important than the rest.
    Bold,
}

impl Style {
    /// The text in this style, or as it is where colours are not wanted.
    pub fn paint(self, text: &str, colour: bool) -> String {
        let code = match self {
            Self::Good => "32",
            Self::Bad => "31",
            Self::Caution => "33",
            Self::Dim => "2",
            Self::Bold => "1",
        };
        if colour {
            format!("\u{1b}[{code}m{text}\u{1b}[0m")
        } else {
            text.to_owned()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decide(out: bool, err: bool, variables: &[(&str, &str)]) -> (bool, bool, bool) {
        let find = |name: &str| {
            variables
                .iter()
                .find(|(key, _)| *key == name)
                .map(|(_, value)| (*value).to_owned())
        };
        let terminal = Terminal::decide(out, err, &find);
        (terminal.colour_out, terminal.colour_err, terminal.progress)
    }

    #[test]
    fn colours_and_progress_follow_the_terminal_and_the_user() {
        let xterm = ("TERM", "xterm");
        assert_eq!(decide(true, true, &[xterm]), (true, true, true));
        assert_eq!(decide(false, true, &[xterm]), (false, true, false));
        assert_eq!(
            decide(true, true, &[xterm, ("NO_COLOR", "1")]),
            (false, false, true)
        );
        assert_eq!(decide(true, true, &[xterm, ("NO_COLOR", "")]), (true, true, true));
        assert_eq!(
            decide(true, true, &[xterm, ("CLICOLOR", "0")]),
            (false, false, true)
        );
        assert_eq!(decide(true, true, &[("TERM", "dumb")]), (false, false, false));
        assert_eq!(
            decide(false, false, &[("CLICOLOR_FORCE", "1")]),
            (true, true, false)
        );
    }
}
