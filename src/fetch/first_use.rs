//! Trust on first use: where upstream publishes no checksum, what came first is what must come ever after.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Kind, Result};
use crate::layout::DownloadsLayout;
use crate::progress::{Cancel, Reporter};
use crate::store::atomic;
use crate::store::lock::Lock;

/// Whoever else writes the record is done in a moment.
const DEADLINE: Duration = Duration::from_secs(60);

const HEAD: &str = "# sha256 of what was fetched from addresses that publish no checksum, as it was at first.\n\
                    # To trust something new in its place, remove its line.\n";

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    #[serde(default)]
    sha256: BTreeMap<String, String>,
}

/// The sum that an address had at its first use.
pub(super) fn known(layout: &DownloadsLayout, url: &str) -> Result<Option<String>> {
    Ok(read(layout)?.sha256.remove(url))
}

/// Writes down what an address has; somebody who holds the lock of the address.
pub(super) fn record(
    layout: &DownloadsLayout,
    url: &str,
    sha256: &str,
    cancel: &Cancel,
    reporter: &dyn Reporter,
) -> Result<()> {
    let lock = layout.first_use_lock();
    let _lock = Lock::acquire(&lock, "the record of first uses", DEADLINE, cancel, reporter)?;
    let mut record = read(layout)?;
    record.sha256.insert(url.to_owned(), sha256.to_owned());
    let text = toml::to_string(&record).map_err(|error| {
        Error::new(Kind::Internal, "the record of first uses cannot be written").because(error)
    })?;
    atomic::write(&layout.first_use(), 0o644, format!("{HEAD}{text}").as_bytes())
}

fn read(layout: &DownloadsLayout) -> Result<Record> {
    let path = layout.first_use();
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Record::default()),
        Err(error) => return Err(Error::io(&path)(error)),
    };
    toml::from_str(&text).map_err(|error| {
        Error::new(
            Kind::HostConfig,
            format!("{}: {}", path.display(), error.message()),
        )
        .hint("repair the line, or remove the file to trust what comes next anew")
    })
}
