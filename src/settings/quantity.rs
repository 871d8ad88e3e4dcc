//! How people write amounts: sizes ("4g", "4096", "20000mb"), durations ("6m", "1m30s"), yes and no.

use std::time::Duration;

/// An amount of something the host has: a number, or all of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Amount {
    /// This much.
    Of(u64),
    /// As much as the host can give.
    Max,
}

/// A size in MiB. A bare number is MiB; units are powers of 1024 however they are spelt ("4g", "4GB", "4 GiB").
///
/// # Errors
/// What is wrong with it, in words.
pub fn size_mib(text: &str) -> Result<Amount, String> {
    let text = text.trim().to_lowercase();
    if text == "max" {
        return Ok(Amount::Max);
    }
    let digits = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: f64 = number.parse().map_err(|_| not_a_size())?;
    let mib = match unit.trim() {
        "" | "m" | "mb" | "mib" => 1.0,
        "b" => 1.0 / 1024.0 / 1024.0,
        "k" | "kb" | "kib" => 1.0 / 1024.0,
        "g" | "gb" | "gib" => 1024.0,
        "t" | "tb" | "tib" => 1024.0 * 1024.0,
        _ => return Err(not_a_size()),
    };
    let size = number * mib;
    if !(1.0..=1e12).contains(&size) {
        return Err("is not a size between 1 MiB and what a computer can have".to_owned());
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "checked to be in range just above"
    )]
    Ok(Amount::Of(size as u64))
}

fn not_a_size() -> String {
    "is not a size; write 4096, 4096mb or 4g".to_owned()
}

/// A number of CPUs, or "max" (minikube's "no-limit" means the same here).
///
/// # Errors
/// What is wrong with it, in words.
pub fn count(text: &str) -> Result<Amount, String> {
    match text.trim() {
        "max" | "no-limit" => Ok(Amount::Max),
        number => number
            .parse()
            .map(Amount::Of)
            .map_err(|_| "is not a number; write 2, or max for all of the host's".to_owned()),
    }
}

/// A duration as Go writes it: "6m", "90s", "1m30s", "1.5h", "500ms".
///
/// # Errors
/// What is wrong with it, in words.
pub fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || "is not a duration; write 90s, 6m or 1m30s".to_owned();
    let mut rest = text.trim();
    if rest == "0" {
        return Ok(Duration::ZERO);
    }
    if rest.is_empty() {
        return Err(wrong());
    }
    let mut seconds = 0.0;
    while !rest.is_empty() {
        let digits = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .ok_or_else(wrong)?;
        let (number, tail) = rest.split_at(digits);
        let number: f64 = number.parse().map_err(|_| wrong())?;
        let unit = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
        seconds += number
            * match &tail[..unit] {
                "ms" => 0.001,
                "s" => 1.0,
                "m" => 60.0,
                "h" => 3600.0,
                _ => return Err(wrong()),
            };
        rest = &tail[unit..];
    }
    Duration::try_from_secs_f64(seconds).map_err(|_| wrong())
}

/// Yes or no, as Go and people write it.
///
/// # Errors
/// What is wrong with it, in words.
pub fn flag(text: &str) -> Result<bool, String> {
    match text.trim().to_lowercase().as_str() {
        "true" | "1" | "t" | "yes" | "on" => Ok(true),
        "false" | "0" | "f" | "no" | "off" | "" => Ok(false),
        _ => Err("is neither true nor false".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_minikube_reads_them() {
        for (text, mib) in [
            ("4g", 4096),
            ("4096", 4096),
            ("4096mb", 4096),
            ("20000mb", 20000),
            ("4 GiB", 4096),
            ("1.5g", 1536),
            ("2097152k", 2048),
            ("1t", 1024 * 1024),
        ] {
            assert_eq!(size_mib(text), Ok(Amount::Of(mib)), "{text}");
        }
        assert_eq!(size_mib("max"), Ok(Amount::Max));
        for text in ["", "g", "4x", "-4g", "4g4", "0", "1e99", "4.4.4g"] {
            assert!(size_mib(text).is_err(), "{text}");
        }
    }

    #[test]
    fn durations_are_read_as_go_writes_them() {
        for (text, seconds) in [
            ("6m", 360.0),
            ("90s", 90.0),
            ("6m0s", 360.0),
            ("1.5h", 5400.0),
            ("500ms", 0.5),
            ("0", 0.0),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_secs_f64(seconds)), "{text}");
        }
        for text in ["", "6", "m", "6 m", "6x", "-6m", "1..2s"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_is_too_strange(text in ".*") {
            let _ = (size_mib(&text), count(&text), duration(&text), flag(&text));
        }

        #[test]
        fn a_size_survives_its_unit(gib in 1_u64..1000) {
            proptest::prop_assert_eq!(size_mib(&format!("{gib}g")), size_mib(&format!("{}", gib * 1024)));
        }
    }
}
