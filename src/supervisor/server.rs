//! Answers those who ask through the socket. A connection has a task of its own; only what changes something goes to the loop.

use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;

use super::ports::RuleState;
use super::protocol::{Answer, Ask, LINE_LIMIT, Question, VERSION};
use super::{ContainerPort, Publication};

/// How long somebody may take to ask.
const QUESTION_LIMIT: Duration = Duration::from_secs(5);

/// How long somebody waits for the first answer of the apiserver.
const API_LIMIT: Duration = Duration::from_secs(15);

/// How long somebody waits for what is being published right now.
const SETTLE_LIMIT: Duration = Duration::from_secs(5);

/// How long somebody waits for the first answer of Docker.
const DOCKER_LIMIT: Duration = Duration::from_secs(5);

/// What the loop is told.
#[derive(Debug)]
pub(super) enum Order {
    /// End, once the sender is told.
    Quit,
    /// Look at everything anew.
    Refresh,
    /// Read the user's own forwards anew, and say when that is under way.
    Rules(oneshot::Sender<()>),
}

/// What is known.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct State {
    pub(super) published: Vec<Publication>,
    pub(super) containers: Vec<ContainerPort>,
    pub(super) rules: Vec<RuleState>,
    /// Nothing is to be done that is known of.
    pub(super) settled: bool,
    /// All Services were seen at least once.
    pub(super) synced: bool,
    /// Docker was asked at least once.
    pub(super) docker: bool,
    /// Why the apiserver does not answer.
    pub(super) trouble: Option<String>,
}

impl State {
    fn answer(&self) -> Answer {
        let unknown = || {
            let trouble = self.trouble.clone();
            trouble.unwrap_or_else(|| "the apiserver has not answered yet".to_owned())
        };
        Answer {
            version: VERSION.to_owned(),
            published: self.published.clone(),
            containers: self.containers.clone(),
            rules: self.rules.clone(),
            trouble: (!self.synced).then(unknown),
        }
    }
}

/// Takes connections for ever.
pub(super) async fn serve(
    listener: UnixListener,
    orders: mpsc::Sender<Order>,
    state: watch::Receiver<State>,
) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let (orders, state) = (orders.clone(), state.clone());
                tokio::spawn(async move {
                    if let Err(error) = converse(stream, orders, state).await {
                        tracing::debug!(%error, "somebody who asked");
                    }
                });
            }
            // Out of descriptors, as a rule.
            Err(error) => {
                tracing::warn!(%error, "nobody can ask");
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
    }
}

async fn converse(
    mut stream: UnixStream,
    orders: mpsc::Sender<Order>,
    mut state: watch::Receiver<State>,
) -> std::io::Result<()> {
    let mut line = Vec::new();
    let (reader, mut writer) = stream.split();
    let mut reader = BufReader::new(reader.take(LINE_LIMIT));
    timeout(QUESTION_LIMIT, reader.read_until(b'\n', &mut line)).await??;
    let Question { ask } = serde_json::from_slice(&line)?;
    match ask {
        Ask::Hello => {}
        Ask::Quit => {
            let _ = orders.send(Order::Quit).await;
            let answer = text(&state.borrow().answer())?;
            writer.write_all(&answer).await?;
            // Kept open to the end, which is how the other side sees it.
            return std::future::pending().await;
        }
        Ask::Refresh => drop(orders.send(Order::Refresh).await),
        Ask::Published => {
            let _ = timeout(API_LIMIT, state.wait_for(|state| state.synced)).await;
            let _ = timeout(SETTLE_LIMIT, state.wait_for(|state| state.settled)).await;
        }
        Ask::Rules => {
            let (sender, begun) = oneshot::channel();
            let _ = orders.send(Order::Rules(sender)).await;
            let _ = timeout(SETTLE_LIMIT, begun).await;
            let _ = timeout(DOCKER_LIMIT, state.wait_for(|state| state.docker)).await;
            let _ = timeout(SETTLE_LIMIT, state.wait_for(|state| state.settled)).await;
        }
        Ask::Follow => return follow(reader.into_inner().into_inner(), writer, state).await,
    }
    let answer = text(&state.borrow().answer())?;
    writer.write_all(&answer).await
}

/// Tells everything, and again whenever it is different, until the other side has enough.
async fn follow(
    mut reader: tokio::net::unix::ReadHalf<'_>,
    mut writer: tokio::net::unix::WriteHalf<'_>,
    mut state: watch::Receiver<State>,
) -> std::io::Result<()> {
    let mut told = None;
    let mut byte = [0];
    let _ = timeout(
        SETTLE_LIMIT,
        state.wait_for(|state| state.synced && state.settled),
    )
    .await;
    loop {
        let answer = state.borrow_and_update().answer();
        if told.as_ref() != Some(&answer) {
            writer.write_all(&text(&answer)?).await?;
            told = Some(answer);
        }
        tokio::select! {
            changed = state.changed() => if changed.is_err() { return Ok(()) },
            _ = reader.read(&mut byte) => return Ok(()),
        }
    }
}

fn text(answer: &Answer) -> std::io::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(answer)?;
    line.push(b'\n');
    Ok(line)
}
