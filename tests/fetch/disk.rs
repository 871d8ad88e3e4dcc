//! Full disks: told with what is missing, and gone on with when there is room.

use std::fs;

use sampan::error::Kind;
use sampan_test_support::disk::{leave_kib, may_mount, mount};
use sampan_test_support::upstream::Plan;

use crate::support::*;

fn on_a_small_disk() -> Ground {
    let ground = Ground::new();
    fs::create_dir(ground.store()).unwrap();
    mount("size=64m", &ground.store());
    ground
}

#[test]
fn what_does_not_fit_is_not_begun() {
    if !may_mount("disk::what_does_not_fit_is_not_begun") {
        return;
    }
    let ground = on_a_small_disk();
    leave_kib(&ground.store(), 2048);
    let error = ground.fetch(&object()).unwrap_err();
    let text = told(&error);
    assert_eq!(
        (error.kind(), error.kind().exit_code()),
        (Kind::Storage, 26),
        "{text}"
    );
    let dir = ground.store().join("parts");
    assert!(
        text.contains("no space left on device for kubelet: it takes 4 MB more, and ")
            && text.contains(&format!("{} has 3 MB free", dir.display()))
            && text.contains("hint: free some space"),
        "{text}"
    );
    assert_eq!((ground.kept(), ground.parts()), (Vec::new(), Vec::new()));
    leave_kib(&ground.store(), 16 << 10);
    ground.fetch(&object()).unwrap();
}

#[test]
fn a_disk_that_becomes_full_keeps_what_came() {
    if !may_mount("disk::a_disk_that_becomes_full_keeps_what_came") {
        return;
    }
    let ground = on_a_small_disk();
    leave_kib(&ground.store(), 2048);
    // Nobody can look ahead then.
    let unsaid = Plan::cut(SIZE as u64).header("Content-Length", "");
    ground.upstream.next(PATH, unsaid);
    let error = ground.fetch(&object()).unwrap_err();
    let text = told(&error);
    assert_eq!(error.kind(), Kind::Storage, "{text}");
    assert!(
        text.contains("no space left on device for kubelet") && text.contains("hint: free some space"),
        "{text}"
    );
    let begun = ground.part_length();
    assert!(begun > 1 << 20, "{begun}");
    leave_kib(&ground.store(), 16 << 10);
    ground.fetch(&object()).unwrap();
    let rest = ground.upstream.served_of(PATH).pop().unwrap();
    assert_eq!((rest.status, rest.sent), (206, SIZE as u64 - begun));
}
