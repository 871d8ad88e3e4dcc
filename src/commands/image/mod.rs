//! `image`: the images of the cluster's Docker, which are those that pods run.

mod bring;
mod build;
mod show;

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::process::{Command as Process, Stdio};

use sampan_driver::{Command, Host};

use crate::bundle;
use crate::cli::image::{ImageArgs, ImageVerb};
use crate::cluster::{self, Access};
use crate::error::{Error, Kind, Result};
use crate::images::{self, Engine, Said};
use crate::progress::Reporter;

use super::{App, docker_env, host};

/// A running cluster and its Docker.
struct Reached {
    access: Access,
    engine: Engine,
}

pub(super) fn run(app: &App, args: &ImageArgs) -> Result<u8> {
    check(&args.verb)?;
    let profile = app.profile()?;
    let access = cluster::access(&app.context()?, &profile)?;
    let address = docker_env::address(&access.profile)?;
    let engine = Engine::new(address, &app.layout()?.profile(&profile).docker())?;
    let reached = Reached { access, engine };
    let engine = &reached.engine;
    match &args.verb {
        ImageVerb::Ls { format } => show::list(app, &reached, *format),
        ImageVerb::Load { images, remote, .. } => images.iter().try_for_each(|image| {
            if *remote && !Path::new(image).exists() {
                return pull(app, engine, image);
            }
            bring::load(app, &reached, image)
        }),
        ImageVerb::Build { .. } => build::build(app, engine, &args.verb),
        ImageVerb::Save { image, file, .. } => save(app, engine, image, file.as_deref()),
        ImageVerb::Rm { images } => images.iter().try_for_each(|image| remove(engine, image)),
        ImageVerb::Tag { image, new } => engine.tag(image, new).map_err(|error| absent(error, image)),
        ImageVerb::Pull { images } => images.iter().try_for_each(|image| pull(app, engine, image)),
        ImageVerb::Push { images } => images.iter().try_for_each(|image| push(app, engine, image)),
    }?;
    Ok(0)
}

/// What is wrong with names shows before anything is asked of the cluster.
fn check(verb: &ImageVerb) -> Result<()> {
    let names: Vec<&String> = match verb {
        ImageVerb::Rm { images } | ImageVerb::Pull { images } | ImageVerb::Push { images } => {
            images.iter().collect()
        }
        ImageVerb::Tag { image, new } => vec![image, new],
        ImageVerb::Save { image, .. } => vec![image],
        ImageVerb::Build { tag, .. } => tag.iter().collect(),
        ImageVerb::Ls { .. } | ImageVerb::Load { .. } => Vec::new(),
    };
    names.into_iter().try_for_each(|name| images::check_name(name))
}

fn remove(engine: &Engine, image: &str) -> Result<()> {
    engine.remove(image).map_err(|error| match error.kind() {
        Kind::Exists => Error::new(Kind::Exists, format!("{image} is in use"))
            .because(error)
            .hint("remove the container first: `docker ps -a` with `eval $(sampan docker-env)`"),
        _ => absent(error, image),
    })
}

fn absent(error: Error, image: &str) -> Error {
    if error.kind() != Kind::NotFound {
        return error;
    }
    Error::new(Kind::Guest, format!("the cluster's Docker has no image {image}"))
        .hint("`sampan image ls` lists what there is; the node's own images are not Docker's and stay")
}

fn pull(app: &App, engine: &Engine, image: &str) -> Result<()> {
    images::check_name(image)?;
    let known = credentials(app, image);
    engine.pull(image, known.as_deref(), &mut |said| tell(app, said)).map_err(|error| {
        Error::new(Kind::Internet, format!("{image} cannot be pulled")).because(error).hint(
            "the node fetches it itself: look at the name and at the node's way to the registry; without network use `sampan image load`",
        )
    })
}

/// What the user's docker client knows to say to an image's registry. Where it cannot tell, many registries answer all the same.
fn credentials(app: &App, image: &str) -> Option<String> {
    let dir = host::docker_config().ok()?;
    images::credentials(&dir, image, &Host).unwrap_or_else(|error| {
        app.ui.warn(&format!("going on without credentials: {error}"));
        None
    })
}

