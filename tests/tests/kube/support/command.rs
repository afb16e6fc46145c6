//! Commands as a person types them, with what they print.

use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::process::Command;

/// Longer than any single command may take, `helm install --wait` included.
const LIMIT: Duration = Duration::from_secs(300);

/// What a command did.
#[derive(Debug)]
pub struct Output {
    /// Whether it exited with 0.
    pub ok: bool,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

/// Runs a program to its end, with `stdin` as its input.
pub async fn run(program: &str, args: &[&str], stdin: &str) -> Output {
    let mut child = Command::new(program)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap_or_else(|error| panic!("{program} does not start: {error}"));
    let mut input = child.stdin.take().expect("piped");
    let written = async {
        // A program that reads nothing may be gone already; its exit code says what matters.
        let _ = input.write_all(stdin.as_bytes()).await;
        drop(input);
    };
    let ended = async { tokio::join!(written, child.wait_with_output()).1 };
    let output = tokio::time::timeout(LIMIT, ended)
        .await
        .unwrap_or_else(|_| panic!("{program} {args:?} did not end within {LIMIT:?}"))
        .expect("its output can be read");
    Output {
        ok: output.status.success(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// As [`run`], for what must succeed; gives its standard output.
pub async fn succeed(program: &str, args: &[&str], stdin: &str) -> String {
    let output = run(program, args, stdin).await;
    assert!(output.ok, "{program} {args:?} failed:\n{}{}", output.stdout, output.stderr);
    output.stdout
}

/// `kubectl` that must succeed.
pub async fn kubectl(args: &[&str]) -> String {
    succeed("kubectl", args, "").await
}

/// `helm` that must succeed.
pub async fn helm(args: &[&str]) -> String {
    succeed("helm", args, "").await
}
