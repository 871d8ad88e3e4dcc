//! One object: from what it must be to a verified file in the store.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::answer::Body;
use super::client::Client;
use super::mirror::{self, Place};
use super::part::{self, Part, Writer};
use super::patience::{Patience, Pause};
use super::proof::Proof;
use super::shown::Shown;
use super::source::{self, Opened, Source};
use super::sums::{self, Found, Sum};
use super::trouble::{Again, Trouble};
use super::{Expect, Fetched, Object, Settings, Trust, first_use, room};
use crate::error::{Error, Kind, Result};
use crate::layout::DownloadsLayout;
use crate::progress::{Cancel, Reporter};
use crate::store::lock::{self, Lock};

/// Nothing that is fetched is larger, unless it says so.
const MOST: u64 = 8 << 30;
/// Files of sums are smaller.
const MOST_SUMS: u64 = 4 << 20;
/// Fewer bytes than this within the time of a stall are as good as none.
const TRICKLE: u64 = 4 << 10;
/// How often a waiting process looks again.
const POLL: Duration = Duration::from_millis(50);

/// One object with all that it takes to fetch it.
pub(super) struct Download<'a> {
    pub(super) layout: &'a DownloadsLayout,
    pub(super) settings: &'a Settings,
    pub(super) client: &'a Client,
    pub(super) object: &'a Object,
    pub(super) reporter: &'a dyn Reporter,
    pub(super) cancel: &'a Cancel,
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
            Expect::FirstUse => return Proof::of_first_use(self.layout, &self.object.url),
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
        let mut source = source::open(self.client, self.settings, place, None)
            .await?
            .source;
        let mut text = Vec::new();
        while let Some(piece) = source.next(self.settings.stall).await? {
            text.extend_from_slice(&piece);
            if text.len() as u64 > MOST_SUMS {
                return Err(source::too_large(place, MOST_SUMS).into());
            }
        }
        Ok(text)
    }

    /// The object as it is in the store already.
    fn there(&self, proof: &Proof) -> Option<Fetched> {
        let sha256 = match &proof.sum {
            Sum::Sha256(sum) => sum.clone(),
            Sum::Sha512(sum) => {
                let link = self.layout.sha512(sum).read_link().ok()?;
                link.file_name()?.to_string_lossy().into_owned()
            }
            Sum::Any => return None,
        };
        let path = self.layout.sha256(&sha256);
        let meta = path.metadata().ok().filter(std::fs::Metadata::is_file)?;
        Some(self.fetched(path, sha256, meta.len(), proof.trust.clone()))
    }

    fn fetched(&self, path: PathBuf, sha256: String, size: u64, trust: Trust) -> Fetched {
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
        let shown = Shown::new(self.reporter, &self.object.name);
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
                return Err(proof.failed(&self.object.name, &place, &found, self.layout));
            }
            begun_anew = true;
            self.reporter.warn(&format!(
                "{}: what was fetched before does not fit what was fetched now; it is fetched anew",
                self.object.name
            ));
        }
    }

    async fn pause(&self, pause: Pause) {
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
    async fn attempt(
        &self,
        place: &Place,
        part: &Part,
        sum: &Sum,
        shown: &Shown<'_>,
    ) -> Result<Found, Trouble> {
        let begun = part.begun(&place.to_string());
        if let Some((length, version)) = &begun
            && version.size == Some(*length)
        {
            shown.at(*length, version.size);
            return Ok(part.append(*length, sum)?.finish().await?);
        }
        let Opened { source, body } = source::open(self.client, self.settings, place, begun.as_ref()).await?;
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
            return Err(source::too_large(place, most).into());
        }
        if let Body::Whole { .. } = body {
            // What is to be replaced gives its room.
            part.forget()?;
        }
        if let (Some(size), Some(dir)) = (size, part.path.parent()) {
            room::check(&self.object.name, dir, size.saturating_sub(at))?;
        }
        let writer = match &body {
            Body::Whole { version, .. } => part.write(version.as_ref(), sum)?,
            _ => part.append(at, sum)?,
        };
        shown.at(at, size);
        let limit = size.unwrap_or(most);
        let arrived = self.receive(place, source, &writer, shown, at, limit).await;
        // The disk's error is the cause where there is one.
        let found = writer.finish().await.map_err(|error| {
            let missing = size.map(|size| size.saturating_sub(part.len()));
            room::explain(error, &self.object.name, missing)
        });
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
        shown: &Shown<'_>,
        at: u64,
        limit: u64,
    ) -> Result<(), Trouble> {
        let mut at = at;
        let (mut waited, mut before) = (Duration::ZERO, at);
        loop {
            let began = Instant::now();
            let Some(piece) = source.next(self.settings.stall).await? else {
                return Ok(());
            };
            waited += began.elapsed();
            let length = piece.len() as u64;
            at += length;
            if at > limit {
                return Err(source::too_large(place, limit).into());
            }
            if !writer.write(piece).await {
                return Ok(());
            }
            shown.advance(length);
            if waited > self.settings.stall {
                if let (true, Place::Url(url)) = (at - before < TRICKLE, place) {
                    return Err(Trouble::stalled(url, self.settings.stall));
                }
                (waited, before) = (Duration::ZERO, at);
            }
        }
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
