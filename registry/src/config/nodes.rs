//! The list of nodes: read, checked, and reduced to a digest.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::keys::{HOST_PATTERN, JOIN, NODES};
use super::layers::Layers;
use super::values::plain;

/// One node as the file lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Its name, unique in the file.
    pub node_id: String,
    /// Where others find it: a DNS name or an address, without port and brackets.
    pub host: String,
    /// Port for clients.
    pub client_port: u16,
    /// Port for the other nodes and for administration.
    pub raft_port: u16,
    /// Port of `/livez`, `/readyz` and `/metrics`, if the list gives one.
    pub http_port: Option<u16>,
}

impl Node {
    /// `HOST:PORT` for clients.
    pub fn client_endpoint(&self) -> String {
        endpoint(&self.host, self.client_port)
    }

    /// `HOST:PORT` for nodes.
    pub fn peer_endpoint(&self) -> String {
        endpoint(&self.host, self.raft_port)
    }
}

/// `HOST:PORT`, with brackets around an IPv6 address.
pub fn endpoint(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// Whether a text is `HOST:PORT`, with brackets around an IPv6 address.
pub(super) fn is_endpoint(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else { return false };
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    is_name("host", host) && port.parse::<u16>().is_ok_and(|port| port > 0)
}

/// BLAKE3 of the list of nodes in its canonical form: sorted by name, fields separated by bytes that no
/// field can contain; without HTTP ports, which no other node needs. Founding refuses a node whose list is another one (P/N3).
pub fn nodes_digest(sorted: &[Node]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    for node in sorted {
        let line = format!("{}\0{}\0{}\0{}\n", node.node_id, node.host, node.client_port, node.raft_port);
        hasher.update(line.as_bytes());
    }
    *hasher.finalize().as_bytes()
}

const FIELDS: [&str; 5] = ["node_id", "host", "client_port", "raft_port", "http_port"];
/// A name or host: as in DNS.
const MAX_NAME_BYTES: usize = 253;
/// What a name takes the place of in `host_pattern`.
const PLACE_OF_NAME: &str = "{node_id}";

impl Layers {
    /// The nodes in the order of the file; errors are noted.
    pub(super) fn nodes(&mut self) -> Vec<Node> {
        let Some(given) = self.nodes.take() else {
            // A file that could not be read has said so already.
            if self.errors.is_empty() {
                self.errors.push(format!("{NODES}: missing; list 1, 3, 5 or 7 nodes"));
            }
            return Vec::new();
        };
        let Value::Array(list) = &given.value else {
            self.errors.push(format!("{NODES} ({}): must be a list", given.origin));
            return Vec::new();
        };
        // Whoever joins founds nothing: any list that has the node itself will do.
        let joins = self.given.contains_key(JOIN.path);
        if !joins && ![1, 3, 5, 7].contains(&list.len()) {
            self.errors.push(format!(
                "{NODES} ({}): has {} nodes; must be 1, 3, 5 or 7 (an even number survives no more failures than one node less)",
                given.origin,
                list.len()
            ));
        }
        let nodes: Vec<Node> =
            list.iter().take(64).enumerate().filter_map(|(index, value)| self.node(index, value)).collect();
        self.check_names(list);
        self.check_addresses(&nodes);
        nodes
    }

    /// The node of a name that is not in the list, as `host_pattern` describes it.
    pub(super) fn unlisted(&mut self, listed: &[Node], node_id: &str) -> Option<Node> {
        // Without a readable list its errors say enough.
        let first = listed.first()?;
        let Some(pattern) = self.text(&HOST_PATTERN) else {
            let names: Vec<_> = listed.iter().map(|node| node.node_id.as_str()).collect();
            self.errors.push(format!(
                "{node_id}: not in cluster.nodes, and there is no {}; listed: {}",
                HOST_PATTERN.path,
                names.join(", ")
            ));
            return None;
        };
        if !is_name("node_id", node_id) {
            self.errors.push(format!("{node_id}: not a name of a node: {}", rule("node_id")));
            return None;
        }
        let host = pattern.replace(PLACE_OF_NAME, node_id);
        if !pattern.contains(PLACE_OF_NAME) || !is_name("host", &host) {
            self.errors.push(format!(
                "{} = {pattern}: must be {} once {PLACE_OF_NAME} in it is replaced by a name, such as {host}",
                HOST_PATTERN.path,
                rule("host")
            ));
            return None;
        }
        Some(Node { node_id: node_id.to_owned(), host, ..first.clone() })
    }

    fn node(&mut self, index: usize, value: &Value) -> Option<Node> {
        let place = format!("{NODES}[{index}]");
        let Value::Object(map) = value else {
            self.errors.push(format!(
                "{place} = {}: must be a mapping with {}",
                plain(value),
                FIELDS.join(", ")
            ));
            return None;
        };
        for name in map.keys().filter(|name| !FIELDS.contains(&name.as_str())) {
            self.errors.push(format!("{place}.{name}: unknown key; known: {}", FIELDS.join(", ")));
        }
        let node_id = self.name(&place, map, "node_id");
        let host = self.name(&place, map, "host");
        let client_port = self.port(&place, map, "client_port");
        let raft_port = self.port(&place, map, "raft_port");
        let http_port =
            if map.contains_key("http_port") { self.port(&place, map, "http_port") } else { None };
        Some(Node {
            node_id: node_id?,
            host: host?,
            client_port: client_port?,
            raft_port: raft_port?,
            http_port,
        })
    }

    fn name(&mut self, place: &str, map: &Map<String, Value>, field: &str) -> Option<String> {
        let Some(value) = map.get(field) else {
            self.errors.push(format!("{place}.{field}: missing"));
            return None;
        };
        match value {
            Value::String(text) if is_name(field, text) => Some(text.clone()),
            _ => {
                let shown = plain(value);
                self.errors.push(format!("{place}.{field} = {shown}: must be {}", rule(field)));
                None
            }
        }
    }

    fn port(&mut self, place: &str, map: &Map<String, Value>, field: &str) -> Option<u16> {
        let Some(value) = map.get(field) else {
            self.errors.push(format!("{place}.{field}: missing"));
            return None;
        };
        let port = value.as_u64().and_then(|port| u16::try_from(port).ok()).filter(|port| *port > 0);
        if port.is_none() {
            self.errors.push(format!("{place}.{field} = {}: must be a port, 1 to 65535", plain(value)));
        }
        port
    }

    /// On the raw list, so that a node with another error is compared too.
    fn check_names(&mut self, list: &[Value]) {
        let mut names: BTreeMap<&str, usize> = BTreeMap::new();
        for (index, value) in list.iter().enumerate() {
            let Some(name) = value.get("node_id").and_then(Value::as_str) else { continue };
            if let Some(other) = names.insert(name, index) {
                self.errors.push(format!(
                    "{NODES}[{other}].node_id and {NODES}[{index}].node_id are both {}: names must differ",
                    plain(&Value::from(name))
                ));
            }
        }
    }

    fn check_addresses(&mut self, nodes: &[Node]) {
        let mut taken: BTreeMap<String, String> = BTreeMap::new();
        for node in nodes {
            for (field, port) in [("client_port", node.client_port), ("raft_port", node.raft_port)] {
                let place = format!("{field} of {}", node.node_id);
                let address = endpoint(&node.host, port);
                if let Some(other) = taken.insert(address.clone(), place.clone()) {
                    self.errors.push(format!(
                        "{NODES}: {other} and {place} are both {address}: addresses must differ"
                    ));
                }
            }
        }
    }
}

/// What a name of this field must be, for people.
fn rule(field: &str) -> String {
    let characters = match field {
        "host" => "a DNS name or an IP address, without port and brackets",
        _ => "letters, digits, \"-\", \"_\" and \".\", beginning and ending with a letter or digit",
    };
    format!("1 to {MAX_NAME_BYTES} bytes: {characters}")
}

fn is_name(field: &str, text: &str) -> bool {
    if text.len() > MAX_NAME_BYTES {
        return false;
    }
    let edge = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = text.as_bytes();
    if field == "host" && text.contains(':') {
        return text.parse::<std::net::Ipv6Addr>().is_ok();
    }
    edge(bytes.first())
        && edge(bytes.last())
        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(byte))
}
