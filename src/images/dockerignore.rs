//! `.dockerignore` by Docker's rules: the last pattern that matches a path or one of its parents decides; `*` and `?` do not cross
//! slashes, `**` does, `!` takes back.

use std::path::{Component, Path};

use crate::error::{Error, Kind, Result};

/// The patterns of one file.
#[derive(Debug, Default)]
pub(super) struct Ignore {
    patterns: Vec<Pattern>,
}

#[derive(Debug)]
struct Pattern {
    takes_back: bool,
    /// `**NAME` without other wildcards: any path with this end, even in the middle of a name.
    end: Option<String>,
    tokens: Vec<Token>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Letter(char),
    /// One character but a slash.
    Any,
    /// Some characters but no slash.
    Some,
    /// Directories, none too.
    Directories,
    /// All that is left.
    Rest,
    /// One of these ranges, or with true none of them.
    Class(bool, Vec<(char, char)>),
}

impl Ignore {
    /// Reads patterns; `place` is the file, for messages.
    ///
    /// # Errors
    /// [`Kind::Usage`] with the line of a pattern that is none.
    pub(super) fn parse(text: &str, place: &Path) -> Result<Self> {
        let mut patterns = Vec::new();
        for (number, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
            if line.starts_with('#') {
                continue;
            }
            let line = line.trim();
            let (takes_back, pattern) = match line.strip_prefix('!') {
                Some(rest) => (true, rest.trim()),
                None => (false, line),
            };
            if pattern.is_empty() && !takes_back {
                continue;
            }
            let wrong = |what: &str| {
                Error::new(
                    Kind::Usage,
                    format!("{}: line {}: {what}: {line:?}", place.display(), number + 1),
                )
                .hint("see https://docs.docker.com/build/concepts/context/#dockerignore-files")
            };
            if pattern.is_empty() {
                return Err(wrong("a pattern is missing"));
            }
            let clean = cleaned(pattern);
            let tokens = tokens(&clean).ok_or_else(|| wrong("not a pattern"))?;
            let plain = |text: &&str| !text.contains(['*', '?', '[', ']', '\\']);
            let end = clean.strip_prefix("**").filter(plain).map(str::to_owned);
            patterns.push(Pattern {
                takes_back,
                end,
                tokens,
            });
        }
        Ok(Self { patterns })
    }

    /// Whether something below an ignored directory may be wanted nevertheless.
    pub(super) fn takes_back(&self) -> bool {
        self.patterns.iter().any(|pattern| pattern.takes_back)
    }

    /// Whether a path, with slashes and relative to the context, is ignored.
    pub(super) fn ignores(&self, path: &str) -> bool {
        let mut ignored = false;
        for pattern in &self.patterns {
            if pattern.takes_back == ignored && pattern.matches_or_parent(path) {
                ignored = !pattern.takes_back;
            }
        }
        ignored
    }
}

impl Pattern {
    fn matches_or_parent(&self, path: &str) -> bool {
        let parents = path.match_indices('/').map(|(at, _)| &path[..at]);
        self.matches(path) || parents.into_iter().any(|parent| self.matches(parent))
    }

    fn matches(&self, path: &str) -> bool {
        if let Some(end) = &self.end {
            return path.ends_with(end.as_str()) || end.strip_prefix('/').is_some_and(|end| end == path);
        }
        let letters: Vec<char> = path.chars().collect();
        matches(&self.tokens, &letters)
    }
}

fn matches(tokens: &[Token], path: &[char]) -> bool {
    let Some((token, rest)) = tokens.split_first() else {
        return path.is_empty();
    };
    match token {
        Token::Rest => true,
        Token::Some => {
            let most = path.iter().position(|&c| c == '/').unwrap_or(path.len());
            (0..=most).any(|count| matches(rest, &path[count..]))
        }
        Token::Directories => {
            let starts = path
                .iter()
                .enumerate()
                .filter(|&(_, &c)| c == '/')
                .map(|(at, _)| at + 1);
            std::iter::once(0)
                .chain(starts)
                .any(|start| matches(rest, &path[start..]))
        }
        one => path
            .split_first()
            .is_some_and(|(&first, left)| one.is(first) && matches(rest, left)),
    }
}

impl Token {
    fn is(&self, letter: char) -> bool {
        match self {
            Self::Letter(wanted) => *wanted == letter,
            Self::Any => letter != '/',
            Self::Class(not, ranges) => {
                ranges
                    .iter()
                    .any(|&(first, last)| (first..=last).contains(&letter))
                    != *not
            }
            _ => false,
        }
    }
}

