use super::*;
use crate::environment::Environment;
use crate::identity::{FolderLock, MemberId, read};

fn open(path: &Path) -> DataFolder {
    let lock = FolderLock::take(path).unwrap();
    DataFolder::open(path, lock, "a", Environment::system().random.as_ref()).unwrap()
}

/// A member with a log and a snapshot whose content tells them apart.
fn member(path: &Path, raft_id: u64) -> DataFolder {
    let mut folder = open(path);
    folder.adopt(MemberId { cluster_id: "c".into(), raft_id }).unwrap();
    folder.join().unwrap();
    for data in DATA_FOLDERS {
        fs::create_dir(path.join(data)).unwrap();
        fs::write(path.join(data).join("1"), format!("{data} of {raft_id}")).unwrap();
    }
    folder
}

fn anew(folder: &mut DataFolder) {
    folder.start_anew(Environment::system().random.as_ref(), &CrashPoint::default()).unwrap();
}

fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap()
}

#[test]
fn the_folder_becomes_a_fresh_one_and_what_was_in_it_stands_aside() {
    let dir = tempfile::tempdir().unwrap();
    let mut folder = member(dir.path(), 3);
    let before = folder.identity().clone();
    anew(&mut folder);
    assert_ne!(folder.identity().disk_id, before.disk_id);
    assert_eq!((&folder.identity().member, folder.identity().joined), (&None, false));
    assert!(!crate::raft::has_data(dir.path()).unwrap());
    assert_eq!(text(&dir.path().join("lost-3/log/1")), "log of 3");
    assert_eq!(text(&dir.path().join("lost-3/snapshots/1")), "snapshots of 3");
    assert_eq!(read(&dir.path().join("lost-3").join(IDENTITY_FILE)).unwrap().unwrap(), before);
}

#[test]
fn only_the_newest_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let mut folder = member(dir.path(), 3);
    anew(&mut folder);
    drop(folder);
    let mut folder = member(dir.path(), 4);
    folder.remove(70).unwrap();
    anew(&mut folder);
    assert!(!dir.path().join("lost-3").exists());
    assert_eq!(text(&dir.path().join("removed-4/log/1")), "log of 4");
}

#[test]
fn a_log_without_identity_is_moved_too() {
    let dir = tempfile::tempdir().unwrap();
    drop(member(dir.path(), 3));
    fs::remove_file(dir.path().join(IDENTITY_FILE)).unwrap();
    let mut folder = open(dir.path());
    anew(&mut folder);
    assert_eq!(text(&dir.path().join("lost-unknown/log/1")), "log of 3");
    assert!(!crate::raft::has_data(dir.path()).unwrap());
}

/// The other half of it: the new identity comes last, so that it never stands beside data that could not be
/// moved.
#[test]
fn data_that_cannot_be_moved_keeps_its_identity() {
    for data in DATA_FOLDERS {
        let dir = tempfile::tempdir().unwrap();
        let mut folder = member(dir.path(), 3);
        let before = folder.identity().clone();
        fs::remove_dir_all(dir.path().join(data)).unwrap();
        fs::write(dir.path().join(data), "no folder").unwrap();
        let failed = folder.start_anew(Environment::system().random.as_ref(), &CrashPoint::default());
        assert!(matches!(failed, Err(IdentityError::Io { .. })), "{data}: {failed:?}");
        assert_eq!(folder.identity(), &before, "{data}");
        assert_eq!(read(&dir.path().join(IDENTITY_FILE)).unwrap().unwrap(), before, "{data}");
    }
}

/// Every state in which a crash can leave the folder: repeated from there, the end is the same, and no new
/// disk id ever stands beside an old log.
#[test]
fn a_crash_at_any_step_leaves_what_can_be_repeated() {
    for steps in 0..=5 {
        let dir = tempfile::tempdir().unwrap();
        let folder = member(dir.path(), 3);
        let before = folder.identity().clone();
        drop(folder);
        let aside = dir.path().join("lost-3");
        let all: [&dyn Fn(); 5] = [
            &|| fs::create_dir(&aside).unwrap(),
            &|| fs::rename(dir.path().join("log"), aside.join("log")).unwrap(),
            // A start in between makes the folder again.
            &|| fs::create_dir(dir.path().join("log")).unwrap(),
            &|| fs::rename(dir.path().join("snapshots"), aside.join("snapshots")).unwrap(),
            &|| fs::hard_link(dir.path().join(IDENTITY_FILE), aside.join(IDENTITY_FILE)).unwrap(),
        ];
        all[..steps].iter().for_each(|step| step());
        let mut folder = open(dir.path());
        assert_eq!(folder.identity(), &before, "{steps} steps");
        anew(&mut folder);
        assert!(!crate::raft::has_data(dir.path()).unwrap(), "{steps} steps");
        assert_eq!(text(&aside.join("log/1")), "log of 3", "{steps} steps");
        assert_eq!(text(&aside.join("snapshots/1")), "snapshots of 3", "{steps} steps");
        assert_eq!(read(&aside.join(IDENTITY_FILE)).unwrap().unwrap(), before, "{steps} steps");
    }
}
