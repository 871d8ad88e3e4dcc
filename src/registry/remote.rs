//! A repository of a registry, over the network: who we are to it, what it gives, and how often it is asked.

use std::time::{Duration, Instant};

use futures_util::StreamExt;
use oci_client::client::BlobResponse;
use oci_client::errors::OciDistributionError;
use oci_client::secrets::RegistryAuth;
use oci_client::{Client, Reference, RegistryOperation};
use tokio::sync::OnceCell;

use super::blobs::{Blobs, Fetch, Part};
use super::problem::{self, Trouble};
use super::{Blob, Credentials, called, http, login, manifest};
use crate::error::{Error, Kind, Result};
use crate::fetch::{Mirror, Settings};
use crate::progress::{Bar, Cancel, Unit};
use crate::settings::registries::may_be_insecure;

/// How often the user is asked about whether to go on.
const TICK: Duration = Duration::from_millis(100);

/// How long a registry may take for something small, altogether.
const ANSWER: Duration = Duration::from_secs(60);

/// The longest pause between two tries.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// A repository, and who we are to it.
pub(super) struct Session {
    client: Client,
    auth: RegistryAuth,
    /// Something is known of the user.
    known: bool,
    /// Asked for instead of the registry: host and path, without a scheme.
    mirror: Option<String>,
    stall: Duration,
    pause: Duration,
    /// Set once the registry has let us in.
    open: OnceCell<()>,
}

impl Session {
    /// Finds out how a registry is spoken to. Asks it only where it need not speak TLS, or where the user's login is to be changed for
    /// another one first.
    pub(super) async fn open(
        settings: &Settings,
        credentials: Credentials<'_>,
        insecure: &[String],
        reference: &Reference,
    ) -> Result<Self> {
        let mut mirror = None;
        let (plain, any_certificate) = match &settings.mirror {
            Some(Mirror::Url(url)) => {
                let (scheme, rest) = url.split_once("://").unwrap_or(("https", url));
                mirror = Some(format!("{}/{}", rest.trim_end_matches('/'), reference.registry()));
                (scheme == "http", false)
            }
            _ if may_be_insecure(reference.registry(), insecure) => {
                let tls = http::speaks_tls(settings, reference.registry()).await?;
                (!tls, tls)
            }
            _ => (false, false),
        };
        // Who the user is to a registry is no mirror's business.
        let login = match mirror {
            Some(_) => None,
            None => credentials(reference.registry())?,
        };
        let known = login.is_some();
        let client = http::library(settings, plain, any_certificate)?;
        let scheme = if plain { "http" } else { "https" };
        let auth = match login {
            None => RegistryAuth::Anonymous,
            Some(login) => {
                login::auth(&http::own(settings, any_certificate)?, scheme, reference, login).await?
            }
        };
        Ok(Self {
            client,
            auth,
            known,
            mirror,
            stall: settings.stall,
            pause: settings.pause,
            open: OnceCell::new(),
        })
    }

    /// What messages call an image.
    pub(super) fn place(&self, reference: &Reference) -> String {
        match &self.mirror {
            Some(mirror) => format!("{} from {mirror}", called(reference)),
            None => called(reference),
        }
    }

    fn trouble(&self, error: OciDistributionError, place: &str, reference: &Reference) -> Trouble {
        problem::of(error, place, reference.registry(), self.known)
    }

    /// The reference as it is asked for.
    fn asked(&self, reference: &Reference) -> Reference {
        let mut reference = reference.clone();
        if let Some(mirror) = &self.mirror {
            reference.set_mirror_registry(mirror.clone());
        }
        reference
    }

    /// A manifest or an index.
    pub(super) async fn manifest(&self, reference: &Reference, fetch: &Fetch<'_>) -> Result<Vec<u8>> {
        let (asked, place) = (self.asked(reference), self.place(reference));
        let mut tries = Tries::new(self, fetch);
        loop {
            let answer = within(ANSWER, fetch.cancel, &place, async {
                self.let_in(&asked).await?;
                let pulled = self
                    .client
                    .pull_manifest_raw(&asked, &self.auth, manifest::ACCEPTED);
                let (bytes, _) = pulled.await?;
                Ok(bytes)
            });
            match answer.await {
                Ok(Ok(bytes)) => return Ok(bytes),
                Ok(Err(error)) => tries.after(self.trouble(error, &place, reference)).await?,
                Err(trouble) => tries.after(trouble).await?,
            }
        }
    }

    /// Shows who we are, once.
    async fn let_in(&self, asked: &Reference) -> Result<(), OciDistributionError> {
        let enter = async || {
            let entered = self.client.auth(asked, &self.auth, RegistryOperation::Pull);
            entered.await.map(drop)
        };
        self.open.get_or_try_init(enter).await.map(drop)
    }

