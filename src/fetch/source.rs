//! Where bytes come from: a server, or a mirror's directory.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{ACCEPT_ENCODING, IF_RANGE, RANGE};
use reqwest::{Response, StatusCode, Url};
use time::OffsetDateTime;
use tokio::time::timeout;

use super::Settings;
use super::answer::{self, Body, Version};
use super::client::Client;
use super::mirror::Place;
use super::trouble::{self, Trouble};
use crate::error::{Error, Kind};

/// How much of a file is read at once.
const PIECE: usize = 256 * 1024;

/// An answer whose head was read.
pub(super) struct Opened {
    pub(super) source: Source,
    pub(super) body: Body,
}

/// What gives the bytes of a body.
pub(super) enum Source {
    /// With the number of bytes that are there.
    Net(Url, Box<Response>, u64),
    File(PathBuf, File),
}

/// Asks for a file, or for what is missing of it.
pub(super) async fn open(
    client: &Client,
    settings: &Settings,
    place: &Place,
    begun: Option<&(u64, Version)>,
) -> Result<Opened, Trouble> {
    let url = match place {
        Place::Url(url) => url,
        Place::File(path) => return open_file(client, path),
    };
    // What is encoded on the way has other sums.
    let mut request = client.http.get(url.clone()).header(ACCEPT_ENCODING, "identity");
    if let Some((length, version)) = begun {
        request = request
            .header(RANGE, format!("bytes={length}-"))
            .header(IF_RANGE, &version.validator);
    }
    let response = timeout(settings.stall, request.send())
        .await
        .map_err(|_| Trouble::stalled(url, settings.stall))?
        .map_err(|error| trouble::unanswered(client, url, error))?;
    let headers = response.headers();
    let (body, at) = match (response.status(), begun) {
        (StatusCode::OK, _) => (answer::whole(headers, url.as_str()), 0),
        (StatusCode::PARTIAL_CONTENT, Some((at, version))) => (answer::rest(headers, *at, version), *at),
        (StatusCode::RANGE_NOT_SATISFIABLE, Some(_)) => (Body::Other, 0),
        (status, _) => {
            let wait = answer::retry_after(headers, OffsetDateTime::now_utc());
            return Err(trouble::status(client, url, status, wait, settings.patience));
        }
    };
    Ok(Opened {
        source: Source::Net(url.clone(), Box::new(response), at),
        body,
    })
}

fn open_file(client: &Client, path: &Path) -> Result<Opened, Trouble> {
    let opened = File::open(path).and_then(|file| Ok((file.metadata()?, file)));
    let missing = || trouble::missing(&path.display().to_string(), client.mirror());
    let (meta, file) = match opened {
        Ok((meta, file)) if meta.is_file() => (meta, file),
        Ok(_) => return Err(missing().into()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Err(missing().into()),
        Err(error) => return Err(Error::io(path)(error).into()),
    };
    Ok(Opened {
        source: Source::File(path.to_owned(), file),
        body: Body::Whole {
            size: Some(meta.len()),
            version: None,
        },
    })
}

impl Source {
    /// The next piece; nothing at the end.
    pub(super) async fn next(&mut self, stall: Duration) -> Result<Option<Bytes>, Trouble> {
        match self {
            Self::Net(url, response, at) => {
                let piece = timeout(stall, response.chunk())
                    .await
                    .map_err(|_| Trouble::stalled(url, stall))?
                    .map_err(|error| Trouble::cut(url, *at, Some(error)))?;
                *at += piece.as_ref().map_or(0, |piece| piece.len() as u64);
                Ok(piece)
            }
            Self::File(path, file) => {
                let mut piece = vec![0; PIECE];
                let count = file.read(&mut piece).map_err(Error::io(path))?;
                piece.truncate(count);
                // So that Ctrl-C and other downloads get their turn.
                tokio::task::yield_now().await;
                Ok((count > 0).then(|| piece.into()))
            }
        }
    }
}

/// A server that sends more than it may; what came of it is deleted.
pub(super) fn too_large(place: &Place, most: u64) -> Error {
    let message = format!("{place}: the server sends more than the {most} bytes that it may have");
    Error::new(Kind::Internet, message).hint(
        "what came was deleted; check the address, and whether a proxy on the way answers in the server's place",
    )
}
