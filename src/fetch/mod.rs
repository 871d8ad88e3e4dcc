//! Downloads: from upstream or a mirror into `CACHE/downloads`, several side by side, gone on with after a cut, and never used
//! before they are verified.
//!
//! What is fetched of an address grows in `parts/`; only what has the sum it should have is moved to `sha256/`, so whatever is there may
//! be used. The library reads no environment: proxies and the like come in [`Settings`].

mod answer;
mod client;
mod download;
mod first_use;
mod mirror;
mod part;
mod patience;
mod proof;
mod room;
mod settings;
mod shown;
mod source;
mod sums;
mod trouble;

use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::stream::{self, StreamExt, TryStreamExt};
use tokio::runtime::{self, Runtime};

use crate::error::{Error, Kind, Result};
use crate::layout::DownloadsLayout;
use crate::progress::{Cancel, Reporter};
use client::Client;
use mirror::Place;

pub use mirror::Mirror;
pub use settings::Settings;

/// How it is known what an object must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expect {
    /// It has this sha256, in hex.
    Sha256(String),
    /// It has this sha512, in hex.
    Sha512(String),
    /// What a file beside it says: a bare sum, lines as `sha256sum` prints them, or `SHA512 (NAME) = SUM`. That file is asked for each time.
    Published {
        /// Of that file.
        url: String,
    },
    /// Whatever comes first; from then on it must be the same.
    FirstUse,
}

/// Something to be fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    /// What people read: in bars and messages.
    pub name: String,
    /// Where upstream has it.
    pub url: String,
    /// How it is known what it must be.
    pub expect: Expect,
    /// It has at most this many bytes; else 8 GiB.
    pub most: Option<u64>,
}

/// What the sum of something was known from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trust {
    /// From the [`Object`] itself.
    Pinned,
    /// From a file that upstream publishes.
    Published {
        /// Of that file.
        url: String,
    },
    /// From nowhere, at first.
    FirstUse,
}

/// Something that was fetched and is what it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// The file. It belongs to the store: link or copy it, never change it.
    pub path: PathBuf,
    /// Where upstream has it; a mirror may have been asked instead.
    pub url: String,
    /// In hex.
    pub sha256: String,
    /// In bytes.
    pub size: u64,
    /// What its sum was known from.
    pub trust: Trust,
}

/// Fetches things into one store. Connections are kept and reused.
pub struct Fetcher {
    layout: DownloadsLayout,
    settings: Settings,
    client: Client,
    runtime: Runtime,
}

impl Fetcher {
    /// A fetcher into `store` (`CACHE/downloads`). Does not touch the network.
    ///
    /// # Errors
    /// [`Kind::InternetConfig`] for a proxy, certificate file or mirror that cannot be used; the I/O error of the certificate file.
    pub fn new(store: &Path, settings: Settings) -> Result<Self> {
        let client = Client::new(&settings)?;
        let runtime = runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| Error::new(Kind::Internal, "cannot begin to fetch").because(error))?;
        Ok(Self {
            layout: DownloadsLayout(store.to_owned()),
            settings,
            client,
            runtime,
        })
    }

    /// Fetches objects that are not there yet, several side by side; returns all, in the order given. The first failure ends all of them;
    /// what came of the others is kept and gone on with the next time, also after [`Kind::Interrupted`].
    ///
    /// # Errors
    /// [`Kind::Checksum`] when something is not what it should be: then it is deleted. [`Kind::Unreachable`], [`Kind::Missing`],
    /// [`Kind::Refused`], [`Kind::InternetTimeout`] or [`Kind::Internet`] when a server does not give it; [`Kind::Storage`] when it does not
    /// fit on the disk; [`Kind::Interrupted`].
    pub fn fetch(
        &self,
        objects: &[Object],
        reporter: &dyn Reporter,
        cancel: &Cancel,
    ) -> Result<Vec<Fetched>> {
        let one = async |(number, object)| {
            let download = download::Download {
                layout: &self.layout,
                settings: &self.settings,
                client: &self.client,
                object,
                reporter,
                cancel,
            };
            download.run().await.map(|fetched| (number, fetched))
        };
        let all = async {
            let mut all: Vec<_> = stream::iter(objects.iter().enumerate())
                .map(one)
                .buffer_unordered(self.settings.parallel.max(1))
                .try_collect()
                .await?;
            all.sort_by_key(|(number, _)| *number);
            Ok(all.into_iter().map(|(_, fetched)| fetched).collect())
        };
        self.runtime.block_on(async {
            tokio::select! {
                result = all => result,
                () = asked(cancel) => Err(Error::interrupted()),
            }
        })
    }

    /// Whether a server, or the mirror that is asked instead, says within this time that it has something. One that refuses or does not
    /// know it may be a proxy or a portal, which answers for everybody.
    pub fn reachable(&self, url: &str, within: Duration) -> bool {
        let url = match mirror::place(url, self.settings.mirror.as_ref()) {
            Ok(Place::Url(url)) => url,
            Ok(Place::File(_)) => return true,
            Err(_) => return false,
        };
        self.runtime.block_on(async {
            let answer = self.client.http.head(url).send();
            let answer = tokio::time::timeout(within, answer).await;
            answer.is_ok_and(|answer| answer.is_ok_and(|answer| answer.status().is_success()))
        })
    }
}

/// Ends when the user has asked to stop.
async fn asked(cancel: &Cancel) {
    while !cancel.is_set() {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
