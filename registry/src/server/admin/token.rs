//! Who may administer (P/S3): whoever has the token, or without one, whoever is on this machine.

use std::net::SocketAddr;
use std::path::Path;

use registry_proto::internal::PeerErrorReason;
use tonic::{Request, Status};

use crate::error::peer::PeerError;

/// Longest file that can be a token: more is the wrong file.
const MAX_TOKEN_BYTES: usize = 4 << 10;

/// Where a call comes from, noted by the listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caller(pub SocketAddr);

/// The token that administrators must have.
#[derive(Clone)]
pub struct Token {
    /// Hash of the token; nothing = callers of this machine only.
    hash: Option<blake3::Hash>,
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.hash.is_some() { "Token(of a file)" } else { "Token(none)" })
    }
}

impl Token {
    /// Reads the token file, if there is one.
    ///
    /// # Errors
    /// Why the file has no token, for people.
    pub fn load(file: Option<&Path>) -> Result<Self, String> {
        let Some(path) = file else { return Ok(Self { hash: None }) };
        let shown = path.display();
        let text = std::fs::read_to_string(path)
            .map_err(|error| format!("admin_token_file {shown} cannot be read: {error}"))?;
        let token = text.trim();
        if token.is_empty() || token.len() > MAX_TOKEN_BYTES || token.contains(char::is_whitespace) {
            return Err(format!(
                "admin_token_file {shown} must hold one word of 1 to {MAX_TOKEN_BYTES} bytes"
            ));
        }
        Ok(Self { hash: Some(blake3::hash(token.as_bytes())) })
    }

    /// Lets a call in, or says why not.
    ///
    /// # Errors
    /// UNAUTHORIZED.
    pub fn check<T>(&self, request: &Request<T>) -> Result<(), Status> {
        let Some(hash) = &self.hash else {
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
                    && blake3::hash(token.trim().as_bytes()) == *hash =>
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
