//! Who may do what: the service account, the token for administration and the network policy.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use k8s_openapi::api::networking::v1::{
    NetworkPolicy, NetworkPolicyIngressRule, NetworkPolicyPeer, NetworkPolicyPort, NetworkPolicySpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::names::{CLIENT_PORT, HTTP_PORT, Owner, PEER_PORT};
use crate::crd::RegistryClusterSpec;
use crate::members::Token;

/// Key of the token in its Secret.
pub const TOKEN_KEY: &str = "token";

/// The account of the pods: it may do nothing, and no token of it is mounted.
pub fn service_account(owner: &Owner) -> ServiceAccount {
    ServiceAccount {
        metadata: owner.metadata(&owner.name),
        automount_service_account_token: Some(false),
        ..ServiceAccount::default()
    }
}

/// The Secret with the token for administration. Made once by `create` and never changed: nodes and operator
/// must have the same one at any moment.
pub fn admin_token(owner: &Owner, random: [u8; 32]) -> Secret {
    Secret {
        metadata: owner.metadata(owner.token()),
        type_: Some("Opaque".into()),
        immutable: Some(true),
        data: Some(BTreeMap::from([(TOKEN_KEY.to_owned(), ByteString(base64url(&random).into_bytes()))])),
        ..Secret::default()
    }
}

/// The token in a Secret; `None` if it holds none, or what cannot be sent.
pub fn token_of(secret: &Secret) -> Option<Token> {
    let bytes = secret.data.as_ref()?.get(TOKEN_KEY)?;
    Token::new(std::str::from_utf8(&bytes.0).ok()?)
}

/// Base64 of RFC 4648 §5 without padding: safe in a header and in a file.
fn base64url(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let number =
            (0..3).fold(0_usize, |sum, at| sum << 8 | usize::from(group.get(at).copied().unwrap_or(0)));
        let digits = [18, 12, 6, 0].map(|shift| char::from(ALPHABET[number >> shift & 63]));
        text.extend(&digits[..=group.len()]);
    }
    text
}

/// Who may reach the pods; `None`: there must be no policy, because the spec says so.
pub fn network_policy(
    owner: &Owner,
    spec: &RegistryClusterSpec,
    operator_namespace: &str,
) -> Option<NetworkPolicy> {
    if !spec.network_policy.enabled {
        return None;
    }
    let members = NetworkPolicyPeer { pod_selector: Some(owner.selector()), ..NetworkPolicyPeer::default() };
    let operator = NetworkPolicyPeer {
        namespace_selector: Some(selector([("kubernetes.io/metadata.name", operator_namespace)])),
        pod_selector: Some(selector([("app.kubernetes.io/name", "registry-operator")])),
        ..NetworkPolicyPeer::default()
    };
    let clients = NetworkPolicyPeer {
        // An empty selector stands for all namespaces.
        namespace_selector: Some(LabelSelector {
            match_labels: Some(spec.network_policy.client_namespaces.clone()),
            ..LabelSelector::default()
        }),
        ..NetworkPolicyPeer::default()
    };
    Some(NetworkPolicy {
        metadata: owner.metadata(&owner.name),
        spec: Some(NetworkPolicySpec {
            pod_selector: Some(owner.selector()),
            policy_types: Some(vec!["Ingress".into()]),
            ingress: Some(vec![
                rule(PEER_PORT, Some(vec![members.clone(), operator])),
                rule(CLIENT_PORT, Some(vec![clients, members])),
                // Kubelet's probes come from the host, whose address no selector names.
                rule(HTTP_PORT, None),
            ]),
            ..NetworkPolicySpec::default()
        }),
    })
}

fn rule(port: i32, from: Option<Vec<NetworkPolicyPeer>>) -> NetworkPolicyIngressRule {
    NetworkPolicyIngressRule {
        from,
        ports: Some(vec![NetworkPolicyPort {
            port: Some(IntOrString::Int(port)),
            protocol: Some("TCP".into()),
            ..NetworkPolicyPort::default()
        }]),
    }
}

fn selector<const N: usize>(labels: [(&str, &str); N]) -> LabelSelector {
    let labels = labels.map(|(key, value)| (key.to_owned(), value.to_owned()));
    LabelSelector { match_labels: Some(labels.into()), ..LabelSelector::default() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::desired::testing::owner;

    #[test]
    fn the_token_has_all_its_bits_and_needs_no_escaping() {
        for (bytes, text) in
            [(&b""[..], ""), (b"f", "Zg"), (b"fo", "Zm8"), (b"foo", "Zm9v"), (&[0xfb, 0xff], "-_8")]
        {
            assert_eq!(base64url(bytes), text);
        }
        let secret = admin_token(&owner(), [7; 32]);
        assert_eq!(secret.data.unwrap()[TOKEN_KEY].0.len(), 43);
        assert_ne!(base64url(&[7; 32]), base64url(&[8; 32]));
    }

    #[test]
    fn the_peer_port_is_for_members_and_the_operator_only() {
        let policy = network_policy(&owner(), &RegistryClusterSpec::default(), "registry-system").unwrap();
        let rules = policy.spec.unwrap().ingress.unwrap();
        let peer = &rules[0];
        assert_eq!(peer.ports.as_ref().unwrap()[0].port, Some(IntOrString::Int(9080)));
        let from = peer.from.as_ref().unwrap();
        assert_eq!(from.len(), 2);
        // Members: pods of this cluster in this namespace.
        assert_eq!(from[0].pod_selector, Some(owner().selector()));
        assert_eq!(from[0].namespace_selector, None);
        let namespace = from[1].namespace_selector.clone().unwrap().match_labels.unwrap();
        assert_eq!(namespace["kubernetes.io/metadata.name"], "registry-system");
    }

    #[test]
    fn clients_come_from_all_namespaces_or_from_those_with_the_labels() {
        let mut spec = RegistryClusterSpec::default();
        let labels = |spec: &RegistryClusterSpec| {
            let rules = network_policy(&owner(), spec, "x").unwrap().spec.unwrap().ingress.unwrap();
            let from = rules[1].from.clone().unwrap();
            from[0].namespace_selector.clone().unwrap().match_labels.unwrap()
        };
        assert!(labels(&spec).is_empty());
        spec.network_policy.client_namespaces.insert("team".into(), "shop".into());
        assert_eq!(labels(&spec)["team"], "shop");
        spec.network_policy.enabled = false;
        assert_eq!(network_policy(&owner(), &spec, "x"), None);
    }
}
