use std::io::Write;

use super::*;

#[test]
fn a_mapping_is_recognised_by_its_inode() {
    let line = "7f2a00000000-7f2b00000000 rw-p 00001000 fe:00 4711                       /data/a b/ram.img";
    let expected = Mapping {
        from: 0x7f2a_0000_0000,
        to: 0x7f2b_0000_0000,
        offset: 0x1000,
    };
    assert_eq!(mapping(line, 4711), Some(expected));
    assert_eq!(mapping(line, 471), None);
    assert_eq!(mapping("7ffc-7ffd rw-p 00000000 00:00 0 [stack]", 4711), None);
    assert_eq!(mapping("", 0), None);
}

#[test]
fn pages_of_its_own_are_those_swapped_out_or_present_and_not_the_files() {
    const PRESENT: u64 = 1 << 63;
    const SWAPPED: u64 = 1 << 62;
    const FILE: u64 = 1 << 61;
    let entries = [
        0,
        PRESENT | 5,
        PRESENT | 6,
        PRESENT | FILE,
        SWAPPED,
        FILE,
        PRESENT,
    ];
    let bytes: Vec<u8> = entries.iter().flat_map(|entry| entry.to_ne_bytes()).collect();
    assert_eq!(runs(&bytes), [(1, 2), (4, 1), (6, 1)]);
}

#[test]
fn a_copy_has_the_same_holes_and_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let (from, to) = (dir.path().join("from"), dir.path().join("to"));
    let mut file = File::create(&from).unwrap();
    file.set_len(64 << 20).unwrap();
    file.write_all_at(b"near", 4096).unwrap();
    file.write_all_at(&vec![7; 3 << 20], 20 << 20).unwrap();
    file.flush().unwrap();
    let (_, written) = copy_sparse(&from, &to).unwrap();
    assert!(fs::read(&from).unwrap() == fs::read(&to).unwrap());
    assert!(written <= (3 << 20) + (128 << 10), "{written}");
    assert!(fs::metadata(&to).unwrap().blocks() <= 2 * (3 << 20) / 512);
    std::fs::write(&from, "").unwrap();
    assert_eq!(copy_sparse(&from, &to).unwrap().1, 0);
    assert_eq!(fs::metadata(&to).unwrap().len(), 0);
}

#[test]
fn a_process_tells_its_share_of_memory() {
    let share = proportional(std::process::id()).unwrap();
    assert!(share > 1 << 16 && share < 1 << 34, "{share}");
    assert!(proportional(u32::MAX).is_err());
}