    /// Makes a blob be in the store.
    pub(super) async fn blob(
        &self,
        blobs: &Blobs,
        reference: &Reference,
        blob: &Blob,
        title: &str,
        fetch: &Fetch<'_>,
    ) -> Result<()> {
        let Some(mut part) = blobs.claim(blob, fetch.cancel).await? else {
            return Ok(());
        };
        let bar = fetch.reporter.bar(title, Some(blob.size), Unit::Bytes);
        bar.advance(part.len);
        let place = format!("{} of {}", short(&blob.digest), self.place(reference));
        let asked = self.asked(reference);
        let mut tries = Tries::new(self, fetch);
        let mut resumed = part.len > 0;
        loop {
            let before = part.len;
            let come = async {
                if !part.is_whole() {
                    let came = self.stream(&asked, blob, &mut part, &place, &*bar, fetch.cancel);
                    resumed &= !came.await?;
                }
                Ok(())
            };
            match come.await {
                Ok(()) if part.is_whole() => match part.finish(&place) {
                    // What was there before may be of something else: once more, from the beginning.
                    Err(error) if resumed && error.kind() == Kind::Checksum => {
                        resumed = false;
                        match blobs.claim(blob, fetch.cancel).await? {
                            Some(anew) => part = anew,
                            None => return Ok(()),
                        }
                    }
                    finished => return finished,
                },
                Ok(()) => {
                    let message = format!("{place} was cut after {} of {} bytes", part.len, blob.size);
                    let error = Error::new(Kind::Internet, message);
                    let error = error.hint("run the same command again: it goes on where it stopped");
                    tries
                        .after_getting(part.len > before, Trouble::Passing(error))
                        .await?;
                }
                Err(trouble) => tries.after_getting(part.len > before, trouble).await?,
            }
        }
    }

    /// Takes what the registry sends of a blob, from where it stands; says whether that was all of it anew.
    async fn stream(
        &self,
        asked: &Reference,
        blob: &Blob,
        part: &mut Part,
        place: &str,
        bar: &dyn Bar,
        cancel: &Cancel,
    ) -> Result<bool, Trouble> {
        let trouble = |error| self.trouble(error, place, asked);
        let answer = self
            .client
            .pull_blob_stream_partial(asked, blob.digest.as_str(), part.len, None);
        let answer = within(self.stall * 2, cancel, place, answer)
            .await?
            .map_err(trouble)?;
        let (mut stream, anew) = match answer {
            BlobResponse::Full(stream) => {
                part.start_over().map_err(Trouble::Final)?;
                (stream, true)
            }
            BlobResponse::Partial(stream) => (stream, false),
        };
        while let Some(bytes) = within(self.stall, cancel, place, stream.next()).await? {
            match bytes {
                Ok(bytes) => part.take(&bytes, place, Some(bar)).map_err(Trouble::Final)?,
                // The library looks at the sum of what came as a whole; so do we.
                Err(_) if part.is_whole() => break,
                Err(error) => {
                    let message = format!("{place} was cut after {} of {} bytes", part.len, blob.size);
                    let error = Error::new(Kind::Internet, message).because(problem::chain(&error));
                    let hint = "run the same command again: it goes on where it stopped";
                    return Err(Trouble::Passing(error.hint(hint)));
                }
            }
        }
        Ok(anew)
    }
}

/// Counts tries and rests between them.
struct Tries<'a> {
    fetch: &'a Fetch<'a>,
    pause: Duration,
    first_pause: Duration,
    left: u32,
}

impl<'a> Tries<'a> {
    fn new(session: &Session, fetch: &'a Fetch<'a>) -> Self {
        Self {
            fetch,
            pause: session.pause,
            first_pause: session.pause,
            left: fetch.retries,
        }
    }

    /// As [`Self::after`]; whoever got on may try as often as at first.
    async fn after_getting(&mut self, on: bool, trouble: Trouble) -> Result<()> {
        if on {
            (self.left, self.pause) = (self.fetch.retries, self.first_pause);
        }
        self.after(trouble).await
    }

    /// Rests, longer each time; or gives up.
    async fn after(&mut self, trouble: Trouble) -> Result<()> {
        self.fetch.cancel.check()?;
        match trouble {
            Trouble::Passing(error) if self.left > 0 => {
                self.left -= 1;
                self.fetch.reporter.detail(&format!("trying again: {error}"));
                let end = Instant::now() + self.pause;
                while Instant::now() < end {
                    self.fetch.cancel.check()?;
                    tokio::time::sleep(TICK.min(end.saturating_duration_since(Instant::now()))).await;
                }
                self.pause = (self.pause * 2).min(LONGEST_PAUSE);
                Ok(())
            }
            trouble => Err(trouble.into_error()),
        }
    }
}

/// Waits for something, but not too long, nor when the user has asked to stop.
async fn within<T>(
    deadline: Duration,
    cancel: &Cancel,
    place: &str,
    work: impl Future<Output = T>,
) -> Result<T, Trouble> {
    let end = Instant::now() + deadline;
    let mut work = std::pin::pin!(work);
    loop {
        if let Ok(done) = tokio::time::timeout(TICK, &mut work).await {
            return Ok(done);
        }
        cancel.check().map_err(Trouble::Final)?;
        if Instant::now() >= end {
            let message = format!("{place}: nothing came for {} s", deadline.as_secs());
            return Err(Trouble::Passing(Error::new(Kind::InternetTimeout, message).hint(
                "check the network, then run the same command again: it goes on where it stopped",
            )));
        }
    }
}

/// "the layer sha256:0123456789ab".
fn short(digest: &str) -> String {
    format!("the part {}", digest.get(..19).unwrap_or(digest))
}