fn push(app: &App, engine: &Engine, image: &str) -> Result<()> {
    let known = credentials(app, image);
    engine.push(image, known.as_deref(), &mut |said| tell(app, said)).map_err(|error| {
        if error.kind() == Kind::NotFound {
            return absent(error, image);
        }
        Error::new(Kind::Internet, format!("{image} cannot be pushed")).because(error).hint(
            "the node sends it itself: look at the name and at the node's way to the registry; `docker login` keeps a password for it",
        )
    })
}

/// Output goes where it is asked for; what Docker is doing is told as all progress is.
fn tell(app: &App, said: Said) {
    match said {
        Said::Text(text) => app.ui.bytes(text.as_bytes()),
        Said::Status(line) => app.ui.info(&line),
    }
}

fn save(app: &App, engine: &Engine, image: &str, file: Option<&str>) -> Result<()> {
    let mut archive = engine.save(image).map_err(|error| absent(error, image))?;
    let broke = |error: std::io::Error| {
        Error::new(Kind::Runtime, format!("{image} did not arrive whole")).because(error)
    };
    match file {
        Some("-") => {
            let mut buffer = vec![0; 256 * 1024];
            while app.ui.is_read() {
                let count = archive.read(&mut buffer).map_err(broke)?;
                if count == 0 {
                    break;
                }
                app.ui.bytes(&buffer[..count]);
            }
            Ok(())
        }
        Some(path) => {
            let path = Path::new(path);
            let dir = path
                .parent()
                .filter(|dir| !dir.as_os_str().is_empty())
                .unwrap_or(Path::new("."));
            let mut target = tempfile::Builder::new()
                .prefix(".sampan-")
                .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))
                .tempfile_in(dir)
                .map_err(Error::io(dir))?;
            copy(&mut *archive, target.as_file_mut(), path)?;
            target
                .persist(path)
                .map_err(|error| Error::io(path)(error.error))?;
            Ok(())
        }
        None => {
            let mut process = Process::new(client()?);
            process.arg("load").stdin(Stdio::piped()).stdout(Stdio::null());
            let mut child = process.spawn().map_err(Error::io(Path::new("docker")))?;
            if let Some(mut input) = child.stdin.take() {
                std::io::copy(&mut archive, &mut input).map_err(broke)?;
            }
            let status = child.wait().map_err(Error::io(Path::new("docker")))?;
            if status.success() {
                return Ok(());
            }
            Err(Error::new(Kind::HostTool, "`docker load` on this host failed")
                .hint("name a file instead: `sampan image save NAME FILE`"))
        }
    }
}

fn copy(source: &mut dyn std::io::Read, target: &mut File, path: &Path) -> Result<()> {
    let mut buffer = vec![0; 256 * 1024];
    loop {
        let count = source
            .read(&mut buffer)
            .map_err(|error| Error::new(Kind::Runtime, "the image did not arrive whole").because(error))?;
        if count == 0 {
            return target.sync_all().map_err(Error::io(path));
        }
        target.write_all(&buffer[..count]).map_err(Error::io(path))?;
    }
}

/// The user's `docker`.
fn client() -> Result<std::path::PathBuf> {
    host::find_program("docker").ok_or_else(|| {
        Error::new(Kind::HostTool, "there is no docker on this host to take images from or give them to")
            .hint("name a file: `sampan image load FILE.tar`, `sampan image save NAME FILE.tar`; or have the cluster fetch it: `sampan image pull NAME`")
    })
}

/// What the node has, asked by SSH. A node that does not tell gets all.
fn node(access: &Access) -> images::Node {
    let script = "df -B1 --output=avail /var/lib/containerd | tail -n 1; ctr -n moby content ls -q";
    let asked = access
        .runner()
        .and_then(|runner| Ok(runner.run(&Command::new("sh").args(["-c", script]))?));
    match asked {
        Ok(output) => images::Node::parse(&output.text()),
        Err(error) => {
            tracing::debug!(%error, "the node does not say what it has");
            images::Node::default()
        }
    }
}

/// The node's architecture, as Docker calls it.
fn arch() -> &'static str {
    bundle::arch()
}
