//! Names of images as people write them and as Docker keeps them.

use crate::error::{Error, Kind, Result};

/// Looks whether a name can be one; what it names does not matter.
///
/// # Errors
/// [`Kind::Usage`].
pub fn check(name: &str) -> Result<()> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "._-/:@".contains(c);
    let climbs = name
        .split('/')
        .any(|part| part.is_empty() || part == "." || part == "..");
    if !name.is_empty() && name.chars().all(allowed) && !climbs {
        return Ok(());
    }
    Err(
        Error::new(Kind::Usage, format!("{name:?} is not a name of an image"))
            .hint("a name looks like app, app:1.2, or registry.example:5000/team/app:1.2"),
    )
}

/// "app" as "docker.io/library/app:latest".
pub fn full(name: &str) -> String {
    let (first, rest) = name.split_once('/').unwrap_or(("", name));
    let is_host = first.contains(['.', ':']) || first == "localhost";
    let path = match (first, is_host) {
        ("", _) => format!("docker.io/library/{rest}"),
        (_, true) => name.to_owned(),
        (_, false) => format!("docker.io/{name}"),
    };
    let last = path.rsplit('/').next().unwrap_or_default();
    if last.contains([':', '@']) {
        path
    } else {
        format!("{path}:latest")
    }
}

/// "app:1.2" as "app" and "1.2"; "latest" where no tag is named.
pub(crate) fn split(name: &str) -> (&str, &str) {
    match name.rfind(':') {
        Some(colon) if !name[colon..].contains('/') => (&name[..colon], &name[colon + 1..]),
        _ => (name, "latest"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_made_full() {
        for (name, whole) in [
            ("app", "docker.io/library/app:latest"),
            ("app:1", "docker.io/library/app:1"),
            ("team/app", "docker.io/team/app:latest"),
            ("localhost/app", "localhost/app:latest"),
            ("r.example:5000/app:2", "r.example:5000/app:2"),
            ("r.example:5000/app", "r.example:5000/app:latest"),
            ("app@sha256:00", "docker.io/library/app@sha256:00"),
        ] {
            assert_eq!(full(name), whole);
        }
        assert_eq!(split("r.example:5000/app"), ("r.example:5000/app", "latest"));
        assert_eq!(split("app:1"), ("app", "1"));
        for wrong in ["", "a b", "../a", "a//b", "a?b", "/a"] {
            assert!(check(wrong).is_err(), "{wrong}");
        }
        check("r.example:5000/app@sha256:00").unwrap();
    }
}
