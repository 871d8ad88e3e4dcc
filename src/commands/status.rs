//! `status`: what a cluster is doing, for people, scripts and exit statuses.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::cli::{Format, StatusArgs, StatusLayout};
use crate::cluster::{self, ComponentState, HostState, KubeconfigState, Status, Transient};
use crate::docker_env;
use crate::error::{Error, Kind, Result};
use crate::progress::Reporter;
use crate::settings::quantity;

use super::{App, host, template};

pub(super) fn run(app: &App, args: &StatusArgs) -> Result<u8> {
    if args.output.is_some() && args.format.is_some() {
        return Err(
            Error::new(Kind::Usage, "--output and --format exclude each other").hint("leave one out"),
        );
    }
    if args.layout == StatusLayout::Cluster && args.output != Some(Format::Json) {
        return Err(Error::new(Kind::Usage, "--layout cluster is a layout of JSON").hint("add -o json"));
    }
    let name = app.profile()?;
    if let Some(node) = args
        .node
        .as_ref()
        .filter(|node| !["", "m01", &name].contains(&node.as_str()))
    {
        return Err(Error::new(
            Kind::NotFound,
            format!("cluster \"{name}\" has no node \"{node}\""),
        )
        .hint(format!("its one node is called \"{name}\"")));
    }
    match &args.watch {
        None => once(app, args, &name),
        Some(every) => watch(app, args, &name, every),
    }
}

fn watch(app: &App, args: &StatusArgs, name: &str, every: &str) -> Result<u8> {
    let every = quantity::duration(every)
        .map_err(|what| Error::new(Kind::Usage, format!("`--watch={every}` {what}")))?
        .max(Duration::from_millis(100));
    let ctx = app.work()?;
    loop {
        let status = once(app, args, name)?;
        if args.output.is_some() || args.format.is_some() {
            app.ui.bytes(b"\n");
        }
        let next = Instant::now() + every;
        while Instant::now() < next {
            if ctx.cancel.is_set() || !app.ui.is_read() {
                return Ok(status);
            }
            std::thread::sleep(Duration::from_millis(50).min(next.saturating_duration_since(Instant::now())));
        }
    }
}

fn once(app: &App, args: &StatusArgs, name: &str) -> Result<u8> {
    let status = cluster::status(&app.context()?, name)?;
    let docker_env = host::variable(docker_env::ACTIVE).is_some_and(|active| active == name);
    let view = View::of(&status, docker_env);
    match (args.output, &args.format) {
        (Some(Format::Json), _) => {
            let value = match args.layout {
                StatusLayout::Nodes => view.as_json(name, status.resident),
                StatusLayout::Cluster => as_cluster(&status, &view),
            };
            app.ui.bytes(value.to_string().as_bytes());
        }
        (_, Some(format)) => app
            .ui
            .bytes(template::render(format, &view.fields(name))?.as_bytes()),
        (_, None) => app.ui.bytes(view.as_text(name).as_bytes()),
    }
    // A start that is at work writes the kubeconfig last.
    if view.kubeconfig == "Misconfigured" && status.event.is_none() {
        app.ui
            .warn("your kubectl is pointing to a stale address of this cluster; run `sampan update-context`");
    }
    Ok(view.exit_bits())
}

/// The states in minikube's words.
struct View {
    host: &'static str,
    kubelet: &'static str,
    apiserver: &'static str,
    kubeconfig: &'static str,
    /// "in-use" when the user's docker points to the cluster.
    docker_env: &'static str,
}

impl View {
    fn of(status: &Status, docker_env: bool) -> Self {
        let kubeconfig = match (status.host, status.kubeconfig) {
            (_, KubeconfigState::Configured) => "Configured",
            (HostState::Nonexistent, _) | (_, KubeconfigState::Nonexistent) => "Nonexistent",
            // `stop` took the entries out: that is as it should be.
            (HostState::Stopped, KubeconfigState::Misconfigured) => "Stopped",
            (_, KubeconfigState::Misconfigured) => "Misconfigured",
        };
        Self {
            host: match status.host {
                HostState::Running => "Running",
                HostState::Stopped => "Stopped",
                HostState::Paused => "Paused",
                HostState::Nonexistent => "Nonexistent",
            },
            kubelet: component(status.kubelet),
            apiserver: match status.host {
                HostState::Paused => "Paused",
                _ => component(status.apiserver),
            },
            kubeconfig,
            docker_env: if docker_env { "in-use" } else { "" },
        }
    }

