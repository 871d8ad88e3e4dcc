//! `service`: URLs of services, and a list of them.

use std::io::IsTerminal;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use sampan_driver::{Command, Host, Protocol, Runner};
use serde_json::{Value, json};

use crate::cli::TableFormat;
use crate::cli::service::{ReachArgs, ServiceArgs, ServiceVerb};
use crate::cluster::{self, Access, Context, Publishing};
use crate::error::{Error, Kind, Result};
use crate::progress::Reporter;
use crate::provision::Api;
use crate::remote;
use crate::services::{self, Place, Service};
use crate::supervisor::{self, Publication};
use crate::ui::Table;

use super::{App, host, template};

/// What a port says that is not published.
const NO_NODE_PORT: &str = "No node port";

/// Why a port is not published that could be.
const NOT_PUBLISHED: &str = "this driver opens no ports; `sampan service` does while it runs";

pub(super) fn run(app: &App, args: &ServiceArgs) -> Result<u8> {
    match &args.verb {
        Some(ServiceVerb::List { output, namespace }) => list(app, output.format, namespace.as_deref()),
        None if args.all => all(app, &args.namespace, &args.reach),
        None => reach(app, &args.namespace, &args.names, &args.reach),
    }?;
    Ok(0)
}

/// A running cluster. One that is held has an apiserver that does not answer.
fn access(ctx: &Context, name: &str) -> Result<Access> {
    cluster::access(ctx, name).map_err(|error| match cluster::is_paused(ctx, name) {
        Ok(true) => error.with_kind(Kind::ApiStopped),
        _ => error,
    })
}

fn list(app: &App, output: TableFormat, namespace: Option<&str>) -> Result<()> {
    let name = app.profile()?;
    let ctx = app.context()?;
    let access = access(&ctx, &name)?;
    let services = services::list(&cluster::api(&ctx, &access.profile)?, namespace)?;
    let published = published(&ctx, &access)?;
    let rows: Vec<(Service, Vec<Place>)> = services
        .into_iter()
        .map(|service| {
            let places = places(&access, &service, &published);
            (service, places)
        })
        .collect();
    match output {
        TableFormat::Json => app.ui.json(&rows.iter().map(as_json).collect::<Vec<_>>()),
        TableFormat::Table => {
            let mut table = Table::new(&["NAMESPACE", "NAME", "TARGET PORT", "URL"]);
            for (service, places) in &rows {
                let cell = |place: &Place| match &place.at {
                    Ok(at) => services::url(&place.port, *at),
                    Err(why) => why.clone(),
                };
                let labels = match service.is_published {
                    true => places.iter().map(|place| place.port.label()).collect(),
                    false => vec![NO_NODE_PORT.to_owned()],
                };
                let urls: Vec<String> = places.iter().map(cell).collect();
                table.row(&[
                    service.namespace.clone(),
                    service.name.clone(),
                    labels.join("\n"),
                    urls.join("\n"),
                ]);
            }
            app.ui.line(&table.to_string());
        }
    }
    Ok(())
}

fn as_json((service, places): &(Service, Vec<Place>)) -> Value {
    let urls: Vec<String> = places
        .iter()
        .filter_map(|place| Some(services::url(&place.port, *place.at.as_ref().ok()?)))
        .collect();
    let names: Vec<String> = match service.is_published {
        true => places.iter().map(|place| place.port.label()).collect(),
        false => vec![NO_NODE_PORT.to_owned()],
    };
    let mut value = json!({
        "Namespace": service.namespace, "Name": service.name, "URLs": urls, "PortNames": names,
    });
    let troubles: Vec<String> = places
        .iter()
        .filter_map(|place| Some(format!("{}: {}", place.port.label(), place.at.as_ref().err()?)))
        .collect();
    if !troubles.is_empty() {
        value["Troubles"] = json!(troubles);
    }
    value
}

/// What the supervisor publishes, where it is the one that does.
fn published(ctx: &Context, access: &Access) -> Result<Vec<Publication>> {
    match access.publishing() {
        Publishing::Supervised => supervisor::published(ctx, &access.profile.spec.name),
        Publishing::AtNode(_) | Publishing::Not => Ok(Vec::new()),
    }
}

/// Where the host reaches a service's ports.
fn places(access: &Access, service: &Service, published: &[Publication]) -> Vec<Place> {
    match access.publishing() {
        _ if !service.is_published => Vec::new(),
        Publishing::Supervised => service.places(published),
        Publishing::AtNode(address) => service.places_on(Ok(address)),
        Publishing::Not => service.places_on(Err(NOT_PUBLISHED)),
    }
}

/// What is told of one port.
struct Told {
    service: usize,
    label: String,
    url: String,
}

/// A service with its ports, and where they are.
struct Found {
    service: Service,
    places: Vec<Place>,
}

