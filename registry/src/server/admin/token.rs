//! Who may administer (P/S3): whoever has the token, or without one, whoever is on this machine.

use std::fs::File;
use std::io::Read as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use registry_proto::internal::PeerErrorReason;
use tokio::time::Instant;
use tonic::{Request, Status};

use crate::error::peer::PeerError;

/// Longest file that can be a token: more is the wrong file.
const MAX_TOKEN_BYTES: usize = 4 << 10;

/// Where a call comes from, noted by the listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caller(pub SocketAddr);

/// A file that is older than this in memory is read again before a call is judged: a rotated token counts
/// within a second, and a flood of calls costs one look at the file per second.
const READ_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// The token that administrators must have. A clone shares it.
#[derive(Clone)]
pub struct Token {
    /// Nothing = callers of this machine only.
    file: Option<Arc<TokenFile>>,
}

struct TokenFile {
    path: PathBuf,
    known: Mutex<Known>,
}

/// What the file said when it was last read.
struct Known {
    hash: blake3::Hash,
    read_at: Instant,
    /// Why it could not be read then, although there was a token before.
    trouble: Option<String>,
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.file.is_some() { "Token(of a file)" } else { "Token(none)" })
    }
}

impl Token {
    /// Reads the token file, if there is one. It is read again when it may have changed: a volume of
    /// Kubernetes puts another file in its place.
    ///
    /// # Errors
    /// Why the file has no token, for people.
    pub fn load(file: Option<&Path>) -> Result<Self, String> {
        let Some(path) = file else { return Ok(Self { file: None }) };
        let known = Known { hash: read(path)?, read_at: Instant::now(), trouble: None };
        let file = TokenFile { path: path.to_owned(), known: Mutex::new(known) };
        Ok(Self { file: Some(Arc::new(file)) })
    }

    /// Lets a call in, or says why not.
    ///
    /// # Errors
    /// UNAUTHORIZED.
    pub fn check<T>(&self, request: &Request<T>) -> Result<(), Status> {
        let Some(file) = &self.file else {
            let caller = request.extensions().get::<Caller>();
            return if caller.is_some_and(|Caller(address)| address.ip().to_canonical().is_loopback()) {
                Ok(())
            } else {
                Err(refused(
                    "this node has no admin_token_file, so it answers callers on its own machine only",
                ))
            };
        };
        let given = request.metadata().get("authorization").and_then(|value| value.to_str().ok());
        let given = given.and_then(|value| value.split_once(' '));
        match given {
            // Hashes are compared in constant time, and say nothing about how much of a token was right.
            Some((scheme, token))
                if scheme.eq_ignore_ascii_case("bearer")
                    && blake3::hash(token.trim().as_bytes()) == file.hash() =>
            {
                Ok(())
            }
            Some(_) => {
                Err(refused("the administrator's token is wrong; give that of the node's admin_token_file"))
            }
            None => Err(refused(
                "an administrator's token is needed: --admin-token-file, or authorization: Bearer",
            )),
        }
    }
}

impl TokenFile {
    /// The hash of the token as it is now. A file that cannot be read leaves the last token in force: nobody
    /// gets in by taking it away.
    fn hash(&self) -> blake3::Hash {
        // Nothing panics while it holds the lock; a small file on a disk or in memory is read in microseconds.
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.read_at.elapsed() < READ_AGAIN_AFTER {
            return known.hash;
        }
        known.read_at = Instant::now();
        let trouble = match read(&self.path) {
            Ok(hash) => {
                if known.hash != hash {
                    tracing::info!("the administrator's token has changed");
                    known.hash = hash;
                }
                None
            }
            Err(trouble) => Some(trouble),
        };
        if let Some(trouble) = trouble.as_ref().filter(|trouble| known.trouble.as_ref() != Some(trouble)) {
            tracing::warn!("{trouble}; the last token goes on counting");
        }
        known.trouble = trouble;
        known.hash
    }
}

fn read(path: &Path) -> Result<blake3::Hash, String> {
    let shown = path.display();
    let mut text = String::new();
    File::open(path)
        .and_then(|file| file.take(MAX_TOKEN_BYTES as u64 + 2).read_to_string(&mut text))
        .map_err(|error| format!("admin_token_file {shown} cannot be read: {error}"))?;
    let token = text.trim();
    if token.is_empty() || token.len() > MAX_TOKEN_BYTES || token.contains(char::is_whitespace) {
        return Err(format!("admin_token_file {shown} must hold one word of 1 to {MAX_TOKEN_BYTES} bytes"));
    }
    Ok(blake3::hash(token.as_bytes()))
}