    fn fields<'a>(&self, name: &'a str) -> [(&'static str, &'a str); 9] {
        [
            ("Name", name),
            ("Host", self.host),
            ("Kubelet", self.kubelet),
            ("APIServer", self.apiserver),
            ("Kubeconfig", self.kubeconfig),
            ("Worker", "false"),
            ("TimeToStop", ""),
            ("DockerEnv", self.docker_env),
            ("PodManEnv", ""),
        ]
    }

    fn as_text(&self, name: &str) -> String {
        let docker_env = match self.docker_env {
            "" => String::new(),
            state => format!("docker-env: {state}\n"),
        };
        format!(
            "{name}\ntype: Control Plane\nhost: {}\nkubelet: {}\napiserver: {}\nkubeconfig: {}\n{docker_env}\n",
            self.host, self.kubelet, self.apiserver, self.kubeconfig
        )
    }

    /// `memory` is what the machine really holds, in bytes, while it has a process.
    fn as_json(&self, name: &str, memory: Option<u64>) -> Value {
        let mut value = json!({
            "Name": name,
            "Host": self.host,
            "Kubelet": self.kubelet,
            "APIServer": self.apiserver,
            "Kubeconfig": self.kubeconfig,
            "Worker": false,
        });
        if !self.docker_env.is_empty() {
            value["DockerEnv"] = self.docker_env.into();
        }
        if let Some(bytes) = memory {
            value["Memory"] = json!(bytes);
        }
        value
    }

    /// 1: the host, 2: Kubernetes, 4: kubectl.
    fn exit_bits(&self) -> u8 {
        let bit = |fine: bool, bit: u8| if fine { 0 } else { bit };
        bit(self.host == "Running", 1)
            | bit(self.kubelet == "Running" && self.apiserver == "Running", 2)
            | bit(self.kubeconfig == "Configured", 4)
    }
}

fn component(state: ComponentState) -> &'static str {
    match state {
        ComponentState::Running => "Running",
        ComponentState::Stopped => "Stopped",
        ComponentState::Error => "Error",
        ComponentState::Nonexistent => "Nonexistent",
    }
}

/// A state as `--layout cluster` numbers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Code {
    Starting = 100,
    Stopping = 110,
    Deleting = 120,
    Ok = 200,
    Warning = 203,
    NotFound = 404,
    Stopped = 405,
    Paused = 418,
    Error = 500,
}

impl Code {
    /// The state of a cluster as a whole.
    pub(super) fn of(status: &Status) -> Self {
        if let Some(event) = &status.event {
            return match event.state {
                Transient::Starting => Self::Starting,
                Transient::Stopping => Self::Stopping,
                Transient::Deleting => Self::Deleting,
            };
        }
        match status.host {
            HostState::Nonexistent => Self::NotFound,
            HostState::Stopped => Self::Stopped,
            HostState::Paused => Self::Paused,
            HostState::Running => match (status.apiserver, status.kubelet) {
                (ComponentState::Running, ComponentState::Running) => Self::Ok,
                (ComponentState::Error, _) => Self::Error,
                _ => Self::Warning,
            },
        }
    }

    fn component(state: ComponentState) -> Self {
        match state {
            ComponentState::Running => Self::Ok,
            ComponentState::Stopped => Self::Stopped,
            ComponentState::Error => Self::Error,
            ComponentState::Nonexistent => Self::NotFound,
        }
    }

    /// Its name.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Starting => "Starting",
            Self::Stopping => "Stopping",
            Self::Deleting => "Deleting",
            Self::Ok => "OK",
            Self::Warning => "Warning",
            Self::NotFound => "NotFound",
            Self::Stopped => "Stopped",
            Self::Paused => "Paused",
            Self::Error => "Error",
        }
    }

    fn named(self, name: &str) -> Value {
        json!({ "Name": name, "StatusCode": self as u16, "StatusName": self.name() })
    }
}

fn as_cluster(status: &Status, view: &View) -> Value {
    let code = Code::of(status);
    let step = status
        .event
        .as_ref()
        .map(|event| event.step.clone())
        .unwrap_or_default();
    let kubeconfig = match view.kubeconfig {
        "Configured" => Code::Ok,
        "Stopped" => Code::Stopped,
        "Nonexistent" => Code::NotFound,
        _ => Code::Warning,
    };
    let host = match status.host {
        HostState::Running => Code::Ok,
        HostState::Stopped => Code::Stopped,
        HostState::Paused => Code::Paused,
        HostState::Nonexistent => Code::NotFound,
    };
    let mut value = code.named(&status.name);
    if !step.is_empty() {
        value["Step"] = json!(step);
    }
    value["BinaryVersion"] = json!(super::version::SAMPAN);
    value["Components"] = json!({ "kubeconfig": kubeconfig.named("kubeconfig") });
    let apiserver = match status.host {
        HostState::Paused => Code::Paused,
        _ => Code::component(status.apiserver),
    };
    let mut node = host.named(&status.name);
    node["Components"] = json!({
        "apiserver": apiserver.named("apiserver"),
        "kubelet": Code::component(status.kubelet).named("kubelet"),
    });
    value["Nodes"] = json!([node]);
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_bits_add_up() {
        let view = |host, kubelet, apiserver, kubeconfig| View {
            host,
            kubelet,
            apiserver,
            kubeconfig,
            docker_env: "",
        };
        assert_eq!(view("Running", "Running", "Running", "Configured").exit_bits(), 0);
        assert_eq!(view("Running", "Running", "Error", "Configured").exit_bits(), 2);
        assert_eq!(
            view("Running", "Running", "Running", "Misconfigured").exit_bits(),
            4
        );
        assert_eq!(view("Stopped", "Stopped", "Stopped", "Stopped").exit_bits(), 7);
        assert_eq!(
            view("Nonexistent", "Nonexistent", "Nonexistent", "Nonexistent").exit_bits(),
            7
        );
    }
}
