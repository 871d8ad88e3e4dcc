//! `port`: the user's own forwards, and those of Docker's own containers.

use std::net::SocketAddr;

use serde::Serialize;

use crate::cli::TableFormat;
use crate::cli::publish::{PortArgs, PortVerb};
use crate::cluster::{self, Context};
use crate::error::{Error, Kind, Result};
use crate::progress::Reporter;
use crate::supervisor;
use crate::supervisor::ContainerPort;
use crate::supervisor::ports::{self, Place, Rule, RuleState};
use crate::ui::Table;

use super::App;

pub(super) fn run(app: &App, args: &PortArgs) -> Result<u8> {
    let ctx = app.context()?;
    let name = app.profile()?;
    cluster::load(&ctx.layout, &name)?;
    match &args.verb {
        PortVerb::Add { rule } => add(app, &ctx, &name, *rule),
        PortVerb::List { output } => list(app, &ctx, &name, output.format),
        PortVerb::Remove { place } => remove(app, &ctx, &name, *place),
    }?;
    Ok(0)
}

/// What has become of all rules, and the ports of containers; none in a cluster that does not run.
fn states(ctx: &Context, name: &str) -> Result<Option<(Vec<RuleState>, Vec<ContainerPort>)>> {
    match supervisor::rules(ctx, name) {
        Ok(states) => Ok(Some(states)),
        Err(error) if error.kind() == Kind::NotRunning => Ok(None),
        Err(error) => Err(error),
    }
}

fn add(app: &App, ctx: &Context, name: &str, rule: Rule) -> Result<()> {
    let files = ctx.layout.profile(name);
    let mut rules = ports::load(&files)?;
    if let Some(other) = rules
        .iter()
        .find(|other| other.collides(&rule) && **other != rule)
    {
        return Err(
            Error::new(Kind::Exists, format!("there is {other} already")).hint(format!(
                "remove it first: sampan -p {name} port remove {}",
                Place::from(*other)
            )),
        );
    }
    if !rules.contains(&rule) {
        rules.push(rule);
        rules.sort();
        ports::save(&files, &rules)?;
    }
    let Some((states, _)) = states(ctx, name)? else {
        app.ui.info(&format!("{rule} is there when the cluster runs"));
        return Ok(());
    };
    match states.into_iter().find(|state| state.rule == rule) {
        Some(RuleState {
            trouble: Some(trouble),
            ..
        }) => Err(
            Error::new(Kind::PortTaken, format!("{rule}: {trouble}")).hint(format!(
                "it is kept, and there as soon as it can be; to give it up: sampan -p {name} port remove {}",
                Place::from(rule)
            )),
        ),
        Some(RuleState { at: Some(at), .. }) => {
            app.ui.info(&format!(
                "{} {at} leads to port {} of the node",
                rule.protocol, rule.guest
            ));
            Ok(())
        }
        _ => Err(Error::new(Kind::Internal, format!("{rule} is not there"))
            .hint("see the end of supervisor.log in the profile's directory")),
    }
}

/// One line of a list.
#[derive(Serialize)]
#[serde(untagged)]
enum Line<'a> {
    Rule(&'a RuleState),
    Container(&'a ContainerPort),
}

fn list(app: &App, ctx: &Context, name: &str, output: TableFormat) -> Result<()> {
    let (states, containers) = match states(ctx, name)? {
        Some(known) => known,
        None => (stopped(ports::load(&ctx.layout.profile(name))?), Vec::new()),
    };
    let lines = states.iter().map(Line::Rule);
    let lines: Vec<_> = lines.chain(containers.iter().map(Line::Container)).collect();
    match output {
        TableFormat::Json => app.ui.json(&lines),
        TableFormat::Table if lines.is_empty() => app.ui.info("there are no ports of your own"),
        TableFormat::Table => {
            let mut table = Table::new(&["Port", "Node's Port", "Protocol", "Container", "Here"]);
            for line in &lines {
                table.row(&row(line));
            }
            app.ui.line(&table.to_string());
        }
    }
    Ok(())
}

fn row(line: &Line<'_>) -> [String; 5] {
    let here = |at: Option<SocketAddr>, trouble: &Option<String>| match (at, trouble) {
        (Some(at), _) => at.to_string(),
        (None, Some(trouble)) => trouble.clone(),
        (None, None) => "when the cluster runs".to_owned(),
    };
    match line {
        Line::Rule(RuleState { rule, at, trouble }) => [
            rule.host.to_string(),
            rule.guest.to_string(),
            rule.protocol.to_string(),
            String::new(),
            here(*at, trouble),
        ],
        Line::Container(port) => [
            port.at.map_or(port.guest, |at| at.port()).to_string(),
            port.guest.to_string(),
            port.protocol.to_string(),
            format!("{}:{}", port.container, port.port),
            here(port.at, &port.trouble),
        ],
    }
}

fn stopped(rules: Vec<Rule>) -> Vec<RuleState> {
    let state = |rule| RuleState {
        rule,
        at: None,
        trouble: None,
    };
    rules.into_iter().map(state).collect()
}

fn remove(app: &App, ctx: &Context, name: &str, place: Place) -> Result<()> {
    let files = ctx.layout.profile(name);
    let mut rules = ports::load(&files)?;
    let before = rules.len();
    rules.retain(|rule| Place::from(*rule) != place);
    if rules.len() == before {
        let there: Vec<String> = rules.iter().map(Rule::to_string).collect();
        let there = if there.is_empty() {
            "there are none".to_owned()
        } else {
            format!("there are: {}", there.join(", "))
        };
        return Err(Error::new(Kind::NotFound, format!("there is no {place} to remove")).hint(there));
    }
    ports::save(&files, &rules)?;
    states(ctx, name)?;
    app.ui.info(&format!("removed {place}"));
    Ok(())
}
