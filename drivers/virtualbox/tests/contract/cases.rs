//! The stand-in's tests.

use std::fs;
use std::net::TcpListener;
use std::thread;
use std::time::{Duration, Instant};

use sampan_driver::{Driver, DriverError, MachineState, contract};

use crate::books::{Books, Knobs, Vm, change};
use crate::ground::Ground;

pub(crate) const ALL: &[(&str, fn())] = &[
    ("the_contract_holds", the_contract_holds),
    (
        "the_contract_holds_behind_warnings",
        the_contract_holds_behind_warnings,
    ),
    (
        "without_virtualbox_there_are_no_machines",
        without_virtualbox_there_are_no_machines,
    ),
    ("versions_are_told_apart", versions_are_told_apart),
    (
        "a_missing_kernel_module_is_advice",
        a_missing_kernel_module_is_advice,
    ),
    (
        "a_hanging_vboxmanage_is_given_up",
        a_hanging_vboxmanage_is_given_up,
    ),
    ("a_renamed_machine_is_found", a_renamed_machine_is_found),
    (
        "a_machine_that_virtualbox_forgot_is_made_known_again",
        a_machine_that_virtualbox_forgot_is_made_known_again,
    ),
    (
        "disks_that_are_still_in_the_books_are_no_obstacle",
        disks_that_are_still_in_the_books_are_no_obstacle,
    ),
    (
        "rules_that_are_there_already_are_used_or_replaced",
        rules_that_are_there_already_are_used_or_replaced,
    ),
    ("a_lock_that_goes_is_waited_for", a_lock_that_goes_is_waited_for),
    (
        "a_start_that_fails_leaves_nothing",
        a_start_that_fails_leaves_nothing,
    ),
    (
        "a_crashed_guest_is_told_and_booted",
        a_crashed_guest_is_told_and_booted,
    ),
    (
        "the_host_chooses_a_port_when_asked_to",
        the_host_chooses_a_port_when_asked_to,
    ),
    ("a_missing_image_is_named", a_missing_image_is_named),
    (
        "another_drivers_files_are_left_alone",
        another_drivers_files_are_left_alone,
    ),
];

fn the_contract_holds() {
    let ground = Ground::new("contract");
    contract::whole_life(&ground.driver(), &ground.spec).unwrap();
    change(&ground.bin(), |books| {
        assert!(books.vms.is_empty(), "machines are left");
        assert!(books.media.is_empty(), "{:?} are left", books.media);
    });
}

fn the_contract_holds_behind_warnings() {
    let ground = Ground::new("warnings");
    ground.set(&Knobs {
        warning: "WARNING: Environment variable LOGNAME or USER does not correspond to effective user id.\n"
            .into(),
        ..Knobs::default()
    });
    contract::whole_life(&ground.driver(), &ground.spec).unwrap();
}

fn without_virtualbox_there_are_no_machines() {
    let ground = Ground::new("absent");
    for name in ["VBoxManage", "VBoxHeadless"] {
        fs::remove_file(ground.bin().join(name)).unwrap();
    }
    contract::not_installed(&ground.driver(), &ground.spec).unwrap();
}

