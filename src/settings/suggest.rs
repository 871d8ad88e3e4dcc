//! The nearest of the words that would have been right.

/// The candidate a mistyped word was most likely meant to be, if any is near enough.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    const NEAR_ENOUGH: f64 = 0.7;
    let word = word.to_lowercase();
    candidates
        .into_iter()
        .map(|candidate| (likeness(&word, &candidate.to_lowercase()), candidate))
        .filter(|(likeness, _)| *likeness >= NEAR_ENOUGH)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}

/// "did you mean `x`?", or what there is to choose from.
pub fn did_you_mean(word: &str, candidates: &[impl AsRef<str>]) -> String {
    let candidates: Vec<&str> = candidates.iter().map(AsRef::as_ref).collect();
    match nearest(word, candidates.iter().copied()) {
        Some(candidate) => format!("did you mean `{candidate}`?"),
        None => format!("choose one of {}", candidates.join(", ")),
    }
}

fn likeness(a: &str, b: &str) -> f64 {
    if a.len() >= 3 && b.starts_with(a) {
        return 0.99;
    }
    // The one sees what begins alike, the other what is a letter or two away.
    f64::midpoint(
        strsim::jaro_winkler(a, b),
        strsim::normalized_damerau_levenshtein(a, b),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_recognised_and_nonsense_is_not() {
        assert_eq!(nearest("qmeu", ["qemu", "virtualbox", "hyperkit"]), Some("qemu"));
        assert_eq!(nearest("strat", ["status", "start", "stop"]), Some("start"));
        assert_eq!(nearest("virtual", ["qemu", "virtualbox"]), Some("virtualbox"));
        assert_eq!(nearest("QEMU", ["qemu", "virtualbox"]), Some("qemu"));
        assert_eq!(nearest("xyz", ["qemu", "virtualbox"]), None);
        assert_eq!(did_you_mean("xyz", &["a", "b"]), "choose one of a, b");
    }
}
