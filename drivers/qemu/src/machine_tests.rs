use super::*;

#[test]
fn the_refused_forward_is_found_in_qemus_words() {
    let line = "2026-11-21T11:38:00.1Z qemu-system-x86_64: -netdev user,id=net0,hostfwd=tcp:127.77.0.1:8443-:8443: \
                Could not set up host forwarding rule 'tcp:127.77.0.1:8443-:8443'";
    assert_eq!(refused_forward(line), Some("127.77.0.1:8443".parse().unwrap()));
    assert_eq!(refused_forward("qemu: terminating on signal 15"), None);
}
