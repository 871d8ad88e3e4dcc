//! The process itself: one thread that waits for many things. Whatever happens, it compares all that is wanted with all that is there; so
//! no event matters more than another, and none is missed.

mod seen;
mod tell;
mod waits;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant, SystemTime};

use futures_util::StreamExt;
use sampan_driver::MachineState;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant as Tick, sleep_until};

use super::api::{self, Tale, Teller, Watch};
use super::board::{Board, Outcome, Wanted};
use super::clock::{self, Clocks};
use super::containers::{self, Container};
use super::log::Log;
use super::server::{self, Order, State};
use super::service::{Id, Service};
use super::{ports, protocol, socket};
use crate::cluster::{self, Context, Profile};
use crate::error::{Error, Kind, Result};
use crate::layout::ProfileLayout;
use crate::store::lock::Lock;
use waits::{at, finished, machine_ends, signals};

/// How long another supervisor, of a machine that has ended, may take to be gone.
const LOCK_LIMIT: Duration = Duration::from_secs(10);

/// How long is waited for more events before anything is done: a burst costs one round.
const GATHER: Duration = Duration::from_millis(40);

/// The same where something was done just now: ten thousand events in a minute cost a few rounds a second.
const GATHER_AGAIN: Duration = Duration::from_millis(200);

/// How often is tried again what did not go.
const RETRY: Duration = Duration::from_secs(3);

/// Publishes the ports of a profile until its machine ends. For `sampan supervise`.
///
/// # Errors
/// [`Kind::NotRunning`] when there is no machine to supervise, [`Kind::Locked`] when another supervisor does not go.
pub fn run(ctx: &Context, name: &str) -> Result<()> {
    let files = ctx.layout.profile(name);
    // Of a profile that was deleted meanwhile nothing must be left.
    cluster::load(&ctx.layout, name)?;
    let Some(_lock) = lock(&files)? else {
        return Ok(());
    };
    let profile = cluster::load(&ctx.layout, name)?;
    let driver = cluster::open_driver(&profile.spec.driver, &ctx.layout, &ctx.drivers)?;
    let spec = cluster::machine_spec(ctx, &profile)?;
    if !matches!(driver.state(&spec)?, MachineState::Running | MachineState::Paused) {
        return Err(Error::new(
            Kind::NotRunning,
            format!("cluster \"{name}\" is not running"),
        ));
    }
    let pid = driver.endpoint(&spec)?.pid;
    let path = files.supervisor_socket();
    let listener = socket::listen(&path).map_err(Error::io(&path))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(4)
        .build()
        .map_err(Error::io(&path))?;
    let board = Board::new(driver, spec, profile.address);
    let done = runtime.block_on(async {
        let listener = tokio::net::UnixListener::from_std(listener).map_err(Error::io(&path))?;
        let client = api::client(&profile, &files)?;
        let mut supervisor = Supervisor::new(ctx, profile, files.clone(), board, listener, client);
        supervisor.live(pid).await;
        Ok(())
    });
    // What was begun and hangs is not waited for; and the socket goes while the lock is held.
    runtime.shutdown_background();
    let _ = std::fs::remove_file(&path);
    done
}