/// As Go's filepath.Clean, without the slash at the start.
fn cleaned(pattern: &str) -> String {
    let mut parts: Vec<String> = Vec::new();
    for part in Path::new(pattern).components() {
        match part {
            Component::Normal(name) => parts.push(name.to_string_lossy().into_owned()),
            Component::ParentDir if parts.last().is_some_and(|last| last != "..") => drop(parts.pop()),
            Component::ParentDir if !pattern.starts_with('/') => parts.push("..".to_owned()),
            _ => {}
        }
    }
    if parts.is_empty() {
        ".".to_owned()
    } else {
        parts.join("/")
    }
}

fn tokens(pattern: &str) -> Option<Vec<Token>> {
    let mut tokens = Vec::new();
    let mut letters = pattern.chars().peekable();
    while let Some(letter) = letters.next() {
        tokens.push(match letter {
            '*' if letters.next_if_eq(&'*').is_some() => {
                letters.next_if_eq(&'/');
                if letters.peek().is_none() {
                    Token::Rest
                } else {
                    Token::Directories
                }
            }
            '*' => Token::Some,
            '?' => Token::Any,
            '[' => class(&mut letters)?,
            '\\' => Token::Letter(letters.next()?),
            other => Token::Letter(other),
        });
    }
    Some(tokens)
}

/// What stands behind "[", to its "]".
fn class(letters: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Option<Token> {
    let not = letters.next_if_eq(&'^').is_some();
    let mut ranges = Vec::new();
    loop {
        let first = match letters.next()? {
            ']' if !ranges.is_empty() => return Some(Token::Class(not, ranges)),
            ']' | '-' => return None,
            '\\' => letters.next()?,
            letter => letter,
        };
        let mut last = first;
        if letters.next_if_eq(&'-').is_some() {
            last = match letters.next()? {
                ']' | '-' => return None,
                '\\' => letters.next()?,
                letter => letter,
            };
        }
        ranges.push((first, last));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ignores(patterns: &str, path: &str) -> bool {
        Ignore::parse(patterns, Path::new(".dockerignore"))
            .unwrap()
            .ignores(path)
    }

    #[test]
    fn paths_are_matched_by_dockers_rules() {
        for (patterns, path, is_ignored) in [
            ("a", "a", true),
            ("a", "a/b/c", true),
            ("a", "b/a", false),
            ("/a/", "a/x", true),
            ("./a/../b", "b", true),
            ("*", "a/b", true),
            ("*.log", "x.log", true),
            ("*.log", "a/x.log", false),
            ("*/*.log", "a/x.log", true),
            ("**/*.log", "x.log", true),
            ("**/*.log", "a/b/x.log", true),
            ("**/node_modules", "a/b/node_modules/c", true),
            ("**/node_modules", "node_modules", true),
            ("**/node_modules", "a/my_node_modules", false),
            ("**.log", "a/x.log", true),
            ("a/**", "a/b/c", true),
            ("a/**", "a", false),
            ("a/**/b", "a/b", true),
            ("a/**/b", "a/x/y/b", true),
            ("**", "any/thing", true),
            ("a?c", "abc", true),
            ("a?c", "a/c", false),
            ("[a-c]x", "bx", true),
            ("[^a-c]x", "bx", false),
            (r"\*", "*", true),
            (r"\*", "a", false),
            ("# a\n\n a \n", "a", true),
            ("\u{feff}a", "a", true),
            ("*\n!keep", "keep", false),
            ("*\n!keep", "keep/x", false),
            ("*\n!keep\nkeep/secret", "keep/secret", true),
            ("!keep\n*", "keep", true),
            ("docs\n!docs/*.md", "docs/a.md", false),
            ("docs\n!docs/*.md", "docs/a.txt", true),
            (".", "a", false),
            ("..", "a", false),
        ] {
            assert_eq!(ignores(patterns, path), is_ignored, "{patterns:?} and {path}");
        }
    }

    #[test]
    fn what_is_no_pattern_is_told_with_its_line() {
        for wrong in ["a\n[", "a\n!", "a\n[]a]", "a\nx\\"] {
            let error = Ignore::parse(wrong, Path::new(".dockerignore")).unwrap_err();
            assert!(
                error.to_string().starts_with(".dockerignore: line 2: "),
                "{error}"
            );
        }
    }
}