fn versions_are_told_apart() {
    let ground = Ground::new("versions");
    let check = |version: &str| {
        ground.set(&Knobs {
            version: version.into(),
            ..Knobs::default()
        });
        ground.driver().check()
    };
    assert!(matches!(
        check("5.2.44r139111\n"),
        Err(DriverError::Unsupported { .. })
    ));
    match check("hello\n") {
        Err(DriverError::Unhealthy { what, .. }) => {
            assert!(what.ends_with("does not tell its version: hello"), "{what}")
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(check("6.1.50r161033\n").unwrap().version, "6.1.50");
    assert!(check("7.2.0r1\n").unwrap().reason.is_empty());
    assert!(check("8.0.2r200000\n").unwrap().reason.contains("newer than 7.2"));
}

fn a_missing_kernel_module_is_advice() {
    let ground = Ground::new("module");
    ground.set(&Knobs {
        warning: "WARNING: The character device /dev/vboxdrv does not exist.\n".into(),
        ..Knobs::default()
    });
    match ground.driver().check() {
        Err(DriverError::Unhealthy { what, hint }) => {
            assert_eq!(
                what,
                "VirtualBox's kernel module is not loaded (VirtualBox 7.2.22)"
            );
            assert!(hint.contains("modprobe vboxdrv"), "{hint}");
        }
        other => panic!("{other:?}"),
    }
}

fn a_hanging_vboxmanage_is_given_up() {
    let ground = Ground::new("hang");
    ground.set(&Knobs {
        hang: "--version".into(),
        ..Knobs::default()
    });
    let began = Instant::now();
    match ground.driver().check() {
        Err(DriverError::Unhealthy { what, hint }) => {
            assert!(
                what.contains("does not answer") && hint.contains("VBoxSVC"),
                "{what}: {hint}"
            );
        }
        other => panic!("{other:?}"),
    }
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
}

fn the_only(books: &mut Books) -> &mut Vm {
    books.vms.values_mut().next().unwrap()
}

fn a_renamed_machine_is_found() {
    let ground = Ground::new("renamed");
    let driver = ground.started();
    driver.kill(&ground.spec).unwrap();
    change(&ground.bin(), |books| {
        let vm = the_only(books);
        let (old, old_dir) = (vm.settings(), vm.folder.join(&vm.name));
        fs::rename(&old, old.with_file_name("mine.vbox")).unwrap();
        vm.name = "mine".into();
        fs::rename(old_dir, vm.folder.join("mine")).unwrap();
        assert!(vm.settings().exists());
    });
    driver.start(&ground.spec).unwrap();
    assert_eq!(driver.state(&ground.spec).unwrap(), MachineState::Running);
    change(&ground.bin(), |books| assert_eq!(the_only(books).name, "mine"));
}

fn a_machine_that_virtualbox_forgot_is_made_known_again() {
    let ground = Ground::new("forgotten");
    let driver = ground.started();
    driver.kill(&ground.spec).unwrap();
    let disk = ground.spec.dir.join("disk.vdi");
    let before = fs::metadata(&disk).unwrap().modified().unwrap();
    change(&ground.bin(), |books| *books = Books::default());
    assert_eq!(driver.state(&ground.spec).unwrap(), MachineState::Stopped);
    driver.start(&ground.spec).unwrap();
    assert_eq!(driver.state(&ground.spec).unwrap(), MachineState::Running);
    driver.kill(&ground.spec).unwrap();
    // Its settings are lost this time.
    fs::remove_dir_all(ground.spec.dir.join("vm")).unwrap();
    assert_eq!(driver.state(&ground.spec).unwrap(), MachineState::Stopped);
    driver.start(&ground.spec).unwrap();
    assert_eq!(
        fs::metadata(&disk).unwrap().modified().unwrap(),
        before,
        "the disk is another one"
    );
}

fn disks_that_are_still_in_the_books_are_no_obstacle() {
    let ground = Ground::new("media");
    let driver = ground.driver();
    driver.create(&ground.spec).unwrap();
    // As after a crash of VirtualBox: the machine is forgotten, its disks are not, and its files are gone.
    change(&ground.bin(), |books| books.vms.clear());
    fs::remove_dir_all(&ground.spec.dir).unwrap();
    driver.create(&ground.spec).unwrap();
    driver.start(&ground.spec).unwrap();
    change(&ground.bin(), |books| books.vms.clear());
    driver.remove(&ground.spec).unwrap();
    change(&ground.bin(), |books| {
        assert!(books.media.is_empty(), "{:?}", books.media)
    });
}

fn rules_that_are_there_already_are_used_or_replaced() {
    let ground = Ground::new("rules");
    let driver = ground.driver();
    driver.create(&ground.spec).unwrap();
    let [api, ssh] = ground.spec.forwards[..] else {
        panic!("two forwards")
    };
    change(&ground.bin(), |books| {
        let rules = &mut the_only(books).rules;
        let port = api.host.port();
        rules.insert("mine".into(), format!("tcp,127.0.0.1,{port},10.0.2.15,8443"));
        rules.insert(
            "other".into(),
            format!("tcp,127.0.0.1,{},10.0.2.15,80", ssh.host.port()),
        );
    });
    driver.start(&ground.spec).unwrap();
    assert_eq!(driver.endpoint(&ground.spec).unwrap().forwards, [api, ssh]);
}

fn a_lock_that_goes_is_waited_for() {
    let ground = Ground::new("locked");
    ground.set(&Knobs {
        fail: (
            "modifyvm".into(),
            "The machine 'x' is already locked by a session (or being locked or unlocked)".into(),
        ),
        ..Knobs::default()
    });
    thread::scope(|scope| {
        scope.spawn(|| {
            thread::sleep(Duration::from_millis(700));
            ground.set(&Knobs::default());
        });
        ground.driver().create(&ground.spec).unwrap();
    });
}

fn a_start_that_fails_leaves_nothing() {
    let ground = Ground::new("fails");
    let driver = ground.driver();
    driver.create(&ground.spec).unwrap();
    ground.set(&Knobs {
        fail: ("startvm".into(), "VT-x is not available (VERR_VMX_NO_VMX)".into()),
        ..Knobs::default()
    });
    match driver.start(&ground.spec) {
        Err(DriverError::Unhealthy { what, hint }) => {
            assert!(
                what.contains("offers no virtualization") && what.contains("VERR_VMX_NO_VMX"),
                "{what}"
            );
            assert!(hint.contains("--driver qemu"), "{hint}");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(driver.state(&ground.spec).unwrap(), MachineState::Stopped);
    for forward in &ground.spec.forwards {
        drop(TcpListener::bind(forward.host).unwrap());
    }
    ground.set(&Knobs::default());
    driver.start(&ground.spec).unwrap();
}

fn a_crashed_guest_is_told_and_booted() {
    let ground = Ground::new("guru");
    let driver = ground.started();
    let pid = driver.endpoint(&ground.spec).unwrap().pid;
    change(&ground.bin(), |books| {
        the_only(books).state = "gurumeditation".into()
    });
    assert_eq!(driver.state(&ground.spec).unwrap(), MachineState::Paused);
    let trouble = driver.trouble(&ground.spec).unwrap().unwrap();
    assert!(trouble.contains("guru meditation"), "{trouble}");
    driver.start(&ground.spec).unwrap();
    assert_eq!(driver.state(&ground.spec).unwrap(), MachineState::Running);
    assert_ne!(driver.endpoint(&ground.spec).unwrap().pid, pid);
}

fn the_host_chooses_a_port_when_asked_to() {
    let mut ground = Ground::new("ports");
    ground.spec.forwards[1].host.set_port(0);
    let driver = ground.started();
    let chosen = driver.endpoint(&ground.spec).unwrap().reach(22).unwrap();
    assert_ne!(chosen.port(), 0);
}

fn a_missing_image_is_named() {
    let ground = Ground::new("missing");
    let driver = ground.driver();
    driver.create(&ground.spec).unwrap();
    fs::remove_file(&ground.spec.extra_disks[1].path).unwrap();
    let error = driver.start(&ground.spec).unwrap_err().to_string();
    assert!(error.contains("parts.img: No such file"), "{error}");
    fs::write(&ground.spec.extra_disks[1].path, [0; 100]).unwrap();
    let error = driver.start(&ground.spec).unwrap_err().to_string();
    assert!(error.contains("100 bytes are no whole sectors"), "{error}");
}

/// `delete` of a profile whose file is damaged asks every driver.
fn another_drivers_files_are_left_alone() {
    let ground = Ground::new("others");
    fs::create_dir_all(&ground.spec.dir).unwrap();
    fs::write(ground.spec.dir.join("disk.qcow2"), "theirs").unwrap();
    ground.driver().remove(&ground.spec).unwrap();
    assert!(ground.spec.dir.join("disk.qcow2").exists());
}
