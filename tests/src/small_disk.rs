//! A real, small file system for one node, that a test can fill.

use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};

use crate::node::Node;

/// A tmpfs in a mount namespace of its own, held by a process that ends with this one. Nothing of it is left
/// on the machine, however the test ends.
#[derive(Debug)]
pub struct SmallDisk {
    holder: Child,
    _stdin: ChildStdin,
    folder: PathBuf,
}

impl SmallDisk {
    /// Gives the node a disk of this size for its data. Call it before the node starts.
    ///
    /// # Panics
    /// Where a file system cannot be mounted: this needs root, as in CI.
    pub fn give(node: &mut Node, bytes: u64) -> Self {
        std::fs::create_dir_all(&node.data).expect("a folder to mount on");
        let script = "mount -t tmpfs -o size=$1 tmpfs \"$2\" && echo mounted && exec cat";
        let mut holder = Command::new("unshare")
            .args(["--mount", "sh", "-c", script, "sh", &bytes.to_string()])
            .arg(&node.data)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("unshare is part of util-linux");
        let mut answer = String::new();
        let stdout = holder.stdout.take().expect("a pipe");
        BufReader::new(stdout).read_line(&mut answer).expect("the pipe is read");
        assert_eq!(answer.trim(), "mounted", "tests of full disks mount a tmpfs, which needs root");
        let stdin = holder.stdin.take().expect("a pipe");
        let target = format!("--target={}", holder.id());
        node.set_launcher(vec!["nsenter".into(), target, "--mount".into(), "--".into()]);
        Self { holder, _stdin: stdin, folder: node.data.clone() }
    }

    /// Takes every byte that is free.
    pub fn fill(&self) {
        let mut file = File::options().create(true).append(true).open(self.filler()).expect("a file");
        // Whole pages first, then what may be left of one.
        for block in [&[0_u8; 64 << 10][..], &[0; 4096], &[0; 1]] {
            while match file.write(block) {
                Ok(_) => true,
                Err(error) if error.kind() == ErrorKind::StorageFull => false,
                Err(error) => panic!("filling {}: {error}", self.folder.display()),
            } {}
        }
    }

    /// Gives back what [`fill`](Self::fill) took.
    pub fn free(&self) {
        std::fs::remove_file(self.filler()).expect("it was filled");
    }

    /// A file beside the node's data, seen from outside of the namespace.
    fn filler(&self) -> PathBuf {
        let folder = self.folder.strip_prefix("/").expect("an absolute path");
        Path::new("/proc").join(self.holder.id().to_string()).join("root").join(folder).join("filler")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}
