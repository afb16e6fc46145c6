use super::*;

#[test]
fn a_full_log_file_is_put_aside_and_one_old_one_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("node.log");
    let mut file = RotatingFile::open(path.clone(), 10).unwrap();
    for line in ["first line\n", "second line\n", "third\n"] {
        file.write_all(line.as_bytes()).unwrap();
    }
    let old = dir.path().join("node.log.1");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "third\n");
    assert_eq!(std::fs::read_to_string(&old).unwrap(), "second line\n");
    drop(file);
    // The next process goes on where this one stopped.
    RotatingFile::open(path.clone(), 10).unwrap().write_all(b"more\n").unwrap();
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "third\nmore\n");
}

#[test]
fn a_bad_filter_is_named() {
    let error = init(LogFormat::Text, "info,=[", None).unwrap_err();
    assert!(error.contains("REGISTRY_LOG = info,=["), "{error}");
}
