//! The shells: how each sets and removes a variable, and how it is told to.

use super::Change;

/// A kind of shell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shell {
    /// bash, zsh, sh and all that is not known.
    Bash,
    /// fish.
    Fish,
    /// PowerShell.
    Powershell,
    /// The command processor of Windows.
    Cmd,
    /// csh and tcsh.
    Tcsh,
    /// Emacs Lisp.
    Emacs,
    /// No shell: `K=V`.
    None,
}

impl Shell {
    /// The shell of a name or of the path of its program.
    pub fn named(name: &str) -> Self {
        let base = name.rsplit(['/', '\\']).next().unwrap_or_default();
        let base = base.strip_suffix(".exe").unwrap_or(base);
        // A login shell's own name begins with a dash.
        match base.trim_start_matches('-') {
            "fish" => Self::Fish,
            "powershell" | "pwsh" => Self::Powershell,
            "cmd" => Self::Cmd,
            "tcsh" | "csh" => Self::Tcsh,
            "emacs" => Self::Emacs,
            "none" => Self::None,
            _ => Self::Bash,
        }
    }

    /// The shell of a program, if it is one.
    pub fn of_program(name: &str) -> Option<Self> {
        let known = [
            "bash",
            "zsh",
            "sh",
            "dash",
            "ksh",
            "fish",
            "powershell",
            "pwsh",
            "cmd",
            "tcsh",
            "csh",
        ];
        let base = name
            .rsplit('/')
            .next()
            .unwrap_or_default()
            .trim_start_matches('-');
        known.contains(&base).then(|| Self::named(base))
    }

    /// The lines that make changes, each ended by a newline.
    pub fn lines(self, changes: &[Change]) -> String {
        changes
            .iter()
            .map(|(name, value)| self.line(name, value.as_deref()) + "\n")
            .collect()
    }

    fn line(self, name: &str, value: Option<&str>) -> String {
        let Some(value) = value else {
            return match self {
                Self::Bash => format!("unset {name};"),
                Self::Fish => format!("set -e {name};"),
                Self::Powershell => format!("Remove-Item Env:\\\\{name}"),
                Self::Cmd => format!("SET {name}="),
                Self::Tcsh => format!("unsetenv {name};"),
                Self::Emacs => format!("(setenv \"{name}\" nil)"),
                Self::None => name.to_owned(),
            };
        };
        match self {
            Self::Bash => format!("export {name}=\"{}\"", escaped(value, "\\\"$`", '\\')),
            Self::Fish => format!("set -gx {name} \"{}\";", escaped(value, "\\\"$", '\\')),
            Self::Powershell => format!("$Env:{name} = \"{}\"", escaped(value, "`\"$", '`')),
            Self::Cmd => format!("SET {name}={}", escaped(value, "^&|<>", '^')),
            Self::Tcsh => format!("setenv {name} {};", tcsh(value)),
            Self::Emacs => format!("(setenv \"{name}\" \"{}\")", escaped(value, "\\\"", '\\')),
            Self::None => format!("{name}={value}"),
        }
    }

    /// What tells a person how to have the shell read the lines.
    pub fn hint(self, profile: &str) -> String {
        let title = "To point your shell to sampan's docker-daemon, run:";
        let command = format!("sampan -p {profile} docker-env");
        match self {
            Self::Bash => format!("\n# {title}\n# eval $({command})\n"),
            Self::Fish => format!("\n# {title}\n# {command} | source\n"),
            Self::Powershell => {
                format!("# {title}\n# & {command} --shell powershell | Invoke-Expression\n")
            }
            Self::Cmd => {
                format!("REM {title}\nREM @FOR /f \"tokens=*\" %i IN ('{command} --shell cmd') DO @%i\n")
            }
            // In backquotes everything becomes one line, where a comment would hide the rest.
            Self::Tcsh => format!("\n: \"{title}\"\n: eval `{command}`\n"),
            Self::Emacs => format!(
                ";; {title}\n;; (with-temp-buffer (shell-command \"{command} --shell emacs\" (current-buffer)) (eval-buffer))\n"
            ),
            Self::None => String::new(),
        }
    }

    /// What makes `eval` fail; nothing where nothing is evaluated.
    pub fn failure(self, status: u8) -> String {
        match self {
            Self::None => String::new(),
            Self::Emacs => format!("(error \"exit code {status}\")\n"),
            _ => format!("false exit code {status}\n"),
        }
    }
}

fn escaped(value: &str, special: &str, mark: char) -> String {
    let mut text = String::with_capacity(value.len());
    for character in value.chars() {
        if special.contains(character) {
            text.push(mark);
        }
        text.push(character);
    }
    text
}

/// tcsh has no way to write some characters between double quotes.
fn tcsh(value: &str) -> String {
    if value.contains(['"', '$', '`', '!', '\\']) {
        let inner = value.replace('\'', "'\\''").replace('!', "\\!");
        format!("'{inner}'")
    } else {
        format!("\"{value}\"")
    }
}
