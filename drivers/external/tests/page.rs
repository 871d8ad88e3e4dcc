//! `docs/drivers.md` tells the truth: its toy driver is a driver, its messages are messages.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::fs;
use std::net::TcpListener;
use std::path::Path;

use sampan_driver::{Disk, Driver, Forward, Host, MachineSpec, Runner, contract};
use sampan_driver_external::protocol::{Answer, Call, Request};
use sampan_driver_external::{External, find};

/// All pieces of the page in this language.
fn pieces(language: &str) -> Vec<String> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/drivers.md");
    let page = fs::read_to_string(page).unwrap();
    let pieces = page.split("```").skip(1).step_by(2);
    pieces
        .filter_map(|piece| piece.strip_prefix(language)?.strip_prefix('\n'))
        .map(str::to_owned)
        .collect()
}

struct Guard<'a>(&'a External, &'a MachineSpec);

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        let _ = Driver::remove(self.0, self.1);
    }
}

#[test]
#[cfg(target_os = "linux")]
fn the_toy_driver_passes_the_contract_suite() {
    let dir = tempfile::tempdir().unwrap();
    let [toy] = &pieces("python")[..] else {
        panic!("one driver is expected");
    };
    let program = dir.path().join("sampan-driver-toy");
    Host.write_file(program.to_str().unwrap(), 0o755, toy.as_bytes())
        .unwrap();
    let found = find("toy", Some(dir.path().as_os_str())).unwrap();
    let driver = External::new("toy", found, dir.path().join("cache"));
    let free = || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let spec = MachineSpec {
        name: "demo".into(),
        dir: dir.path().join("machine"),
        cpus: 1,
        memory_mib: 64,
        disk: Disk {
            base: dir.path().join("base"),
            size_mib: 8,
        },
        extra_disks: Vec::new(),
        boot: None,
        forwards: vec![Forward::tcp(free(), 8443), Forward::tcp(free(), 22)],
    };
    let _guard = Guard(&driver, &spec);
    assert_eq!(driver.check().unwrap().reason, "toys need no hypervisor");
    assert_eq!(driver.trouble(&spec).unwrap(), None);
    assert!(driver.port_forward().is_none());
    contract::whole_life(&driver, &spec).unwrap();
}

#[test]
fn every_message_is_one_and_every_method_is_described() {
    let messages = pieces("json");
    assert!(messages.len() > 10, "{}", messages.len());
    for message in &messages {
        let value: serde_json::Value = serde_json::from_str(message).unwrap();
        if value.get("method").is_some() {
            let request: Request = serde_json::from_str(message).unwrap();
            assert_eq!(value["method"], request.call.name());
            // Nothing in it is unknown to us.
            assert_eq!(serde_json::to_value(&request).unwrap(), value, "{message}");
        } else {
            let _: Answer = serde_json::from_str(message).unwrap();
            assert!(value.get("result").is_some() || value["error"]["kind"].is_string());
        }
    }
    let page =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/drivers.md")).unwrap();
    let request: Request = serde_json::from_str(&messages[0]).unwrap();
    let Call::Start { spec } = request.call else {
        panic!("the first message is a start");
    };
    let forward = spec.forwards[0];
    for call in [
        Call::Describe,
        Call::Check,
        Call::Create { spec: spec.clone() },
        Call::Start { spec: spec.clone() },
        Call::Kill { spec: spec.clone() },
        Call::Remove { spec: spec.clone() },
        Call::State { spec: spec.clone() },
        Call::Trouble { spec: spec.clone() },
        Call::Endpoint { spec: spec.clone() },
        Call::ForwardAdd {
            spec: spec.clone(),
            forward,
        },
        Call::ForwardRemove {
            spec: spec.clone(),
            forward,
        },
        Call::ForwardList { spec },
    ] {
        let limit = format!(" {} s |", call.deadline().as_secs());
        let described = page
            .lines()
            .any(|line| line.starts_with(&format!("| `{}` |", call.name())) && line.ends_with(&limit));
        assert!(described, "{} with its limit of{limit}", call.name());
    }
}