fn all(app: &App, namespace: &str, args: &ReachArgs) -> Result<()> {
    let ctx = app.work()?;
    let access = access(&ctx, &app.profile()?)?;
    let mut names = Vec::new();
    for service in services::list(&cluster::api(&ctx, &access.profile)?, Some(namespace))? {
        if service.is_published {
            names.push(service.name);
        } else {
            app.ui
                .warn(&format!("service {namespace}/{} has no node port", service.name));
        }
    }
    if names.is_empty() {
        let message = format!("no service in namespace \"{namespace}\" is published");
        return Err(Error::new(Kind::Service, message).hint("services of type NodePort and LoadBalancer are"));
    }
    reach(app, namespace, &names, args)
}

/// Tells where services are reached, and opens them when a person asks. Those without a node port are reached as long as this runs.
pub(super) fn reach(app: &App, namespace: &str, names: &[String], args: &ReachArgs) -> Result<()> {
    // A template that cannot be is no reason to wait for anything.
    url(args, SocketAddr::from(([127, 0, 0, 1], 80)), "http")?;
    let profile = app.profile()?;
    let ctx = app.work()?;
    let access = access(&ctx, &profile)?;
    let api = cluster::api(&ctx, &access.profile)?;
    let publishes = access.publishing() != Publishing::Not;
    let end = Instant::now() + Duration::from_secs(args.wait);
    let mut found = Vec::new();
    for name in names {
        found.push(wait_for(&ctx, &access, &api, (namespace, name), args, end)?);
    }
    let mut held = Vec::new();
    let mut told = Vec::new();
    for (index, one) in found.iter().enumerate() {
        if one.service.is_published && publishes {
            tell_published(args, index, one, &mut told)?;
        } else {
            hold(app, &access, args, index, &one.service, &mut held, &mut told)?;
        }
    }
    show(app, args, &found, &told);
    for one in found.iter().filter(|one| one.service.is_published) {
        services::check_pods(&api, &one.service)?;
    }
    if !args.url {
        open(app, &told);
    }
    if held.is_empty() {
        return Ok(());
    }
    app.ui
        .warn("a service that is not published is reached as long as this command runs; Ctrl-C ends it");
    remote::forward(&access.target, held, &ctx.cancel)
}

/// The service once it is there and, if it is to be published, once it is; as it is when the time is over.
fn wait_for(
    ctx: &Context,
    access: &Access,
    api: &Api,
    (namespace, name): (&str, &str),
    args: &ReachArgs,
    end: Instant,
) -> Result<Found> {
    loop {
        let service = services::find(api, namespace, name)?;
        if let Some(service) = service {
            let published = match service.is_published {
                true => published(ctx, access)?,
                false => Vec::new(),
            };
            let places = places(access, &service, &published);
            let is_there =
                access.publishing() == Publishing::Not || places.iter().all(|place| place.at.is_ok());
            if is_there || Instant::now() >= end {
                return Ok(Found { service, places });
            }
        } else if Instant::now() >= end {
            return Err(services::missing(api, namespace, name));
        }
        let left = end.saturating_duration_since(Instant::now());
        let pause = left.min(Duration::from_secs(args.interval.max(1)));
        let wake = Instant::now() + pause;
        while Instant::now() < wake {
            ctx.cancel.check()?;
            std::thread::sleep(Duration::from_millis(50).min(pause));
        }
    }
}

fn tell_published(args: &ReachArgs, index: usize, found: &Found, told: &mut Vec<Told>) -> Result<()> {
    let Service { namespace, name, .. } = &found.service;
    if let Some((place, why)) = found
        .places
        .iter()
        .find_map(|place| Some((place, place.at.as_ref().err()?)))
    {
        let message = format!(
            "port {} of service {namespace}/{name} is not published: {why}",
            place.port.label()
        );
        return Err(Error::new(Kind::ServiceUrl, message)
            .hint("`sampan service list` shows what is; --wait SECONDS waits longer"));
    }
    for place in &found.places {
        if let Ok(at) = place.at {
            let url = url(args, at, place.port.name.as_deref().unwrap_or_default())?;
            told.push(Told {
                service: index,
                label: place.port.label(),
                url,
            });
        }
    }
    Ok(())
}

