//! `image load`.

use std::io::{IsTerminal, Read};
use std::path::Path;
use std::process::{Command as Process, Stdio};

use sampan_driver::Command;

use crate::cluster::Access;
use crate::error::{Error, Kind, Result};
use crate::images::archive::Archive;
use crate::images::{self, Loaded};
use crate::progress::Reporter;

use super::{App, Reached, arch, client, node};

pub(super) fn load(app: &App, reached: &Reached, image: &str) -> Result<()> {
    let archive = archive(image)?;
    let loaded = images::load(&reached.engine, &archive, &|| node(&reached.access)).inspect_err(|error| {
        if error.kind() == Kind::Storage {
            tidy(&reached.access);
        }
    })?;
    tell(app, &loaded);
    Ok(())
}

/// Frees what the node took of an image before its disk was full: it is nobody's, but containerd only looks after many more changes,
/// or when a lease is ended so. Docker may take a moment to let go of it.
fn tidy(access: &Access) {
    let script = include_str!("tidy");
    let tidied = access
        .runner()
        .and_then(|runner| Ok(runner.run(&Command::shell(script))?));
    if let Err(error) = tidied {
        tracing::debug!(%error, "the node does not tidy up");
    }
}

fn archive(image: &str) -> Result<Archive> {
    if image == "-" {
        let input = std::io::stdin();
        if input.is_terminal() {
            return Err(
                Error::new(Kind::Usage, "standard input is a terminal, not an archive")
                    .hint("`docker save NAME | sampan image load -`"),
            );
        }
        return Archive::read(&mut input.lock(), "standard input", arch());
    }
    let path = Path::new(image);
    if path.exists() {
        return Archive::open(path, arch());
    }
    let is_path = image.starts_with(['/', '.', '~'])
        || [".tar", ".gz", ".tgz", ".zst"]
            .iter()
            .any(|end| image.ends_with(end));
    if is_path {
        return Err(
            Error::new(Kind::HostPath, format!("{image}: there is no such file"))
                .hint("`docker save IMAGE -o FILE` makes an archive of an image"),
        );
    }
    images::check_name(image)?;
    from_docker(image)
}

/// An image of the Docker that the host's client points to.
fn from_docker(image: &str) -> Result<Archive> {
    let mut process = Process::new(client()?);
    process
        .args(["save", image])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .stdin(Stdio::null());
    let mut child = process.spawn().map_err(Error::io(Path::new("docker")))?;
    let output = child.stdout.take();
    let errors = child.stderr.take();
    // Nobody may wait for the other: what docker complains about is read beside what it saves.
    let said = std::thread::spawn(move || {
        let mut said = String::new();
        if let Some(mut errors) = errors {
            let _ = errors.read_to_string(&mut said);
        }
        said
    });
    let archive = match output {
        Some(mut output) => Archive::read(&mut output, image, arch()),
        None => Err(Error::new(Kind::Internal, "docker has no output")),
    };
    let status = child.wait().map_err(Error::io(Path::new("docker")))?;
    let said = said.join().unwrap_or_default();
    if status.success() {
        return archive;
    }
    Err(Error::new(
        Kind::HostTool,
        format!("the Docker of this host does not give {image}: {}", said.trim()),
    )
    .hint(format!(
        "name a file, or have the cluster fetch it: `sampan image pull {image}`"
    )))
}

fn tell(app: &App, loaded: &Loaded) {
    for name in &loaded.there {
        app.ui.info(&format!("{name} is there already: nothing was sent"));
    }
    if loaded.new.is_empty() {
        return;
    }
    app.ui.info(&format!(
        "loaded {}: {} bytes sent, {} bytes were there already",
        loaded.new.join(", "),
        loaded.sent,
        loaded.spared
    ));
}
