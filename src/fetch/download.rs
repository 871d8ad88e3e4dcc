//! One object: from what it must be to a verified file in the store.

use std::cell::{Cell, RefCell};
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use reqwest::header::{ACCEPT_ENCODING, IF_RANGE, RANGE};
use reqwest::{Response, StatusCode, Url};
use time::OffsetDateTime;
use tokio::time::timeout;

use super::answer::{self, Body, Version};
use super::client::Client;
use super::mirror::{self, Place};
use super::part::{self, Part, Writer};
use super::patience::Patience;
use super::sums::{self, Found, Sum};
use super::trouble::{self, Again, Trouble};
use super::{Expect, Fetched, Object, Settings, Trust, first_use};
use crate::error::{Error, Kind, Result};
use crate::layout::DownloadsLayout;
use crate::progress::{Bar, Cancel, Reporter, Unit};
use crate::store::lock::{self, Lock};

/// Nothing that is fetched is larger, unless it says so.
const MOST: u64 = 8 << 30;
/// Files of sums are smaller.
const MOST_SUMS: u64 = 4 << 20;
/// Fewer bytes than this within the time of a stall are as good as none.
const TRICKLE: u64 = 4 << 10;
/// How often a waiting process looks again.
const POLL: Duration = Duration::from_millis(50);
/// The disk is not filled to the last byte.
const SPARE: u64 = 1 << 20;

/// One object with all that it takes to fetch it.
pub(super) struct Download<'a> {
    pub(super) layout: &'a DownloadsLayout,
    pub(super) settings: &'a Settings,
    pub(super) client: &'a Client,
    pub(super) object: &'a Object,
    pub(super) reporter: &'a dyn Reporter,
    pub(super) cancel: &'a Cancel,
}

/// What something must be, and why.
struct Proof {
    sum: Sum,
    trust: Trust,
}