/// Has the ports of a service that is not published be reached at free ports of the cluster's address.
fn hold(
    app: &App,
    access: &Access,
    args: &ReachArgs,
    index: usize,
    service: &Service,
    held: &mut Vec<(TcpListener, SocketAddr)>,
    told: &mut Vec<Told>,
) -> Result<()> {
    let Service { namespace, name, .. } = service;
    let Some(address) = service.cluster_ip else {
        let message =
            format!("service {namespace}/{name} has no address in the cluster, so there is nothing to reach");
        return Err(Error::new(Kind::ServiceUnreachable, message)
            .hint("a headless service stands for its pods: kubectl port-forward reaches one of them"));
    };
    app.ui.warn(&match service.is_published {
        true => format!(
            "service {namespace}/{name} is not published: this driver opens no ports of a running machine"
        ),
        false => format!("service {namespace}/{name} has no node port"),
    });
    // A guest's own address is not the host's.
    let own = access.publishing() == Publishing::AtNode(access.profile.address);
    let host = if own {
        Ipv4Addr::LOCALHOST.into()
    } else {
        access.profile.address
    };
    for port in &service.ports {
        if port.protocol == Protocol::Udp {
            app.ui.warn(&format!(
                "port {} is UDP, which is not carried this way",
                port.label()
            ));
            continue;
        }
        let free = SocketAddr::new(host, 0);
        let taken = |error: std::io::Error| {
            Error::new(Kind::Network, format!("cannot listen on {}: {error}", free.ip())).because(error)
        };
        let listener = TcpListener::bind(free).map_err(taken)?;
        let at = listener.local_addr().map_err(taken)?;
        let url = url(args, at, port.name.as_deref().unwrap_or_default())?;
        told.push(Told {
            service: index,
            label: port.label(),
            url,
        });
        held.push((listener, SocketAddr::new(address, port.port)));
    }
    Ok(())
}

/// A port's URL, as the user wants it written.
fn url(args: &ReachArgs, at: SocketAddr, name: &str) -> Result<String> {
    let (ip, port) = (at.ip().to_string(), at.port().to_string());
    let url = template::render(&args.format, &[("IP", &ip), ("Port", &port), ("Name", name)])?;
    Ok(match url.strip_prefix("http://") {
        Some(rest) if args.https => format!("https://{rest}"),
        _ => url,
    })
}

fn show(app: &App, args: &ReachArgs, found: &[Found], told: &[Told]) {
    if args.url {
        for one in told {
            app.ui.line(&one.url);
        }
        return;
    }
    let mut table = Table::new(&["NAMESPACE", "NAME", "TARGET PORT", "URL"]);
    for (index, one) in found.iter().enumerate() {
        let mine = || told.iter().filter(|told| told.service == index);
        table.row(&[
            one.service.namespace.clone(),
            one.service.name.clone(),
            mine().map(|one| one.label.clone()).collect::<Vec<_>>().join("\n"),
            mine().map(|one| one.url.clone()).collect::<Vec<_>>().join("\n"),
        ]);
    }
    app.ui.line(&table.to_string());
}

/// Opens URLs in the user's browser, where there is a person and a browser.
fn open(app: &App, told: &[Told]) {
    if !std::io::stdout().is_terminal() {
        return;
    }
    let desktop = ["DISPLAY", "WAYLAND_DISPLAY"]
        .iter()
        .any(|name| host::variable(name).is_some());
    let opener = if cfg!(target_os = "macos") {
        "open"
    } else {
        "xdg-open"
    };
    if !(desktop || cfg!(target_os = "macos")) || host::find_program(opener).is_none() {
        return;
    }
    for one in told {
        app.ui.info(&format!("opening {}", one.url));
        if let Err(error) = Host.run(&Command::new(opener).arg(&one.url)) {
            app.ui.warn(&format!("{} was not opened: {error}", one.url));
        }
    }
}

/// Tells where services are reached that somebody just made.
pub(super) fn tell(app: &App, ctx: &Context, profile: &str, services: &[(String, String)]) {
    if services.is_empty() {
        return;
    }
    let published = match supervisor::published(ctx, profile) {
        Ok(published) => published,
        Err(error) => return app.ui.warn(&format!("what is published cannot be told: {error}")),
    };
    let is_theirs = |one: &&Publication| {
        let id = (one.namespace.clone(), one.service.clone());
        services.contains(&id) && (one.for_load_balancer || !has_balancer(&published, one))
    };
    for one in published.iter().filter(is_theirs) {
        let port = services::Port {
            name: one.port_name.clone(),
            port: one.port,
            node_port: None,
            protocol: one.protocol,
        };
        match (one.at, &one.trouble) {
            (Some(at), _) => app.ui.info(&format!(
                "{} is reached at {}",
                one.service,
                services::short_url(&port, at)
            )),
            (None, Some(trouble)) => {
                app.ui
                    .warn(&format!("{}: port {}: {trouble}", one.service, port.label()))
            }
            (None, None) => {}
        }
    }
}

/// Whether the same port is also published as a load balancer's.
fn has_balancer(published: &[Publication], one: &Publication) -> bool {
    published.iter().any(|other| {
        other.for_load_balancer
            && (&other.namespace, &other.service, other.port) == (&one.namespace, &one.service, one.port)
    })
}
