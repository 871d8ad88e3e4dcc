//! What the process waits for.

use std::future::pending;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{Instant as Tick, sleep_until};

/// Waits for a task, if there is one; none when it was cut off.
pub(super) async fn finished<T>(task: &mut Option<JoinHandle<T>>) -> Option<T> {
    match task {
        Some(task) => task.await.ok(),
        None => pending().await,
    }
}

pub(super) async fn at(tick: Option<Tick>) {
    match tick {
        Some(tick) => sleep_until(tick).await,
        None => pending().await,
    }
}

pub(super) async fn signals() {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut terminate), Ok(mut interrupt)) =
        (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        return pending().await;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

/// Waits until the machine's process has ended. One that is held has not.
pub(super) async fn machine_ends(pid: Option<u32>) {
    let pid = pid
        .and_then(|pid| i32::try_from(pid).ok())
        .and_then(rustix::process::Pid::from_raw);
    let Some(pid) = pid else {
        return pending().await;
    };
    #[cfg(target_os = "linux")]
    if let Ok(handle) = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()) {
        use rustix::event::{PollFd, PollFlags, poll};
        // A thread that sleeps all its life, as a descriptor can be handed to the runtime only by unsafe means.
        let (sender, ended) = tokio::sync::oneshot::channel();
        std::thread::spawn(move || {
            while let Err(rustix::io::Errno::INTR) = poll(&mut [PollFd::new(&handle, PollFlags::IN)], None) {}
            let _ = sender.send(());
        });
        let _ = ended.await;
        return;
    }
    while rustix::process::test_kill_process(pid).is_ok() {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}