impl Download<'_> {
    pub(super) async fn run(&self) -> Result<Fetched> {
        let proof = self.proof().await?;
        if let Some(fetched) = self.there(&proof) {
            return Ok(fetched);
        }
        let id = part::id(&self.object.url);
        let lock = self.lock(&self.layout.part_lock(&id)).await?;
        // Whoever had the lock may have fetched it.
        let proof = match proof.sum {
            Sum::Any => self.proof().await?,
            _ => proof,
        };
        if let Some(fetched) = self.there(&proof) {
            return Ok(fetched);
        }
        let part = Part::of(self.layout, &id, lock);
        let found = self.verified(&part, &proof).await?;
        let path = part::keep(&part, self.layout, &found).await?;
        if proof.sum == Sum::Any {
            self.trust(&found)?;
        }
        Ok(self.fetched(path, found.sha256, found.size, proof.trust))
    }

    /// What the object must be.
    async fn proof(&self) -> Result<Proof> {
        let (sum, trust) = match &self.object.expect {
            Expect::Sha256(sum) => (Sum::pinned(sum, 64)?, Trust::Pinned),
            Expect::Sha512(sum) => (Sum::pinned(sum, 128)?, Trust::Pinned),
            Expect::Published { url } => (self.published(url).await?, Trust::Published { url: url.clone() }),
            Expect::FirstUse => {
                let known = first_use::known(self.layout, &self.object.url)?;
                let sum = known.map_or(Ok(Sum::Any), |sum| Sum::pinned(&sum, 64))?;
                (sum, Trust::FirstUse)
            }
        };
        Ok(Proof { sum, trust })
    }

    /// What a file of sums says of the object.
    async fn published(&self, url: &str) -> Result<Sum> {
        let place = mirror::place(url, self.settings.mirror.as_ref())?;
        let mut patience = Patience::new(self.settings);
        let text = loop {
            match self.small(&place).await {
                Ok(text) => break text,
                Err(trouble) => self.pause(patience.after(trouble, 0)?).await,
            }
        };
        let file = self.object.url.split(['?', '#']).next().unwrap_or_default();
        let file = file.rsplit('/').next().unwrap_or_default();
        sums::published(&String::from_utf8_lossy(&text), file).map_err(|what| {
            Error::new(Kind::Checksum, format!("{place}: {what}"))
                .hint("without a checksum nothing is fetched; check the address of the file of sums")
        })
    }

    /// A small file, whole.
    async fn small(&self, place: &Place) -> Result<Vec<u8>, Trouble> {
        let mut source = self.open(place, None).await?.source;
        let mut text = Vec::new();
        while let Some(piece) = source.next(self.settings.stall).await? {
            text.extend_from_slice(&piece);
            if text.len() as u64 > MOST_SUMS {
                return Err(too_large(place, MOST_SUMS).into());
            }
        }
        Ok(text)
    }

    /// The object as it is in the store already.
    fn there(&self, proof: &Proof) -> Option<Fetched> {
        let path = match &proof.sum {
            Sum::Sha256(sum) => self.layout.sha256(sum),
            Sum::Sha512(sum) => self.layout.sha512(sum).canonicalize().ok()?,
            Sum::Any => return None,
        };
        let meta = path.metadata().ok().filter(std::fs::Metadata::is_file)?;
        let sha256 = path.file_name()?.to_string_lossy().into_owned();
        Some(self.fetched(path, sha256, meta.len(), proof.trust.clone()))
    }

    fn fetched(&self, path: std::path::PathBuf, sha256: String, size: u64, trust: Trust) -> Fetched {
        Fetched {
            path,
            url: self.object.url.clone(),
            sha256,
            size,
            trust,
        }
    }

    /// Waits for another process that fetches the same; it ends, or gives up, by itself.
    async fn lock(&self, path: &Path) -> Result<Lock> {
        let mut told = false;
        loop {
            if let Some(lock) = Lock::try_acquire(path)? {
                return Ok(lock);
            }
            if !told {
                told = true;
                let holder = lock::holder(path).map_or_else(String::new, |holder| {
                    format!(" (process {}: {})", holder.pid, holder.command)
                });
                let name = &self.object.name;
                self.reporter
                    .info(&format!("waiting for {name}: another sampan fetches it{holder}"));
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Fetches until the part is whole and what it must be.
    async fn verified(&self, part: &Part, proof: &Proof) -> Result<Found> {
        let place = mirror::place(&self.object.url, self.settings.mirror.as_ref())?;
        let shown = Shown::default();
        let mut patience = Patience::new(self.settings);
        let mut begun_anew = false;
        loop {
            let there = part.begun(&place.to_string()).is_some();
            let found = match self.attempt(&place, part, &proof.sum, &shown).await {
                Ok(found) => found,
                Err(trouble) => {
                    self.pause(patience.after(trouble, part.len())?).await;
                    continue;
                }
            };
            if proof.sum.allows(&found) {
                return Ok(found);
            }
            part.forget()?;
            // What was there may have been damaged, by a crash for one.
            if !there || begun_anew {
                return Err(self.wrong(&place, proof, &found));
            }
            begun_anew = true;
            self.reporter.warn(&format!(
                "{}: what was fetched before does not fit what was fetched now; it is fetched anew",
                self.object.name
            ));
        }
    }

    async fn pause(&self, pause: super::patience::Pause) {
        let (number, most) = (pause.number, pause.most);
        tracing::debug!(error = %pause.error, wait = ?pause.wait, "trying again");
        self.reporter.detail(&format!(
            "{}; trying again in {:.0} s ({number} of {most})",
            pause.error,
            pause.wait.as_secs_f32().ceil()
        ));
        tokio::time::sleep(pause.wait).await;
    }

    /// One try to get what is missing.
    async fn attempt(&self, place: &Place, part: &Part, sum: &Sum, shown: &Shown) -> Result<Found, Trouble> {
        let begun = part.begun(&place.to_string());
        if let Some((length, version)) = &begun
            && version.size == Some(*length)
        {
            shown.at(self, *length, version.size);
            return Ok(part.append(*length, sum)?.finish().await?);
        }
        let Opened { source, body } = self.open(place, begun.as_ref()).await?;
        let (at, size) = match (&body, &begun) {
            (Body::Whole { size, .. }, _) => (0, *size),
            (Body::Rest { size }, Some((length, _))) => (*length, *size),
            _ => {
                part.forget()?;
                let error = Error::new(
                    Kind::Internet,
                    format!("{place}: the server sent other bytes than were asked for"),
                );
                return Err(Trouble {
                    error: error.hint("run the same command again"),
                    again: Again::Anew,
                });
            }
        };
        let most = self.object.most.unwrap_or(MOST);
        if size.is_some_and(|size| size > most) {
            part.forget()?;
            return Err(too_large(place, most).into());
        }
        if let Body::Whole { .. } = body {
            // What is to be replaced gives its room.
            part.forget()?;
        }
        self.room(part, size.map(|size| size.saturating_sub(at)))?;
        let writer = match &body {
            Body::Whole { version, .. } => part.write(version.as_ref(), sum)?,
            _ => part.append(at, sum)?,
        };
        shown.at(self, at, size);
        let limit = size.unwrap_or(most);
        let arrived = self.receive(place, source, &writer, shown, at, limit).await;
        // The disk's error is the cause where there is one.
        let found = writer.finish().await.map_err(|error| self.full(error, size));
        if let Err(Trouble {
            again: Again::Never, ..
        }) = &arrived
        {
            part.forget()?;
        }
        let found = found?;
        arrived?;
        if let (Place::Url(url), Some(size)) = (place, size)
            && found.size < size
        {
            return Err(Trouble::cut(url, found.size, None));
        }
        Ok(found)
    }

    /// Receives all that comes, from byte `at` on, and hands it to the writer.
    async fn receive(
        &self,
        place: &Place,
        mut source: Source,
        writer: &Writer,
        shown: &Shown,
        at: u64,
        limit: u64,
    ) -> Result<(), Trouble> {
        let mut at = at;
        let (mut since, mut before) = (Instant::now(), at);
        while let Some(piece) = source.next(self.settings.stall).await? {
            let length = piece.len() as u64;
            at += length;
            if at > limit {
                return Err(too_large(place, limit).into());
            }
            if !writer.write(piece).await {
                return Ok(());
            }
            shown.advance(length);
            if since.elapsed() > self.settings.stall {
                if let (true, Place::Url(url)) = (at - before < TRICKLE, place) {
                    return Err(Trouble::stalled(url, self.settings.stall));
                }
                (since, before) = (Instant::now(), at);
            }
        }
        Ok(())
    }

    /// Asks for a file, or for what is missing of it.
    async fn open(&self, place: &Place, begun: Option<&(u64, Version)>) -> Result<Opened, Trouble> {
        let url = match place {
            Place::Url(url) => url,
            Place::File(path) => return self.open_file(path),
        };
        let mut request = self
            .client
            .http
            .get(url.clone())
            .header(ACCEPT_ENCODING, "identity");
        if let Some((length, version)) = begun {
            request = request
                .header(RANGE, format!("bytes={length}-"))
                .header(IF_RANGE, &version.validator);
        }
        let response = timeout(self.settings.stall, request.send())
            .await
            .map_err(|_| Trouble::stalled(url, self.settings.stall))?
            .map_err(|error| trouble::unanswered(self.client, url, error))?;
        let headers = response.headers();
        let body = match (response.status(), begun) {
            (StatusCode::OK, _) => answer::whole(headers, url.as_str()),
            (StatusCode::PARTIAL_CONTENT, Some((length, version))) => answer::rest(headers, *length, version),
            (StatusCode::RANGE_NOT_SATISFIABLE, Some(_)) => Body::Other,
            (status, _) => {
                let wait = answer::retry_after(headers, OffsetDateTime::now_utc());
                return Err(trouble::status(
                    self.client,
                    url,
                    status,
                    wait,
                    self.settings.patience,
                ));
            }
        };
        let source = Source::Net(
            url.clone(),
            Box::new(response),
            begun.map_or(0, |(length, _)| *length),
        );
        Ok(Opened { source, body })
    }

    fn open_file(&self, path: &Path) -> Result<Opened, Trouble> {
        let opened = File::open(path).and_then(|file| Ok((file.metadata()?, file)));
        let (meta, file) = match opened {
            Ok((meta, file)) if meta.is_file() => (meta, file),
            Ok(_) => return Err(trouble::missing(&path.display().to_string(), self.client.mirror()).into()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(trouble::missing(&path.display().to_string(), self.client.mirror()).into());
            }
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

    /// Looks ahead whether so many bytes fit on the disk.
    fn room(&self, part: &Part, needed: Option<u64>) -> Result<()> {
        let (Some(needed), Some(dir)) = (needed, part.path.parent()) else {
            return Ok(());
        };
        let disk = rustix::fs::statvfs(dir).map_err(|error| Error::io(dir)(error.into()))?;
        let free = disk.f_bavail.saturating_mul(disk.f_frsize);
        if needed.saturating_add(SPARE) <= free {
            return Ok(());
        }
        let message = format!(
            "no space left on device for {}: it takes {} MB more, and {} has {} MB free",
            self.object.name,
            needed.div_ceil(1_000_000),
            dir.display(),
            free / 1_000_000
        );
        Err(Error::new(Kind::Storage, message).hint(FULL))
    }

    /// An error of the disk in the middle.
    fn full(&self, error: Error, size: Option<u64>) -> Error {
        if error.kind() != Kind::Storage {
            return error;
        }
        let whole = size.map_or_else(String::new, |size| {
            format!(" (it has {} MB in all)", size.div_ceil(1_000_000))
        });
        let message = format!("{}: no space left on device{whole}", self.object.name);
        Error::new(Kind::Storage, message).hint(FULL).because(error)
    }

    /// Bytes that are not what they should be; they are deleted already.
    fn wrong(&self, place: &Place, proof: &Proof, found: &Found) -> Error {
        let name = &self.object.name;
        let (is, must) = match &proof.sum {
            Sum::Sha512(sum) => (found.sha512.clone().unwrap_or_default(), format!("sha512 {sum}")),
            Sum::Sha256(sum) => (found.sha256.clone(), format!("sha256 {sum}")),
            Sum::Any => (found.sha256.clone(), String::new()),
        };
        let (why, hint) = match &proof.trust {
            Trust::Pinned => ("must have".to_owned(), HINT_WRONG.to_owned()),
            Trust::Published { url } => (format!("must have by {url}"), HINT_WRONG.to_owned()),
            Trust::FirstUse => (
                "had at its first use".to_owned(),
                format!(
                    "it has changed since; if that is meant to be, remove its line from {}",
                    self.layout.first_use().display()
                ),
            ),
        };
        let message =
            format!("{name}: {place} is not the file that was expected: it has {is}, and {why} {must}");
        Error::new(Kind::Checksum, message).hint(hint)
    }

    /// Remembers what came, and says so.
    fn trust(&self, found: &Found) -> Result<()> {
        let (url, sum) = (&self.object.url, &found.sha256);
        first_use::record(self.layout, url, sum, self.cancel, self.reporter)?;
        self.reporter.info(&format!(
            "{}: upstream publishes no checksum of it; sha256 {sum} is trusted from now on",
            self.object.name
        ));
        Ok(())
    }
}

const HINT_WRONG: &str = "it was deleted; run the same command again, and if it fails in the same way, a server or proxy on the way \
                          sends something else: fetch it from elsewhere (setting mirror)";
const FULL: &str = "free some space, or move the cache to a larger disk (SAMPAN_CACHE); what was fetched is kept and gone on with";

fn too_large(place: &Place, most: u64) -> Error {
    Error::new(Kind::Internet, format!("{place}: the server sends more than the {most} bytes that it may have"))
        .hint("what came was deleted; check the address, and whether a proxy on the way answers in the server's place")
}

/// An answer whose head was read.
struct Opened {
    source: Source,
    body: Body,
}

/// Where bytes come from.
enum Source {
    /// With the address, and the number of bytes that were there before.
    Net(Url, Box<Response>, u64),
    File(std::path::PathBuf, File),
}

impl Source {
    /// The next piece; nothing at the end.
    async fn next(&mut self, stall: Duration) -> Result<Option<Bytes>, Trouble> {
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
                let mut piece = vec![0; 256 * 1024];
                let count = file.read(&mut piece).map_err(|error| Error::io(path)(error))?;
                piece.truncate(count);
                // So that Ctrl-C and other downloads get their turn.
                tokio::task::yield_now().await;
                Ok((count > 0).then(|| piece.into()))
            }
        }
    }
}

/// The bar, once it is known how much there is.
#[derive(Default)]
struct Shown {
    bar: RefCell<Option<Box<dyn Bar>>>,
    at: Cell<u64>,
}

impl Shown {
    /// It goes on, or begins anew, at this byte.
    fn at(&self, download: &Download<'_>, at: u64, size: Option<u64>) {
        let mut bar = self.bar.borrow_mut();
        if bar.is_none() || at < self.at.get() {
            // First the old one goes away.
            *bar = None;
            *bar = Some(download.reporter.bar(&download.object.name, size, Unit::Bytes));
            self.at.set(0);
        }
        drop(bar);
        self.advance(at - self.at.get());
    }

    fn advance(&self, by: u64) {
        self.at.set(self.at.get() + by);
        if let Some(bar) = &*self.bar.borrow() {
            bar.advance(by);
        }
    }
}
