use super::*;

#[test]
fn a_start_that_is_given_up_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let pidfile = files::real(dir.path()).join(files::PIDFILE);
    // The words after the script are arguments nobody looks at but us.
    let command = Command::new("sh")
        .args(["-c", "sleep 60; true", "qemu", "-pidfile"])
        .path(&pidfile);
    let starting = Starting::spawn(&command, dir.path()).unwrap();
    fs::write(dir.path().join(files::RAM), "").unwrap();
    let end = std::time::Instant::now() + Duration::from_secs(10);
    let process = loop {
        if let Some(process) = find(dir.path()).unwrap() {
            break process;
        }
        assert!(std::time::Instant::now() < end, "it is not found");
        std::thread::sleep(Duration::from_millis(5));
    };
    drop(starting);
    assert!(process.ended_within(Duration::ZERO));
    assert!(find(dir.path()).unwrap().is_none());
    assert!(!dir.path().join(files::RAM).exists());
}
