//! What the head of an answer says: which version of a file this is, which bytes of it come, and how long to wait.

use std::time::Duration;

use reqwest::header::{
    CONTENT_LENGTH, CONTENT_RANGE, DATE, ETAG, HeaderMap, HeaderName, LAST_MODIFIED, RETRY_AFTER,
};
use serde::{Deserialize, Serialize};
use time::format_description::well_known::Rfc2822;
use time::{Duration as Span, OffsetDateTime};

/// A version of a file on a server, as it stands beside the part that was fetched of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Version {
    /// Where the bytes come from.
    pub(super) place: String,
    /// What `If-Range` is asked with: a strong ETag, or the time of the last change.
    pub(super) validator: String,
    /// Of the whole, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) size: Option<u64>,
}

/// What comes of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Body {
    /// All of it. Without a version it cannot be gone on with when it is cut.
    Whole {
        size: Option<u64>,
        version: Option<Version>,
    },
    /// The rest, from where we asked for it.
    Rest { size: Option<u64> },
    /// Something that we did not ask for.
    Other,
}

/// What a 200 brings.
pub(super) fn whole(headers: &HeaderMap, place: &str) -> Body {
    let size = number(headers, CONTENT_LENGTH);
    let version = validator(headers).map(|validator| Version {
        place: place.to_owned(),
        validator,
        size,
    });
    Body::Whole { size, version }
}

/// What a 206 brings, when bytes from `at` on were asked for of `version`.
pub(super) fn rest(headers: &HeaderMap, at: u64, version: &Version) -> Body {
    let range = text(headers, CONTENT_RANGE).and_then(range);
    let same = validator(headers).is_none_or(|validator| validator == version.validator);
    match range {
        Some((first, last, size))
            if first == at
                && same
                && (size.is_none() || version.size.is_none() || size == version.size)
                && size
                    .or(version.size)
                    .is_none_or(|size| last.checked_add(1) == Some(size)) =>
        {
            Body::Rest {
                size: size.or(version.size),
            }
        }
        _ => Body::Other,
    }
}

/// `bytes 5-9/10`: first, last, and the size of the whole where it is known.
fn range(text: &str) -> Option<(u64, u64, Option<u64>)> {
    let (unit, rest) = text.trim().split_once(' ')?;
    let (range, size) = rest.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let size = match size.trim() {
        "*" => None,
        size => Some(size.parse().ok()?),
    };
    let (first, last) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
    (unit.eq_ignore_ascii_case("bytes") && first <= last).then_some((first, last, size))
}

/// What tells this version from all others, byte by byte. A weak ETag does not; a time does when the file was not changed in
/// the same second as the answer was given.
fn validator(headers: &HeaderMap) -> Option<String> {
    match text(headers, ETAG) {
        Some(tag) if tag.starts_with('"') => return Some(tag.to_owned()),
        _ => {}
    }
    let modified = text(headers, LAST_MODIFIED)?;
    let given = date(text(headers, DATE)?)?;
    (given - date(modified)? >= Span::seconds(1)).then(|| modified.to_owned())
}

/// How long the server asks to be left alone: seconds, or a time.
pub(super) fn retry_after(headers: &HeaderMap, now: OffsetDateTime) -> Option<Duration> {
    let text = text(headers, RETRY_AFTER)?.trim();
    match text.parse() {
        Ok(seconds) => Some(Duration::from_secs(seconds)),
        Err(_) => Some(Duration::try_from(date(text)? - now).unwrap_or_default()),
    }
}

fn date(text: &str) -> Option<OffsetDateTime> {
    OffsetDateTime::parse(text, &Rfc2822).ok()
}

fn number(headers: &HeaderMap, name: HeaderName) -> Option<u64> {
    text(headers, name)?.trim().parse().ok()
}

fn text(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&str, &str)]) -> HeaderMap {
        lines
            .iter()
            .map(|(name, value)| (name.parse::<HeaderName>().unwrap(), value.parse().unwrap()))
            .collect()
    }

    fn version() -> Version {
        Version {
            place: "p".into(),
            validator: "\"v1\"".into(),
            size: Some(10),
        }
    }

    #[test]
    fn only_a_strong_validator_is_kept() {
        let of = |lines: &[(&str, &str)]| match whole(&headers(lines), "p") {
            Body::Whole { version, .. } => version.map(|version| version.validator),
            other => unreachable!("{other:?}"),
        };
        let earlier = ("last-modified", "Fri, 20 Nov 2026 10:00:00 GMT");
        let now = ("date", "Sat, 21 Nov 2026 10:00:00 GMT");
        let at_once = ("date", "Fri, 20 Nov 2026 10:00:00 GMT");
        assert_eq!(of(&[("etag", "\"a\""), earlier, now]).as_deref(), Some("\"a\""));
        assert_eq!(
            of(&[("etag", "W/\"a\""), earlier, now]).as_deref(),
            Some(earlier.1)
        );
        assert_eq!(of(&[earlier, at_once]), None);
        assert_eq!(of(&[earlier]), None);
        assert_eq!(of(&[("etag", "W/\"a\"")]), None);
    }

    #[test]
    fn only_the_rest_of_the_same_version_goes_on() {
        let answer = |range: &str, tag: &str| {
            rest(
                &headers(&[("content-range", range), ("etag", tag)]),
                4,
                &version(),
            )
        };
        let rest_of_10 = Body::Rest { size: Some(10) };
        assert_eq!(answer("bytes 4-9/10", "\"v1\""), rest_of_10);
        assert_eq!(answer("bytes 4-9/*", "\"v1\""), rest_of_10);
        assert_eq!(
            rest(&headers(&[("content-range", "bytes 4-9/10")]), 4, &version()),
            rest_of_10
        );
        for range in [
            "bytes 0-9/10",
            "bytes 5-9/10",
            "bytes 4-8/10",
            "bytes 4-10/11",
            "bytes */10",
            "lines 4-9/10",
            "bytes 4-9",
        ] {
            assert_eq!(answer(range, "\"v1\""), Body::Other, "{range}");
        }
        assert_eq!(answer("bytes 4-9/10", "\"v2\""), Body::Other);
        assert_eq!(rest(&headers(&[]), 4, &version()), Body::Other);
    }

    #[test]
    fn a_server_says_how_long_it_wants_to_be_left_alone() {
        let now = date("Sat, 21 Nov 2026 10:00:00 GMT").unwrap();
        let of = |value: &str| retry_after(&headers(&[("retry-after", value)]), now);
        assert_eq!(of("7"), Some(Duration::from_secs(7)));
        assert_eq!(of("Sat, 21 Nov 2026 10:01:00 GMT"), Some(Duration::from_secs(60)));
        assert_eq!(of("Sat, 21 Nov 2026 09:00:00 GMT"), Some(Duration::ZERO));
        assert_eq!(of("soon"), None);
    }
}
