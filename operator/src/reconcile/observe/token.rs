//! The administrator's token: in a Secret that is read by name, because the operator may not list Secrets.

use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt as _;

use super::super::objects::label;
use super::super::subject::Subject;
use crate::desired::access;
use crate::error::Error;
use crate::members::Token;
use crate::observed::{ObjectSeen, Presence};

/// The Secret as an object of the cluster, and the token in it. Asked for once in a few minutes.
pub(super) async fn look(subject: &Subject<'_>) -> Result<(ObjectSeen, Option<Token>), Error> {
    let name = subject.owner.token();
    let label = label::<Secret>(&name);
    if let Some(token) = subject.memory.token() {
        return Ok((ObjectSeen { label, presence: Presence::Ours(true) }, Some(token)));
    }
    let found = subject.api::<Secret>().get_opt(&name).await;
    let found = found.map_err(Error::kube(format!("read the {label}")))?;
    let presence = found.map_or(Presence::Absent, |secret| subject.presence(secret));
    let (presence, token) = match presence {
        Presence::Ours(secret) => (Presence::Ours(true), Some(token_of(&secret)?)),
        Presence::Absent => (Presence::Absent, None),
        Presence::Foreign(owner) => (Presence::Foreign(owner), None),
        Presence::Deleting => (Presence::Deleting, None),
    };
    subject.memory.keep_token(token.clone());
    Ok((ObjectSeen { label, presence }, token))
}

fn token_of(secret: &Secret) -> Result<Token, Error> {
    access::token_of(secret).ok_or_else(|| {
        let (name, key) = (secret.name_any(), access::TOKEN_KEY);
        Error::BrokenObject(format!("Secret {name} has no token that can be sent under the key {key}"))
    })
}
