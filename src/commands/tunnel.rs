//! `tunnel`: what services publish, and what changes of it.

use std::collections::BTreeMap;

use signal_hook::consts::{SIGINT, SIGTERM};

use crate::cli::publish::TunnelArgs;
use crate::error::{Error, Kind, Result};
use crate::progress::Reporter;
use crate::supervisor::ports::RuleState;
use crate::supervisor::{self, ContainerPort, Publication};
use crate::ui::Table;

use super::App;

/// What was told before, by what it is about.
type Told = BTreeMap<String, String>;

pub(super) fn run(app: &App, args: &TunnelArgs) -> Result<u8> {
    if args.cleanup {
        app.ui
            .info("there is nothing to clean up: a tunnel changes nothing on this host");
    }
    let ctx = app.context()?;
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, ctx.cancel.flag())
            .map_err(|error| Error::new(Kind::Internal, "cannot wait for Ctrl-C").because(error))?;
    }
    let name = app.profile()?;
    supervisor::ensure(&ctx, &name)?;
    let mut told: Option<Told> = None;
    let ended = supervisor::follow(&ctx, &name, |published, containers, rules, trouble| {
        if let Some(trouble) = trouble {
            app.ui.warn(&format!("services are not known: {trouble}"));
            return;
        }
        let now = described(published, containers, rules);
        match &told {
            None => {
                show(app, published, containers, rules);
                app.ui
                    .info("services appear and disappear by themselves; Ctrl-C ends this");
            }
            Some(before) => tell(app, before, &now),
        }
        told = Some(now);
    });
    match ended {
        // That is how it ends.
        Err(error) if error.kind() == Kind::Interrupted => Ok(0),
        other => other.map(|()| 0),
    }
}

fn described(published: &[Publication], containers: &[ContainerPort], rules: &[RuleState]) -> Told {
    let services = published.iter().map(|publication| {
        let Publication {
            namespace,
            service,
            port,
            protocol,
            ..
        } = publication;
        let kind = kind(publication);
        let what = format!("{namespace}/{service} {port}/{protocol} ({kind})");
        (
            what,
            place(publication.at.as_ref(), publication.trouble.as_deref()),
        )
    });
    let rules = rules.iter().map(|state| {
        (
            state.rule.to_string(),
            place(state.at.as_ref(), state.trouble.as_deref()),
        )
    });
    let containers = containers.iter().map(|port| {
        let what = format!("container {} {}/{}", port.container, port.guest, port.protocol);
        (what, place(port.at.as_ref(), port.trouble.as_deref()))
    });
    services.chain(containers).chain(rules).collect()
}

fn kind(publication: &Publication) -> &'static str {
    if publication.for_load_balancer {
        "load balancer"
    } else {
        "node port"
    }
}

fn place(at: Option<&std::net::SocketAddr>, trouble: Option<&str>) -> String {
    match (at, trouble) {
        (Some(at), _) => at.to_string(),
        (None, Some(trouble)) => format!("not published: {trouble}"),
        (None, None) => "not published".to_owned(),
    }
}

fn show(app: &App, published: &[Publication], containers: &[ContainerPort], rules: &[RuleState]) {
    if published.is_empty() && containers.is_empty() && rules.is_empty() {
        app.ui.info("nothing is published");
        return;
    }
    let mut table = Table::new(&["Namespace", "Service", "Port", "Kind", "Here"]);
    for publication in published {
        table.row(&[
            publication.namespace.clone(),
            publication.service.clone(),
            format!("{}/{}", publication.port, publication.protocol),
            kind(publication).to_owned(),
            place(publication.at.as_ref(), publication.trouble.as_deref()),
        ]);
    }
    for port in containers {
        table.row(&[
            String::new(),
            port.container.clone(),
            format!("{}/{}", port.guest, port.protocol),
            "container".to_owned(),
            place(port.at.as_ref(), port.trouble.as_deref()),
        ]);
    }
    for state in rules {
        table.row(&[
            String::new(),
            "(sampan port)".to_owned(),
            format!("{}/{}", state.rule.guest, state.rule.protocol),
            "node".to_owned(),
            place(state.at.as_ref(), state.trouble.as_deref()),
        ]);
    }
    app.ui.line(&table.to_string());
}

fn tell(app: &App, before: &Told, now: &Told) {
    for (what, place) in now {
        if before.get(what) != Some(place) {
            app.ui.line(&format!("{what}: {place}"));
        }
    }
    for what in before.keys().filter(|what| !now.contains_key(*what)) {
        app.ui.line(&format!("{what}: gone"));
    }
}
