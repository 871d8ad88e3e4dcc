//! One file per verb: flags -> library call -> output. With `cli` and `ui` this is the binary's side of the house: the only
//! code that reads the environment, knows the home directory and decides how the process ends.

mod addons;
mod app;
pub mod bundle;
mod cache;
mod completion;
mod config;
mod cp;
mod delete;
mod docker_env;
mod driver;
mod fork;
mod host;
mod image;
mod ip;
mod kubectl;
mod logs;
mod pause;
mod port;
mod profile;
mod service;
mod signals;
mod snapshot;
mod source;
mod ssh;
mod ssh_key;
mod start;
mod status;
mod stop;
mod supervise;
mod template;
mod tunnel;
mod update_context;
mod upstream;
mod version;

use std::ffi::OsString;
use std::process::ExitCode;

use crate::cli::snapshot::SnapshotVerb;
use crate::cli::{self, Cli, Format, Rejected, Verb};
use crate::error::Result;
use crate::ui::{Options, Terminal, Ui};

pub use app::App;

/// Runs the program.
pub fn main() -> ExitCode {
    let words: Vec<OsString> = std::env::args_os().collect();
    if completion::answer(&words) {
        return ExitCode::SUCCESS;
    }
    let terminal = Terminal::detect(&host::variable);
    let (ui, status) = match cli::parse(words.clone()) {
        Ok(cli) => {
            let ui = Ui::new(terminal, options(&cli));
            ui.start_logs();
            let result = run(App::new(ui.clone(), cli.global), cli.verb);
            (ui.clone(), status_of(&ui, result))
        }
        Err(Rejected::Help(text)) => {
            let ui = Ui::new(terminal, Options::default());
            let text = if terminal.colour_out {
                text.ansi().to_string()
            } else {
                text.to_string()
            };
            ui.bytes(text.as_bytes());
            (ui, 0)
        }
        Err(Rejected::Wrong(error)) => {
            let ui = Ui::new(terminal, Options::default());
            docker_env::fail_for(&ui, &words, error.kind().exit_code());
            (ui.clone(), status_of(&ui, Err(error)))
        }
    };
    ExitCode::from(
        ui.lost_output()
            .map_or(status, |error| status_of(&ui, Err(error))),
    )
}

/// The exit status, after an error was told.
fn status_of(ui: &Ui, result: Result<u8>) -> u8 {
    match result {
        Ok(status) => status,
        Err(error) => {
            ui.error(&error);
            error.kind().exit_code()
        }
    }
}

fn run(app: App, verb: Verb) -> Result<u8> {
    match verb {
        Verb::Start(args) => start::run(&app, &args),
        Verb::Status(args) => status::run(&app, &args),
        Verb::Stop(args) => stop::run(&app, &args),
        Verb::Delete(args) => delete::run(&app, &args),
        Verb::Pause(args) => pause::pause(&app, &args.hold),
        Verb::Unpause(args) => pause::unpause(&app, &args.hold),
        Verb::Snapshot(args) => snapshot::run(&app, &args),
        Verb::Fork(args) => fork::run(&app, &args),
        Verb::Kubectl(args) => kubectl::run(&app, &args),
        Verb::Profile(args) => profile::run(&app, &args),
        Verb::Config(args) => config::run(&app, &args),
        Verb::DockerEnv(args) => docker_env::run(&app, &args),
        Verb::PodmanEnv(_) => docker_env::podman(&app),
        Verb::Image(args) => image::run(&app, &args),
        Verb::Service(args) => service::run(&app, &args),
        Verb::Addons(args) => addons::run(&app, &args),
        Verb::UpdateContext => update_context::run(&app),
        Verb::Bundle(args) => bundle::run(&app, &args),
        Verb::Cache(args) => cache::run(&app, &args),
        Verb::Driver(args) => driver::run(&app, &args),
        Verb::Ssh(args) => ssh::run(&app, &args),
        Verb::Cp(args) => cp::run(&app, &args),
        Verb::SshKey => ssh_key::run(&app),
        Verb::Ip => ip::run(&app),
        Verb::Port(args) => port::run(&app, &args),
        Verb::Tunnel(args) => tunnel::run(&app, &args),
        Verb::Supervise(args) => supervise::run(&app, &args),
        Verb::Logs(args) => logs::run(&app, &args),
        Verb::Version(args) => version::run(&app, &args),
        Verb::Completion(args) => completion::run(&app, &args),
        Verb::FakeMachine { dir } => host::fake_machine(&dir),
    }
}

/// How a command line wants to be answered.
fn options(cli: &Cli) -> Options {
    let events = match &cli.verb {
        Verb::Start(args) => args.output.format,
        Verb::Stop(args) => args.output.format,
        Verb::Delete(args) => args.output.format,
        Verb::Pause(args) => args.hold.output.format,
        Verb::Unpause(args) => args.hold.output.format,
        Verb::Fork(args) => args.output.format,
        Verb::Snapshot(args) => match &args.verb {
            SnapshotVerb::Save { output, .. }
            | SnapshotVerb::Restore { output, .. }
            | SnapshotVerb::Delete { output, .. } => output.format,
            SnapshotVerb::List { .. } | SnapshotVerb::Show { .. } => Format::Text,
        },
        Verb::Bundle(cli::bundle::BundleArgs {
            verb:
                cli::bundle::BundleVerb::Build { output }
                | cli::bundle::BundleVerb::Fetch(cli::bundle::FetchArgs { output, .. }),
        }) => output.format,
        _ => Format::Text,
    };
    // Standard output is for the bundle alone.
    let exports = matches!(&cli.verb, Verb::Bundle(cli::bundle::BundleArgs {
        verb: cli::bundle::BundleVerb::Export { file, .. },
    }) if file.as_os_str() == "-");
    Options {
        json: events == Format::Json,
        quiet: cli.global.quiet || exports,
        verbose: cli.global.verbose,
    }
}

/// Names of all profiles, for completion; none when they cannot be read.
pub fn profile_names() -> Vec<String> {
    host::layout()
        .and_then(|layout| crate::cluster::list(&layout))
        .unwrap_or_default()
}
