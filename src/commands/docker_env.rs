//! `docker-env`: what points the user's `docker` to the cluster. `podman-env`: why not.

use std::ffi::OsString;
use std::net::SocketAddr;

use sampan_driver::{Command, Host, Runner};

use crate::cli::docker_env::{DockerEnvArgs, EnvFormat};
use crate::cluster;
use crate::docker_env::{self, Endpoint, Notation, Shell, Store, Written};
use crate::error::{Error, Kind, Result};
use crate::layout::Layout;
use crate::progress::Reporter;

use super::{App, host};

pub(super) fn run(app: &App, args: &DockerEnvArgs) -> Result<u8> {
    let result = if args.context {
        context(app, args.unset)
    } else {
        variables(app, args)
    };
    result.map(|()| 0).inspect_err(|error| fail(app, args, error))
}

/// What makes `eval` fail, for whoever evaluates what a failed run printed.
fn fail(app: &App, args: &DockerEnvArgs, error: &Error) {
    let told = notation(args).is_some_and(|notation| notation != Notation::Text);
    if !told && !args.context {
        evaluate_to_failure(&app.ui, shell(args), error.kind().exit_code());
    }
}

/// On a terminal nobody evaluates, and a person reads the error.
fn evaluate_to_failure(ui: &crate::ui::Ui, shell: Shell, status: u8) {
    use std::io::IsTerminal;
    if !std::io::stdout().is_terminal() {
        ui.bytes(shell.failure(status).as_bytes());
    }
}

/// The same for a command line that is none.
pub(super) fn fail_for(ui: &crate::ui::Ui, words: &[OsString], status: u8) {
    if words
        .iter()
        .any(|word| word == "docker-env" || word == "podman-env")
    {
        evaluate_to_failure(ui, detected(), status);
    }
}

pub(super) fn podman(app: &App) -> Result<u8> {
    let error = Error::new(
        Kind::Usage,
        "there is no Podman in sampan's machines, so podman-env has nothing to point to",
    )
    .hint("use docker with `eval $(sampan docker-env)`; podman builds can be brought in: podman save IMAGE | sampan image load -");
    evaluate_to_failure(&app.ui, detected(), error.kind().exit_code());
    Err(error)
}

fn variables(app: &App, args: &DockerEnvArgs) -> Result<()> {
    let profile = app.profile()?;
    if args.ssh_add && !args.ssh_host {
        return Err(Error::new(Kind::Usage, "--ssh-add is for --ssh-host only")
            .hint("leave it out: over TLS docker needs no key of ssh's"));
    }
    let changes = if args.unset {
        docker_env::unset(args.no_proxy, &host::variable)
    } else {
        set(app, args, &profile)?
    };
    let text = match notation(args) {
        Some(notation) => docker_env::notate(notation, &changes, args.unset, &host::variable)?,
        None => {
            let shell = shell(args);
            let hint = if args.unset {
                String::new()
            } else {
                shell.hint(&profile)
            };
            shell.lines(&changes) + &hint
        }
    };
    app.ui.bytes(text.as_bytes());
    Ok(())
}

fn set(app: &App, args: &DockerEnvArgs, profile: &str) -> Result<Vec<docker_env::Change>> {
    let layout = app.layout()?;
    let access = cluster::access(&app.context()?, profile)?;
    if args.ssh_host {
        if args.ssh_add {
            add_key(&layout, profile)?;
        }
        let endpoint = Endpoint::Ssh {
            address: access.target.address,
            user: &access.target.user,
        };
        return Ok(docker_env::set(
            profile,
            &endpoint,
            args.no_proxy,
            &host::variable,
        ));
    }
    let address = address(&access.profile)?;
    let certificates = layout.profile(profile).docker();
    docker_env::check_certificates(&certificates)?;
    let endpoint = Endpoint::Tls {
        address,
        certificates: &certificates,
    };
    Ok(docker_env::set(
        profile,
        &endpoint,
        args.no_proxy,
        &host::variable,
    ))
}