fn refused(why: &str) -> Status {
    PeerError::new(PeerErrorReason::Unauthorized, why).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(address: &str) -> Request<()> {
        let mut request = Request::new(());
        request.extensions_mut().insert(Caller(address.parse().unwrap()));
        request
    }

    fn with(authorization: &str) -> Request<()> {
        let mut request = from("10.0.0.1:1");
        request.metadata_mut().insert("authorization", authorization.parse().unwrap());
        request
    }

    #[test]
    fn without_a_file_only_this_machine_is_answered() {
        let token = Token::load(None).unwrap();
        assert!(token.check(&from("127.0.0.1:1")).is_ok());
        assert!(token.check(&from("127.9.8.7:1")).is_ok());
        assert!(token.check(&from("[::1]:1")).is_ok());
        assert!(token.check(&from("[::ffff:127.0.0.1]:1")).is_ok());
        assert!(token.check(&from("10.0.0.1:1")).is_err());
        assert!(token.check(&Request::new(())).is_err(), "unknown is not near");
    }

    #[test]
    fn with_a_file_everybody_needs_its_token() {
        let folder = tempfile::TempDir::new().unwrap();
        let path = folder.path().join("token");
        std::fs::write(&path, "s3cret\n").unwrap();
        let token = Token::load(Some(&path)).unwrap();
        assert!(token.check(&with("Bearer s3cret")).is_ok());
        assert!(token.check(&with("bearer s3cret")).is_ok());
        for wrong in ["Bearer s3cre", "Bearer s3crets", "Bearer ", "Basic s3cret", "s3cret"] {
            let status = token.check(&with(wrong)).unwrap_err();
            assert_eq!(status.code(), tonic::Code::Unauthenticated, "{wrong}");
            assert_eq!(PeerError::reason_of(&status), Some(PeerErrorReason::Unauthorized));
        }
        assert!(token.check(&from("127.0.0.1:1")).is_err(), "near is not enough then");
    }

    /// As a volume of Kubernetes does it: the file is a link to one in a folder that is swapped whole.
    #[tokio::test(start_paused = true)]
    async fn a_token_that_was_rotated_counts_without_a_restart() {
        let folder = tempfile::TempDir::new().unwrap();
        let put = |version: &str, token: &str| {
            let data = folder.path().join(version);
            std::fs::create_dir(&data).unwrap();
            std::fs::write(data.join("token"), token).unwrap();
            let link = folder.path().join("..data_tmp");
            std::os::unix::fs::symlink(&data, &link).unwrap();
            std::fs::rename(&link, folder.path().join("..data")).unwrap();
        };
        put("1", "old");
        let path = folder.path().join("..data/token");
        let token = Token::load(Some(&path)).unwrap();
        assert!(token.check(&with("Bearer old")).is_ok());
        put("2", "new");
        tokio::time::advance(READ_AGAIN_AFTER).await;
        assert!(token.check(&with("Bearer new")).is_ok());
        assert!(token.check(&with("Bearer old")).is_err(), "the old one is over");

        std::fs::remove_file(folder.path().join("..data")).unwrap();
        tokio::time::advance(READ_AGAIN_AFTER).await;
        assert!(token.check(&with("Bearer new")).is_ok(), "without a file the last one counts");
        assert!(token.check(&from("127.0.0.1:1")).is_err(), "and nobody gets in without it");
        put("3", "newest");
        tokio::time::advance(READ_AGAIN_AFTER).await;
        assert!(token.check(&with("Bearer newest")).is_ok());
    }

    #[test]
    fn a_file_without_a_token_is_refused() {
        let folder = tempfile::TempDir::new().unwrap();
        let path = folder.path().join("token");
        assert!(Token::load(Some(&path)).unwrap_err().contains("cannot be read"));
        for bad in ["", " \n", "two words"] {
            std::fs::write(&path, bad).unwrap();
            assert!(Token::load(Some(&path)).unwrap_err().contains("one word"), "{bad:?}");
        }
    }
}
