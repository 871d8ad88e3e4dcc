//! Story 3: a new version rolls out, back and wide while somebody asks all the time and always gets an answer.

use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::Value;

use crate::docker;
use crate::support::{PROFILE, World, eventually, shown, text};

/// Emulated guests are slow and the host may be busy.
const PATIENCE: Duration = Duration::from_secs(180);

/// What the service answers, as curl gets it.
fn ask(url: &str) -> Result<String, String> {
    let curl = Command::new("curl")
        .args(["-sS", "--fail", "--max-time", "30", url])
        .output()
        .expect("curl is installed");
    if curl.status.success() {
        Ok(text(&curl.stdout))
    } else {
        Err(shown(&curl))
    }
}

/// Asks until it is told to stop; how many answers there were, or the first request that was lost.
fn ask_on(url: &str, stop: &AtomicBool) -> Result<usize, String> {
    let mut answers = 0;
    while !stop.load(Ordering::Relaxed) {
        let words = ask(url).map_err(|lost| format!("after {answers} answers: {lost}"))?;
        assert!(["0.1", "0.2"].contains(&words.as_str()), "{words}");
        answers += 1;
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(answers)
}

/// Build 0.2, set it, look at the history, go back, scale to ten: no request is lost.
pub(crate) fn versions_roll_without_losing_a_request(world: &World) {
    let url = format!("http://{}:30080/words", world.ok(&["ip", "-p", PROFILE]));
    docker::build(world, "story/rolled:0.1", "0.1");
    world.apply(include_str!("files/rolled.yaml"));
    let rolled_out = || {
        world.kubectl(&["rollout", "status", "deployment/rolled", "--timeout=300s"]);
    };
    let answers = |wanted: &str| {
        eventually(&format!("all pods are of {wanted}"), PATIENCE, || {
            let pods = world.kubectl(&["get", "pods", "-l", "app=rolled", "-o", "json"]);
            let pods: Value = serde_json::from_str(&pods).map_err(|error| error.to_string())?;
            let image = format!("story/rolled:{wanted}");
            // One that ends may still be of the other version.
            let is_other = |pod: &&Value| {
                pod["metadata"]["deletionTimestamp"].is_null()
                    && pod["spec"]["containers"][0]["image"] != image
            };
            if let Some(other) = pods["items"].as_array().into_iter().flatten().find(is_other) {
                return Err(other["metadata"]["name"].to_string());
            }
            ask(&url).and_then(|words| if words == wanted { Ok(()) } else { Err(words) })
        });
    };
    rolled_out();
    answers("0.1");

    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let asked = scope.spawn(|| ask_on(&url, &stop));
        // However this ends, the other must.
        let rolling = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            docker::build(world, "story/rolled:0.2", "0.2");
            world.kubectl(&["set", "image", "deployment/rolled", "app=story/rolled:0.2"]);
            rolled_out();
            answers("0.2");
            let history = world.kubectl(&["rollout", "history", "deployment/rolled"]);
            assert_eq!(
                history
                    .lines()
                    .filter(|line| line.starts_with(['1', '2']))
                    .count(),
                2,
                "{history}"
            );
            world.kubectl(&["rollout", "undo", "deployment/rolled"]);
            rolled_out();
            answers("0.1");
            world.kubectl(&["scale", "deployment/rolled", "--replicas=10"]);
            rolled_out();
        }));
        stop.store(true, Ordering::Relaxed);
        let asked = asked.join().expect("only known answers");
        if let Err(panic) = rolling {
            std::panic::resume_unwind(panic);
        }
        match asked {
            Ok(answers) => assert!(answers > 20, "only {answers} answers"),
            Err(lost) => panic!("a request was lost {lost}"),
        }
    });
    world.kubectl(&["delete", "deployment,service", "rolled"]);
    // They would end by themselves, but slowly.
    world.kubectl(&["delete", "pods", "-l", "app=rolled", "--grace-period=1"]);
}