/// Where a cluster's Docker is reached.
pub(super) fn address(profile: &cluster::Profile) -> Result<SocketAddr> {
    if profile.docker_port == 0 {
        let name = &profile.spec.name;
        return Err(Error::new(
            Kind::NotFound,
            format!("cluster \"{name}\" was made by an older sampan, without Docker"),
        )
        .hint(format!(
            "make it anew: `sampan delete -p {name}`, then `sampan start -p {name}`"
        )));
    }
    Ok(SocketAddr::new(profile.address, profile.docker_port))
}

fn add_key(layout: &Layout, profile: &str) -> Result<()> {
    if host::variable("SSH_AUTH_SOCK").is_none() {
        return Err(
            Error::new(Kind::HostTool, "there is no SSH agent to add the key to")
                .hint("start one first: eval $(ssh-agent)"),
        );
    }
    let add = Command::new("ssh-add").path(&layout.profile(profile).ssh_key());
    Host.run(&add).map(drop).map_err(Error::from)
}

/// The notation for programs that is asked for; the format does not matter to a shell.
fn notation(args: &DockerEnvArgs) -> Option<Notation> {
    if args
        .shell
        .as_deref()
        .is_some_and(|name| Shell::named(name) != Shell::None)
    {
        return None;
    }
    match args.output {
        Some(EnvFormat::Json) => Some(Notation::Json),
        Some(EnvFormat::Yaml) => Some(Notation::Yaml),
        Some(EnvFormat::Text) if args.shell.is_some() => Some(Notation::Text),
        _ => None,
    }
}

fn shell(args: &DockerEnvArgs) -> Shell {
    args.shell.as_deref().map_or_else(detected, Shell::named)
}

/// The user's shell; without SHELL the one that runs this program, as in a minimal container.
fn detected() -> Shell {
    match host::variable("SHELL") {
        Some(path) => Shell::named(&path),
        None => host::parent_program()
            .and_then(|name| Shell::of_program(&name))
            .unwrap_or(Shell::Bash),
    }
}

fn context(app: &App, remove: bool) -> Result<()> {
    let profile = app.profile()?;
    let layout = app.layout()?;
    let store = store(&layout)?;
    if remove {
        app.ui.info(&if store.remove(&profile)? {
            format!("removed the Docker context \"{profile}\"")
        } else {
            format!("there is no Docker context \"{profile}\" of sampan's")
        });
        return Ok(());
    }
    let access = cluster::access(&app.context()?, &profile)?;
    let address = address(&access.profile)?;
    let certificates = layout.profile(&profile).docker();
    docker_env::check_certificates(&certificates)?;
    let done = match store.write(&profile, address, &certificates)? {
        Written::Made => "made",
        Written::Renewed => "renewed",
    };
    app.ui.info(&format!(
        "{done} the Docker context \"{profile}\": `docker --context {profile} ps`, or `docker context use {profile}` for all that follows"
    ));
    Ok(())
}

/// The contexts of the user's `docker`.
fn store(layout: &Layout) -> Result<Store> {
    Ok(Store::new(host::docker_config()?, &layout.data))
}

/// Removes the context of a profile that is gone. That nobody can tell where contexts are means that there is none.
pub(super) fn forget_context(app: &App, profile: &str) -> Result<()> {
    match store(&app.layout()?) {
        Ok(store) => store.remove(profile).map(drop),
        Err(_) => Ok(()),
    }
}

/// Has the context of a profile, if there is one, lead to where the machine is now, with the certificates it knows now.
pub(super) fn renew_context(app: &App, profile: &str) -> Result<()> {
    let layout = app.layout()?;
    let Ok(store) = store(&layout) else { return Ok(()) };
    if store.has(profile) {
        let known = cluster::load(&layout, profile)?;
        store.write(profile, address(&known)?, &layout.profile(profile).docker())?;
    }
    Ok(())
}
