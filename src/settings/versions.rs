//! Versions of Kubernetes: their order, and how those that there are are told.

use crate::error::{Error, Kind};

/// The numbers of a version, to compare: "v1.36.3" is 1, 36, 3.
pub(super) fn numbers(version: &str) -> Vec<u64> {
    version
        .trim_start_matches('v')
        .split(['.', '-'])
        .map_while(|part| part.parse().ok())
        .collect()
}

/// Whether a version comes after another one.
pub fn is_newer(version: &str, than: &str) -> bool {
    numbers(version) > numbers(than)
}

/// The error of a version that there is not, with those that there are.
pub(super) fn not_there(wanted: &str, versions: &[String]) -> Error {
    let oldest = versions.iter().map(|version| numbers(version)).min();
    let what = if oldest.is_some_and(|oldest| numbers(wanted) < oldest) {
        "is too old"
    } else {
        "is not known to this sampan"
    };
    Error::new(Kind::KubernetesUnsupported, format!("Kubernetes {wanted} {what}"))
        .hint(format!("choose from {}", spans(versions)))
}

/// Versions as people read them: "v1.36.0 to v1.36.5, v1.35.0 to v1.35.8". There are no gaps in what upstream has.
fn spans(versions: &[String]) -> String {
    let mut sorted: Vec<&String> = versions.iter().collect();
    sorted.sort_by_key(|version| std::cmp::Reverse(numbers(version)));
    let minor = |version: &str| version.rsplit_once('.').map(|(minor, _)| minor.to_owned());
    let spans = sorted.chunk_by(|a, b| minor(a) == minor(b));
    let spans = spans.map(|of_it| match of_it {
        [only] => (*only).clone(),
        [newest, .., oldest] => format!("{oldest} to {newest}"),
        [] => String::new(),
    });
    spans.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_there_is_not_is_told_with_what_there_is() {
        let versions = ["v1.36.3", "v1.36.10", "v1.36.9", "v1.34.0"].map(str::to_owned);
        let error = not_there("v1.33.9", &versions);
        assert_eq!(error.to_string(), "Kubernetes v1.33.9 is too old");
        assert_eq!(error.kind().exit_code(), 106);
        assert_eq!(error.hints(), ["choose from v1.36.3 to v1.36.10, v1.34.0"]);
        for unknown in ["v1.35.0", "v1.40", "v1.36.11"] {
            let error = not_there(unknown, &versions);
            assert_eq!(
                error.to_string(),
                format!("Kubernetes {unknown} is not known to this sampan")
            );
        }
    }
}
