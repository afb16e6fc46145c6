use super::*;
use crate::environment::Environment;

fn open(path: &Path, node_id: &str) -> Result<DataFolder, IdentityError> {
    let lock = FolderLock::take(path)?;
    DataFolder::open(path, lock, node_id, Environment::system().random.as_ref())
}

fn member(cluster: &str, raft_id: u64) -> MemberId {
    MemberId { cluster_id: cluster.to_owned(), raft_id }
}

#[test]
fn a_folder_keeps_its_disk_id_and_its_place() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("deep/data");
    let mut folder = open(&path, "a").unwrap();
    let disk_id = folder.identity().disk_id.clone();
    assert_eq!(folder.identity().member, None);
    folder.prepare(member("c", 2)).unwrap();
    folder.join().unwrap();
    drop(folder);
    let folder = open(&path, "a").unwrap();
    assert_eq!(folder.identity().disk_id, disk_id);
    assert_eq!(folder.identity().member, Some(member("c", 2)));
    assert!(folder.identity().joined);
}

#[test]
fn two_folders_have_two_disk_ids() {
    let dir = tempfile::tempdir().unwrap();
    let one = open(&dir.path().join("1"), "a").unwrap();
    let two = open(&dir.path().join("2"), "a").unwrap();
    assert_ne!(one.identity().disk_id, two.identity().disk_id);
}

#[test]
fn a_second_user_of_a_folder_is_refused_until_the_first_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let first = open(dir.path(), "a").unwrap();
    let error = open(dir.path(), "a").unwrap_err().to_string();
    assert!(error.contains(&dir.path().display().to_string()), "{error}");
    assert!(error.contains(&format!("(pid {})", std::process::id())), "{error}");
    drop(first);
    open(dir.path(), "a").unwrap();
}

#[test]
fn the_folder_of_another_node_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path(), "a").unwrap());
    let error = open(dir.path(), "b").unwrap_err();
    assert!(matches!(error, IdentityError::OtherNode { .. }));
    assert!(!error.to_string().contains('\n'));
}

#[test]
fn a_place_may_change_until_the_node_has_joined() {
    let dir = tempfile::tempdir().unwrap();
    let mut folder = open(dir.path(), "a").unwrap();
    folder.prepare(member("one", 1)).unwrap();
    folder.prepare(member("two", 3)).unwrap();
    folder.join().unwrap();
    folder.prepare(member("two", 3)).unwrap();
    assert!(matches!(folder.prepare(member("two", 4)), Err(IdentityError::Taken { .. })));
    assert!(matches!(folder.prepare(member("one", 3)), Err(IdentityError::Taken { .. })));
}

#[test]
fn a_place_given_by_a_leader_is_kept_whoever_offers_another() {
    let dir = tempfile::tempdir().unwrap();
    let mut folder = open(dir.path(), "a").unwrap();
    folder.prepare(member("abandoned", 1)).unwrap();
    folder.adopt(member("c", 4)).unwrap();
    folder.adopt(member("c", 4)).unwrap();
    assert!(folder.identity().admitted && !folder.identity().joined);
    assert!(matches!(folder.prepare(member("abandoned", 1)), Err(IdentityError::Taken { .. })));
    assert!(matches!(folder.adopt(member("c", 5)), Err(IdentityError::Taken { .. })));
    drop(folder);
    let folder = open(dir.path(), "a").unwrap();
    assert!(folder.identity().admitted, "a restart does not make it a founder");
}

#[test]
fn a_removal_is_kept_and_its_first_index_stands() {
    let dir = tempfile::tempdir().unwrap();
    let mut folder = open(dir.path(), "a").unwrap();
    folder.adopt(member("c", 4)).unwrap();
    folder.join().unwrap();
    folder.remove(70).unwrap();
    folder.remove(80).unwrap();
    drop(folder);
    assert_eq!(open(dir.path(), "a").unwrap().identity().removed_at, Some(70));
}

/// What the disk can hold after power was lost within a replacement: the new file not begun, cut at any
/// byte, whole but not renamed, renamed.
#[test]
fn a_crash_while_writing_leaves_the_old_or_the_new_identity() {
    let dir = tempfile::tempdir().unwrap();
    let mut folder = open(dir.path(), "a").unwrap();
    let old = folder.identity().clone();
    folder.prepare(member("c", 2)).unwrap();
    drop(folder);
    let file = dir.path().join(IDENTITY_FILE);
    let new_text = fs::read(&file).unwrap();
    let new = read(&file).unwrap().unwrap();
    let old_text = serde_json::to_vec_pretty(&old).unwrap();

    for cut in 0..=new_text.len() {
        fs::write(&file, &old_text).unwrap();
        fs::write(dir.path().join(TEMPORARY_FILE), &new_text[..cut]).unwrap();
        assert_eq!(open(dir.path(), "a").unwrap().identity(), &old, "cut at {cut}");
    }
    fs::rename(dir.path().join(TEMPORARY_FILE), &file).unwrap();
    assert_eq!(open(dir.path(), "a").unwrap().identity(), &new);
}

#[test]
fn a_damaged_identity_is_refused_and_left_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path(), "a").unwrap());
    let file = dir.path().join(IDENTITY_FILE);
    let good = fs::read_to_string(&file).unwrap();
    let bad_joined = good.replace("\"joined\": false", "\"joined\": true");
    for text in ["", "{", "[]", &good.replace("\"format\": 1", "\"format\": 2"), &bad_joined] {
        fs::write(&file, text).unwrap();
        let error = open(dir.path(), "a").unwrap_err();
        assert!(matches!(error, IdentityError::Unreadable { .. }), "{text}: {error}");
        assert_eq!(fs::read_to_string(&file).unwrap(), text);
    }
}

#[test]
fn a_folder_that_cannot_be_made_is_named() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("file"), "x").unwrap();
    let path = dir.path().join("file/data");
    let error = open(&path, "a").unwrap_err().to_string();
    assert!(error.contains(&path.display().to_string()), "{error}");
}
