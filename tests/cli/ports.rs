//! Ports of the host that somebody else has.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use crate::faults::processes_of;
use crate::life::alone;
use crate::support::TestEnvironment;

fn api_of(env: &TestEnvironment) -> SocketAddr {
    let text = fs::read_to_string(env.layout().profile("sampan").profile_toml()).unwrap();
    let profile: toml::Table = toml::from_str(&text).unwrap();
    let (address, port) = (&profile["address"], &profile["api_port"]);
    format!("{}:{port}", address.as_str().unwrap()).parse().unwrap()
}

#[test]
fn a_clusters_port_that_is_taken_is_71_and_the_cluster_stays() {
    let _alone = alone();
    let env = TestEnvironment::with_bundle();
    env.ok("start --driver fake --memory 3g");
    env.ok("stop");
    let profile = env.layout().profile("sampan").profile_toml();
    let objects = env
        .layout()
        .profile("sampan")
        .machine()
        .join("state/objects.json");
    let read = || (fs::read(&profile).unwrap(), fs::read(&objects).unwrap());
    let (before, api) = (read(), api_of(&env));

    let somebody = TcpListener::bind(api).unwrap();
    let output = env.output("start");
    let raw = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(raw.contains(&api.to_string()), "{api}: {raw}");
    insta::assert_snapshot!(env.seen(&output), @r"
    status: 71
    --- stdout
    ✓ checking the driver (TIME)
    ✓ setting up the profile (TIME)
    ✓ making keys and certificates (TIME)
    using fake 0.1.0
    ✗ starting the machine (TIME)
    --- stderr
    X Exiting due to IF_PORT_CONFLICT: port ADDRESS:6443 is in use on the host
    hint: see what listens there with `ss -ltnp`, end it, then start again
    ");
    assert_eq!(read(), before);
    assert_eq!(processes_of(&env.layout().data), Vec::<String>::new());

    drop(somebody);
    env.ok("start");
    assert_eq!((env.status("status"), api_of(&env)), (0, api));
    assert_eq!(read(), before);
}

#[test]
fn a_new_cluster_leaves_an_address_whose_port_is_taken() {
    let _alone = alone();
    for port in [6443, 2222] {
        let env = TestEnvironment::with_bundle();
        // Of the addresses that would do, the first: it is the one that would be chosen.
        let taken = (2..=254)
            .map(|last| Ipv4Addr::new(127, 77, 0, last))
            .find_map(|address| {
                let both = [6443, 2222].map(|port| TcpListener::bind((address, port)).ok());
                let wanted = usize::from(port == 2222);
                let [api, ssh] = both;
                (api.is_some() && ssh.is_some()).then(|| [api, ssh].into_iter().nth(wanted)?)?
            })
            .unwrap();
        env.ok("start --driver fake --memory 3g");
        assert_ne!(api_of(&env).ip(), taken.local_addr().unwrap().ip());
        assert_eq!(env.status("status"), 0);
        env.ok("delete");
    }
}