/// The lock of the one supervisor; none when there is one already that answers.
fn lock(files: &ProfileLayout) -> Result<Option<Lock>> {
    let end = Instant::now() + LOCK_LIMIT;
    let path = files.supervisor_lock();
    loop {
        if let Some(lock) = Lock::try_acquire_in(&path)? {
            return Ok(Some(lock));
        }
        if super::client::is_there(files) {
            return Ok(None);
        }
        if Instant::now() >= end {
            return Err(Error::new(
                Kind::Locked,
                format!("another supervisor holds {}", path.display()),
            ));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

struct Supervisor<'a> {
    ctx: &'a Context,
    profile: Profile,
    files: ProfileLayout,
    address: IpAddr,
    log: Log,
    /// All Services that matter.
    services: BTreeMap<Id, Service>,
    /// They were all listed at least once.
    synced: bool,
    /// Those of a list that is not complete yet.
    listed: Option<BTreeMap<Id, Service>>,
    watch: Watch,
    teller: Teller,
    docker: containers::Watch,
    /// Those that publish ports; none before Docker was asked.
    containers: Option<Vec<Container>>,
    /// When the apiserver is asked again, after an error.
    asks_again: Option<(Tick, Duration)>,
    rules: Vec<ports::Rule>,
    /// None while it is at work.
    board: Option<Board>,
    work: Option<JoinHandle<(Board, Outcome)>>,
    /// When what has changed is looked at; none when nothing has.
    due: Option<Tick>,
    retry: Option<Tick>,
    telling: Option<JoinHandle<Vec<Tale>>>,
    /// What is to be told next.
    untold: Vec<Tale>,
    stepping: Option<JoinHandle<Result<()>>>,
    /// Whether a certificate was made anew.
    renewing: Option<JoinHandle<Result<bool>>>,
    /// When certificates are looked at.
    renewal: cluster::Schedule,
    /// When something was last done.
    applied: Option<Tick>,
    state: watch::Sender<State>,
    orders: mpsc::Receiver<Order>,
    clocks: Clocks,
    /// The guest's clock is known to be wrong.
    behind: bool,
}

impl<'a> Supervisor<'a> {
    fn new(
        ctx: &'a Context,
        profile: Profile,
        files: ProfileLayout,
        board: Board,
        listener: tokio::net::UnixListener,
        client: kube::Client,
    ) -> Self {
        let (state, receiver) = watch::channel(State::default());
        let (sender, orders) = mpsc::channel(16);
        tokio::spawn(server::serve(listener, sender, receiver));
        let mut log = Log::new(&files.supervisor_log());
        let (version, pid) = (protocol::VERSION, std::process::id());
        log.line(&format!("supervisor {version} is process {pid}"));
        let mut supervisor = Self {
            ctx,
            address: profile.address,
            log,
            services: BTreeMap::new(),
            synced: false,
            listed: None,
            watch: api::watch(&client),
            teller: Teller::new(client),
            docker: docker(&profile, &files),
            containers: None,
            asks_again: None,
            rules: Vec::new(),
            board: Some(board),
            work: None,
            due: None,
            retry: None,
            telling: None,
            untold: Vec::new(),
            stepping: None,
            renewing: None,
            renewal: cluster::Schedule::new(SystemTime::now()),
            applied: None,
            state,
            orders,
            clocks: Clocks::now(),
            behind: false,
            profile,
            files,
        };
        supervisor.read_rules();
        supervisor
    }

    /// Goes on until the machine ends or somebody asks it to end.
    async fn live(&mut self, pid: Option<u32>) {
        let machine = machine_ends(pid);
        let signals = signals();
        tokio::pin!(machine, signals);
        let mut compare = Tick::now() + clock::EVERY;
        loop {
            let asks_again = self.asks_again;
            let idle = self.work.is_none();
            let (due, retry) = (self.due.filter(|_| idle), self.retry.filter(|_| idle));
            tokio::select! {
                biased;
                () = &mut machine => return self.log.line("the machine has ended"),
                () = &mut signals => return self.log.line("asked to end by a signal"),
                order = self.orders.recv() => match order {
                    Some(Order::Quit) | None => return self.log.line("asked to end"),
                    Some(Order::Refresh) => self.refresh(),
                    Some(Order::Rules(begun)) => {
                        self.read_rules();
                        let _ = begun.send(());
                    }
                },
                done = finished(&mut self.work) => match done {
                    Some((board, outcome)) => self.applied(board, outcome),
                    // A bug of ours; the next command starts another one.
                    None => return self.log.line("trouble: publishing ended before its end"),
                },
                done = finished(&mut self.telling) => self.told(done),
                done = finished(&mut self.stepping) => self.stepped(done),
                done = finished(&mut self.renewing) => self.renewed(done),
                () = at(due) => self.apply(),
                () = at(retry) => self.gather(),
                () = at(asks_again.map(|(tick, _)| tick)) => self.asks_again = None,
                event = self.watch.next(), if asks_again.is_none() => self.seen(event),
                seen = self.docker.next() => self.seen_docker(seen),
                () = sleep_until(compare) => {
                    compare = Tick::now() + clock::EVERY;
                    self.compare_clocks();
                    self.renew_certificates();
                }
            }
        }
    }

    /// Something has changed: it is looked at in a moment, when what comes with it has come.
    fn gather(&mut self) {
        let now = Tick::now();
        let again = self.applied.is_some_and(|applied| now - applied < GATHER_AGAIN);
        let pause = if again { GATHER_AGAIN } else { GATHER };
        self.due.get_or_insert(now + pause);
        self.state
            .send_if_modified(|state| std::mem::take(&mut state.settled));
    }

    /// The guest has slept: its connections may be dead, and nobody says so.
    fn refresh(&mut self) {
        match api::client(&self.profile, &self.files) {
            Ok(client) => {
                (self.watch, self.listed, self.asks_again) = (api::watch(&client), None, None);
                self.teller = Teller::new(client);
            }
            Err(error) => self.log.line(&format!("trouble: {error}")),
        }
        self.docker = docker(&self.profile, &self.files);
        self.clocks = Clocks::now();
        self.read_rules();
    }

    fn read_rules(&mut self) {
        match ports::load(&self.files) {
            Ok(rules) => self.rules = rules,
            // What was known stays.
            Err(error) => self.log.line(&format!("trouble: {error}")),
        }
        self.gather();
    }

    /// Begins to make what is published equal to what is wanted.
    fn apply(&mut self) {
        let Some(mut board) = self.board.take() else {
            return;
        };
        (self.due, self.retry, self.applied) = (None, None, Some(Tick::now()));
        let wanted = Wanted {
            services: self.synced.then(|| self.services.values().cloned().collect()),
            containers: self.containers.clone(),
            rules: self.rules.clone(),
        };
        self.work = Some(tokio::task::spawn_blocking(move || {
            let outcome = board.apply(&wanted);
            (board, outcome)
        }));
    }

    fn applied(&mut self, board: Board, outcome: Outcome) {
        self.work = None;
        self.board = Some(board);
        outcome.done.iter().for_each(|line| self.log.line(line));
        self.retry = outcome.again.then(|| Tick::now() + RETRY);
        self.log_troubles(&outcome);
        let before = self.state.borrow().published.clone();
        let tales = api::tales(self.services.values(), self.address, &before, &outcome.published);
        let settled = self.due.is_none();
        self.state.send_modify(|state| {
            (state.published, state.containers, state.rules) =
                (outcome.published, outcome.containers, outcome.rules);
            state.settled = settled;
            // Before the first list nobody wanted to publish Services, whatever came of it.
            state.synced |= outcome.complete;
        });
        self.tell(tales);
    }

    /// Notes what is troubled since this outcome.
    fn log_troubles(&mut self, outcome: &Outcome) {
        let before = self.state.borrow().clone();
        for publication in &outcome.published {
            if let Some(trouble) = &publication.trouble
                && !before.published.contains(publication)
            {
                let super::Publication {
                    namespace,
                    service,
                    port,
                    protocol,
                    ..
                } = publication;
                self.log.line(&format!(
                    "trouble: {namespace}/{service} {protocol} port {port}: {trouble}"
                ));
            }
        }
        for port in &outcome.containers {
            if let Some(trouble) = &port.trouble
                && !before.containers.contains(port)
            {
                let super::ContainerPort {
                    container,
                    guest,
                    protocol,
                    ..
                } = port;
                self.log.line(&format!(
                    "trouble: container {container}, {protocol} port {guest}: {trouble}"
                ));
            }
        }
    }
}

fn docker(profile: &Profile, files: &ProfileLayout) -> containers::Watch {
    let address = std::net::SocketAddr::new(profile.address, profile.docker_port);
    containers::Watch::new(address, files.docker())
}

#[cfg(test)]
#[path = "run_tests.rs"]
mod tests;
